//! How one stream stands: rows, segments, positions and what is archived. No I/O and no waiting happens here.
//!
//! Invariant: rows, views and health stand at one frontier between two calls, so a snapshot may be taken at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::catalog::CatalogStream;
use thalweg_schemas::dataset::{LastMessage, MasterVersion};
use thalweg_schemas::segment::Segment;
use thalweg_schemas::snapshot::StreamSnapshot;
use thalweg_schemas::{Frontier, Partition, ViewId};

use crate::Result;
use crate::epochs::{CutEpoch, Epochs};
use crate::health::{CatchUp, Health};
use crate::held::{Borders, HeldView};
use crate::ingest::Start;
use crate::rebuild::{Rebuilt, Stretch};
use crate::source::Link;

/// Marks that are remembered; a cut at an older one costs a rebuild.
const MARKS: usize = 256;
/// Marks at which a rebuild cuts archived rows: a batch run that is under way may have pinned an older one.
const REBUILD_MARKS: usize = 4;

/// A rebuild that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) cut: Frontier,
    /// Rows from here on must stay in memory until it is done.
    pub(crate) hold: Frontier,
}

/// What a published cut asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// Readers can tile from the new cut.
    Note,
    Rebuild,
    /// The cut lies above what this process knows to be archived.
    Wait,
}

/// True if both stand at the same offsets, whether or not they name partitions that stand at 0.
pub(crate) fn same(a: &Frontier, b: &Frontier) -> bool {
    a.covers(b) && b.covers(a)
}

/// The state of one stream.
pub(crate) struct Current {
    pub(crate) stream: Arc<CatalogStream>,
    pub(crate) origin: Frontier,
    pub(crate) master: Arc<MasterVersion>,
    /// The archive frontier A, with partitions that it does not name at their origin.
    pub(crate) archived: Frontier,
    /// The newest mark that has landed.
    marked: Frontier,
    pub(crate) epochs: Epochs,
    pub(crate) views: BTreeMap<ViewId, HeldView>,
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

impl Current {
    pub(crate) fn new(start: Start) -> Self {
        let archived = start.master.frontier.or(&start.origin);
        let marked = start.master.mark.or(&start.origin);
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
    pub(crate) fn connect(&mut self, link: Link) {
        self.away = link.away;
        if let Some(high) = link.high {
            self.catch_up.aim(high.clone());
            self.place(&high, self.ends.clone());
        }
        self.dirty = true;
    }

    /// Takes over what is known of the log's end.
    pub(crate) fn place(&mut self, high: &Frontier, ends: BTreeSet<Partition>) {
        self.high = self.high.max(high);
        self.ends = ends;
        self.health
            .place(self.epochs.frontier(), &self.high, &self.ends);
        self.catch_up.observe(self.epochs.frontier(), &self.ends);
        self.dirty = true;
    }

    /// Partitions that were found later, from their origins.
    pub(crate) fn gain(&mut self, gained: &Frontier) {
        self.origin = self.origin.max(gained);
        self.archived = self.archived.max(gained);
        self.marked = self.marked.max(gained);
        self.epochs.gain(gained);
        self.dirty = true;
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

    /// The epoch on its way is in `version`.
    pub(crate) fn land(&mut self, now: Duration, version: Arc<MasterVersion>) {
        self.epochs.land(now);
        self.archived = version.frontier.or(&self.origin);
        self.adopt(version);
    }

    /// A newer version of the master dataset at the same frontier.
    pub(crate) fn adopt(&mut self, version: Arc<MasterVersion>) {
        self.marked = version.mark.or(&self.origin);
        self.master = version;
        self.dirty = true;
    }

    /// What to do about a view that is published at `cut`.
    pub(crate) fn step(&self, view: &ViewId, cut: &Frontier) -> Step {
        if let Some(held) = self.views.get(view) {
            if held.cuts.newest().is_some_and(|newest| same(newest, cut)) {
                return Step::Nothing;
            }
            if held.tiles_from(cut, self.frontier()) {
                return Step::Note;
            }
        }
        if self.rebuilds.contains_key(view) {
            // When it is done, the cut is looked at again.
            Step::Nothing
        } else if !self.archived.covers(cut) {
            Step::Wait
        } else {
            Step::Rebuild
        }
    }

    /// Marks between `cut` and the archive frontier, oldest first.
    pub(crate) fn marks_above(&self, cut: &Frontier) -> Vec<Frontier> {
        let inside = |mark: &&Frontier| self.archived.covers(mark) && !cut.covers(mark);
        let inside: Vec<&Frontier> = self.marks.iter().filter(inside).collect();
        let from = inside.len().saturating_sub(REBUILD_MARKS);
        inside[from..].iter().map(|mark| (*mark).clone()).collect()
    }

    /// Rows in memory from `from` on, epoch by epoch.
    pub(crate) fn stretches(&self, from: &Frontier) -> Vec<Stretch> {
        self.epochs
            .above(from)
            .map(|epoch| Stretch {
                from: epoch.from.max(from),
                to: epoch.to.clone(),
                batches: epoch
                    .chunks()
                    .filter(|chunk| !from.covers(&chunk.to))
                    .flat_map(|chunk| chunk.batches.iter().cloned())
                    .collect(),
            })
            .collect()
    }

    /// A rebuilt view that has reached the frontier joins the live ones.
    pub(crate) fn join(&mut self, now: Duration, rebuilt: Rebuilt) -> Result<()> {
        let mut held = HeldView::new(rebuilt.view, now, rebuilt.cut);
        held.extend(rebuilt.segments)?;
        let id = held.view.plan.id().clone();
        self.rebuilds.remove(&id);
        self.views.insert(id, held);
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
            let passed = |held: &HeldView| held.cuts.floor().is_some_and(|f| f.covers(oldest));
            if self.views.is_empty() || !self.views.values().all(passed) {
                break;
            }
            self.marks.pop_front();
        }
    }

    /// Bytes of rows and segments.
    pub(crate) fn bytes(&self) -> usize {
        self.epochs.bytes() + self.views.values().map(HeldView::bytes).sum::<usize>()
    }

    pub(crate) fn snapshot(&self, memory_bytes: usize, memory_budget: usize) -> StreamSnapshot {
        StreamSnapshot {
            stream: self.stream.definition.name.clone(),
            origin: self.origin.clone(),
            frontier: self.frontier().clone(),
            caught_up: self.catch_up.is_done(),
            waiting: self.away.clone(),
            master: Arc::clone(&self.master),
            rows: self.epochs.chunks(),
            views: self
                .views
                .iter()
                .map(|(id, held)| (id.clone(), Arc::clone(held.segments())))
                .collect(),
            health: self.health.partitions().clone(),
            memory_bytes,
            memory_budget,
            paused: self.paused,
        }
    }
}
