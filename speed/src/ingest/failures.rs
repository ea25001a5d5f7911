//! The ingest loop's part in views that cannot go on: what is recorded, what is logged, and the search for the
//! messages behind a failure.
//!
//! Invariant: a failure is recorded first, and its messages are searched afterwards, so that nothing is held back for a
//! search. Only an error that breaks an invariant of this program ends the loop.

use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::algebra::Culprit;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::{Fault, Frontier, ViewId};

use super::Ingest;
use super::searches::FailedRange;
use super::work::now_ms;
use crate::Error;
use crate::state::views::RebuildFailure;

impl Ingest<'_> {
    /// Records that `view` failed over the messages of `[from, to)`.
    pub(super) fn fail_update(
        &mut self,
        now: Duration,
        view: Arc<CompiledView>,
        (from, to): (Frontier, Frontier),
        error: Error,
    ) {
        let error = error.into_shared();
        let failure = ViewFailure::new(FailedStep::Update, &error, (&from, &to), now_ms());
        if let Some(recorded) = self.fail(now, view.plan.id(), failure) {
            self.work.searches.add(FailedRange { view, recorded, from, to, error });
        }
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

    /// Records that a rebuild of `view` failed in the range of `culprit`.
    pub(super) fn fail_rebuild(&mut self, now: Duration, view: Arc<CompiledView>, rebuild: u64, culprit: Culprit) {
        let Culprit { from, to, error, .. } = culprit;
        let (id, name) = (view.plan.id(), &view.definition.name);
        let failure = ViewFailure::new(FailedStep::Rebuild, &error, (&from, &to), now_ms());
        let said = failure.sentence();
        match self.state.fail_rebuild(now, id, rebuild, failure) {
            // A view that was dropped meanwhile has no failure, even if it was created again.
            None => {}
            Some(RebuildFailure::Served(again_in)) => {
                tracing::warn!(
                    ?again_in,
                    "view `{name}`: {said}; what is held of it stays, and the rebuild is tried again"
                );
            }
            Some(RebuildFailure::OfView(recorded)) => {
                tell(name.as_str(), &recorded);
                self.work.searches.add(FailedRange { view, recorded, from, to, error });
            }
        }
    }

    /// Records that a merge of segments of this incarnation of a view failed.
    pub(super) fn fail_merge(&mut self, now: Duration, view: &ViewId, incarnation: u64, failure: ViewFailure) {
        if let Some(recorded) = self.state.fail_merge(now, view, incarnation, failure) {
            tell(&self.name_of(view), &recorded);
        }
    }

    /// Records the failure of a view. Returns `None` if nothing of the view is held or being rebuilt.
    fn fail(&mut self, now: Duration, view: &ViewId, failure: ViewFailure) -> Option<Arc<ViewFailure>> {
        let recorded = self.state.fail(now, view, failure)?;
        tell(&self.name_of(view), &recorded);
        Some(recorded)
    }

    /// Starts the next search, and ends the one that nobody needs any more. A search whose rows in memory are more than
    /// a micro-batch waits until they are archived.
    pub(super) fn start_search(&mut self) {
        let (state, most) = (&self.state, self.shares.batch);
        self.work.searches.retain(|view, recorded| state.is_failure(view, recorded));
        let rows = |failed: &FailedRange| {
            let rows = state.row_source(&failed.from, &failed.to);
            let bytes = rows.bytes();
            (bytes <= most).then_some((rows, bytes))
        };
        if let Some((failed, rows, end)) = self.work.searches.begin(rows) {
            self.work.locate(failed, rows, end);
        }
    }

    /// Takes the result of a search, unless the view was tried again or dropped meanwhile.
    pub(super) fn take_located(&mut self, view: &CompiledView, recorded: &Arc<ViewFailure>, precise: ViewFailure) {
        self.work.searches.end();
        if precise == **recorded {
            return;
        }
        let said = precise.sentence();
        if self.state.refine(view.plan.id(), recorded, precise) {
            tracing::info!("view `{}`: {said}", view.definition.name);
        }
    }

    fn name_of(&self, view: &ViewId) -> String {
        let catalog = self.connections.catalog();
        let named = catalog.compiled().find(|compiled| compiled.plan.id() == view);
        named.map_or_else(|| view.to_string(), |compiled| compiled.definition.name.to_string())
    }
}

/// Logs the failure of the view `name`.
fn tell(name: &str, failure: &ViewFailure) {
    match failure.may_pass() {
        true => tracing::warn!("view `{name}`: {}; it is tried again", failure.sentence()),
        false => tracing::error!("view `{name}`: {}. {}", failure.sentence(), failure.advice()),
    }
}
