//! What a serving process asks of a speed worker, and what it is told: the tiling protocol as values that cross a
//! network.
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
//! Invariant: everything that is read under one pin stands at the frontier which the pin's answer named. What a worker
//! says is only ever used if it tiles from where the reader asked, so a stale or wrong worker makes an answer late.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::realtime::segment::Provenance;
use crate::realtime::snapshot::PartitionHealth;
use crate::{Frontier, Offset, Partition, StreamName, ViewId};

/// Name of the action that pins; its body is a [`PinRequest`], its one answer a [`PinAnswer`], both JSON.
pub const PIN: &str = "thalweg.pin";
/// Name of the action that lets go of a pin before its time is over; its body is the pin's id.
pub const RELEASE: &str = "thalweg.release";
/// Name of the action that tells how a worker is doing; no body, its answer is a [`WorkerStatus`].
pub const STATUS: &str = "thalweg.status";

/// Asks for one snapshot of a stream to be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinRequest {
    pub stream: StreamName,
    /// [`crate::definition::stream::StreamDefinition::fingerprint`] as the reader knows it. A worker on another one
    /// holds nothing.
    pub definition: String,
    /// S of every view: its cut, for every partition that the reader knows.
    pub views: BTreeMap<ViewId, Frontier>,
    /// From where rows are asked for: the archive frontier of the reader's version. `None`: no rows.
    pub rows: Option<Frontier>,
    /// How long the pin is needed at most, in milliseconds.
    pub keep_ms: u64,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinAnswer {
    /// Names the pin in tickets.
    pub pin: String,
    /// The worker, as people know it.
    pub worker: String,
    /// The partitions that this worker reads; none if it does not read the stream, or not with this definition.
    pub partitions: BTreeMap<Partition, PinnedPartition>,
    /// Why there is no partition, if the worker can say.
    pub reason: Option<String>,
}

/// One partition of a pin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedPartition {
    /// F.
    pub frontier: Offset,
    /// False until reading has reached what the log held at assignment: nothing may be answered from it.
    pub caught_up: bool,
    /// Messages not yet read.
    pub lag: i64,
    pub views: BTreeMap<ViewId, Coverage>,
    /// `None` if no rows were asked for.
    pub rows: Option<Coverage>,
}

/// Whether the range from S to F is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// The ranges that tile it, in order; none if S is F.
    Ranges(Vec<(Offset, Offset)>),
    /// Why not.
    NotHeld(String),
}

impl Coverage {
    /// True if the ranges tile `[from, to)`: each starts where the last one ended, and none is empty.
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

/// What is read under a pin; the ticket of a Flight `DoGet`, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ticket {
    /// States of a view from S to the pin's frontier, neighbours merged; of the view's state schema.
    States(StatesTicket),
    /// Every segment that ends above `from` in the partitions that it names, as it is held: a schema whose metadata
    /// is the [`SegmentHead`], then the states. For audits.
    Segments { pin: String, view: ViewId, from: Frontier },
    /// Rows and rejects from `from` to the pin's frontier, of the stream's row schema.
    Rows {
        pin: String,
        /// Names the partitions that are wanted, and where each begins.
        from: Frontier,
        /// Columns by name, in this order; `None`: all.
        columns: Option<Vec<String>>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatesTicket {
    pub pin: String,
    pub view: ViewId,
    /// Names the partitions that are wanted, and S in each.
    pub from: Frontier,
    /// Columns of the state schema by index, in this order; `None`: all. What is left out is not merged.
    pub columns: Option<Vec<usize>>,
    /// All must hold for a group to be sent. A worker may send more: the reader filters again.
    pub filters: Vec<GroupFilter>,
}

/// A condition on one column of the states' groups: the column is equal to one of `values`, or within bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupFilter {
    /// Name of the state schema's column: `g0`, `g1`, ….
    pub column: String,
    pub test: GroupTest,
    /// Base64 of an Arrow IPC stream of one batch with one column, whose rows are the test's values.
    pub values: String,
}

/// How a group's value is compared with a filter's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupTest {
    /// Equal to one of the values.
    In,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a batch of a segment's states belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHead {
    pub partition: Partition,
    pub from: Offset,
    pub to: Offset,
    pub provenance: Provenance,
}

/// How a worker is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub worker: String,
    pub streams: BTreeMap<StreamName, WorkerStream>,
}

/// One stream of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerStream {
    /// Why it is stopped.
    pub failure: Option<String>,
    /// Why the brokers do not answer, while they do not.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Why rows are not archived at the moment.
    #[serde(default)]
    pub archive_failure: Option<String>,
    /// Of the partitions that the worker reads; `None` while it is starting.
    pub frontier: Option<Frontier>,
    /// Those of them that have caught up.
    pub caught_up: BTreeSet<Partition>,
    pub health: BTreeMap<Partition, PartitionHealth>,
    /// Segments of every view that is held.
    pub segments: BTreeMap<ViewId, usize>,
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
