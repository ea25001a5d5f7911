//! How one stream stands: rows, segments, positions and what is archived. No I/O and no waiting happens here.
//!
//! Invariant: rows, views and health stand at one frontier between two calls, so a snapshot may be taken at any time.
//! The frontier names the partitions that are read here, and so do `archived` and `marked`: what is told of others is
//! not looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::catalog::CatalogStream;
use thalweg_schemas::realtime::segment::Segment;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::{LastMessage, MasterVersion};
use thalweg_schemas::{Frontier, Partition, ViewId};

use crate::Result;
use crate::group::change::Assigned;
use crate::kafka::channel::BrokerStatus;
use crate::session::Start;
use crate::state::epochs::{CutEpoch, Epochs};
use crate::state::health::{CatchUp, Health};
use crate::state::rebuild::{Rebuilt, Stretch};
use crate::state::view_state::{Borders, ViewState};

/// Marks that are remembered; a cut at an older one costs a rebuild.
const MARKS: usize = 256;
/// Marks at which a rebuild cuts archived rows: a batch run that is under way may have pinned an older one.
const REBUILD_MARKS: usize = 4;

/// A rebuild that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: u64,
    /// Where the view is published, in all partitions.
    pub(crate) cut: Frontier,
    /// What is rebuilt and still read here.
    pub(crate) partitions: BTreeSet<Partition>,
    /// Rows from here on must stay in memory until it is done.
    pub(crate) hold: Frontier,
}

/// What a published cut asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// Readers can tile from the new cut.
    Note,
    /// In these partitions they cannot.
    Rebuild(BTreeSet<Partition>),
    /// The cut lies above what this process knows to be archived.
    Wait,
}

/// True if both stand at the same offsets, whether or not they name partitions that stand at 0.
pub(crate) fn same(a: &Frontier, b: &Frontier) -> bool {
    a.covers(b) && b.covers(a)
}

/// The state of one stream.
pub(crate) struct StreamState {
    pub(crate) stream: Arc<CatalogStream>,
    pub(crate) origin: Frontier,
    pub(crate) master: Arc<MasterVersion>,
    /// The archive frontier A, with partitions that it does not name at their origin.
    pub(crate) archived: Frontier,
    /// The newest mark that has landed.
    marked: Frontier,
    pub(crate) epochs: Epochs,
    pub(crate) views: BTreeMap<ViewId, ViewState>,
    pub(crate) rebuilds: BTreeMap<ViewId, Pending>,
    /// Oldest first; those of epochs on their way too.
    marks: VecDeque<Frontier>,
    pub(crate) health: Health,
    high: Frontier,
    ends: BTreeSet<Partition>,
    catch_up: CatchUp,
    /// Why the brokers do not answer.
    away: Option<String>,
    pub(crate) paused: bool,
    /// True if readers have not been shown the newest state.
    pub(crate) dirty: bool,
}

impl StreamState {
    pub(crate) fn new(start: Start) -> Self {
        let mine = |all: Frontier| all.within(start.partitions.iter().copied());
        let archived = mine(start.master.frontier.or(&start.origin));
        let marked = mine(start.master.mark.or(&start.origin));
        let row_schema = start.stream.definition.row_schema();
        Self {
            health: Health::new(&start.stream.definition),
            stream: start.stream,
            epochs: Epochs::new(row_schema, archived.clone()),
            views: BTreeMap::new(),
            rebuilds: BTreeMap::new(),
            marks: VecDeque::from([marked.clone()]),
            catch_up: CatchUp::new(start.floor),
            high: Frontier::new(),
            away: None,
            origin: start.origin,
            master: start.master,
            archived,
            marked,
            ends: BTreeSet::new(),
            paused: false,
            dirty: true,
        }
    }

    pub(crate) fn frontier(&self) -> &Frontier {
        self.epochs.frontier()
    }

