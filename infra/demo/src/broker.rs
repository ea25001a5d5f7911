//! The embedded broker: tansu, which speaks Kafka's protocol, over a SQLite file.
//!
//! Any Kafka client can use it; what it holds survives a restart. It is for one machine: one node, no replicas, no
//! transactions (`EndTxn`), nothing deleted by age. It computes on threads of its own, because SQLite blocks the
//! thread that waits for it. Invariant: one process has the log open, and it listens on the address that it advertises.

mod place;

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rama::{Context, Service};
use tansu_broker::coordinator::group::administrator::Controller;
use tansu_broker::service::services;
use tansu_storage::{BrokerRegistrationRequest, Storage, StorageContainer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use self::place::{Place, locate};
use crate::{Error, Result};

/// Names that the log keeps; another name would find none of its topics.
const CLUSTER: &str = "thalweg-demo";
const NODE: i32 = 1;
/// Kafka's usual port, which is taken if it is free.
const USUAL_PORT: u16 = 9092;
/// One waits for SQLite while the other reads and writes sockets.
const THREADS: usize = 2;
/// After an error of the listener, which is mostly that there are too many open files.
const REST: Duration = Duration::from_millis(50);
/// How long stopping waits for the last requests.
const DRAIN: Duration = Duration::from_secs(2);

/// A broker that runs until it is stopped or dropped.
pub struct Broker {
    address: SocketAddr,
    log: PathBuf,
    cancel: CancellationToken,
    serving: JoinHandle<()>,
    threads: OwnThreads,
    _place: Place,
    _lock: File,
}

impl Broker {
    /// Opens the log in `folder`, which is created if absent, and listens. Without an address: on the usual port of
    /// loopback, or on a free one if that is taken.
    ///
    /// Errors: [`Error::Listen`], [`Error::InUse`], [`Error::OpenLog`].
    pub async fn start(folder: &Path, address: Option<SocketAddr>) -> Result<Self> {
        let lock = lock(folder)?;
        let listener = listen(address)?;
        let address = listener.local_addr().map_err(|source| Error::Listen {
            address: address.unwrap_or_else(usual_address),
            source,
        })?;
        let unopened = |reason: String| Error::OpenLog {
            folder: folder.to_owned(),
            reason,
        };
        let log = folder.join("log.db");
        let place = locate(&log).map_err(unopened)?;
        let threads = OwnThreads::start().map_err(|e| unopened(format!("no threads: {e}")))?;
        // On those threads, because the storage starts a task of its own where it is opened.
        let url = place.url().clone();
        let storage = threads
            .spawn(open(url.clone(), address))
            .await
            .map_err(|panic| unopened(panic.to_string()))?
            .map_err(|e| unopened(e.to_string()))?;
        let cancel = CancellationToken::new();
        let reopen = move || open(url.clone(), address);
        let serving = threads.spawn(serve(listener, storage, reopen, cancel.clone()));
        Ok(Self {
            address,
            log,
            cancel,
            serving,
            threads,
            _place: place,
            _lock: lock,
        })
    }

    /// Where Kafka clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of its log on disk.
    pub fn log_bytes(&self) -> u64 {
        ["db", "db-wal"]
            .iter()
            .filter_map(|ending| self.log.with_extension(ending).metadata().ok())
            .map(|found| found.len())
            .sum()
    }

    /// Takes no more connections, lets requests end that are being answered, and closes the log.
    pub async fn stop(self) {
        self.cancel.cancel();
        // A panic in there has been told where it happened; the log is safe in any case.
        let _ = tokio::time::timeout(DRAIN * 2, self.serving).await;
        self.threads.end().await;
    }
}

/// The broker's threads. The storage has a task on them that nobody can wait for: it is gone when they have ended.
struct OwnThreads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl OwnThreads {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("broker")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
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

fn usual_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT))
}

/// Makes sure that no other process has the folder.
fn lock(folder: &Path) -> Result<File> {
    let failed = |source: io::Error| Error::Write {
        path: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn listen(wanted: Option<SocketAddr>) -> Result<std::net::TcpListener> {
    let bind = |address: SocketAddr| {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = match wanted {
        Some(address) => bind(address),
        None => bind(usual_address()).or_else(|_: io::Error| bind(free)),
    };
    bound.map_err(|source| Error::Listen {
        address: wanted.unwrap_or(free),
        source,
    })
}

async fn open(storage: Url, address: SocketAddr) -> Result<StorageContainer, tansu_storage::Error> {
    let advertised =
        Url::parse(&format!("tcp://{address}")).expect("an address makes a URL of this scheme");
    let storage = StorageContainer::builder()
        .cluster_id(CLUSTER)
        .node_id(NODE)
        .advertised_listener(advertised)
        .storage(storage)
        .silent(true)
        .build()
        .await?;
    storage
        .register_broker(BrokerRegistrationRequest {
            broker_id: NODE,
            cluster_id: CLUSTER.to_owned(),
            incarnation_id: Uuid::new_v4(),
            rack: None,
        })
        .await?;
    Ok(storage)
}

/// Answers clients until `cancel`. The storage is one task, which a request that it was not made for ends for good; then
/// it is opened anew, and clients connect again.
async fn serve<Opening>(
    listener: std::net::TcpListener,
    mut storage: StorageContainer,
    reopen: impl Fn() -> Opening,
    cancel: CancellationToken,
) where
    Opening: Future<Output = Result<StorageContainer, tansu_storage::Error>>,
{
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the embedded broker cannot listen"),
    };
    loop {
        match answer_all(&listener, storage, &cancel).await {
            Ended::Stopped => return,
            Ended::StorageGone => tracing::warn!("the embedded broker opens its log again"),
        }
        storage = loop {
            match reopen().await {
                Ok(storage) => break storage,
                Err(error) => tracing::error!(%error, "the embedded broker cannot open its log"),
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(REST) => {}
            }
        };
    }
}

/// Why clients are no longer answered.
enum Ended {
    Stopped,
    StorageGone,
}

async fn answer_all(
    listener: &TcpListener,
    storage: StorageContainer,
    cancel: &CancellationToken,
) -> Ended {
    let groups = match Controller::with_storage(storage.clone()) {
        Ok(groups) => groups,
        Err(error) => {
            tracing::error!(%error, "the embedded broker has no groups");
            return Ended::Stopped;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if matches!(ended, Ok(Err(error)) if is_of_storage(&error)) {
                    connections.shutdown().await;
                    return Ended::StorageGone;
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(answer(stream, groups.clone(), storage.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the embedded broker takes no connections for now");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    // Its own clients have gone by now; others are not waited for longer than this.
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, ended).await;
    Ended::Stopped
}

/// Answers one client until it goes, which is an error too.
async fn answer(
    stream: TcpStream,
    groups: Controller<StorageContainer>,
    storage: StorageContainer,
) -> Result<(), tansu_broker::Error> {
    // Without it a small answer waits for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = services(CLUSTER, groups, storage, None)?;
    service.serve(Context::default(), stream).await
}

/// The storage's task does not answer any more.
fn is_of_storage(error: &tansu_broker::Error) -> bool {
    use tansu_storage::Error::{OneshotRecv, UnableToSend};
    matches!(
        error,
        tansu_broker::Error::Storage(UnableToSend | OneshotRecv)
    )
}

#[cfg(test)]
mod tests;
