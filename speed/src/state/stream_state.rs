//! The state of one stream: rows, segments, positions, and how far rows are archived. No function here does I/O or
//! waits.
//!
//! Invariant: between two calls, rows, views and health stand at one frontier, so a snapshot may be taken at any
//! time. The frontier, `archived` and `marked` name only partitions that this process reads. Updates about partitions
//! of other processes are ignored.

pub(crate) mod amendments;
mod failures;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::catalog::{CatalogStream, CompiledView};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::realtime::segment::Segment;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::{LastMessage, MasterVersion};
use thalweg_schemas::{Frontier, Partition, StreamName, ViewId};

use crate::Result;
use crate::budget::Holding;
use crate::group::change::Assigned;
use crate::kafka::channel::BrokerStatus;
use crate::session::Start;
use crate::state::epochs::{CutEpoch, Epochs};
use crate::state::health::LogStatus;
use crate::state::rebuild::{Rebuild, Rebuilt, Stretch};
use crate::state::view_state::Borders;
use crate::state::views::{MergeJob, Step, ViewStates};

/// The number of marks that are remembered. A cut at an older mark costs a rebuild.
const MARKS: usize = 256;
/// The number of marks at which a rebuild splits archived rows. A running batch run may have pinned an older mark
/// than the newest one.
const REBUILD_MARKS: usize = 4;

/// The state of one stream.
pub(crate) struct StreamState {
    stream: Arc<CatalogStream>,
    origin: Frontier,
    master: Arc<MasterVersion>,
    /// The archive frontier A; partitions that the archive does not name stand at their origin.
    archived: Frontier,
    /// The newest mark that has landed.
    marked: Frontier,
    /// The known marks, oldest first, including the marks of epochs in flight.
    marks: VecDeque<Frontier>,
    epochs: Epochs,
    views: ViewStates,
    log: LogStatus,
    /// Since when reading from Kafka is paused.
    paused_since: Option<Duration>,
    /// False while readers have not been shown the newest state.
    is_shown: bool,
}

impl StreamState {
    /// The state at `start`. Copies of rows in memory have at most `chunk_bytes`.
    pub(crate) fn new(start: Start, chunk_bytes: usize) -> Self {
        let within = |all: Frontier| all.within(start.partitions.iter().copied());
        let archived = within(start.master.frontier.or(&start.origin));
        let marked = within(start.master.mark.or(&start.origin));
        let definition = &start.stream.definition;
        let mut epochs = Epochs::new(definition.row_schema(), archived.clone());
        epochs.limit_chunks(chunk_bytes);
        Self {
            epochs,
            log: LogStatus::new(definition, start.floor),
            stream: start.stream,
            views: ViewStates::default(),
            marks: VecDeque::from([marked.clone()]),
            origin: start.origin,
            master: start.master,
            archived,
            marked,
            paused_since: None,
            is_shown: false,
        }
    }

    pub(crate) fn definition(&self) -> &StreamDefinition {
        &self.stream.definition
    }

    pub(crate) fn name(&self) -> &StreamName {
        &self.stream.definition.name
    }

    pub(crate) fn origin(&self) -> &Frontier {
        &self.origin
    }

    pub(crate) fn master(&self) -> &Arc<MasterVersion> {
        &self.master
    }

    pub(crate) fn archived(&self) -> &Frontier {
        &self.archived
    }

    pub(crate) fn frontier(&self) -> &Frontier {
        self.epochs.frontier()
    }

    /// The size of the open epoch in bytes, and when its first rows arrived; `None` while nothing has advanced.
    pub(crate) fn open_epoch(&self) -> Option<(usize, Duration)> {
        self.epochs.open()
    }

    /// The views that are held.
    pub(crate) fn views(&self) -> impl Iterator<Item = &Arc<CompiledView>> {
        self.views.held()
    }

    /// Since when reading from Kafka is paused; `None` while it is not.
    pub(crate) fn paused_since(&self) -> Option<Duration> {
        self.paused_since
    }

    /// Records that reading from Kafka is paused.
    pub(crate) fn pause(&mut self, now: Duration) {
        self.paused_since = Some(now);
        self.is_shown = false;
    }

    /// Records that reading from Kafka has resumed.
    pub(crate) fn resume(&mut self) {
        self.paused_since = None;
        self.is_shown = false;
    }

