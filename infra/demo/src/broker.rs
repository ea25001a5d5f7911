//! The embedded broker: Kafka's protocol over segment files, for one machine.
//!
//! ```text
//!  listener ─▶ connection ─▶ frame ─▶ requests ─▶ topics ─▶ log          batches, as producers sent them
//!                                        │      ─▶ groups               who reads what, and how far
//!                                        └──────▶ producers             ids, so that nothing is stored twice
//! ```
//!
//! Any Kafka client can use it, idempotent producers and consumer groups too; what it holds survives the end of the
//! process, however it ends. Absent: replicas, transactions, deletion by age or size, compaction, TLS and SASL, ACLs,
//! quotas, the newer protocol of groups (KIP-848), fetch sessions; topic settings are kept and shown but have no
//! effect. Nothing is forced to disk before a segment is full, so a machine that stops may take the newest messages
//! with it. Invariant: one process has the log open, and what was acknowledged is read from then on, once.

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

/// They read and write sockets; what blocks has others.
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
    /// Opens the log in `folder`, which is created if absent, and listens. Without an address: on the usual port of
    /// loopback, or on a free one if that is taken.
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

    /// Where Kafka clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of its log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.node.topics.bytes()
    }

    /// Takes no more connections, lets requests end that are being answered, and closes the log.
    pub async fn stop(self) {
        self.node.stop.cancel();
        // A panic in there has been told where it happened; the log is safe in any case.
        let _ = self.serving.await;
        self.threads.end().await;
    }
}

/// The broker's threads: it answers in time whatever else the process computes.
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
        // Waiting for the threads would block one that must not be blocked.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
