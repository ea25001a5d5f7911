//! The views of a stream: those that are held, and the rebuilds that give segments to others or to more partitions.
//!
//! Invariant: a view is shown only while its segments reach from its cut to the frontier. A rebuild that was begun for
//! a view which has gone since, and perhaps come back, joins nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::segment::{Segment, ViewSegments};
use thalweg_schemas::{Frontier, Partition, ViewId};

use crate::Result;
use crate::state::rebuild::Rebuilt;
use crate::state::view_state::{Borders, ViewState};

/// A rebuild that is under way.
#[derive(Debug)]
struct PendingRebuild {
    id: u64,
    /// Where the view is published, in all partitions.
    cut: Frontier,
    /// What is rebuilt and still read here.
    partitions: BTreeSet<Partition>,
    /// Rows from here on must stay in memory until it is done.
    hold: Frontier,
}

/// What a published cut asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// Readers can tile from the new cut.
    Record,
    /// In these partitions they cannot.
    Rebuild(BTreeSet<Partition>),
    /// The cut lies above what this process knows to be archived.
    Wait,
}

/// A merge of neighbouring segments of one view, which runs beside the loop.
#[derive(Debug)]
pub(crate) struct MergeJob {
    pub(crate) view: Arc<CompiledView>,
    pub(crate) runs: Vec<Vec<Arc<Segment>>>,
}

/// The views of one stream.
#[derive(Debug, Default)]
pub(crate) struct ViewStates {
    held: BTreeMap<ViewId, ViewState>,
    rebuilds: BTreeMap<ViewId, PendingRebuild>,
    /// How many rebuilds were begun.
    begun: u64,
}

