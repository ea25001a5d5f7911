//! One worker: its channel, its pins, and whether the worker answers.
//!
//! Invariant: requests to a worker that is down fail at once; one background task probes the worker until it answers.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::decode::FlightDataDecoder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Ticket as FlightTicket};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use thalweg_schemas::error::innermost;
use thalweg_schemas::realtime::protocol::{PIN, PinAnswer, PinRequest, RELEASE, STATUS, Ticket, WorkerStatus};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::{Counts, WorkersConfig};
use crate::{Error, Result};

/// The longest message, in bytes: batches are split well below this size, but the state of one group may be large.
const MESSAGE_BYTES: usize = 128 << 20;
/// Time after which a silent connection is closed, so that a stopped process is noticed during a read.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// First and longest pause between two probes of a worker that is down.
const PROBE_FIRST: Duration = Duration::from_millis(100);
const PROBE_LAST: Duration = Duration::from_secs(2);

/// A speed worker in another process.
#[derive(Debug)]
pub(crate) struct Worker {
    address: String,
    /// Connects on first use; `Err` says why it cannot, if the address or the certificate is invalid.
    channel: Result<Channel, String>,
    token: Option<MetadataValue<Ascii>>,
    ask_within: Duration,
    runtime: Handle,
    down: Mutex<Option<String>>,
    counts: Arc<Counts>,
}

