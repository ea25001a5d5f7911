//! Arrow Flight SQL: queries, prepared statements and catalog calls over gRPC.
//!
//! ```text
//!  connection ─▶ door: token, session, options ─▶ service: GetFlightInfo ─▶ ticket
//!                                                 DoGet(ticket) ─▶ answer ─▶ frames of one size
//! ```
//!
//! Invariant: a call is answered for its caller alone, and what a client holds (tickets, handles, sessions) is of no
//! use to another. Absent: transactions, writes of any kind but definitions.

mod messages;

mod refusal;

mod requests;

mod connections;

mod callers;

mod sessions;

mod door;

mod wire;

mod frames;

mod parameters;

mod tickets;

mod prepared;

mod running;

mod answers;

mod facts;

mod tables;

mod service;

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use self::door::FlightDoor;
use self::service::FlightSql;
use self::sessions::FlightSessions;
use crate::access::DoorTls;
use crate::engine::Engine;
use crate::{Error, Result};

/// The largest message of a client, in bytes: the longest statement, or a batch of parameters.
const REQUEST_BYTES: usize = 4 << 20;

/// Calls of one connection at the same time; a client holds further ones back.
const STREAMS: u32 = 128;

/// The largest head of a call, in bytes: a `min_frontier` names many partitions.
const HEAD_BYTES: u32 = 64 << 10;

/// The longest interval of pings to a silent client.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Answers connections until `cancel`, and then until the last one has ended.
///
/// Errors: [`Error::ServeTls`], [`Error::Serve`].
pub(crate) async fn answer(
    listener: TcpListener,
    engine: Arc<Engine>,
    tls: Option<DoorTls>,
    cancel: CancellationToken,
) -> Result<()> {
    let limits = engine.config.http.clone();
    // A client that is alive answers several pings before its connection counts as silent.
    let ping = KEEP_ALIVE.min(limits.client_within / 3);
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(ping))
        .http2_keepalive_timeout(Some(limits.client_within))
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEAD_BYTES);
    if let Some(tls) = tls {
        choose_provider();
        let identity = Identity::from_pem(tls.cert_pem, tls.key_pem);
        let tls = ServerTlsConfig::new().identity(identity).timeout(limits.client_within);
        server = server.tls_config(tls).map_err(|error| Error::ServeTls(chain(&error)))?;
    }
    let sessions = Arc::new(FlightSessions::default());
    let access = engine.config.access.clone();
    let activity = Arc::clone(&engine.activity);
    let service = FlightServiceServer::new(FlightSql::new(engine, Arc::clone(&sessions)));
    let service = service.max_decoding_message_size(REQUEST_BYTES);
    let guarded = FlightDoor::new(service, access, sessions);
    let incoming = connections::incoming(listener, limits, activity);
    let served = server.add_service(guarded).serve_with_incoming_shutdown(incoming, cancel.cancelled_owned()).await;
    served.map_err(|error| Error::Serve(std::io::Error::other(error)))
}

/// Installs a provider of cryptography. Two providers are compiled in, and rustls does not choose between them by
/// itself. The first provider that is installed stays for the whole process.
fn choose_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread installed a provider first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

/// The text of an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
