//! What the batch layer does here: its schedule, and the runs that clients ask for.
//!
//! Invariant: a run is recorded once, whoever asked for it.

use std::sync::Arc;

use futures::FutureExt;
use thalweg_batch::{BatchConfig, run_view, schedule};
use thalweg_schemas::Fault;
use thalweg_schemas::api::runs::{RunList, RunMode};
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_serving::{BatchRequest, Call, CallError};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::supervise::supervise;
use super::{Base, Stopped};
use crate::config::Settings;

/// What runs need.
#[derive(Clone)]
pub(super) struct Batch {
    base: Base,
    /// Where it computes.
    threads: Arc<Threads>,
    config: BatchConfig,
}

/// Threads for what computes long.
pub(super) fn threads(settings: &Settings) -> Result<Arc<Threads>, Stopped> {
    let threads = Threads::start("batch", settings.batch_threads);
    threads.map(Arc::new).map_err(|e| Stopped::broken(format!("threads for the batch layer cannot be started: {e}")))
}

/// Does `work` on `threads`; a client that goes away ends it.
pub(super) async fn compute<Answer: Send + 'static>(
    threads: Arc<Threads>,
    work: impl Future<Output = Result<Answer, CallError>> + Send + 'static,
) -> Result<Answer, CallError> {
    threads.spawn(work).await.unwrap_or_else(|panic| {
        Err(CallError { fault: Fault::Bug, message: format!("the batch layer panicked: {panic}") })
    })
}

/// Why a call cannot be answered, as its client is told.
pub(super) fn failed(error: impl Into<Stopped>) -> CallError {
    let stopped = error.into();
    CallError { fault: stopped.fault, message: stopped.to_string() }
}

impl Batch {
    pub(super) fn new(base: &Base, threads: Arc<Threads>, config: BatchConfig) -> Self {
        Self { base: base.clone(), threads, config }
    }

    /// Runs views when they are due or `wake` is poked, until `cancel`.
    ///
    /// Errors: a broken promise.
    pub(super) async fn schedule(
        self,
        wake: Arc<Notify>,
        published: watch::Sender<Arc<Published>>,
        cancel: CancellationToken,
    ) -> Result<(), Stopped> {
        let (runs, mut reports) = mpsc::unbounded_channel();
        let metrics = Arc::clone(&self.base.metrics);
        let (failure, _) = watch::channel(None);
        let attempt = || {
            schedule(
                self.base.warehouse.clone(),
                self.base.catalogs.clone(),
                self.base.catalog.clone(),
                published.clone(),
                self.config.clone(),
                Arc::clone(&wake),
                runs.clone(),
                cancel.clone(),
            )
            .map(|end| end.map_err(Stopped::from))
        };
        let record = async {
            while let Some(report) = reports.recv().await {
                metrics.record_run(&report);
            }
        };
        tokio::select! {
            end = supervise("the batch layer", &cancel, &failure, attempt) => end,
            () = record => Err(Stopped::broken("nobody can report runs any more".to_owned())),
        }
    }

    /// `POST /v1/batch/run`.
    pub(super) fn run_call(&self) -> Call<BatchRequest, RunList> {
        let batch = self.clone();
        Arc::new(move |request| {
            let batch = batch.clone();
            compute(Arc::clone(&batch.threads), batch.run(request)).boxed()
        })
    }

    async fn run(self, request: BatchRequest) -> Result<RunList, CallError> {
        let catalog = Arc::clone(&self.base.catalog.borrow());
        let mode = if request.full { RunMode::Full } else { RunMode::Incremental };
        let mut runs = Vec::new();
        for view in catalog.compiled_of(request.view.as_ref()).map_err(failed)? {
            let run = run_view(&self.base.warehouse, &catalog, &view, mode, &self.config, |_| ());
            let report = run.await.map_err(failed)?;
            self.base.metrics.record_run(&report);
            runs.push(report);
        }
        Ok(RunList { runs })
    }
}