    /// Adds the rows that were read up to `to`, and the segments of every held view over the same range.
    pub(crate) fn advance(
        &mut self,
        now: Duration,
        to: Frontier,
        rows: RecordBatch,
        last: HashMap<Partition, LastMessage>,
        segments: Vec<(ViewId, Vec<Segment>)>,
    ) -> Result<()> {
        self.views.extend(segments)?;
        self.log.count(&rows);
        self.epochs.push(now, to, rows, last)
    }

    /// Records that the brokers have answered, or that they no longer answer.
    pub(crate) fn connect(&mut self, brokers: BrokerStatus) {
        self.log.connect(brokers, self.epochs.frontier());
        self.is_shown = false;
    }

    /// Records the known ends of the log.
    pub(crate) fn observe(&mut self, high: &Frontier, ends: BTreeSet<Partition>) {
        self.log.observe(self.epochs.frontier(), high, ends);
        self.is_shown = false;
    }

    /// Records why a partition waits for a schema, and whether no process can have read further.
    pub(crate) fn wait(&mut self, partition: Partition, reason: String, is_end: bool) {
        self.log.wait(partition, reason, is_end, self.epochs.frontier());
        self.is_shown = false;
    }

    /// Records that a partition does not wait any more.
    pub(crate) fn go_on(&mut self, partition: Partition) {
        self.log.go_on(partition);
        self.is_shown = false;
    }

    /// Reduces `frontier`, the frontier of a version, to the partitions that this process reads.
    pub(crate) fn within(&self, frontier: &Frontier) -> Frontier {
        frontier.or(&self.origin).within(self.frontier().partitions())
    }

    /// Adds assigned partitions. Held views whose newest cut differs from the assigned offset have to be rebuilt
    /// there.
    pub(crate) fn assign(&mut self, assigned: &Assigned) {
        let at = &assigned.at;
        self.origin = assigned.origin.or(&self.origin);
        self.archived = at.or(&self.archived);
        self.epochs.assign(at);
        if assigned.master.version > self.master.version {
            self.master = Arc::clone(&assigned.master);
        }
        let known = assigned.master.mark.or(&self.origin);
        let mark = known.within(at.partitions());
        self.marked = mark.or(&self.marked);
        self.marks.push_back(mark);
        self.views.assign(at);
        self.log.assign(at, &assigned.high, self.epochs.frontier());
        self.is_shown = false;
    }

    /// True if all rows read from these partitions are archived, under a mark.
    pub(crate) fn is_safe(&self, partitions: &BTreeSet<Partition>) -> bool {
        let read = self.frontier().within(partitions.iter().copied());
        self.marked.covers(&read)
    }

