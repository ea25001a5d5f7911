//! Pinned versions: what one version of a stream's master dataset, or of a view's batch states, consists of.
//!
//! Invariant: a version value is immutable and complete: its files hold exactly the offsets below its frontier.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Frontier, Offset, Partition, StreamName, ViewId};

/// One Parquet file of a pinned version.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Path from the warehouse's root.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Rows, if the log says so.
    pub rows: Option<u64>,
    /// What `_partition` and `_offset` span, if the log says so.
    pub span: Option<OffsetSpan>,
}

/// Inclusive bounds of `_partition` and `_offset` in a file; a box, not a list of ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetSpan {
    pub partitions: (Partition, Partition),
    pub offsets: (Offset, Offset),
}

impl OffsetSpan {
    /// False only if no row of the span can lie in `[from, to)`.
    pub fn touches(&self, from: &Frontier, to: &Frontier) -> bool {
        to.iter().any(|(p, end)| {
            self.partitions.0 <= p && p <= self.partitions.1 && self.offsets.0 < end && self.offsets.1 >= from.get(p)
        })
    }
}

impl DataFile {
    /// False only if no row of the file can lie in `[from, to)`.
    pub fn touches(&self, from: &Frontier, to: &Frontier) -> bool {
        self.span.is_none_or(|span| span.touches(from, to))
    }
}

/// The last archived message of a partition, by which a recreated or truncated topic is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessage {
    pub offset: Offset,
    /// Kafka's message timestamp, milliseconds since 1970; -1 if it has none.
    pub timestamp_ms: i64,
    /// blake3 over key and payload, 16 hexadecimal digits.
    pub hash: String,
}

/// One version of a stream's master dataset.
#[derive(Debug, Clone)]
pub struct MasterVersion {
    pub stream: StreamName,
    /// Version of the Delta table.
    pub version: u64,
    /// The archive frontier A: every offset below it is archived, as a row or as a reject.
    pub frontier: Frontier,
    /// The newest mark: the highest cut that a recomputation on this version may take. `frontier` covers it.
    pub mark: Frontier,
    pub files: Arc<[DataFile]>,
    pub last: HashMap<Partition, LastMessage>,
}

/// One version of a view's batch states: the states of every group over `[origin, cut)`.
#[derive(Debug, Clone)]
pub struct BatchVersion {
    pub view: ViewId,
    /// Version of the Delta table of states.
    pub version: u64,
    /// The cut B.
    pub cut: Frontier,
    /// Version of the master dataset that the newest run read.
    pub master_version: u64,
    /// When it was published, milliseconds since 1970.
    pub published_ms: i64,
    /// State files; a group may occur in several, and is merged on reading.
    pub files: Arc<[DataFile]>,
}

/// The newest version of every stream's master dataset that there is.
pub type Masters = HashMap<StreamName, Arc<MasterVersion>>;

/// The newest batch version of every view that has one.
#[derive(Debug, Clone, Default)]
pub struct Published {
    pub versions: HashMap<ViewId, Arc<BatchVersion>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<const F: usize, const T: usize>(from: [(i32, i64); F], to: [(i32, i64); T], expect: bool) {
        let span = OffsetSpan { partitions: (Partition(1), Partition(2)), offsets: (Offset(10), Offset(19)) };
        assert_eq!(span.touches(&from.into(), &to.into()), expect, "{from:?} {to:?}");
    }

    #[test]
    fn spans_touch_the_ranges_they_may_hold() {
        check([], [(1, 11)], true);
        check([], [(1, 10)], false);
        check([], [(0, 100), (3, 100)], false);
        check([(1, 20), (2, 20)], [(1, 30), (2, 30)], false);
        check([(1, 20), (2, 19)], [(1, 30), (2, 30)], true);
    }
}