impl Worker {
    pub(super) fn new(address: &str, config: &WorkersConfig, runtime: Handle, counts: Arc<Counts>) -> Self {
        let token = config.token.as_ref().map(|token| format!("Bearer {token}").parse());
        let (token, unusable) = match token.transpose() {
            Ok(token) => (token, None),
            Err(_) => (None, Some("cannot be asked: the token is not printable".to_owned())),
        };
        let channel = {
            let _on = runtime.enter();
            channel(address, config).map_err(|reason| format!("cannot be asked: {reason}"))
        };
        Self {
            address: address.to_owned(),
            channel: match unusable {
                Some(reason) => Err(reason),
                None => channel,
            },
            token,
            ask_within: config.ask_within,
            runtime,
            down: Mutex::default(),
            counts,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Pins at the worker. Dropping the pin releases it, also if the caller has stopped waiting for it.
    ///
    /// Errors: why the pin failed, as the end of a sentence about the worker.
    pub(super) async fn pin(self: &Arc<Self>, request: Arc<PinRequest>) -> Result<WorkerPin, String> {
        self.check_up()?;
        let worker = Arc::clone(self);
        let asking = self.runtime.spawn(async move {
            let body = serde_json::to_vec(&*request).map_err(|e| e.to_string())?;
            let answer: PinAnswer = worker.ask(PIN, body).await?;
            Ok(WorkerPin { worker, answer })
        });
        asking.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    pub(super) async fn status(self: &Arc<Self>) -> Result<WorkerStatus, String> {
        self.check_up()?;
        let worker = Arc::clone(self);
        let asking = self.runtime.spawn(async move { worker.ask(STATUS, Vec::new()).await });
        asking.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    /// Errors: [`Error::AskWorker`] if the read cannot start; each message may fail as well.
    pub(crate) async fn read(self: &Arc<Self>, ticket: &Ticket) -> Result<FlightDataDecoder> {
        let failed = |reason: String| Error::AskWorker { worker: self.address.clone(), reason };
        let body = serde_json::to_vec(ticket).map_err(|e| failed(e.to_string()))?;
        let request = self.request(FlightTicket::new(body));
        let mut client = self.client().map_err(failed)?;
        let messages = match timeout(self.ask_within, client.do_get(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                let reason = said(&status);
                if is_silence(&status) {
                    self.mark_down(reason.clone());
                }
                return Err(failed(reason));
            }
            Err(_) => {
                let reason = self.late();
                self.mark_down(reason.clone());
                return Err(failed(reason));
            }
        };
        let counts = Arc::clone(&self.counts);
        let messages = messages.map_err(FlightError::from).inspect_ok(move |data| {
            let bytes = data.data_body.len() + data.data_header.len();
            counts.bytes.inc_by(bytes as u64);
        });
        Ok(FlightDataDecoder::new(messages))
    }

    fn client(&self) -> Result<FlightServiceClient<Channel>, String> {
        let client = FlightServiceClient::new(self.channel.clone()?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        request
    }

    /// Runs one action with one answer, within the time limit; a worker that is silent or refuses is marked as down.
    async fn ask<A: DeserializeOwned>(self: &Arc<Self>, action: &str, body: Vec<u8>) -> Result<A, String> {
        let answer = self.act(action, body).await;
        match &answer {
            Ok(_) => *self.down.lock() = None,
            Err(reason) => self.mark_down(reason.clone()),
        }
        let answer = answer?;
        serde_json::from_slice(&answer).map_err(|e| format!("runs another version of thalweg: {e}"))
    }

    async fn act(&self, action: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let request = self.request(Action::new(action, body));
        let mut client = self.client()?;
        let acting = async {
            let mut answers = client.do_action(request).await?.into_inner();
            answers.next().await.transpose()
        };
        match timeout(self.ask_within, acting).await {
            Ok(Ok(Some(answer))) => Ok(answer.body.to_vec()),
            Ok(Ok(None)) => Err("gave no answer".into()),
            Ok(Err(status)) => Err(said(&status)),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> String {
        format!("does not answer within {:?}", self.ask_within)
    }

    fn check_up(&self) -> Result<(), String> {
        self.down.lock().clone().map_or(Ok(()), Err)
    }

    /// Marks the worker as down: queries do not ask it until it has answered a background probe.
    fn mark_down(self: &Arc<Self>, reason: String) {
        if self.down.lock().replace(reason.clone()).is_some() {
            return;
        }
        tracing::warn!(worker = self.address, "a speed worker {reason}");
        let worker = Arc::downgrade(self);
        self.runtime.spawn(async move {
            let mut pause = PROBE_FIRST;
            loop {
                tokio::time::sleep(pause).await;
                // A worker that is no longer listed is no longer probed.
                let Some(worker) = worker.upgrade() else {
                    return;
                };
                match worker.act(STATUS, Vec::new()).await {
                    Ok(_) => {
                        *worker.down.lock() = None;
                        tracing::info!(worker = worker.address, "a speed worker answers again");
                        return;
                    }
                    Err(reason) => *worker.down.lock() = Some(reason),
                }
                pause = (pause * 2).min(PROBE_LAST);
            }
        });
    }

    fn release(self: &Arc<Self>, pin: String) {
        let worker = Arc::clone(self);
        self.runtime.spawn(async move {
            // If the release fails, the pin expires at the end of its time.
            if let Err(reason) = worker.act(RELEASE, pin.into_bytes()).await {
                tracing::debug!(worker = worker.address, "a pin was not released: {reason}");
            }
        });
    }
}

fn channel(address: &str, config: &WorkersConfig) -> Result<Channel, String> {
    let scheme = if config.tls_ca.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|_| format!("`{address}` is no address; write HOST:PORT"))?
        .connect_timeout(config.ask_within)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let endpoint = match &config.tls_ca {
        None => endpoint,
        Some(ca) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).timeout(config.ask_within);
            let tls = match &config.tls_name {
                Some(name) => tls.domain_name(name),
                None => tls,
            };
            endpoint.tls_config(tls).map_err(|e| innermost(&e))?
        }
    };
    Ok(endpoint.connect_lazy())
}

/// Describes a refusal or a broken connection, as the end of a sentence about the worker.
fn said(status: &Status) -> String {
    if is_silence(status) {
        return format!("does not answer: {}", innermost(status));
    }
    match status.code() {
        Code::Unauthenticated => format!("refuses to answer: {}", status.message()),
        _ => format!("cannot answer: {}", status.message()),
    }
}

/// True if the connection failed rather than the request.
fn is_silence(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled)
}

/// A pin at a worker; dropping it releases the pin.
#[derive(Debug)]
pub(crate) struct WorkerPin {
    worker: Arc<Worker>,
    answer: PinAnswer,
}

impl WorkerPin {
    pub(crate) fn answer(&self) -> &PinAnswer {
        &self.answer
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }
}

impl Drop for WorkerPin {
    fn drop(&mut self) {
        let pin = std::mem::take(&mut self.answer.pin);
        if !pin.is_empty() {
            self.worker.release(pin);
        }
    }
}

#[cfg(test)]
impl Worker {
    /// A worker at an address where nobody listens, for plans that are not run.
    pub(super) fn nowhere() -> Self {
        use prometheus_client::metrics::counter::Counter;
        use prometheus_client::metrics::histogram::Histogram;

        let counts = Counts { pin_seconds: Histogram::new([1.0]), bytes: Counter::default() };
        Self::new("127.0.0.1:1", &WorkersConfig::default(), Handle::current(), Arc::new(counts))
    }
}
