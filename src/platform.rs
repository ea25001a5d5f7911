//! All layers in one process: who gets which channel, in which order they end, and what a failure means.
//!
//! Layers know only `schemas`; here they are wired. Invariant: whatever part fails, either it is started again, or
//! the process ends and says why; no part is missing silently.

mod batch;
mod follow;
mod streams;
mod supervise;

use std::collections::HashMap;
use std::sync::Arc;

use thalweg_batch::BatchConfig;
use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::dataset::Published;
use thalweg_schemas::threads::Threads;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_serving::{Metrics, ServingConfig, Sources};
use thalweg_speed::SpeedConfig;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Settings;

pub(crate) use supervise::{Stopped, supervise};

/// One long-lived part of the process.
struct Part {
    name: &'static str,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), Stopped>>,
}

impl Part {
    fn spawn(
        name: &'static str,
        threads: &Handle,
        cancel: CancellationToken,
        work: impl Future<Output = Result<(), Stopped>> + Send + 'static,
    ) -> Self {
        Self {
            name,
            cancel,
            task: threads.spawn(work),
        }
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
    parts: [Part; 4],
    shutdown_timeout: std::time::Duration,
}

/// Starts every layer on an opened warehouse.
///
/// Errors: the catalog cannot be read.
pub(crate) async fn start(
    settings: &Settings,
    warehouse: Warehouse,
    listener: TcpListener,
) -> Result<Platform, Stopped> {
    std::fs::create_dir_all(settings.spill_dir()).map_err(|e| {
        Stopped::user(format!(
            "the folder {} cannot be created: {e}",
            settings.spill_dir().display()
        ))
    })?;
    let catalogs = CatalogStore::new(warehouse.clone());
    let (catalog_sender, catalog) = watch::channel(catalogs.load().await?);
    let (published_sender, published) = watch::channel(Arc::new(Published::default()));
    let (handles_sender, handles) = watch::channel(Arc::new(HashMap::new()));
    let changed = Arc::new(Notify::new());
    let wake = Arc::new(Notify::new());
    let metrics = Arc::new(Metrics::new());
    let [serving_end, streams_end, batch_end, catalog_end] =
        std::array::from_fn(|_| CancellationToken::new());

    let follow = follow::follow(
        catalogs.clone(),
        catalog_sender,
        Arc::clone(&changed),
        catalog_end.clone(),
    );
    let streams = streams::run(
        streams::Wiring {
            config: speed_config(settings),
            warehouse: warehouse.clone(),
            catalogs: catalogs.clone(),
            catalog: catalog.clone(),
            published: published.clone(),
            pressure: Arc::clone(&wake),
            metrics: Arc::clone(&metrics),
            end_within: settings.shutdown_timeout,
        },
        handles_sender,
        streams_end.clone(),
    );
    let threads = Threads::start("batch", settings.batch_threads).map_err(|e| {
        Stopped::broken(format!(
            "threads for the batch layer cannot be started: {e}"
        ))
    })?;
    let (here, computing) = (Handle::current(), Arc::new(threads));
    let batch = batch::Batch {
        threads: Arc::clone(&computing),
        warehouse: warehouse.clone(),
        catalogs: catalogs.clone(),
        catalog: catalog.clone(),
        streams: handles.clone(),
        config: batch_config(settings),
        metrics: Arc::clone(&metrics),
    };
    let sources = Sources {
        catalog,
        catalogs,
        published,
        streams: handles,
        warehouse,
        changed,
        audit: batch.audit_call(),
        batch: batch.run_call(),
        metrics,
    };
    let schedule = batch.schedule(wake, published_sender, batch_end.clone());
    let serving = serve(
        listener,
        serving_config(settings),
        sources,
        serving_end.clone(),
    );
    Ok(Platform {
        parts: [
            Part::spawn("serving", &here, serving_end, serving),
            Part::spawn("the speed layer", &here, streams_end, streams),
            Part::spawn("the batch layer", computing.handle(), batch_end, schedule),
            Part::spawn("the catalog", &here, catalog_end, follow),
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}

impl Platform {
    /// Runs until `stop` is ready or a part fails, then ends every part in order.
    ///
    /// Errors: the first part that failed, or that did not end in time.
    pub(crate) async fn until(mut self, stop: impl Future<Output = ()>) -> Result<(), Stopped> {
        let [serving, speed, batch, catalog] = &mut self.parts;
        let early = tokio::select! {
            () = stop => None,
            end = serving.ended() => Some(("serving", end)),
            end = speed.ended() => Some(("the speed layer", end)),
            end = batch.ended() => Some(("the batch layer", end)),
            end = catalog.ended() => Some(("the catalog", end)),
        };
        let mut outcome = match early {
            None => Ok(()),
            Some((_, Err(stopped))) => Err(stopped),
            Some((part, Ok(()))) => Err(Stopped::broken(format!(
                "{part} ended without being asked to"
            ))),
        };
        match &outcome {
            Ok(()) => info!("shutting down: no new queries, then archiving what is held"),
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

async fn serve(
    listener: TcpListener,
    config: ServingConfig,
    sources: Sources,
    end: CancellationToken,
) -> Result<(), Stopped> {
    Ok(thalweg_serving::serve(listener, config, sources, end).await?)
}

fn speed_config(settings: &Settings) -> SpeedConfig {
    SpeedConfig {
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
