//! Connections of clients: how many there are, how long each may take to send a request's head and to take an answer,
//! and their end.
//!
//! Invariant: a connection holds a permit. A client that sends nothing, or a head byte by byte, or takes its answer
//! byte by byte, loses its connection after a while.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pace::PacedStream;
use super::socket::ClientSocket;
use crate::access::HttpLimits;

/// Pause after the system could not accept a connection, as when it has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers requests by `router` until `cancel`, and then until the last connection has ended.
pub(super) async fn answer(listener: TcpListener, router: Router, limits: HttpLimits, cancel: CancellationToken) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let stream = accept(&listener).await;
            let connection = connection(stream, router.clone(), limits.client_within, cancel.clone());
            tasks.spawn(async move {
                connection.await;
                drop(permit);
            });
        }
    };
    cancel.run_until_cancelled(accepting).await;
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Accepts a connection, whatever it takes.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return stream;
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

/// Answers the requests of one connection, one after the other. After `cancel` the running request is the last one.
async fn connection(stream: TcpStream, router: Router, within: Duration, cancel: CancellationToken) {
    let socket = ClientSocket::new(stream);
    let stream = TokioIo::new(PacedStream::new(socket.clone(), within));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(within);
    let mut connection = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.as_mut().poll(context)) => ended,
        () = socket.closed() => Ok(()),
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
