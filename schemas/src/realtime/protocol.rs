//! The tiling protocol between a serving process and a speed worker, as values that cross a network.
//!
//! ```text
//!  reader                                worker
//!    │── pin: S of every view, A ──────────▶│  keeps one snapshot under the pin
//!    │◀─ per partition: F, ranges or why ───│
//!    │   chooses a worker for every partition
//!    │── states or rows of the pin ────────▶│
//!    │◀─ Arrow batches of [S, F) ───────────│
//!    │── release ──────────────────────────▶│
//! ```
//!
//! Invariant: all reads under one pin return data at the frontier that the pin's answer named. The reader uses a
//! worker's data only if it tiles from the requested start, so a stale or wrong worker can only delay an answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::failure::ViewFailure;
use crate::realtime::segment::Provenance;
use crate::realtime::snapshot::PartitionHealth;
use crate::{Frontier, Offset, Partition, StreamName, ViewId};

/// Name of the action that pins. Its body is a [`PinRequest`], its one answer a [`PinAnswer`], both JSON.
pub const PIN: &str = "thalweg.pin";
/// Name of the action that releases a pin before its time is over. Its body is the pin's id.
pub const RELEASE: &str = "thalweg.release";
/// Name of the action that returns a worker's status. It has no body; its answer is a [`WorkerStatus`].
pub const STATUS: &str = "thalweg.status";

/// Asks a worker to keep one snapshot of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinRequest {
    pub stream: StreamName,
    /// [`crate::definition::stream::StreamDefinition::fingerprint`] as the reader knows it. A worker with another
    /// fingerprint holds nothing for this reader.
    pub definition: String,
    /// S of every view: its cut, for every partition that the reader knows.
    pub views: BTreeMap<ViewId, Frontier>,
    /// The start of the requested rows: the archive frontier of the reader's version. `None`: no rows.
    pub rows: Option<Frontier>,
    /// The longest time for which the pin is needed, in milliseconds.
    pub keep_ms: u64,
    /// True if what the worker holds of a stopped stream is wanted too.
    #[serde(default)]
    pub stale: bool,
}

/// The answer to a [`PinRequest`]: what the worker keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinAnswer {
    /// The id of the pin in tickets.
    pub pin: String,
    /// The worker's name for people.
    pub worker: String,
    /// The partitions that this worker reads. None if the worker does not read the stream, or reads it with another
    /// definition.
    pub partitions: BTreeMap<Partition, PinnedPartition>,
    /// The reason why there is no partition, if the worker knows it.
    pub reason: Option<String>,
    /// The error that stopped the stream in this worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The requested views that have failed in this worker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<ViewId, ViewFailure>,
}

/// One partition of a pin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedPartition {
    /// The frontier F.
    pub frontier: Offset,
    /// False until reading has reached the end of the log at assignment. Until then, no query may be answered from
    /// this partition.
    pub caught_up: bool,
    /// Messages not yet read.
    pub lag: i64,
    /// The reason why the worker reads nothing at the moment: no broker answers, or the stream has stopped.
    #[serde(default)]
    pub waiting: Option<String>,
    pub views: BTreeMap<ViewId, Coverage>,
    /// Rows of the states in those ranges, for views that are held.
    #[serde(default)]
    pub states: BTreeMap<ViewId, u64>,
    /// `None` if no rows were asked for.
    pub rows: Option<Coverage>,
}

/// Whether the worker holds the range from S to F.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// The ranges that tile it, in order. None if S is F.
    Ranges(Vec<(Offset, Offset)>),
    /// The reason why the range is not held.
    NotHeld(String),
}

impl Coverage {
    /// True if the ranges tile `[from, to)`: each starts at the end of the previous one, and none is empty.
    pub fn tiles(&self, from: Offset, to: Offset) -> bool {
        match self {
            Coverage::NotHeld(_) => false,
            Coverage::Ranges(ranges) => {
                let end =
                    ranges.iter().try_fold(from, |at, (start, end)| (*start == at && end > start).then_some(*end));
                end == Some(to)
            }
        }
    }
}

