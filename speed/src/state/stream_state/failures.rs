//! The part of a stream's state that deals with views that fail: what is recorded, and the rows behind a failure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::{Frontier, ViewId};

use super::StreamState;
use crate::state::row_source::RowSource;
use crate::state::views::RebuildFailure;

impl StreamState {
    /// Drops everything that is held of a view, because it cannot go on. Returns the recorded failure; `None` if
    /// nothing of the view is held or being rebuilt.
    pub(crate) fn fail(&mut self, now: Duration, view: &ViewId, failure: ViewFailure) -> Option<Arc<ViewFailure>> {
        let recorded = self.views.fail(now, view, failure);
        self.is_shown &= recorded.is_none();
        recorded
    }

    /// See [`ViewStates::fail_rebuild`].
    pub(crate) fn fail_rebuild(
        &mut self,
        now: Duration,
        view: &ViewId,
        id: u64,
        failure: ViewFailure,
    ) -> Option<RebuildFailure> {
        let failed = self.views.fail_rebuild(now, view, id, failure);
        self.is_shown &= failed.is_none();
        failed
    }

    /// See [`ViewStates::fail_merge`].
    pub(crate) fn fail_merge(
        &mut self,
        now: Duration,
        view: &ViewId,
        incarnation: u64,
        failure: ViewFailure,
    ) -> Option<Arc<ViewFailure>> {
        let recorded = self.views.fail_merge(now, view, incarnation, failure);
        self.is_shown &= recorded.is_none();
        recorded
    }

    /// True if `recorded` is the newest failure of the view.
    pub(crate) fn is_failure(&self, view: &ViewId, recorded: &Arc<ViewFailure>) -> bool {
        self.views.failure(view).is_some_and(|failure| Arc::ptr_eq(failure, recorded))
    }

    /// The numbers of the rebuilds that are needed.
    pub(crate) fn rebuilds(&self) -> BTreeSet<u64> {
        self.views.rebuilds()
    }

    /// Replaces the failure of a view by a more precise one. Returns false if the failure is no longer `vague`.
    pub(crate) fn refine(&mut self, view: &ViewId, vague: &Arc<ViewFailure>, precise: ViewFailure) -> bool {
        let refined = self.views.refine(view, vague, precise);
        self.is_shown &= !refined;
        refined
    }

    /// True if a failed view is to be tried again.
    pub(crate) fn is_retry_due(&self, now: Duration) -> bool {
        self.views.is_retry_due(now)
    }

    /// The rows of `[from, to)`, of which those in memory are not archived.
    pub(crate) fn row_source(&self, from: &Frontier, to: &Frontier) -> RowSource {
        let memory = self.epochs.unarchived(&self.archived, from, to);
        let batches = memory.iter().flat_map(|chunk| chunk.batches.iter().cloned());
        RowSource {
            schema: self.definition().row_schema(),
            master: Arc::clone(&self.master),
            archived: self.archived.clone(),
            memory: batches.collect(),
        }
    }
}
