//! What a process is made of, whichever role it has: its parts, in which order they end, and what a failure means.
//!
//! Layers know only `schemas`; here they are wired, one file for each role. Invariant: whatever part fails, either it is
//! started again, or the process ends and says why; no part is missing silently.

mod audit;
mod calls;
mod discover;
mod follow;
mod probes;
mod streams;
mod supervise;

mod batch;
mod serve;
mod speed;
mod up;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures::FutureExt;
use futures::future::select_all;
use thalweg_batch::BatchConfig;
use thalweg_schemas::catalog::{Catalog, CatalogStore};
use thalweg_schemas::clock::WallClock;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_serving::{Metrics, ServingConfig};
use thalweg_speed::{Assignment, SpeedConfig};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Settings;

pub(crate) use self::batch::batch;
pub(crate) use self::serve::serve;
pub(crate) use self::speed::speed;
pub(crate) use self::supervise::{Stopped, supervise};
pub(crate) use self::up::up;

/// One long-lived part of the process.
struct Part {
    name: &'static str,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Stopped>>,
}

impl Part {
    /// Starts `work`, which is to end when it is cancelled and not before.
    fn spawn<Work>(name: &'static str, threads: &Handle, work: impl FnOnce(CancellationToken) -> Work) -> Self
    where
        Work: Future<Output = Result<(), Stopped>> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let task = threads.spawn(work(cancel.clone()));
        Self { name, cancel, task }
    }

    /// Waits for the part's end; a panic is a broken promise.
    async fn ended(&mut self) -> Result<(), Stopped> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(panic) => Err(Stopped::broken(format!("{} panicked: {panic}", self.name))),
        }
    }
}

/// Everything that runs, in the order in which it is stopped.
pub(crate) struct Platform {
    parts: Vec<Part>,
    shutdown_timeout: Duration,
}

impl Platform {
    /// Runs until `stop` is ready or a part fails, then ends every part in order.
    ///
    /// Errors: the first part that failed, or that did not end in time.
    pub(crate) async fn until(mut self, stop: impl Future<Output = ()>) -> Result<(), Stopped> {
        let early = {
            let ends = self.parts.iter_mut().map(|part| {
                let name = part.name;
                part.ended().map(move |end| (name, end)).boxed()
            });
            tokio::select! {
                () = stop => None,
                (end, _, _) = select_all(ends) => Some(end),
            }
        };
        let mut outcome = match early {
            None => Ok(()),
            Some((_, Err(stopped))) => Err(stopped),
            Some((part, Ok(()))) => Err(Stopped::broken(format!("{part} ended without being asked to"))),
        };
        match &outcome {
            Ok(()) => info!("shutting down"),
            Err(stopped) => error!(fault = ?stopped.fault, "{stopped}; shutting down"),
        }
        for part in &mut self.parts {
            part.cancel.cancel();
            if part.task.is_finished() {
                continue;
            }
            let end = match tokio::time::timeout(self.shutdown_timeout, part.ended()).await {
                Ok(end) => end,
                Err(_) => {
                    part.task.abort();
                    Err(Stopped::late(part.name, self.shutdown_timeout))
                }
            };
            if let Err(stopped) = end {
                warn!("while shutting down: {stopped}");
                outcome = outcome.and(Err(stopped));
            }
        }
        outcome
    }
}

/// What every role has: the warehouse, its definitions, and counters.
#[derive(Clone)]
struct Base {
    warehouse: Warehouse,
    catalogs: CatalogStore,
    catalog: watch::Receiver<Arc<Catalog>>,
    /// Poked when the catalog was changed here.
    changed: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl Base {
    /// Reads the catalog; the part follows it.
    ///
    /// Errors: the catalog cannot be read.
    async fn open(warehouse: Warehouse) -> Result<(Self, Part), Stopped> {
        let catalogs = CatalogStore::new(warehouse.clone());
        let (shown, catalog) = watch::channel(catalogs.load().await?);
        let base = Self {
            warehouse,
            catalogs: catalogs.clone(),
            catalog,
            changed: Arc::new(Notify::new()),
            metrics: Arc::new(Metrics::new()),
        };
        let changed = Arc::clone(&base.changed);
        let following =
            Part::spawn("the catalog", &Handle::current(), |end| follow::follow(catalogs, shown, changed, end));
        Ok((base, following))
    }

    /// What is published by others; the part follows it.
    fn published(&self) -> (watch::Receiver<Arc<Published>>, Part) {
        let (shown, published) = watch::channel(Arc::default());
        let (warehouse, catalog) = (self.warehouse.clone(), self.catalog.clone());
        let part =
            Part::spawn("batch versions", &Handle::current(), |end| follow::published(warehouse, catalog, shown, end));
        (published, part)
    }
}

/// Binds `address`, which the setting `name` gives.
pub(crate) async fn listen(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| cannot_listen(name, address, &error))
}

fn cannot_listen(name: &str, address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let flag = name.replace('_', "-");
    let other = match name {
        "flight_addr" => "thalweg speed",
        _ => "thalweg up",
    };
    match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "{address} is in use, perhaps by another `{other}`; end that one, or take another port with --{flag}"
        ),
        _ => {
            anyhow!("{address} cannot be listened on: {error}; take another address with --{flag}")
        }
    }
}

/// The folder for what is spilled, created.
fn spill_folder(settings: &Settings) -> Result<(), Stopped> {
    let folder = settings.spill_dir();
    std::fs::create_dir_all(&folder).map_err(|e| {
        let folder = folder.display();
        Stopped::user(format!("the folder {folder} cannot be created: {e}"))
    })
}

fn speed_config(settings: &Settings, assignment: Assignment) -> SpeedConfig {
    SpeedConfig {
        assignment,
        kafka: settings.kafka.clone(),
        micro_batch_rows: settings.micro_batch_rows,
        micro_batch_wait: settings.micro_batch_wait,
        epoch_bytes: settings.epoch_bytes,
        epoch_interval: settings.epoch_interval,
        mark_interval: settings.mark_interval,
        memory_budget: settings.memory_budget,
        grace: settings.grace,
        ..SpeedConfig::default()
    }
}

/// How recomputations run, here and in `thalweg batch run`.
pub(crate) fn batch_config(settings: &Settings) -> BatchConfig {
    BatchConfig {
        interval: settings.batch_interval,
        memory: settings.batch_memory,
        spill: settings.spill_dir(),
        compact_files: settings.compact_files,
        target_partitions: settings.batch_threads,
        grace: settings.file_grace,
        clock: WallClock::System,
    }
}

fn serving_config(settings: &Settings) -> ServingConfig {
    ServingConfig {
        query_timeout: settings.query_timeout,
        query_memory: settings.query_memory,
        max_queries: settings.max_queries,
        target_partitions: settings.query_threads,
        spill: Some(settings.spill_dir()),
        ..ServingConfig::default()
    }
}
