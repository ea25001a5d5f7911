//! What the batch layer does here: its schedule, and the runs and audits that clients ask for.
//!
//! Invariant: a run is recorded once, whoever asked for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use serde_json::{Value, json};
use thalweg_batch::audit::{AuditReport, audit_published, audit_view};
use thalweg_batch::{
    Archive, BatchConfig, Mode, Outcome, RunReport, ViewTable, run_view, schedule,
};
use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::dataset::Published;
use thalweg_schemas::snapshot::StreamHandle;
use thalweg_schemas::threads::Threads;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Fault, StreamName, ViewName};
use thalweg_serving::{BatchRequest, Call, CallError, Metrics, RunSummary};
use thalweg_speed::rebuild_range;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Stopped;
use super::supervise::supervise;
use crate::batch::choose;

/// How long an audit waits for segments that tile, and how long for one new snapshot.
const AUDIT_WAIT: Duration = Duration::from_secs(10);
const AUDIT_PAUSE: Duration = Duration::from_millis(500);

/// What runs and audits need.
#[derive(Clone)]
pub(crate) struct Batch {
    /// Where it computes.
    pub(crate) threads: Arc<Threads>,
    pub(crate) warehouse: Warehouse,
    pub(crate) catalogs: CatalogStore,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) streams: watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>,
    pub(crate) config: BatchConfig,
    pub(crate) metrics: Arc<Metrics>,
}

impl Batch {
    /// Runs views when they are due or `wake` is poked, until `cancel`.
    ///
    /// Errors: a broken promise.
    pub(crate) async fn schedule(
        self,
        wake: Arc<Notify>,
        published: watch::Sender<Arc<Published>>,
        cancel: CancellationToken,
    ) -> Result<(), Stopped> {
        let (runs, mut reports) = mpsc::unbounded_channel();
        let metrics = Arc::clone(&self.metrics);
        let (failure, _) = watch::channel(None);
        let attempt = || {
            schedule(
                self.warehouse.clone(),
                self.catalogs.clone(),
                self.catalog.clone(),
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
                metrics.record_run(summary(&report));
            }
        };
        tokio::select! {
            end = supervise("the batch layer", &cancel, &failure, attempt) => end,
            () = record => Err(Stopped::broken("nobody can report runs any more".to_owned())),
        }
    }

    /// `POST /v1/batch/run`.
    pub(crate) fn run_call(&self) -> Call<BatchRequest> {
        let batch = self.clone();
        Arc::new(move |request| batch.clone().compute(Self::run, request).boxed())
    }

    /// `POST /v1/audit`.
    pub(crate) fn audit_call(&self) -> Call<Option<ViewName>> {
        let batch = self.clone();
        Arc::new(move |view| batch.clone().compute(Self::audit, view).boxed())
    }

    /// Runs `work` on the batch layer's threads; a client that goes away ends it.
    async fn compute<Request, Work>(
        self,
        work: impl FnOnce(Self, Request) -> Work,
        request: Request,
    ) -> Result<Value, CallError>
    where
        Work: Future<Output = Result<Value, CallError>> + Send + 'static,
    {
        let threads = Arc::clone(&self.threads);
        let working = threads.spawn(work(self, request));
        working.await.unwrap_or_else(|panic| {
            Err(CallError {
                fault: Fault::Bug,
                message: format!("the batch layer panicked: {panic}"),
            })
        })
    }

    async fn run(self, request: BatchRequest) -> Result<Value, CallError> {
        let catalog = Arc::clone(&self.catalog.borrow());
        let mode = if request.full {
            Mode::Full
        } else {
            Mode::Incremental
        };
        let mut reports = Vec::new();
        for view in choose(&catalog, request.view.as_ref()).map_err(failed)? {
            let run = run_view(&self.warehouse, &catalog, &view, mode, &self.config, |_| ());
            let report = run.await.map_err(failed)?;
            self.metrics.record_run(summary(&report));
            reports.push(report);
        }
        Ok(json!({ "runs": reports }))
    }

