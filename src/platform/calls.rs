//! The batch layer in this process: its schedule, and the runs that clients request.
//!
//! Invariant: every run is recorded once, whether scheduled or requested.

use std::sync::Arc;

use futures::{FutureExt, TryFutureExt};
use thalweg_batch::{BatchConfig, Downstream, RunEvent, run_views, schedule};
use thalweg_schemas::api::runs::{RunList, RunMode, RunReport};
use thalweg_schemas::catalog::FoundColumns;
use thalweg_schemas::definition::statement::OpenStream;
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Fault, Shared};
use thalweg_serving::{BatchRequest, Call, CallError, Metrics};
use thalweg_speed::Assignment;
use tokio::sync::{Notify, mpsc, watch};

use super::parts::Part;
use super::stopped::Stopped;
use super::supervise::supervise;
use crate::config::Settings;
use crate::{advice, proposal};

/// The name of the part.
const SCHEDULE: &str = "the batch layer";

/// The inputs of runs.
#[derive(Clone)]
pub(super) struct Runs {
    shared: Shared,
    metrics: Arc<Metrics>,
    /// The threads that runs compute on.
    threads: Arc<Threads>,
    config: BatchConfig,
}

/// Returns what finds out the columns of streams that are created without: Kafka and the registries are asked.
pub(super) fn columns(settings: &Settings) -> Call<OpenStream, FoundColumns> {
    let config = settings.speed(Assignment::All);
    Arc::new(move |open| {
        let found = proposal::columns_of(config.clone(), open);
        let failed = |error: anyhow::Error| CallError {
            fault: error.downcast_ref::<thalweg_speed::Error>().map_or(Fault::User, |error| error.fault()),
            message: advice::sentence(&error),
        };
        found.map_err(failed).boxed()
    })
}

/// Runs `work` on `threads`; a client that disconnects ends it.
pub(super) async fn compute<Answer: Send + 'static>(
    threads: Arc<Threads>,
    work: impl Future<Output = Result<Answer, CallError>> + Send + 'static,
) -> Result<Answer, CallError> {
    threads.spawn(work).await.unwrap_or_else(|panic| {
        Err(CallError { fault: Fault::Bug, message: format!("the batch layer panicked: {panic}") })
    })
}

/// Returns the error of a call, as its client sees it.
pub(super) fn failed(error: impl Into<Stopped>) -> CallError {
    let stopped = error.into();
    CallError { fault: stopped.fault, message: stopped.to_string() }
}

impl Runs {
    pub(super) fn new(shared: &Shared, metrics: &Arc<Metrics>, threads: Arc<Threads>, config: BatchConfig) -> Self {
        Self { shared: shared.clone(), metrics: Arc::clone(metrics), threads, config }
    }

    /// What other work of the batch layer needs.
    pub(super) fn parts(&self) -> (Shared, Arc<Threads>, BatchConfig) {
        (self.shared.clone(), Arc::clone(&self.threads), self.config.clone())
    }

    /// Runs views when they are due, or at once when `wake` is notified.
    pub(super) fn schedule(self, wake: Arc<Notify>, published: watch::Sender<Arc<Published>>) -> Part {
        let Self { shared, metrics, threads, config } = self;
        let (runs, mut reports) = mpsc::unbounded_channel();
        let downstream = Downstream { shared, published, wake, runs };
        let handle = threads.handle().clone();
        Part::spawn_on(&handle, SCHEDULE, |cancel| async move {
            // The threads end with their last owner, which the schedule is where nobody calls for runs.
            let _owned = threads;
            let (failure, _) = watch::channel(None);
            let attempt = || schedule(config.clone(), downstream.clone(), cancel.clone());
            let record = async {
                while let Some(event) = reports.recv().await {
                    match event {
                        RunEvent::Ended(report) => metrics.record_run(&report),
                        RunEvent::Located(report) => metrics.refine_run(&report),
                    }
                }
            };
            tokio::select! {
                end = supervise(SCHEDULE, &cancel, &failure, attempt) => end,
                () = record => Err(Stopped::broken("nobody can report runs any more".to_owned())),
            }
        })
    }

    /// Returns the handler of `POST /v1/batch/run`.
    pub(super) fn call(&self) -> Call<BatchRequest, RunList> {
        let runs = self.clone();
        Arc::new(move |request| {
            let runs = runs.clone();
            compute(Arc::clone(&runs.threads), runs.run(request)).boxed()
        })
    }

    async fn run(self, request: BatchRequest) -> Result<RunList, CallError> {
        let mode = if request.full { RunMode::Full } else { RunMode::Incremental };
        let record = |report: &RunReport| self.metrics.record_run(report);
        run_views(&self.shared, request.view.as_ref(), mode, &self.config, record).await.map_err(failed)
    }
}
