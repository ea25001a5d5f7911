//! Who may have the folder, where the broker listens, and the connections that are open.
//!
//! Invariant: one process has a folder, and connections are bounded in number.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection;
use super::frame::ROOM;
use super::node::Node;
use crate::{Error, Result};

/// Kafka's usual port, which is taken if it is free.
const USUAL_PORT: u16 = 9092;
/// Connections at once; more have to wait.
const CONNECTIONS: usize = 1000;
/// After an error of the listener, which is mostly that there are too many open files.
const REST: Duration = Duration::from_millis(50);
/// How long stopping waits for the last requests.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// Makes sure that no other process has the folder.
///
/// Errors: [`Error::InUse`], [`Error::Write`].
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let failed = |source: io::Error| Error::Write { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Listens where it is wanted; else on the usual port of loopback, or on a free one if that is taken.
///
/// Errors: [`Error::Listen`].
pub(crate) fn listen(wanted: Option<SocketAddr>) -> Result<(std::net::TcpListener, SocketAddr)> {
    let bind = |address: SocketAddr| {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let bound = match wanted {
        Some(address) => bind(address),
        None => bind(loopback(USUAL_PORT)).or_else(|_: io::Error| bind(loopback(0))),
    };
    bound.map_err(|source| Error::Listen { address: wanted.unwrap_or_else(|| loopback(0)), source })
}

/// Takes connections until the node is to stop; then waits for what is being answered, but not for long.
pub(crate) async fn serve(listener: std::net::TcpListener, node: Arc<Node>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the embedded broker cannot listen"),
    };
    let (room, mut connections) = (Arc::new(Semaphore::new(ROOM)), JoinSet::new());
    loop {
        tokio::select! {
            () = node.stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let answering = connection::answer(stream, Arc::clone(&node), Arc::clone(&room));
                    connections.spawn(async move {
                        if let Err(reason) = answering.await {
                            tracing::debug!(%peer, %reason, "the embedded broker closes a connection");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the embedded broker takes no connections for now");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // Who has not read its answer by then has gone.
    let _ = tokio::time::timeout(DRAIN, ended).await;
}
