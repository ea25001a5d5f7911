//! The embedded broker: Kafka's protocol over segment files, for one machine.
//!
//! ```text
//!  listener ─▶ connection ─▶ frame ─▶ requests ─▶ topics ─▶ log          batches, as producers sent them
//!                                        │      ─▶ groups               members, assignments and commits
//!                                        └──────▶ producers             ids, so that no batch is stored twice
//! ```
//!
//! Any Kafka client can use the broker, including idempotent producers and consumer groups. Stored data survives any
//! end of the process. Absent: replicas, transactions, deletion by age or size, compaction, TLS and SASL, ACLs,
//! quotas, the newer protocol of groups (KIP-848), fetch sessions. Topic settings are kept and shown but have no
//! effect. A segment is synced to disk only when it is full, so the newest messages may be lost if the machine stops.
//!
//! Invariant: one process has the log open, and every acknowledged batch is readable from then on, once.

mod files;
mod log;
mod topics;

mod groups;
mod producers;

mod node;

mod probe;

mod frame;
mod requests;

mod connection;
mod listener;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::listener::DRAIN;
use self::node::Node;
use crate::{Error, Result};

/// Threads for sockets; blocking work has its own threads.
const THREADS: usize = 2;
/// Threads that read and write files.
const BLOCKING_THREADS: usize = 8;

/// A broker that runs until it is stopped or dropped.
pub struct Broker {
    address: SocketAddr,
    node: Arc<Node>,
    serving: JoinHandle<()>,
    threads: OwnThreads,
    _lock: File,
}

impl Broker {
    /// Opens the log in `folder`, which is created if absent, and listens. Without an address the broker takes
    /// Kafka's usual port on loopback, or a free port if the usual one is taken.
    ///
    /// Errors: [`Error::Listen`], [`Error::InUse`], [`Error::OpenLog`], [`Error::Write`].
    pub async fn start(folder: &Path, address: Option<SocketAddr>) -> Result<Self> {
        let lock = listener::lock(folder)?;
        let (listener, address) = listener::listen(address)?;
        let unopened = |reason: String| Error::OpenLog { folder: folder.to_owned(), reason };
        let threads = OwnThreads::start().map_err(|e| unopened(format!("no threads: {e}")))?;
        let place = folder.to_owned();
        let opening = threads.handle.spawn_blocking(move || Node::open(&place, CancellationToken::new()));
        let node = Arc::new(opening.await.map_err(|panic| unopened(panic.to_string()))??);
        let (serving, groups) = (Arc::clone(&node), Arc::clone(&node.groups));
        let serving = threads.handle.spawn(async move {
            tokio::select! {
                () = listener::serve(listener, serving) => {}
                never = groups.keep_time() => match never {},
            }
        });
        Ok(Self { address, node, serving, threads, _lock: lock })
    }

    /// The address for Kafka clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.node.topics.bytes()
    }

    /// Refuses new connections, finishes the requests in progress, and closes the log.
    pub async fn stop(self) {
        self.node.stop.cancel();
        // A panic of the task was reported where it happened, and does not harm the log.
        let _ = self.serving.await;
        self.threads.end().await;
    }
}

/// The broker's own threads, so that other work of the process does not delay answers.
struct OwnThreads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl OwnThreads {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("broker")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    async fn end(mut self) {
        if let Some(runtime) = self.runtime.take() {
            let ending = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DRAIN));
            let _ = ending.await;
        }
    }
}

impl Drop for OwnThreads {
    fn drop(&mut self) {
        // Waiting for the threads would block an async thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
