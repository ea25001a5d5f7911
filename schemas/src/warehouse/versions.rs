//! Pinned versions: the content of one version of a stream's master dataset or of a view's batch states.
//!
//! Invariant: a version value is immutable and complete: its files hold exactly the offsets below its frontier.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Frontier, Offset, Partition, StreamName, ViewId};

/// One Parquet file of a pinned version.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// The path, relative to the warehouse's root.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The number of rows, if the log has it.
    pub rows: Option<u64>,
    /// The bounds of `_partition` and `_offset`, if the log has them.
    pub span: Option<OffsetSpan>,
}

/// Inclusive bounds of `_partition` and `_offset` in a file. The bounds of `_offset` hold over all partitions of the
/// file, not per partition.
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

/// The last archived message of a partition. Comparing it with the topic reveals a recreated or truncated topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessage {
    pub offset: Offset,
    /// Kafka's message timestamp in milliseconds since 1970; -1 without a timestamp.
    pub timestamp_ms: i64,
    /// The blake3 hash of key and payload, 16 hexadecimal digits.
    pub hash: String,
}

/// One version of a stream's master dataset.
#[derive(Debug, Clone)]
pub struct MasterVersion {
    pub stream: StreamName,
    /// The version of the Delta table.
    pub version: u64,
    /// The archive frontier A: every message below A is archived, as a row or as a reject.
    pub frontier: Frontier,
    /// The newest mark: the highest cut that a recomputation on this version may use. `frontier` covers the mark.
    pub mark: Frontier,
    pub files: Arc<[DataFile]>,
    pub last: HashMap<Partition, LastMessage>,
}

/// One version of a view's batch states: the states of every group over `[origin, cut)`.
#[derive(Debug, Clone)]
pub struct BatchVersion {
    pub view: ViewId,
    /// The version of the Delta table of states.
    pub version: u64,
    /// The cut B.
    pub cut: Frontier,
    /// The version of the master dataset that the newest run read.
    pub master_version: u64,
    /// The time of publication in milliseconds since 1970.
    pub published_ms: i64,
    /// The files of states. A group may occur in several files; readers merge its states.
    pub files: Arc<[DataFile]>,
}

/// The newest version of every stream's master dataset, for streams that have one.
pub type Masters = HashMap<StreamName, Arc<MasterVersion>>;

/// The newest batch version of every view, for views that have one.
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
