//! The audit that clients ask for: it needs the speed layer's segments, wherever they are held.
//!
//! Invariant: a snapshot that is older than the newest cut is replaced by a newer one, for a while; no audit passes
//! because there was nothing to compare.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use thalweg_batch::audit::{audit_published, audit_view};
use thalweg_batch::follow::Masters;
use thalweg_batch::{Archive, ViewTable};
use thalweg_schemas::api::audits::{AuditList, AuditReport};
use thalweg_schemas::api::runs::RunList;
use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::{Fault, Shared, ViewName};
use thalweg_serving::{BatchRequest, Call, CallError, Metrics, Realtime, Sources};
use thalweg_speed::rebuild_range;
use tokio::sync::watch;

use super::calls::{compute, failed};

/// How long an audit waits for segments that tile, and how long for one new snapshot.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// What audits need.
#[derive(Clone)]
pub(super) struct Audits {
    pub(super) shared: Shared,
    /// Where they compute.
    pub(super) threads: Arc<Threads>,
    pub(super) realtime: Realtime,
    pub(super) masters: watch::Receiver<Arc<Masters>>,
    /// Bytes that a rebuild may use.
    pub(super) memory: usize,
}

impl Audits {
    /// What the serving layer reads, and these audits with it.
    pub(super) fn sources(&self, batch: Call<BatchRequest, RunList>, metrics: Arc<Metrics>) -> Sources {
        Sources {
            shared: self.shared.clone(),
            realtime: self.realtime.clone(),
            masters: self.masters.clone(),
            audit: self.call(),
            batch,
            metrics,
        }
    }

    /// `POST /v1/audit`.
    fn call(&self) -> Call<Option<ViewName>, AuditList> {
        let audits = self.clone();
        Arc::new(move |view| {
            let audits = audits.clone();
            compute(Arc::clone(&audits.threads), audits.run(view)).boxed()
        })
    }

    async fn run(self, name: Option<ViewName>) -> Result<AuditList, CallError> {
        let catalog = Arc::clone(&self.shared.catalog.borrow());
        let mut audits = Vec::new();
        for view in catalog.compiled_of(name.as_ref()).map_err(failed)? {
            audits.push(self.one(&catalog, &view).await?);
        }
        Ok(AuditList { audits })
    }

    async fn one(&self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<AuditReport, CallError> {
        let deadline = Instant::now() + WAIT;
        loop {
            let live = self.snapshot(catalog, view).await;
            let outcome = match live {
                Ok(live) => {
                    let audit = audit_view(&self.shared.warehouse, catalog, view, &live).await;
                    audit.map_err(failed)
                }
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.fault == Fault::Transient && Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(report) if report.parts.is_empty() => {
                    return self.rebuilt(catalog, view, report).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Nothing is held below the newest mark: the speed layer rebuilds what lies between the origin and the cut, and
    /// that is compared with what is published. `nothing` is the answer if there is nothing there.
    async fn rebuilt(
        &self,
        catalog: &Catalog,
        view: &Arc<CompiledView>,
        nothing: AuditReport,
    ) -> Result<AuditReport, CallError> {
        let plan = &view.plan;
        let warehouse = &self.shared.warehouse;
        let Some(stream) = catalog.streams.get(plan.stream()) else {
            return Ok(nothing);
        };
        let table = ViewTable::open(warehouse, plan.id(), plan.stored_schema());
        let mut table = table.await.map_err(failed)?;
        let version = match table.latest().await.map_err(failed)? {
            Some(version) if version.cut.distance(&stream.origin) > 0 => version,
            _ => return Ok(nothing),
        };
        let archive = Archive::open(warehouse, &stream.definition, stream.origin.clone());
        let mut archive = archive.await.map_err(failed)?;
        let cut = version.cut.or(&stream.origin);
        let segments = rebuild_range(
            warehouse,
            &stream.definition,
            Arc::clone(view),
            archive.latest().await.map_err(failed)?,
            &stream.origin,
            &cut,
            self.memory,
        );
        let segments = segments.await.map_err(failed)?;
        audit_published(warehouse, stream, view, &version, segments).await.map_err(failed)
    }

    /// The segments of `view`, from this process or from workers.
    async fn snapshot(&self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<Arc<StreamSnapshot>, CallError> {
        let name = view.plan.stream();
        let starting =
            || CallError { fault: Fault::Transient, message: format!("stream `{name}` has not started yet") };
        match &self.realtime {
            Realtime::Local(streams) => {
                let handle = streams.borrow().get(name).cloned();
                let snapshot = handle.and_then(|handle| handle.snapshots.borrow().clone());
                snapshot.ok_or_else(starting)
            }
            Realtime::Remote(workers) => {
                let stream = catalog.streams.get(name).ok_or_else(starting)?;
                let master = self.masters.borrow().get(name).cloned();
                let master = master.ok_or_else(starting)?;
                let published = Arc::clone(&self.shared.published.borrow());
                let views = [Arc::clone(view)];
                let snapshot = workers.snapshot(stream, &views, &published, master);
                snapshot.await.map(Arc::new).map_err(failed)
            }
        }
    }
}
