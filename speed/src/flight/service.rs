//! The Flight service: three actions, one way to read, and the check of tokens.
//!
//! Invariant: an answer that ends without an error is complete. A request that panics returns an error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket as FlightTicket,
};
use datafusion::execution::context::SessionState;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde::Serialize;
use thalweg_schemas::StreamName;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::realtime::protocol::{PIN, PinAnswer, PinRequest, RELEASE, STATUS, StatesTicket, Ticket};
use thalweg_schemas::realtime::snapshot::StreamHandle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status, Streaming};

use super::answer;
use super::pins::{KEEP, PinTable};
use super::read;

/// The number of messages that are prepared before the reader has taken the last one.
const AHEAD: usize = 2;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The state that all requests share.
pub(super) struct Service {
    worker: String,
    catalog: watch::Receiver<Arc<Catalog>>,
    streams: watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>,
    pins: Arc<PinTable>,
    state: Arc<SessionState>,
    threads: Threads,
}

impl Service {
    pub(super) fn new(
        worker: String,
        catalog: watch::Receiver<Arc<Catalog>>,
        streams: watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>,
        pins: Arc<PinTable>,
        state: SessionState,
        threads: Threads,
    ) -> Self {
        Self { worker, catalog, streams, pins, state: Arc::new(state), threads }
    }

    fn pin(&self, body: &[u8]) -> Result<PinAnswer, Status> {
        let request: PinRequest = read_json("a pin request", body)?;
        let mut answer = PinAnswer {
            pin: String::new(),
            worker: self.worker.clone(),
            partitions: Default::default(),
            reason: None,
            stopped: None,
            failed: Default::default(),
        };
        let catalog = Arc::clone(&self.catalog.borrow());
        let handle = self.streams.borrow().get(&request.stream).cloned();
        let kept = match answer::find(&request, &catalog, handle.as_ref()) {
            Ok(kept) => kept,
            Err(nothing) => {
                answer.reason = Some(nothing.reason);
                answer.stopped = nothing.stopped;
                return Ok(answer);
            }
        };
        answer.failed = answer::failed(&request, &kept.snapshot);
        answer.partitions = answer::partitions(&request, &kept.snapshot, kept.stopped.as_deref(), &kept.views);
        if answer.partitions.is_empty() {
            answer.reason = Some("it reads no partition at the moment".into());
            return Ok(answer);
        }
        let keep = Duration::from_millis(request.keep_ms).min(KEEP);
        answer.pin = self
            .pins
            .keep(Instant::now(), kept, keep)
            .ok_or_else(|| Status::resource_exhausted("too many pins are kept already"))?;
        Ok(answer)
    }

    fn act(&self, action: &Action) -> Result<Vec<u8>, Status> {
        match action.r#type.as_str() {
            PIN => write_json(&self.pin(&action.body)?),
            RELEASE => {
                let pin = std::str::from_utf8(&action.body)
                    .map_err(|e| Status::invalid_argument(format!("a pin's id: {e}")))?;
                self.pins.release(pin);
                Ok(Vec::new())
            }
            STATUS => write_json(&answer::status(&self.worker, self.streams.borrow().iter())),
            other => Err(Status::unimplemented(format!(
                "there is no action `{other}`; `ListActions` names those that there are"
            ))),
        }
    }

    async fn get(&self, ticket: &[u8]) -> Result<Answers<FlightData>, Status> {
        let ticket: Ticket = read_json("a ticket", ticket)?;
        let pin = match &ticket {
            Ticket::States(StatesTicket { pin, .. }) | Ticket::Segments { pin, .. } | Ticket::Rows { pin, .. } => pin,
        };
        let kept = self
            .pins
            .get(Instant::now(), pin)
            .ok_or_else(|| Status::not_found("the pin is not kept any more: its time is over; pin again"))?;
        let state = Arc::clone(&self.state);
        let starting = async move { read::start(&state, &kept, ticket).await };
        let mut messages = self.threads.spawn(starting).await.map_err(panicked)??;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let sending = self.threads.spawn(async move {
            while let Some(message) = messages.next().await {
                // The reader has disconnected.
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        // Dropping the answer drops the handle of the task, which aborts the work.
        let answer = stream::unfold(Some((receiver, sending)), |running| async move {
            let (mut receiver, sending) = running?;
            match receiver.recv().await {
                Some(message) => Some((message, Some((receiver, sending)))),
                None => match sending.await {
                    Ok(()) => None,
                    Err(panic) => Some((Err(panicked(panic)), None)),
                },
            }
        });
        Ok(answer.boxed())
    }
}

fn panicked(error: tokio::task::JoinError) -> Status {
    tracing::error!(%error, "a request of a serving process failed by a fault of this worker");
    Status::internal("the request failed by a fault of the worker; its log says more")
}

fn read_json<'a, T: serde::Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T, Status> {
    serde_json::from_slice(body).map_err(|e| Status::invalid_argument(format!("{what} cannot be understood: {e}")))
}

fn write_json(answer: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(answer).map_err(|e| Status::internal(e.to_string()))
}

fn not_offered<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a worker answers DoAction and DoGet; SQL is asked of a serving process"))
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<ActionResult>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let body = self.act(request.get_ref())?;
        let result = ActionResult { body: body.into() };
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn do_get(&self, request: Request<FlightTicket>) -> Result<Response<Self::DoGetStream>, Status> {
        let answer = self.get(&request.get_ref().ticket).await?;
        Ok(Response::new(answer))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let actions = [
            (PIN, "keeps one snapshot of a stream; takes a PinRequest"),
            (RELEASE, "lets go of a pin; takes its id"),
            (STATUS, "tells how this worker is doing"),
        ];
        let actions =
            actions.map(|(name, description)| Ok(ActionType { r#type: name.into(), description: description.into() }));
        Ok(Response::new(stream::iter(actions).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_offered()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_offered()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        not_offered()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_offered()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_offered()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        not_offered()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_offered()
    }
}

/// Admits requests that carry the token. The comparison is between hashes and takes constant time.
#[derive(Clone)]
pub(super) struct Guard(Option<blake3::Hash>);

impl Guard {
    pub(super) fn new(token: Option<&str>) -> Self {
        Self(token.map(|token| blake3::hash(token.as_bytes())))
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = self.0 else {
            return Ok(request);
        };
        let given = request.metadata().get("authorization");
        let given = given.and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        match given {
            Some(token) if blake3::hash(token.as_bytes()) == expected => Ok(request),
            Some(_) => Err(Status::unauthenticated(
                "the token is not this worker's; every process must have the same `cluster_token`",
            )),
            None => Err(Status::unauthenticated("this worker asks for a token; set `cluster_token`")),
        }
    }
}