impl ViewStates {
    /// The views that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.held.values().map(|held| &held.view)
    }

    /// What readers are shown.
    pub(crate) fn segments(&self) -> HashMap<ViewId, Arc<ViewSegments>> {
        self.held.iter().map(|(id, held)| (id.clone(), Arc::clone(held.segments()))).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held.values().map(ViewState::bytes).sum()
    }

    pub(crate) fn is_rebuilding(&self) -> bool {
        !self.rebuilds.is_empty()
    }

    /// Adds segments that continue those of held views.
    pub(crate) fn extend(&mut self, segments: Vec<(ViewId, Vec<Segment>)>) -> Result<()> {
        for (id, added) in segments {
            if let Some(held) = self.held.get_mut(&id) {
                held.extend(added)?;
            }
        }
        Ok(())
    }

    /// Keeps the views that are wanted, and their rebuilds. True if a held view went.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&ViewId) -> bool) -> bool {
        let before = self.held.len();
        self.held.retain(|id, _| is_wanted(id));
        self.rebuilds.retain(|id, _| is_wanted(id));
        before != self.held.len()
    }

    /// Partitions are read from here on. Views whose cut is elsewhere are to be rebuilt there.
    pub(crate) fn assign(&mut self, at: &Frontier) {
        for held in self.held.values_mut() {
            held.assign(at);
        }
    }

    /// Forgets partitions.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>) {
        for held in self.held.values_mut() {
            held.revoke(revoked);
        }
        for pending in self.rebuilds.values_mut() {
            pending.partitions.retain(|p| !revoked.contains(p));
        }
    }

    /// What to do about a view that is published at `cut`.
    pub(crate) fn step(&self, view: &ViewId, cut: &Frontier, frontier: &Frontier, archived: &Frontier) -> Step {
        let mut partitions: BTreeSet<Partition> = frontier.partitions().collect();
        if let Some(held) = self.held.get(view) {
            partitions = held.gaps(cut, frontier);
            if partitions.is_empty() {
                let known = held.cuts.newest().is_some_and(|newest| newest.stands_at(cut));
                return if known { Step::Nothing } else { Step::Record };
            }
        }
        if self.rebuilds.contains_key(view) {
            // When it is done, the cut is looked at again.
            Step::Nothing
        } else if !archived.covers(&cut.within(partitions.iter().copied())) {
            Step::Wait
        } else {
            Step::Rebuild(partitions)
        }
    }

    /// Readers may tile a held view from `cut` too.
    pub(crate) fn record_cut(&mut self, now: Duration, view: &ViewId, cut: Frontier) {
        if let Some(held) = self.held.get_mut(view) {
            held.cuts.record(now, cut);
        }
    }

    /// Begins a rebuild of `view` from `cut`, where it is published, in these partitions. Gives its number.
    pub(crate) fn begin_rebuild(
        &mut self,
        view: &ViewId,
        cut: Frontier,
        partitions: BTreeSet<Partition>,
        frontier: &Frontier,
    ) -> u64 {
        self.begun += 1;
        let pending = PendingRebuild { id: self.begun, cut, partitions, hold: frontier.clone() };
        self.rebuilds.insert(view.clone(), pending);
        self.begun
    }

    /// Where a rebuild has to go on from, in the partitions that are still read here; rows from `frontier` on are held
    /// for it. `None` if the view was dropped meanwhile, perhaps even created again.
    pub(crate) fn resume_rebuild(&mut self, rebuilt: &Rebuilt, frontier: &Frontier) -> Option<Frontier> {
        let pending = self.rebuilds.get_mut(rebuilt.view.plan.id()).filter(|pending| pending.id == rebuilt.id)?;
        pending.hold = frontier.clone();
        // Without the partitions that have gone meanwhile, perhaps even come back.
        Some(rebuilt.reached.within(pending.partitions.iter().copied()))
    }

    /// What was rebuilt has reached `frontier` and joins what is live. False if nothing awaits it.
    pub(crate) fn join(&mut self, now: Duration, rebuilt: Rebuilt, frontier: &Frontier) -> Result<bool> {
        let id = rebuilt.view.plan.id().clone();
        let Some(PendingRebuild { cut, partitions, .. }) = self.rebuilds.remove(&id) else {
            return Ok(false);
        };
        let mut segments = rebuilt.segments;
        segments.retain(|segment| partitions.contains(&segment.partition));
        let held = self.held.entry(id).or_insert_with(|| {
            // Partitions that came while it ran are next.
            let mut held = ViewState::new(rebuilt.view, now, cut.clone());
            let late = frontier.partitions().filter(|p| !partitions.contains(p));
            held.assign(&frontier.within(late));
            held
        });
        held.join(now, cut, &partitions, segments)?;
        Ok(true)
    }

    /// Begins a merge for each view that has neighbours to merge and no merge running.
    pub(crate) fn begin_merges(&mut self, borders: &Borders) -> Vec<MergeJob> {
        let idle = self.held.values_mut().filter(|held| !held.merging);
        idle.filter_map(|held| {
            let runs = held.runs(borders);
            held.merging = !runs.is_empty();
            held.merging.then(|| MergeJob { view: Arc::clone(&held.view), runs })
        })
        .collect()
    }

    /// Takes the result of a merge. False if the view has gone.
    pub(crate) fn end_merge(&mut self, view: &ViewId, merged: Vec<Segment>) -> bool {
        let Some(held) = self.held.get_mut(view) else {
            return false;
        };
        held.merging = false;
        held.replace(merged);
        true
    }

    /// From where on rebuilds need rows in memory.
    pub(crate) fn holds(&self) -> Vec<&Frontier> {
        self.rebuilds.values().map(|pending| &pending.hold).collect()
    }

    /// Drops segments that were replaced longer than `grace` ago. True if something went.
    pub(crate) fn trim(&mut self, now: Duration, grace: Duration) -> bool {
        self.held.values_mut().fold(false, |trimmed, held| held.trim(now, grace) | trimmed)
    }

    /// True if there are views, and none of them can be tiled from below `mark` any more.
    pub(crate) fn have_passed(&self, mark: &Frontier) -> bool {
        let passed = |held: &ViewState| held.cuts.floor().is_some_and(|floor| floor.covers(mark));
        !self.held.is_empty() && self.held.values().all(passed)
    }
}
