//! The lock on the broker's folder, the listening socket, and the open connections.
//!
//! Invariant: only one process uses a folder, and the number of connections is limited.

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

/// Kafka's usual port; used if it is free.
const USUAL_PORT: u16 = 9092;
/// Largest number of connections; further clients wait.
const CONNECTIONS: usize = 1000;
/// Pause after an error of the listener; the usual cause is too many open files.
const REST: Duration = Duration::from_millis(50);
/// How long `stop` waits for the last requests.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// Locks the folder, so that no other process uses it.
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

/// Listens on the wanted address. Without one, listens on Kafka's usual port on loopback, or on a free port if that
/// is taken.
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

/// Accepts connections until the node stops. Then waits up to [`DRAIN`] for requests in progress.
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
    // A client that has not read its answer by then is cut off.
    let _ = tokio::time::timeout(DRAIN, ended).await;
}
