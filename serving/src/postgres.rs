//! The PostgreSQL protocol: connections, from their start to their end.
//!
//! ```text
//!  socket ─▶ frames ─▶ requests ─▶ session ─▶ commands ─▶ engine
//!  socket ◀─ wire ◀─── rows ◀───── values ◀─────────────── batches
//! ```
//!
//! Messages to clients are those of pgwire; everything of a connection is its own. Invariant: a connection holds a
//! permit. A client that does not finish its start, sends a message byte by byte, or reads nothing of its answer, loses
//! its connection after a while.

mod failure;

mod budget;

mod frames;
mod requests;

mod types;
mod values;

mod rows;

mod parameters;
mod settings;

mod commands;

mod wire;

mod clients;
mod startup;

mod session;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgwire::tokio::TlsAcceptor;
use pgwire::tokio::tokio_rustls::rustls::ServerConfig;
use pgwire::tokio::tokio_rustls::rustls::crypto::aws_lc_rs;
use pgwire::tokio::tokio_rustls::rustls::pki_types::pem::PemObject;
use pgwire::tokio::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::budget::{AllBudget, Budget};
use self::clients::{Clients, Listed};
use self::failure::{Failure, Unanswered};
use self::frames::Frame;
use self::requests::Request;
use self::session::PostgresSession;
use self::wire::Wire;
use crate::access::DoorTls;
use crate::activity::Protocol;
use crate::changes::ChangeFeeds;
use crate::engine::Engine;
use crate::{Error, Result};

/// Pause after the system could not accept a connection, as when it has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(500);

/// Connections beyond the limit that are answered: with an error, or a request to cancel is met.
const BEYOND: usize = 64;

/// The protocol's name, by which a client that begins with TLS asks for it.
const PROTOCOL: &[u8] = b"postgresql";

/// What connections share.
struct PostgresDoor {
    engine: Arc<Engine>,
    feeds: Arc<ChangeFeeds>,
    tls: Option<TlsAcceptor>,
    clients: Arc<Clients>,
    budget: AllBudget,
    cancel: CancellationToken,
}

