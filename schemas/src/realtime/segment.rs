//! A segment: the realtime state of one view over one range of one partition.
//!
//! Invariant: a segment is a pure function of (view id, partition, from, to) and never changes. Merging several
//! neighbours yields a new segment, which replaces them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::{Offset, Partition, ViewId};

/// The origin of a segment. The audit reports the two kinds separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Computed from messages as they arrived.
    Live,
    /// Computed again from archived rows.
    Rebuilt,
}

/// States of the groups that occur in `[from, to)` of `partition`.
#[derive(Debug, Clone)]
pub struct Segment {
    pub view: ViewId,
    pub partition: Partition,
    pub from: Offset,
    pub to: Offset,
    pub provenance: Provenance,
    /// Rows of the view's state schema: `_partition`, then groups `g0…`, then states `a0…`. May have no rows.
    pub states: RecordBatch,
    /// Bytes of the states in the memory budget.
    pub bytes: usize,
    /// The number of merges of neighbours that made the segment. 0 is one micro-batch.
    pub level: u8,
}

/// The segments of one view, per partition, ordered by `from`.
#[derive(Debug, Clone, Default)]
pub struct ViewSegments {
    pub partitions: BTreeMap<Partition, Vec<Arc<Segment>>>,
}

impl ViewSegments {
    pub fn bytes(&self) -> usize {
        self.iter().map(|s| s.bytes).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.partitions.values().flatten()
    }
}
