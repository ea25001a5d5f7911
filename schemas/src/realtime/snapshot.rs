//! What the speed layer shows to readers: one immutable value per stream, replaced after every micro-batch.
//!
//! Invariant: everything in a snapshot stands at its one `frontier`; readers never see half an update.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::realtime::segment::ViewSegments;
use crate::warehouse::versions::MasterVersion;
use crate::{Frontier, Offset, Partition, StreamName, ViewId};

/// Rows and rejects read between two frontiers, kept until they are archived and a grace time is over.
#[derive(Debug)]
pub struct RowsChunk {
    pub from: Frontier,
    pub to: Frontier,
    /// Of the stream's row schema.
    pub batches: Vec<RecordBatch>,
    pub bytes: usize,
}

/// How a partition is doing, for status and metrics.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct PartitionHealth {
    /// Kafka's high watermark, the next offset that it will assign.
    pub high_watermark: Option<Offset>,
    /// Messages not yet read; 0 at the end of the log even if transaction markers lie between.
    pub lag: i64,
    /// Latest event time seen since the process started, microseconds since 1970.
    pub latest_event_us: Option<i64>,
    /// Rows and rejects read since the process started.
    pub rows: u64,
    pub rejects: u64,
}

/// One stream as the speed layer sees it.
#[derive(Debug, Clone)]
pub struct StreamSnapshot {
    pub stream: StreamName,
    /// Where the stream begins.
    pub origin: Frontier,
    /// F: everything below it is in `rows`, in `master` or in both, and in every view of `views`.
    pub frontier: Frontier,
    /// True once `frontier` has reached what the log held when its partitions were assigned: only then is
    /// nothing answered below a frontier that an earlier process may have given out.
    pub caught_up: bool,
    /// The partitions for which that is true by themselves.
    pub caught_up_partitions: BTreeSet<Partition>,
    /// Why the brokers do not answer, while they do not. What is held stands; nothing is added to it.
    pub waiting: Option<String>,
    /// The newest archived version; `rows` reach from its frontier or below up to `frontier`.
    pub master: Arc<MasterVersion>,
    /// In the order of reading, without gaps.
    pub rows: Vec<Arc<RowsChunk>>,
    /// Views that are held; one that is missing is being rebuilt.
    pub views: HashMap<ViewId, Arc<ViewSegments>>,
    /// Empty until Kafka has been reached.
    pub health: BTreeMap<Partition, PartitionHealth>,
    /// Bytes held in messages, rows, segments and rebuilds, and the budget.
    pub memory_bytes: usize,
    pub memory_budget: usize,
    /// True while reading from Kafka is paused because the budget is reached.
    pub paused: bool,
}

impl StreamSnapshot {
    /// False until Kafka has said what is in the log: what is shown by then comes from the archive alone.
    pub fn has_reached_kafka(&self) -> bool {
        !self.health.is_empty()
    }
}

/// Where readers find a stream's newest snapshot, and why there is none.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    /// `None` until the stream's speed layer has started.
    pub snapshots: tokio::sync::watch::Receiver<Option<Arc<StreamSnapshot>>>,
    /// Set while the stream's speed layer is stopped by an error: the sentence for `status`.
    pub failure: tokio::sync::watch::Receiver<Option<String>>,
    /// Set while the archive fails to take an epoch, and tries again: rows are served from memory.
    pub archive_failure: tokio::sync::watch::Receiver<Option<String>>,
}