/// Answers connections until `cancel`, and then until the last one has ended.
///
/// Errors: [`Error::ServeTls`].
pub(crate) async fn answer(
    listener: TcpListener,
    engine: Arc<Engine>,
    feeds: Arc<ChangeFeeds>,
    tls: Option<DoorTls>,
    cancel: CancellationToken,
) -> Result<()> {
    let tls = tls.as_ref().map(acceptor).transpose()?;
    let permits = Arc::new(Semaphore::new(engine.config.http.connections));
    let beyond = Arc::new(Semaphore::new(BEYOND));
    let (clients, budget) = (Arc::default(), AllBudget::new());
    let door = Arc::new(PostgresDoor { engine, feeds, tls, clients, budget, cancel: cancel.clone() });
    let tasks = TaskTracker::new();
    let accepting = async {
        loop {
            let stream = accept(&listener).await;
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => (permit, false),
                Err(_) => match Arc::clone(&beyond).acquire_owned().await {
                    Ok(permit) => (permit, true),
                    // The semaphore is never closed.
                    Err(_) => return,
                },
            };
            let door = Arc::clone(&door);
            tasks.spawn(async move {
                let (permit, is_beyond) = permit;
                match connection(stream, &door, is_beyond).await {
                    Ok(()) => {}
                    Err(Unanswered::Failed(failure) | Unanswered::Fatal(failure)) => {
                        tracing::debug!(error = %failure.message, "a connection of a PostgreSQL client ended");
                    }
                    Err(Unanswered::Lost(error)) => tracing::debug!(?error, "a PostgreSQL client is gone"),
                }
                drop(permit);
            });
        }
    };
    cancel.run_until_cancelled(accepting).await;
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The certificate and its key (PKCS#1, PKCS#8 or SEC1).
fn acceptor(tls: &DoorTls) -> Result<TlsAcceptor> {
    let unusable = |error: &dyn std::fmt::Display| Error::ServeTls(error.to_string());
    let chain = CertificateDer::pem_slice_iter(&tls.cert_pem).collect::<std::result::Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(&error))?;
    if chain.is_empty() {
        return Err(Error::ServeTls("the file of the certificate holds none in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem).map_err(|error| unusable(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| unusable(&error))?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                match keep_alive(stream) {
                    Ok(stream) => return stream,
                    Err(error) => tracing::debug!(%error, "a connection ended before it was served"),
                }
            }
            // The client gave up before it was accepted.
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Makes the system ask whether the other end is there while a connection is idle: a machine that is switched off
/// closes nothing.
fn keep_alive(stream: TcpStream) -> std::io::Result<TcpStream> {
    let stream = stream.into_std()?;
    // Options belong to the socket, not to the handle by which they are set.
    TcpSocket::from_std_stream(stream.try_clone()?).set_keepalive(true)?;
    TcpStream::from_std(stream)
}

/// Serves one connection until its end.
async fn connection(stream: TcpStream, door: &PostgresDoor, is_beyond: bool) -> std::result::Result<(), Unanswered> {
    let starting = timeout(door.engine.config.http.client_within, Box::pin(start(stream, door, is_beyond)));
    let started = tokio::select! {
        started = starting => started,
        () = door.cancel.cancelled() => return Ok(()),
    };
    let Ok(started) = started else { return Err(Unanswered::Lost(None)) };
    let Some((mut wire, mut session, listed)) = started? else { return Ok(()) };
    let ended = serve(&mut wire, &mut session, door).await;
    drop((session, listed));
    match &ended {
        Ok(failure) => wire.close(failure.as_ref()).await,
        Err(Unanswered::Fatal(failure) | Unanswered::Failed(failure)) => wire.close(Some(failure)).await,
        Err(Unanswered::Lost(_)) => {}
    }
    ended.map(drop)
}

/// The start of a connection; `None` for a request to cancel.
async fn start(
    stream: TcpStream,
    door: &PostgresDoor,
    is_beyond: bool,
) -> std::result::Result<Option<(Wire, PostgresSession, Listed)>, Unanswered> {
    let config = &door.engine.config;
    let (address, budget) = (stream.peer_addr(), door.budget.one());
    let received = startup::receive(stream, door.tls.as_ref(), &config.http, budget.clone(), &door.clients);
    let Some((mut wire, wishes)) = received.await? else { return Ok(None) };
    if is_beyond {
        let most = config.http.connections;
        let failure = Failure::new("53300", format!("{most} clients are connected, which is the limit"))
            .hint("Close a connection, use a pool of connections, or raise the setting http_connections.");
        wire.close(Some(&failure)).await;
        return Ok(None);
    }
    match welcome(&mut wire, &wishes, address, budget, door).await {
        Ok((session, listed)) => Ok(Some((wire, session, listed))),
        Err(Unanswered::Fatal(failure) | Unanswered::Failed(failure)) => {
            wire.close(Some(&failure)).await;
            Err(Unanswered::Fatal(failure))
        }
        Err(lost) => Err(lost),
    }
}

async fn welcome(
    wire: &mut Wire,
    wishes: &BTreeMap<String, String>,
    address: std::io::Result<SocketAddr>,
    budget: Budget,
    door: &PostgresDoor,
) -> std::result::Result<(PostgresSession, Listed), Unanswered> {
    let denied = startup::authenticate(wire, &door.engine.config.access).await?;
    let settings = startup::settings(wishes)?;
    let wish = |name: &str| wishes.get(name).cloned().unwrap_or_default();
    let activity = &door.engine.activity;
    let address = address.map_or_else(|_| "unknown".to_owned(), |address| address.to_string());
    let session = activity.begin_session(Protocol::Postgres, address, wish("user"), wish("application_name"));
    // Numbers of sessions are given out in order; after two thousand million of them they begin anew.
    let listed = door.clients.add((session.id() & u64::from(i32::MAX.unsigned_abs())) as i32);
    startup::welcome(wire, &settings, &listed.interrupt)?;
    wire.trust();
    wire.flush().await?;
    let interrupt = Arc::clone(&listed.interrupt);
    let session = PostgresSession::new(
        Arc::clone(&door.engine),
        Arc::clone(&door.feeds),
        denied,
        interrupt,
        session,
        budget,
        settings,
    )?;
    Ok((session, listed))
}

/// Answers messages until the client leaves; returns what it is told if the server ends the connection.
async fn serve(
    wire: &mut Wire,
    session: &mut PostgresSession,
    door: &PostgresDoor,
) -> std::result::Result<Option<Failure>, Unanswered> {
    loop {
        if !wire.has_next() {
            wire.flush().await?;
        }
        let end = session.portals_end();
        let overdue = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            biased;
            frame = wire.next() => frame?,
            () = door.cancel.cancelled() => {
                return Ok(Some(Failure::new("57P01", "terminating connection due to administrator command")));
            }
            () = overdue => {
                session.end_overdue();
                continue;
            }
        };
        let Some(frame) = frame else { return Ok(None) };
        if frame.kind == b'X' {
            return Ok(None);
        }
        message(wire, session, &frame).await?;
        wire.flush_piece().await?;
    }
}

/// Answers one message. An error that ends no connection is told to the client.
async fn message(wire: &mut Wire, session: &mut PostgresSession, frame: &Frame) -> std::result::Result<(), Unanswered> {
    if session.skips(frame.kind) {
        return Ok(());
    }
    let answered = match frame.refused.clone().map_or_else(|| Request::read(frame), |failure| Err(failure.into())) {
        Ok(request) => Box::pin(session.answer(wire, request)).await,
        Err(end) => Err(end),
    };
    match answered {
        Err(Unanswered::Failed(failure)) => session.fail(wire, &failure, frame.kind).await,
        ended => ended,
    }
}

#[cfg(test)]
mod tests;
