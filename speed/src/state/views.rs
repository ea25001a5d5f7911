//! The views of a stream: the held views, and the rebuilds that produce segments for more views or more partitions.
//!
//! Invariant: a view is shown only while its segments reach from its cut to the frontier. The result of a rebuild or a
//! merge is dropped if the view was dropped or has failed meanwhile, even if the view was created again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::realtime::segment::{Segment, ViewSegments};
use thalweg_schemas::{Frontier, Partition, ViewId};

use crate::Result;
use crate::budget::Holding;
use crate::state::failed_views::FailedViews;
use crate::state::rebuild::Rebuilt;
use crate::state::view_state::{Borders, ViewState};

/// A running rebuild.
#[derive(Debug)]
struct PendingRebuild {
    id: u64,
    /// The published cut of the view, in all partitions.
    cut: Frontier,
    /// The rebuilt partitions that this process still reads.
    partitions: BTreeSet<Partition>,
    /// Rows above this frontier must stay in memory until the rebuild is done.
    hold: Frontier,
}

/// The step that a published cut requires.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// Readers can tile from the new cut.
    Record,
    /// Readers cannot tile from the new cut in these partitions.
    Rebuild(BTreeSet<Partition>),
    /// The cut lies above the archive frontier that this process knows.
    Wait,
}

/// A merge of neighbouring segments of one view, which runs beside the loop.
#[derive(Debug)]
pub(crate) struct MergeJob {
    pub(crate) view: Arc<CompiledView>,
    /// The value of the view whose segments these are, see [`ViewState`].
    pub(crate) incarnation: u64,
    pub(crate) runs: Vec<Vec<Arc<Segment>>>,
}

/// The effect of a failed rebuild.
#[derive(Debug)]
pub(crate) enum RebuildFailure {
    /// The view has failed. Holds the recorded failure.
    OfView(Arc<ViewFailure>),
    /// The view is served from its segments as before, and rebuilt again after this pause.
    Served(Duration),
}

/// The views of one stream.
#[derive(Debug, Default)]
pub(crate) struct ViewStates {
    held: BTreeMap<ViewId, ViewState>,
    rebuilds: BTreeMap<ViewId, PendingRebuild>,
    failed: FailedViews,
    /// The number of rebuilds begun so far.
    begun: u64,
}