    /// Takes over what was read up to `to`, and the segments of every held view over it.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        to: Frontier,
        rows: RecordBatch,
        last: HashMap<Partition, LastMessage>,
        segments: Vec<(ViewId, Vec<Segment>)>,
    ) -> Result<()> {
        for (id, added) in segments {
            if let Some(held) = self.views.get_mut(&id) {
                held.extend(added)?;
            }
        }
        self.health.count(&rows);
        self.epochs.push(now, to, rows, last)
    }

    /// Takes over how the brokers stand.
    pub(crate) fn connect(&mut self, link: BrokerStatus) {
        self.away = link.away;
        if let Some(high) = link.high {
            self.catch_up.aim(&high);
            self.place(&high, self.ends.clone());
        }
        self.dirty = true;
    }

    /// Takes over what is known of the log's end.
    pub(crate) fn place(&mut self, high: &Frontier, ends: BTreeSet<Partition>) {
        self.high = self.high.max(high);
        self.ends = ends;
        self.health.place(self.epochs.frontier(), &self.high, &self.ends);
        self.catch_up.observe(self.epochs.frontier(), &self.ends);
        self.dirty = true;
    }

    /// What a version says, in the partitions that are read here.
    pub(crate) fn mine(&self, told: &Frontier) -> Frontier {
        told.or(&self.origin).within(self.frontier().partitions())
    }

    /// Partitions are read here from now on. Those of held views whose cut is elsewhere are to be rebuilt.
    pub(crate) fn assign(&mut self, assigned: &Assigned) {
        let at = &assigned.at;
        self.origin = assigned.origin.or(&self.origin);
        self.archived = at.or(&self.archived);
        self.epochs.assign(at);
        if assigned.master.version > self.master.version {
            self.master = Arc::clone(&assigned.master);
        }
        let told = assigned.master.mark.or(&self.origin);
        let mark = told.within(at.partitions());
        self.marked = mark.or(&self.marked);
        self.marks.push_back(mark);
        self.high = assigned.high.or(&self.high);
        self.catch_up.assign(at, &assigned.high);
        for held in self.views.values_mut() {
            held.assign(at);
        }
        self.place(&Frontier::new(), self.ends.clone());
    }

    /// True if everything that was read of these partitions is archived, under a mark.
    pub(crate) fn is_safe(&self, partitions: &BTreeSet<Partition>) -> bool {
        let read = self.frontier().within(partitions.iter().copied());
        self.marked.covers(&read)
    }

    /// Partitions are not read here any more: all that is held of them goes.
    pub(crate) fn revoke(&mut self, lost: &BTreeSet<Partition>) -> Result<()> {
        self.catch_up.revoke(lost, self.epochs.frontier());
        self.epochs.revoke(lost)?;
        for frontier in [&mut self.archived, &mut self.marked, &mut self.high] {
            frontier.remove(lost);
        }
        for mark in &mut self.marks {
            mark.remove(lost);
        }
        self.ends.retain(|p| !lost.contains(p));
        self.health.revoke(lost);
        for held in self.views.values_mut() {
            held.revoke(lost);
        }
        for pending in self.rebuilds.values_mut() {
            pending.partitions.retain(|p| !lost.contains(p));
        }
        self.dirty = true;
        Ok(())
    }

    /// Ends the open epoch. `None` if it would be empty, and no mark is missing either.
    pub(crate) fn cut(&mut self, mark: bool) -> Option<CutEpoch> {
        let cut = match self.epochs.cut() {
            Some(cut) => cut,
            None if mark && self.lacks_mark() => CutEpoch {
                from: self.archived.clone(),
                to: self.archived.clone(),
                rows: Vec::new(),
                last: HashMap::new(),
            },
            None => return None,
        };
        if mark {
            self.marks.push_back(cut.to.clone());
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
        Some(cut)
    }

    /// True if rows are archived above the newest mark.
    pub(crate) fn lacks_mark(&self) -> bool {
        !self.marked.covers(&self.archived)
    }

    /// The epoch on its way, which ends at `to`, is in `version`. Partitions may have come since it was cut.
    pub(crate) fn land(&mut self, now: Duration, to: &Frontier, version: Arc<MasterVersion>) {
        self.epochs.land(now);
        self.archived = to.or(&self.archived);
        let marked = version.mark.or(&self.origin).within(to.partitions());
        self.marked = marked.or(&self.marked);
        if version.version > self.master.version {
            self.master = version;
        }
        self.dirty = true;
    }

    /// A newer version of the master dataset that stands at the same frontier here.
    pub(crate) fn adopt(&mut self, version: Arc<MasterVersion>) {
        self.marked = self.mine(&version.mark);
        self.master = version;
        self.dirty = true;
    }

    /// What to do about a view that is published at `cut`.
    pub(crate) fn step(&self, view: &ViewId, cut: &Frontier) -> Step {
        let mut partitions: BTreeSet<Partition> = self.frontier().partitions().collect();
        if let Some(held) = self.views.get(view) {
            partitions = held.gaps(cut, self.frontier());
            if partitions.is_empty() {
                let known = held.cuts.newest().is_some_and(|newest| same(newest, cut));
                return if known { Step::Nothing } else { Step::Note };
            }
        }
        if self.rebuilds.contains_key(view) {
            // When it is done, the cut is looked at again.
            Step::Nothing
        } else if !self.archived.covers(&cut.within(partitions.iter().copied())) {
            Step::Wait
        } else {
            Step::Rebuild(partitions)
        }
    }

    /// Marks between `cut` and the archive frontier, oldest first, in the partitions of `cut`.
    pub(crate) fn marks_above(&self, cut: &Frontier) -> Vec<Frontier> {
        let here = |mark: &Frontier| -> Frontier {
            let named = mark.iter().filter(|(p, _)| cut.named(*p).is_some());
            named.collect()
        };
        let inside = |mark: &Frontier| self.archived.covers(mark) && !cut.covers(mark);
        let marks = self.marks.iter().map(here);
        let mut inside: Vec<Frontier> = marks.filter(inside).collect();
        inside.split_off(inside.len().saturating_sub(REBUILD_MARKS))
    }

    /// Rows in memory from `from` on, epoch by epoch, in the partitions of `from`.
    pub(crate) fn stretches(&self, from: &Frontier) -> Vec<Stretch> {
        let here = |frontier: &Frontier| frontier.within(from.partitions()).max(from);
        self.epochs
            .above(from)
            .map(|epoch| Stretch {
                from: here(&epoch.from),
                to: here(&epoch.to),
                batches: epoch
                    .chunks()
                    .filter(|chunk| here(&chunk.to) != *from)
                    .flat_map(|chunk| chunk.batches.iter().cloned())
                    .collect(),
            })
            .filter(|stretch| stretch.from != stretch.to)
            .collect()
    }

    /// What was rebuilt has reached the frontier and joins what is live.
    pub(crate) fn join(&mut self, now: Duration, rebuilt: Rebuilt) -> Result<()> {
        let id = rebuilt.view.plan.id().clone();
        let Some(Pending { cut, partitions, .. }) = self.rebuilds.remove(&id) else {
            return Ok(());
        };
        let mut segments = rebuilt.segments;
        segments.retain(|segment| partitions.contains(&segment.partition));
        let frontier = self.epochs.frontier();
        let held = self.views.entry(id).or_insert_with(|| {
            // Partitions that came while it ran are next.
            let mut held = ViewState::new(rebuilt.view, now, cut.clone());
            let late = frontier.partitions().filter(|p| !partitions.contains(p));
            held.assign(&frontier.within(late));
            held
        });
        held.join(now, cut, &partitions, segments)?;
        self.dirty = true;
        Ok(())
    }

    /// Offsets that no segment may span.
    pub(crate) fn borders(&self) -> Borders {
        let mut borders = Borders::new();
        for (partition, offset) in self.marks.iter().flat_map(Frontier::iter) {
            borders.entry(partition).or_default().insert(offset);
        }
        borders
    }

    /// Lets go of what was replaced longer than `grace` ago.
    pub(crate) fn trim(&mut self, now: Duration, grace: Duration) {
        let holds: Vec<&Frontier> = self.rebuilds.values().map(|r| &r.hold).collect();
        self.dirty |= self.epochs.trim(now, grace, &holds);
        for held in self.views.values_mut() {
            self.dirty |= held.trim(now, grace);
        }
        while self.marks.len() > 1 {
            let Some(oldest) = self.marks.front() else {
                break;
            };
            let passed = |held: &ViewState| held.cuts.floor().is_some_and(|f| f.covers(oldest));
            if self.views.is_empty() || !self.views.values().all(passed) {
                break;
            }
            self.marks.pop_front();
        }
    }

    /// Bytes of rows and segments.
    pub(crate) fn bytes(&self) -> usize {
        self.epochs.bytes() + self.views.values().map(ViewState::bytes).sum::<usize>()
    }

    pub(crate) fn snapshot(&self, memory_bytes: usize, memory_budget: usize) -> StreamSnapshot {
        StreamSnapshot {
            stream: self.stream.definition.name.clone(),
            origin: self.origin.clone(),
            frontier: self.frontier().clone(),
            caught_up: self.catch_up.is_done(self.frontier()),
            caught_up_partitions: self.catch_up.partitions().clone(),
            waiting: self.away.clone(),
            master: Arc::clone(&self.master),
            rows: self.epochs.chunks(),
            views: self.views.iter().map(|(id, held)| (id.clone(), Arc::clone(held.segments()))).collect(),
            health: self.health.partitions().clone(),
            memory_bytes,
            memory_budget,
            paused: self.paused,
        }
    }
}
