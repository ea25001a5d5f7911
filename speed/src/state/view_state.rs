//! A held view: its segments from the oldest cut that readers may use up to the frontier.
//!
//! Invariant: the segments of each partition follow each other without gap or overlap; a segment that does not
//! continue the last one is an error. A partition whose segments are being rebuilt has no segments until the rebuild
//! joins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::segment::{Segment, ViewSegments};
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::state::compaction::{Span, next_run};
use crate::state::retention::Retention;
use crate::{Error, Result};

/// Per partition, the offsets that no segment may span: marks, at which a cut may fall.
pub(crate) type Borders = BTreeMap<Partition, BTreeSet<Offset>>;

/// The segments of one view, and the cuts from which readers may tile.
#[derive(Debug)]
pub(crate) struct ViewState {
    pub(crate) view: Arc<CompiledView>,
    /// The number of the rebuild that made this value. A view that is held again has another number.
    pub(crate) incarnation: u64,
    pub(crate) cuts: Retention,
    /// Partitions whose segments are being rebuilt.
    lacks: BTreeSet<Partition>,
    /// True while a merge of some of the segments is running.
    pub(crate) merging: bool,
    /// Replaced on every change; readers keep the older value.
    segments: Arc<ViewSegments>,
    bytes: usize,
}

impl ViewState {
    /// A view without segments, published at `cut`.
    pub(crate) fn new(view: Arc<CompiledView>, incarnation: u64, now: Duration, cut: Frontier) -> Self {
        Self {
            view,
            incarnation,
            lacks: BTreeSet::new(),
            cuts: Retention::starting_at(now, cut),
            merging: false,
            segments: Arc::default(),
            bytes: 0,
        }
    }

    pub(crate) fn segments(&self) -> &Arc<ViewSegments> {
        &self.segments
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds segments that continue the held ones.
    ///
    /// Errors: [`Error::Broken`] for a segment that does not continue them.
    pub(crate) fn extend(&mut self, added: Vec<Segment>) -> Result<()> {
        let held = Arc::make_mut(&mut self.segments);
        for segment in added {
            if self.lacks.contains(&segment.partition) {
                continue;
            }
            let list = held.partitions.entry(segment.partition).or_default();
            let continues = list.last().is_none_or(|last| last.to == segment.from);
            if !continues || segment.view != *self.view.plan.id() || segment.from >= segment.to {
                return Err(Error::Broken(format!(
                    "segment {}..{} of partition {} does not continue view {}",
                    segment.from,
                    segment.to,
                    segment.partition,
                    self.view.plan.id()
                )));
            }
            self.bytes += segment.bytes;
            list.push(Arc::new(segment));
        }
        Ok(())
    }

    /// The partitions of `frontier` in which readers cannot tile from `cut` up to `frontier`.
    pub(crate) fn gaps(&self, cut: &Frontier, frontier: &Frontier) -> BTreeSet<Partition> {
        let tiles = |partition: Partition, to: Offset| {
            let at = cut.get(partition);
            let list = self.segments.partitions.get(&partition);
            at == to || list.is_some_and(|list| list.iter().any(|segment| segment.from == at))
        };
        let all = frontier.iter();
        all.filter(|(p, to)| self.lacks.contains(p) || !tiles(*p, *to)).map(|(p, _)| p).collect()
    }

    /// Adds partitions that are read from `assigned` on. Their segments have to be rebuilt, unless the newest cut is
    /// at the same offset.
    pub(crate) fn assign(&mut self, assigned: &Frontier) {
        let cut = self.cuts.newest();
        let beyond = assigned.iter().filter(|(p, at)| cut.is_none_or(|cut| cut.get(*p) != *at));
        self.lacks.extend(beyond.map(|(p, _)| p));
    }

    /// Drops revoked partitions and their segments.
    pub(crate) fn revoke(&mut self, revoked: &BTreeSet<Partition>) {
        self.lacks.retain(|p| !revoked.contains(p));
        let held = Arc::make_mut(&mut self.segments);
        held.partitions.retain(|p, _| !revoked.contains(p));
        self.bytes = held.bytes();
    }

    /// Replaces the segments of these partitions by rebuilt segments, which reach from `cut` to the frontier.
    pub(crate) fn join(
        &mut self,
        now: Duration,
        cut: Frontier,
        partitions: &BTreeSet<Partition>,
        segments: Vec<Segment>,
    ) -> Result<()> {
        self.revoke(partitions);
        if self.cuts.newest() != Some(&cut) {
            self.cuts.record(now, cut);
        }
        self.extend(segments)
    }

    /// The next runs to merge, at most one per partition.
    pub(crate) fn runs(&self, borders: &Borders) -> Vec<Vec<Arc<Segment>>> {
        let none = BTreeSet::new();
        self.segments
            .partitions
            .iter()
            .filter_map(|(partition, list)| {
                let spans: Vec<Span> = list.iter().map(|s| Span::from(s.as_ref())).collect();
                let borders = borders.get(partition).unwrap_or(&none);
                next_run(&spans, borders).map(|run| list[run].to_vec())
            })
            .collect()
    }

    /// Replaces runs of segments by their merged segments. A run that was trimmed meanwhile stays dropped.
    pub(crate) fn replace(&mut self, merged: Vec<Segment>) {
        let held = Arc::make_mut(&mut self.segments);
        for segment in merged {
            let Some(list) = held.partitions.get_mut(&segment.partition) else {
                continue;
            };
            let start = list.iter().position(|s| s.from == segment.from);
            let end = list.iter().position(|s| s.to == segment.to);
            let (Some(start), Some(end)) = (start, end) else {
                continue;
            };
            let replaced: usize = list[start..=end].iter().map(|s| s.bytes).sum();
            self.bytes = self.bytes - replaced + segment.bytes;
            list.splice(start..=end, [Arc::new(segment)]);
        }
    }

    /// Drops segments below the oldest cut that readers may use. Returns true if a cut has expired.
    pub(crate) fn trim(&mut self, now: Duration, grace: Duration) -> bool {
        if !self.cuts.expire(now, grace) {
            return false;
        }
        let Some(floor) = self.cuts.floor() else {
            return false;
        };
        let held = Arc::make_mut(&mut self.segments);
        for (partition, list) in &mut held.partitions {
            let keep = list.partition_point(|segment| segment.to <= floor.get(*partition));
            list.drain(..keep);
        }
        self.bytes = held.bytes();
        true
    }
}
