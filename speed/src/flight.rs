//! Arrow Flight: serves the state of this worker to serving processes on other machines.
//!
//! ```text
//!  pin ──▶ [answer]: per partition, F and the ranges held     [pins]: the snapshot is kept
//!  get ──▶ [read]: filter, project, merge neighbours ──▶ batches
//! ```
//!
//! Requests compute on separate threads, so that ingestion keeps its share of the cores.
//!
//! Invariant: a request never changes the stream, and a failing request ends only itself.

mod pins;

mod answer;

mod read;

mod service;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use thalweg_schemas::StreamName;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::engine::session;
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::realtime::snapshot::StreamHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use self::pins::PinTable;
use self::service::{Guard, Service};
use crate::{Error, Result};

/// The memory limit of the merges of all requests together, in bytes; they spill beyond it.
const MEMORY: usize = 512 << 20;
/// The largest request in bytes: a ticket with every partition and the longest lists of values.
const REQUEST_BYTES: usize = 4 << 20;
/// The interval of pings to a silent peer, and the longest wait for the reply.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long running requests may continue after a shutdown was requested.
const GRACE: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How a worker serves its state.
#[derive(Clone)]
pub struct FlightConfig {
    /// The name of this worker in messages: its address, as other processes reach it.
    pub worker: String,
    /// The token that requests carry as `authorization: Bearer …`; `None` admits every request.
    pub token: Option<String>,
    /// `None` serves plain text.
    pub tls: Option<ServerTls>,
    /// The number of threads that filter and merge.
    pub threads: usize,
    /// The folder to which merges spill; the system's temporary folder if `None`.
    pub spill: Option<PathBuf>,
}

impl fmt::Debug for FlightConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightConfig")
            .field("worker", &self.worker)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("tls", &self.tls.is_some())
            .field("threads", &self.threads)
            .finish()
    }
}

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct ServerTls {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

/// Serves until `cancel`; after that, running requests have a few seconds to finish.
///
/// Errors: [`Error::ServeTls`] if the certificate or its key cannot be used, [`Error::Serve`],
/// [`Error::StartThreads`].
pub async fn serve(
    listener: TcpListener,
    config: FlightConfig,
    catalog: watch::Receiver<Arc<Catalog>>,
    streams: watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>,
    cancel: CancellationToken,
) -> Result<()> {
    let threads = Threads::start("flight", config.threads).map_err(Error::StartThreads)?;
    let state = session::state(session::runtime(None, Some(MEMORY), config.spill)?, config.threads);
    let pins = Arc::new(PinTable::default());
    let service = Service::new(config.worker, catalog, streams, Arc::clone(&pins), state, threads);
    let mut server =
        Server::builder().http2_keepalive_interval(Some(KEEP_ALIVE)).http2_keepalive_timeout(Some(KEEP_ALIVE));
    if let Some(tls) = config.tls {
        choose_provider();
        let identity = Identity::from_pem(tls.cert_pem, tls.key_pem);
        let tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE);
        server = server.tls_config(tls).map_err(Error::ServeTls)?;
    }
    let service = FlightServiceServer::new(service).max_decoding_message_size(REQUEST_BYTES);
    let guarded = InterceptedService::new(service, Guard::new(config.token.as_deref()));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = server.add_service(guarded).serve_with_incoming_shutdown(incoming, cancel.clone().cancelled_owned());
    let overdue = async {
        cancel.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => ended.map_err(Error::Serve),
        () = overdue => {
            tracing::info!("requests of serving processes were cut off by the shutdown");
            Ok(())
        }
        () = pins.sweep() => Ok(()),
    }
}

/// Installs a provider of cryptography. Two providers are compiled in, and rustls does not choose between them by
/// itself. The first provider that is installed stays for the whole process.
fn choose_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread installed a provider first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests;
