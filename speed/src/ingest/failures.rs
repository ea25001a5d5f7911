//! The ingest loop's part in views that cannot go on: what is recorded, what is logged, and the search for the
//! messages behind a failure.
//!
//! Invariant: a failed view holds nothing. Only an error that breaks an invariant of this program ends the loop.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::{Fault, Frontier, ViewId};

use super::Ingest;
use super::work::now_ms;
use crate::Error;

impl Ingest<'_> {
    /// Records that `view` failed over the messages of `[from, to)`, whose rows are `rows`.
    pub(super) fn fail_update(
        &mut self,
        now: Duration,
        view: Arc<CompiledView>,
        rows: &RecordBatch,
        (from, to): (&Frontier, &Frontier),
        error: Error,
    ) {
        let error = error.into_shared();
        let failure = ViewFailure::new(FailedStep::Update, &error, (from, to), now_ms());
        let Some(recorded) = self.fail(now, view.plan.id(), failure) else {
            return;
        };
        let rows = (rows.schema(), vec![rows.clone()]);
        self.work.locate(view, recorded, rows, (from.clone(), to.clone()), error);
    }

    /// Drops the segments of a view, which hold `bytes` of the stream's budget.
    pub(super) fn fail_for_memory(&mut self, now: Duration, view: &ViewId, bytes: usize, budget: usize) {
        let failure = ViewFailure {
            step: FailedStep::Memory,
            fault: Fault::User,
            reason: format!(
                "its batch states do not advance, and its segments took {} KiB of the memory_budget of {} KiB, so \
                 reading could not go on",
                bytes >> 10,
                budget >> 10
            ),
            expression: None,
            from: Frontier::new(),
            to: Frontier::new(),
            since_ms: now_ms(),
        };
        self.fail(now, view, failure);
    }

    pub(super) fn fail_rebuild(&mut self, now: Duration, view: &ViewId, id: u64, failure: ViewFailure) {
        // A view that was dropped meanwhile has no failure, even if it was created again.
        if self.state.is_rebuild(view, id) {
            self.fail(now, view, failure);
        }
    }

    /// Records the failure of a view. Returns `None` if nothing of the view is held or being rebuilt.
    pub(super) fn fail(&mut self, now: Duration, view: &ViewId, failure: ViewFailure) -> Option<Arc<ViewFailure>> {
        let recorded = self.state.fail(now, view, failure)?;
        let name = self.name_of(view);
        match recorded.may_pass() {
            true => tracing::warn!("view `{name}`: {}; it is tried again", recorded.sentence()),
            false => tracing::error!("view `{name}`: {}. {}", recorded.sentence(), recorded.advice()),
        }
        Some(recorded)
    }

    pub(super) fn locate(&mut self, view: &ViewId, recorded: &Arc<ViewFailure>, precise: ViewFailure) {
        tracing::info!("view `{}`: {}", self.name_of(view), precise.sentence());
        self.state.refine(view, recorded, precise);
    }

    fn name_of(&self, view: &ViewId) -> String {
        let catalog = self.connections.catalog();
        let named = catalog.compiled().find(|compiled| compiled.plan.id() == view);
        named.map_or_else(|| view.to_string(), |compiled| compiled.definition.name.to_string())
    }
}
