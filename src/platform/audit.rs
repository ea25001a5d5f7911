//! The audit on request of a client; it compares the speed layer's segments, local or remote.
//!
//! Invariant: the batch layer decides every next step; this file only asks the speed layer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use thalweg_batch::audit::{AuditStep, PublishedRange, audit_published, audit_view};
use thalweg_schemas::api::audits::{AuditList, AuditReport, FailedAudit};
use thalweg_schemas::api::runs::RunList;
use thalweg_schemas::catalog::{Catalog, CompiledView, FoundColumns};
use thalweg_schemas::definition::statement::{CopiedFiles, OpenStream};
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::{Fault, Shared, ViewName};
use thalweg_serving::{BatchRequest, Call, CallError, Metrics, Realtime, ShownSetting, Sources};
use thalweg_speed::rebuild_range;

use super::calls::{compute, failed};

/// The inputs of audits.
#[derive(Clone)]
pub(super) struct Audits {
    pub(super) shared: Shared,
    /// The threads that audits compute on.
    pub(super) threads: Arc<Threads>,
    pub(super) realtime: Realtime,
    /// Bytes that a rebuild may use, and the folder to which it spills.
    pub(super) memory: usize,
    pub(super) spill: PathBuf,
    /// What clients may see of the settings.
    pub(super) settings: Arc<[ShownSetting]>,
}

impl Audits {
    /// Returns the sources of the serving layer, with these audits among them.
    pub(super) fn sources(
        &self,
        batch: Call<BatchRequest, RunList>,
        load: Call<CopiedFiles, (String, Vec<String>)>,
        columns: Call<OpenStream, FoundColumns>,
        metrics: Arc<Metrics>,
    ) -> Sources {
        Sources {
            shared: self.shared.clone(),
            realtime: self.realtime.clone(),
            audit: self.call(),
            batch,
            load,
            columns,
            metrics,
            settings: Arc::clone(&self.settings),
        }
    }

    /// Returns the handler of `POST /v1/audit`.
    fn call(&self) -> Call<Option<ViewName>, AuditList> {
        let audits = self.clone();
        Arc::new(move |view| {
            let audits = audits.clone();
            compute(Arc::clone(&audits.threads), audits.run(view)).boxed()
        })
    }

    async fn run(self, name: Option<ViewName>) -> Result<AuditList, CallError> {
        let catalog = Arc::clone(&self.shared.catalog.borrow());
        let (mut audits, mut failures) = (Vec::new(), Vec::new());
        for view in catalog.compiled_of(name.as_ref()).map_err(failed)? {
            match self.one(&catalog, &view).await {
                Ok(report) => audits.push(report),
                // A view that cannot be compared must not hide what the others are.
                Err(error) if name.is_none() => {
                    failures.push(FailedAudit { view: view.definition.name.clone(), reason: error.message });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(AuditList { audits, failed: failures })
    }

    async fn one(&self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<AuditReport, CallError> {
        let began = Instant::now();
        loop {
            let outcome = self.of_held(catalog, view).await;
            match AuditStep::after(outcome.as_ref().map_err(|error| error.fault), began.elapsed()) {
                AuditStep::Answer => return outcome,
                AuditStep::Again(pause) => tokio::time::sleep(pause).await,
                AuditStep::Rebuild => match self.of_rebuilt(catalog, view).await? {
                    Some(report) => return Ok(report),
                    None => return outcome,
                },
            }
        }
    }

    /// Compares the segments that the speed layer holds.
    async fn of_held(&self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<AuditReport, CallError> {
        let published = Arc::clone(&self.shared.published.borrow());
        let live = self.realtime.snapshot(catalog, &published, view).await.map_err(failed)?;
        let Some(live) = live else {
            let message = format!("stream `{}` has not started yet", view.plan.stream());
            return Err(CallError { fault: Fault::Transient, message });
        };
        audit_view(&self.shared.warehouse, catalog, view, &live).await.map_err(failed)
    }

    /// Compares segments that the speed layer rebuilds; `None` if there is no state to compare them with.
    async fn of_rebuilt(&self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<Option<AuditReport>, CallError> {
        let warehouse = &self.shared.warehouse;
        let range = PublishedRange::find(warehouse, catalog, view).await.map_err(failed)?;
        let Some(PublishedRange { stream, version, master, cut }) = range else {
            return Ok(None);
        };
        let (definition, origin) = (&stream.definition, &stream.origin);
        let (view_of, spill) = (Arc::clone(view), Some(self.spill.clone()));
        let segments = rebuild_range(warehouse, definition, view_of, master, (origin, &cut), self.memory, spill);
        let segments = segments.await.map_err(failed)?;
        let report = audit_published(warehouse, &stream, view, &version, segments).await;
        report.map(Some).map_err(failed)
    }
}
