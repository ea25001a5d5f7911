//! The speed layer's view of a stream for readers: one immutable value per stream, replaced after every micro-batch.
//!
//! Invariant: all data in a snapshot is at its one `frontier`. Readers never see half an update.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::failure::ViewFailure;
use crate::realtime::segment::ViewSegments;
use crate::warehouse::versions::MasterVersion;
use crate::{Frontier, Offset, Partition, StreamName, ViewId};

/// Rows and rejects read between two frontiers. They are kept until they are archived and a grace time is over.
#[derive(Debug)]
pub struct RowsChunk {
    pub from: Frontier,
    pub to: Frontier,
    /// Batches of the stream's row schema.
    pub batches: Vec<RecordBatch>,
    pub bytes: usize,
}

/// The health of a partition, for status and metrics.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct PartitionHealth {
    /// Kafka's high watermark, the next offset that it will assign.
    pub high_watermark: Option<Offset>,
    /// Messages not yet read. 0 at the end of the log, even if transaction markers lie before the high watermark.
    pub lag: i64,
    /// Latest event time seen since the process started, microseconds since 1970.
    pub latest_event_us: Option<i64>,
    /// Rows and rejects read since the process started.
    pub rows: u64,
    pub rejects: u64,
    /// Why reading waits at the frontier, though Kafka has more: the schema of the next message is not known.
    #[serde(default)]
    pub waiting: Option<String>,
}

/// One stream as the speed layer sees it.
#[derive(Debug, Clone)]
pub struct StreamSnapshot {
    pub stream: StreamName,
    /// The origin O of the stream.
    pub origin: Frontier,
    /// F. Every row below it is in `rows`, in `master` or in both, and in every view of `views`.
    pub frontier: Frontier,
    /// True once `frontier` has reached the end of the log at the assignment of the partitions. Only then is no
    /// answer below a frontier that an earlier process may have returned.
    pub caught_up: bool,
    /// The partitions that have caught up individually.
    pub caught_up_partitions: BTreeSet<Partition>,
    /// The reason why the brokers do not answer, while they do not. The held data stays; no data is added.
    pub waiting: Option<String>,
    /// The newest archived version. `rows` reach from its frontier or below up to `frontier`.
    pub master: Arc<MasterVersion>,
    /// The chunks in the order of reading, without gaps.
    pub rows: Vec<Arc<RowsChunk>>,
    /// The views that are held. A missing view is being rebuilt or has failed.
    pub views: HashMap<ViewId, Arc<ViewSegments>>,
    /// The views that cannot go on. Nothing of them is held.
    pub failed: BTreeMap<ViewId, Arc<ViewFailure>>,
    /// The views that are held, and whose segments do not reach from the newest cut because rebuilds of them fail for
    /// reasons that may pass.
    pub delayed: BTreeMap<ViewId, Arc<ViewFailure>>,
    /// Empty until Kafka has been reached.
    pub health: BTreeMap<Partition, PartitionHealth>,
    /// Bytes held in messages, rows, segments and rebuilds. `memory_budget` is their limit.
    pub memory_bytes: usize,
    pub memory_budget: usize,
    /// True while reading from Kafka is paused because the budget is reached.
    pub paused: bool,
}

impl StreamSnapshot {
    /// False until Kafka has reported the content of the log. Until then, the snapshot shows only the archive.
    pub fn has_reached_kafka(&self) -> bool {
        !self.health.is_empty()
    }

    /// Why `view` is not held as a reader needs it: `reason`, and the failure of its rebuild if there is one.
    pub fn not_held(&self, view: &ViewId, reason: String) -> String {
        match self.delayed.get(view) {
            Some(failure) => format!("{reason}; its rebuild fails and is tried again: {}", failure.sentence()),
            None => reason,
        }
    }
}

/// The channels from which readers get a stream's newest snapshot, or the reason why there is none.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    /// `None` until the stream's speed layer has started.
    pub snapshots: tokio::sync::watch::Receiver<Option<Arc<StreamSnapshot>>>,
    /// The error that stopped the stream's speed layer, as a sentence for `status`. `None` while it runs.
    pub failure: tokio::sync::watch::Receiver<Option<String>>,
    /// The error of the archive while it fails to take an epoch and tries again. Rows are served from memory
    /// meanwhile.
    pub archive_failure: tokio::sync::watch::Receiver<Option<String>>,
}