    /// Removes revoked partitions and everything that is held of them.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>) -> Result<()> {
        self.log.revoke(revoked, self.epochs.frontier());
        self.epochs.revoke(revoked)?;
        for frontier in [&mut self.archived, &mut self.marked] {
            frontier.remove(revoked);
        }
        for mark in &mut self.marks {
            mark.remove(revoked);
        }
        self.views.revoke(revoked);
        self.is_shown = false;
        Ok(())
    }

    /// Ends the open epoch. Returns `None` if the epoch would be empty and no mark is missing.
    pub(crate) fn cut(&mut self, mark: bool) -> Option<CutEpoch> {
        let cut = match self.epochs.cut() {
            Some(cut) => cut,
            None if mark && self.lacks_mark() => CutEpoch {
                from: self.archived.of_topic(),
                to: self.archived.of_topic(),
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

    /// Records that the epoch in flight, which ends at `to`, is part of `version`. Other partitions may have been
    /// assigned since the epoch was cut.
    pub(crate) fn land(&mut self, now: Duration, to: &Frontier, version: Arc<MasterVersion>) {
        self.epochs.land(now);
        self.archived = to.or(&self.archived);
        let marked = version.mark.or(&self.origin).within(to.partitions());
        self.marked = marked.or(&self.marked);
        if version.version > self.master.version {
            self.master = version;
        }
        self.see_amendments();
    }

    /// Takes a newer version of the master dataset that stands at the same frontier in the partitions of the topic
    /// that this process reads.
    pub(crate) fn adopt(&mut self, version: Arc<MasterVersion>) {
        self.marked = self.within(&version.mark);
        self.master = version;
        self.see_amendments();
    }

    /// Keeps the wanted views and their rebuilds, and drops all others.
    pub(crate) fn retain_views(&mut self, is_wanted: impl Fn(&ViewId) -> bool) {
        self.is_shown &= !self.views.retain(is_wanted);
    }

    /// The next step for a view that is published at `cut`.
    pub(crate) fn step(&self, now: Duration, view: &ViewId, cut: &Frontier) -> Step {
        self.views.step(now, view, cut, self.epochs.frontier(), &self.archived)
    }

    /// The memory of each held view.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        self.views.holdings()
    }

    /// Records that readers may tile a held view from `cut` too.
    pub(crate) fn record_cut(&mut self, now: Duration, view: &ViewId, cut: Frontier) {
        self.views.record_cut(now, view, cut);
    }

    /// Begins a rebuild of `view` in these partitions, from the published `cut`. Segments of other partitions stay.
    pub(crate) fn begin_rebuild(
        &mut self,
        view: Arc<CompiledView>,
        cut: Frontier,
        partitions: BTreeSet<Partition>,
    ) -> Rebuild {
        let here = |frontier: &Frontier| frontier.within(partitions.iter().copied());
        let (from, archived) = (here(&cut), here(&self.archived));
        Rebuild {
            schema: self.definition().row_schema(),
            master: Arc::clone(&self.master),
            marks: self.marks_above(&from),
            memory: self.stretches(&archived),
            archived,
            cut: from,
            id: self.views.begin_rebuild(view.plan.id(), cut, partitions, self.epochs.frontier()),
            view,
        }
    }

    /// The rows that were read between the end of a rebuild and the frontier. Rows above the frontier stay in memory
    /// for the rebuild. Returns `None` if the rebuild is no longer needed.
    pub(crate) fn resume_rebuild(&mut self, rebuilt: &Rebuilt) -> Option<Vec<Stretch>> {
        let reached = self.views.resume_rebuild(rebuilt, self.epochs.frontier())?;
        Some(self.stretches(&reached))
    }

    /// Adds a rebuilt view, whose segments have reached the frontier, to the held views.
    pub(crate) fn join(&mut self, now: Duration, rebuilt: Rebuilt) -> Result<()> {
        self.is_shown &= !self.views.join(now, rebuilt, self.epochs.frontier())?;
        Ok(())
    }

    /// Begins a merge for each view that has neighbouring segments to merge and no running merge.
    pub(crate) fn begin_merges(&mut self) -> Vec<MergeJob> {
        let borders = self.borders();
        self.views.begin_merges(&borders)
    }

    /// Replaces segments by their merged segments.
    pub(crate) fn end_merge(&mut self, view: &ViewId, incarnation: u64, merged: Vec<Segment>) {
        self.is_shown &= !self.views.end_merge(view, incarnation, merged);
    }

    /// Marks between `cut` and the archive frontier, oldest first, in the partitions of `cut`.
    fn marks_above(&self, cut: &Frontier) -> Vec<Frontier> {
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
    fn stretches(&self, from: &Frontier) -> Vec<Stretch> {
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

    /// The offsets that no segment may span, per partition.
    fn borders(&self) -> Borders {
        let mut borders = Borders::new();
        for (partition, offset) in self.marks.iter().flat_map(Frontier::iter) {
            borders.entry(partition).or_default().insert(offset);
        }
        borders
    }

    /// Drops rows and segments that were replaced longer than `grace` ago.
    pub(crate) fn trim(&mut self, now: Duration, grace: Duration) {
        let rows = self.epochs.trim(now, grace, &self.views.holds());
        let segments = self.views.trim(now, grace);
        self.is_shown &= !(rows || segments);
        while self.marks.len() > 1 && self.marks.front().is_some_and(|oldest| self.views.have_passed(oldest)) {
            self.marks.pop_front();
        }
    }

    /// Bytes of rows and segments.
    pub(crate) fn bytes(&self) -> usize {
        self.epochs.bytes() + self.views.bytes()
    }

    /// False if the state has changed since the last [`StreamState::show`].
    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// The snapshot for readers.
    pub(crate) fn show(&mut self, memory_bytes: usize, memory_budget: usize) -> StreamSnapshot {
        self.is_shown = true;
        StreamSnapshot {
            stream: self.name().clone(),
            origin: self.origin.clone(),
            frontier: self.frontier().clone(),
            caught_up: self.log.is_caught_up(self.frontier()),
            caught_up_partitions: self.log.caught_up_partitions().clone(),
            waiting: self.log.away().map(str::to_owned),
            master: Arc::clone(&self.master),
            rows: self.epochs.chunks(),
            views: self.views.segments(),
            failed: self.views.failures(),
            delayed: self.views.delays(),
            health: self.log.partitions().clone(),
            memory_bytes,
            memory_budget,
            paused: self.paused_since.is_some(),
        }
    }
}