/// The data to read under a pin: the ticket of a Flight `DoGet`, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticket {
    /// States of a view from S to the pin's frontier, in the view's state schema. Neighbouring segments are merged.
    States(StatesTicket),
    /// Every segment that ends above `from` in the partitions that `from` names, as the worker holds it: a schema
    /// whose metadata is the [`SegmentHead`], then the states. For audits.
    Segments { pin: String, view: ViewId, from: Frontier },
    /// Rows and rejects from `from` to the pin's frontier, in the stream's row schema.
    Rows {
        pin: String,
        /// The requested partitions and the start of each.
        from: Frontier,
        /// Columns by name, in this order. `None`: all.
        columns: Option<Vec<String>>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatesTicket {
    pub pin: String,
    pub view: ViewId,
    /// The requested partitions and S of each.
    pub from: Frontier,
    /// Columns of the state schema by index, in this order. `None`: all. Other columns are not merged.
    pub columns: Option<Vec<usize>>,
    /// Filters that a group must all satisfy. A worker may send more groups, because the reader filters again.
    pub filters: Vec<GroupFilter>,
}

/// A condition on one column of the states' groups: the column equals one of `values`, or lies within bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupFilter {
    /// The name of a column in the state schema: `g0`, `g1`, ….
    pub column: String,
    pub test: GroupTest,
    /// The values of the test: Base64 of an Arrow IPC stream of one batch with one column.
    pub values: String,
}

/// The comparison of a group's value with a filter's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupTest {
    /// The value equals one of the filter's values.
    In,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The segment to which a batch of states belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHead {
    pub partition: Partition,
    pub from: Offset,
    pub to: Offset,
    pub provenance: Provenance,
}

/// The status of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub worker: String,
    pub streams: BTreeMap<StreamName, WorkerStream>,
}

/// One stream of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStream {
    /// The error that stopped the stream.
    pub failure: Option<String>,
    /// The reason why the brokers do not answer, while they do not.
    #[serde(default)]
    pub waiting: Option<String>,
    /// The reason why rows are not being archived, while they are not.
    #[serde(default)]
    pub archive_failure: Option<String>,
    /// The frontier of the partitions that the worker reads. `None` while the worker is starting.
    pub frontier: Option<Frontier>,
    /// The partitions that have caught up.
    pub caught_up: BTreeSet<Partition>,
    pub health: BTreeMap<Partition, PartitionHealth>,
    /// The number of segments of every held view.
    pub segments: BTreeMap<ViewId, usize>,
    /// The views that have failed in this worker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<ViewId, ViewFailure>,
    /// The views that are held, and whose rebuilds fail for reasons that may pass.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delayed: BTreeMap<ViewId, ViewFailure>,
    pub memory_bytes: usize,
    pub memory_budget: usize,
    pub paused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_without_gap_overlap_or_empty_ones() {
        let check = |ranges: &[(i64, i64)], from, to, expect| {
            let ranges = ranges.iter().map(|(a, b)| (Offset(*a), Offset(*b)));
            let held = Coverage::Ranges(ranges.collect());
            assert_eq!(held.tiles(Offset(from), Offset(to)), expect, "{held:?}");
        };
        check(&[], 5, 5, true);
        check(&[], 5, 6, false);
        check(&[(5, 9)], 5, 9, true);
        check(&[(5, 7), (7, 9)], 5, 9, true);
        check(&[(5, 7), (8, 9)], 5, 9, false);
        check(&[(5, 8), (7, 9)], 5, 9, false);
        check(&[(4, 9)], 5, 9, false);
        check(&[(5, 9)], 5, 8, false);
        check(&[(5, 5), (5, 9)], 5, 9, false);
        check(&[(5, 9), (9, 7)], 5, 7, false);
        assert!(!Coverage::NotHeld("gone".into()).tiles(Offset(5), Offset(5)));
    }

    #[test]
    fn tickets_survive_the_wire() {
        let ticket = Ticket::States(StatesTicket {
            pin: "p".into(),
            view: serde_json::from_str("\"0123456789abcdef0123456789abcdef\"").unwrap(),
            from: Frontier::from([(3, 7)]),
            columns: Some(vec![0, 2]),
            filters: vec![GroupFilter { column: "g0".into(), test: GroupTest::In, values: "AA==".into() }],
        });
        let text = serde_json::to_string(&ticket).unwrap();
        assert_eq!(serde_json::from_str::<Ticket>(&text).unwrap(), ticket);
    }
}