    async fn audit(self, name: Option<ViewName>) -> Result<Value, CallError> {
        let catalog = Arc::clone(&self.catalog.borrow());
        let mut reports = Vec::new();
        for view in choose(&catalog, name.as_ref()).map_err(failed)? {
            reports.push(self.audit_one(&catalog, &view).await?);
        }
        Ok(json!({ "audits": reports }))
    }

    /// Audits one view. A snapshot that is older than the newest cut is replaced by the next one, for a while.
    async fn audit_one(
        &self,
        catalog: &Catalog,
        view: &Arc<CompiledView>,
    ) -> Result<AuditReport, CallError> {
        let stream = view.plan.stream();
        let starting = || CallError {
            fault: Fault::Transient,
            message: format!("stream `{stream}` has not started yet"),
        };
        let handle = self.streams.borrow().get(stream).cloned();
        let mut snapshots = handle.ok_or_else(starting)?.snapshots;
        let deadline = Instant::now() + AUDIT_WAIT;
        loop {
            let live = snapshots.borrow_and_update().clone().ok_or_else(starting)?;
            match audit_view(&self.warehouse, catalog, view, &live).await {
                Err(e) if e.fault() == Fault::Transient && Instant::now() < deadline => {
                    // Whether the wait ends by a new snapshot, by its time or by the stream's end: look again.
                    let _ = tokio::time::timeout(AUDIT_PAUSE, snapshots.changed()).await;
                }
                Ok(report) if report.parts.is_empty() => {
                    return self.audit_rebuilt(catalog, view, report).await;
                }
                outcome => return outcome.map_err(failed),
            }
        }
    }

    /// Nothing is held below the newest mark: the speed layer rebuilds what lies between the origin and the cut, and
    /// that is compared with what is published. `nothing` is the answer if there is nothing there.
    async fn audit_rebuilt(
        &self,
        catalog: &Catalog,
        view: &Arc<CompiledView>,
        nothing: AuditReport,
    ) -> Result<AuditReport, CallError> {
        let plan = &view.plan;
        let Some(stream) = catalog.streams.get(plan.stream()) else {
            return Ok(nothing);
        };
        let table = ViewTable::open(&self.warehouse, plan.id(), plan.stored_schema());
        let mut table = table.await.map_err(failed)?;
        let version = match table.latest().await.map_err(failed)? {
            Some(version) if version.cut.distance(&stream.origin) > 0 => version,
            _ => return Ok(nothing),
        };
        let archive = Archive::open(&self.warehouse, &stream.definition, stream.origin.clone());
        let mut archive = archive.await.map_err(failed)?;
        let cut = version.cut.or(&stream.origin);
        let segments = rebuild_range(
            &self.warehouse,
            &stream.definition,
            Arc::clone(view),
            archive.latest().await.map_err(failed)?,
            &stream.origin,
            &cut,
            self.config.memory,
        );
        let segments = segments.await.map_err(failed)?;
        audit_published(&self.warehouse, stream, view, &version, segments)
            .await
            .map_err(failed)
    }
}

fn failed(error: impl Into<Stopped>) -> CallError {
    let stopped = error.into();
    CallError {
        fault: stopped.fault,
        message: stopped.to_string(),
    }
}

fn summary(report: &RunReport) -> RunSummary {
    let (outcome, error) = match &report.outcome {
        Outcome::Published => ("published", None),
        Outcome::NothingNew => ("nothing_new", None),
        Outcome::Fenced => ("fenced", None),
        Outcome::Failed { reason, .. } => ("failed", Some(reason.clone())),
    };
    let mode = match report.mode {
        Mode::Incremental => "incremental",
        Mode::Full => "full",
    };
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    RunSummary {
        view: report.view.clone(),
        mode: mode.to_owned(),
        outcome: outcome.to_owned(),
        rows: report.rows_read,
        groups: report.groups,
        seconds: report.elapsed.as_secs_f64(),
        finished_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
        error,
    }
}