impl ViewStates {
    /// The views that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.held.values().map(|held| &held.view)
    }

    /// The segments of all held views, for readers.
    pub(crate) fn segments(&self) -> HashMap<ViewId, Arc<ViewSegments>> {
        self.held.iter().map(|(id, held)| (id.clone(), Arc::clone(held.segments()))).collect()
    }

    /// The views that cannot go on, for readers.
    pub(crate) fn failures(&self) -> BTreeMap<ViewId, Arc<ViewFailure>> {
        self.failed.failures()
    }

    /// The views that are served although rebuilds of them fail, for readers.
    pub(crate) fn delays(&self) -> BTreeMap<ViewId, Arc<ViewFailure>> {
        self.failed.delays()
    }

    /// Drops everything that is held of a view, because it cannot go on. Returns the recorded failure; `None` if
    /// nothing of the view is held or being rebuilt.
    pub(crate) fn fail(&mut self, now: Duration, view: &ViewId, failure: ViewFailure) -> Option<Arc<ViewFailure>> {
        let held = self.held.remove(view).map(|held| held.cuts.newest().cloned().unwrap_or_default());
        let pending = self.rebuilds.remove(view).map(|pending| pending.cut);
        let cut = pending.or(held)?;
        self.failed.record(now, view, cut, failure);
        self.failed.get(view).cloned()
    }

    /// Records that this rebuild of a view has failed. If the view is held and the failure may pass, only the rebuild
    /// ends; otherwise the view fails. Returns `None` if the view was dropped meanwhile, even if it was created again.
    pub(crate) fn fail_rebuild(
        &mut self,
        now: Duration,
        view: &ViewId,
        id: u64,
        failure: ViewFailure,
    ) -> Option<RebuildFailure> {
        self.rebuilds.get(view).filter(|pending| pending.id == id)?;
        if failure.may_pass() && self.held.contains_key(view) {
            let pending = self.rebuilds.remove(view)?;
            return Some(RebuildFailure::Served(self.failed.record_served(now, view, pending.cut, failure)));
        }
        self.fail(now, view, failure).map(RebuildFailure::OfView)
    }

    /// Records that a merge of segments has failed. Returns the recorded failure; `None` if the view was dropped
    /// meanwhile, even if it is held again.
    pub(crate) fn fail_merge(
        &mut self,
        now: Duration,
        view: &ViewId,
        incarnation: u64,
        failure: ViewFailure,
    ) -> Option<Arc<ViewFailure>> {
        self.held.get(view).filter(|held| held.incarnation == incarnation)?;
        self.fail(now, view, failure)
    }

    /// The recorded failure of a view.
    pub(crate) fn failure(&self, view: &ViewId) -> Option<&Arc<ViewFailure>> {
        self.failed.get(view)
    }

    /// The numbers of the rebuilds that are needed.
    pub(crate) fn rebuilds(&self) -> BTreeSet<u64> {
        self.rebuilds.values().map(|pending| pending.id).collect()
    }

    /// Replaces the failure of a view by a more precise one. Returns true if it was replaced.
    pub(crate) fn refine(&mut self, view: &ViewId, vague: &Arc<ViewFailure>, precise: ViewFailure) -> bool {
        self.failed.refine(view, vague, precise)
    }

    /// True if a failed view is to be tried again.
    pub(crate) fn is_retry_due(&self, now: Duration) -> bool {
        self.failed.is_due(now)
    }

    /// The memory of each held view.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        let holding = |(id, held): (&ViewId, &ViewState)| Holding {
            view: id.clone(),
            bytes: held.bytes(),
            cut_since: held.cuts.newest_since(),
        };
        self.held.iter().map(holding).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held.values().map(ViewState::bytes).sum()
    }

    /// Adds segments that continue the segments of held views.
    pub(crate) fn extend(&mut self, segments: Vec<(ViewId, Vec<Segment>)>) -> Result<()> {
        for (id, added) in segments {
            if let Some(held) = self.held.get_mut(&id) {
                held.extend(added)?;
            }
        }
        Ok(())
    }

    /// Keeps the wanted views and their rebuilds, and drops all others. Returns true if a held view was dropped.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&ViewId) -> bool) -> bool {
        let before = self.held.len();
        self.held.retain(|id, _| is_wanted(id));
        self.rebuilds.retain(|id, _| is_wanted(id));
        let forgotten = self.failed.retain(&is_wanted);
        before != self.held.len() || forgotten
    }

    /// Adds partitions that are read from `at` on. Views whose newest cut is at another offset have to be rebuilt
    /// there.
    pub(crate) fn assign(&mut self, at: &Frontier) {
        for held in self.held.values_mut() {
            held.assign(at);
        }
    }

    /// Drops revoked partitions.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>) {
        for held in self.held.values_mut() {
            held.revoke(revoked);
        }
        for pending in self.rebuilds.values_mut() {
            pending.partitions.retain(|p| !revoked.contains(p));
        }
        self.failed.end_pauses();
    }

    /// The next step for a view that is published at `cut`.
    pub(crate) fn step(
        &self,
        now: Duration,
        view: &ViewId,
        cut: &Frontier,
        frontier: &Frontier,
        archived: &Frontier,
    ) -> Step {
        if !self.failed.may_try(now, view, cut) {
            return Step::Nothing;
        }
        let mut partitions: BTreeSet<Partition> = frontier.partitions().collect();
        if let Some(held) = self.held.get(view) {
            partitions = held.gaps(cut, frontier);
            if partitions.is_empty() {
                let known = held.cuts.newest().is_some_and(|newest| newest.stands_at(cut));
                return if known && !self.failed.is_served(view) { Step::Nothing } else { Step::Record };
            }
        }
        if self.rebuilds.contains_key(view) {
            // The cut is examined again when the rebuild is done.
            Step::Nothing
        } else if !archived.covers(&cut.within(partitions.iter().copied())) {
            Step::Wait
        } else {
            Step::Rebuild(partitions)
        }
    }

    /// Records that readers may tile a held view from `cut` too, so that no failed rebuild has to be tried again.
    pub(crate) fn record_cut(&mut self, now: Duration, view: &ViewId, cut: Frontier) {
        self.failed.end_served(view);
        if let Some(held) = self.held.get_mut(view)
            && !held.cuts.newest().is_some_and(|newest| newest.stands_at(&cut))
        {
            held.cuts.record(now, cut);
        }
    }

    /// Begins a rebuild of `view` in these partitions, from the published `cut`. Returns the number of the rebuild.
    pub(crate) fn begin_rebuild(
        &mut self,
        view: &ViewId,
        cut: Frontier,
        partitions: BTreeSet<Partition>,
        frontier: &Frontier,
    ) -> u64 {
        self.begun += 1;
        self.failed.begin(view, &cut);
        let pending = PendingRebuild { id: self.begun, cut, partitions, hold: frontier.clone() };
        self.rebuilds.insert(view.clone(), pending);
        self.begun
    }

    /// The frontier from which a rebuild has to continue, in the partitions that this process still reads. Rows above
    /// `frontier` stay in memory for the rebuild. Returns `None` if the view was dropped meanwhile, even if the view
    /// was created again.
    pub(crate) fn resume_rebuild(&mut self, rebuilt: &Rebuilt, frontier: &Frontier) -> Option<Frontier> {
        let pending = self.rebuilds.get_mut(rebuilt.view.plan.id()).filter(|pending| pending.id == rebuilt.id)?;
        pending.hold = frontier.clone();
        // Partitions that were revoked meanwhile are left out, even if they were assigned again.
        Some(rebuilt.reached.within(pending.partitions.iter().copied()))
    }

    /// Adds a rebuilt view, whose segments have reached `frontier`, to the held views. Returns false if no rebuild of
    /// the view is pending.
    pub(crate) fn join(&mut self, now: Duration, rebuilt: Rebuilt, frontier: &Frontier) -> Result<bool> {
        let id = rebuilt.view.plan.id().clone();
        let Some(PendingRebuild { cut, partitions, .. }) = self.rebuilds.remove(&id) else {
            return Ok(false);
        };
        self.failed.rebuilt(&id);
        let mut segments = rebuilt.segments;
        segments.retain(|segment| partitions.contains(&segment.partition));
        let held = self.held.entry(id).or_insert_with(|| {
            // Partitions that were assigned while the rebuild ran are rebuilt next.
            let mut held = ViewState::new(rebuilt.view, rebuilt.id, now, cut.clone());
            let late = frontier.partitions().filter(|p| !partitions.contains(p));
            held.assign(&frontier.within(late));
            held
        });
        held.join(now, cut, &partitions, segments)?;
        Ok(true)
    }

    /// Begins a merge for each view that has neighbouring segments to merge and no running merge.
    pub(crate) fn begin_merges(&mut self, borders: &Borders) -> Vec<MergeJob> {
        let idle = self.held.values_mut().filter(|held| !held.merging);
        idle.filter_map(|held| {
            let runs = held.runs(borders);
            held.merging = !runs.is_empty();
            held.merging.then(|| MergeJob { view: Arc::clone(&held.view), incarnation: held.incarnation, runs })
        })
        .collect()
    }

    /// Takes the result of a merge. Returns false if the view was dropped meanwhile, even if it is held again.
    pub(crate) fn end_merge(&mut self, view: &ViewId, incarnation: u64, merged: Vec<Segment>) -> bool {
        let Some(held) = self.held.get_mut(view).filter(|held| held.incarnation == incarnation) else {
            return false;
        };
        held.merging = false;
        held.replace(merged);
        self.failed.merged(view);
        true
    }

    /// The frontiers above which rebuilds need rows in memory.
    pub(crate) fn holds(&self) -> Vec<&Frontier> {
        self.rebuilds.values().map(|pending| &pending.hold).collect()
    }

    /// Drops segments that were replaced longer than `grace` ago. Returns true if a cut has expired.
    pub(crate) fn trim(&mut self, now: Duration, grace: Duration) -> bool {
        self.held.values_mut().fold(false, |trimmed, held| held.trim(now, grace) | trimmed)
    }

    /// True if at least one view is held, and no held view can be tiled from below `mark` any more.
    pub(crate) fn have_passed(&self, mark: &Frontier) -> bool {
        let passed = |held: &ViewState| held.cuts.floor().is_some_and(|floor| floor.covers(mark));
        !self.held.is_empty() && self.held.values().all(passed)
    }
}

#[cfg(test)]
mod tests;
