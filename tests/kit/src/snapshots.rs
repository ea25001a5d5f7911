//! Snapshots of a stream, and the handle from which readers get them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::realtime::snapshot::{RowsChunk, StreamHandle, StreamSnapshot};
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, StreamName};
use tokio::sync::watch;

/// Returns a master version without files.
pub fn master(stream: &StreamName, archived: &Frontier) -> MasterVersion {
    MasterVersion {
        stream: stream.clone(),
        version: 1,
        frontier: archived.clone(),
        mark: archived.clone(),
        files: Arc::from([]),
        last: HashMap::new(),
    }
}

/// Returns an empty snapshot of all partitions of `frontier`, which are caught up.
pub fn snapshot(master: Arc<MasterVersion>, origin: &Frontier, frontier: &Frontier) -> StreamSnapshot {
    StreamSnapshot {
        stream: master.stream.clone(),
        origin: origin.clone(),
        frontier: frontier.clone(),
        caught_up: true,
        caught_up_partitions: frontier.partitions().collect(),
        waiting: None,
        master,
        rows: Vec::new(),
        views: HashMap::new(),
        failed: BTreeMap::new(),
        delayed: BTreeMap::new(),
        health: BTreeMap::new(),
        memory_bytes: 10,
        memory_budget: 100,
        paused: false,
    }
}

pub fn chunk(from: &Frontier, to: &Frontier, batches: Vec<RecordBatch>) -> Arc<RowsChunk> {
    Arc::new(RowsChunk { from: from.clone(), to: to.clone(), batches, bytes: 1 })
}

/// The senders with which a test acts as the speed layer of one stream.
pub struct Shown {
    pub snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    pub failure: watch::Sender<Option<String>>,
    pub archive_failure: watch::Sender<Option<String>>,
}

impl Shown {
    pub fn new(snapshot: Option<StreamSnapshot>) -> Self {
        Self {
            snapshots: watch::Sender::new(snapshot.map(Arc::new)),
            failure: watch::Sender::new(None),
            archive_failure: watch::Sender::new(None),
        }
    }

    pub fn handle(&self) -> StreamHandle {
        StreamHandle {
            snapshots: self.snapshots.subscribe(),
            failure: self.failure.subscribe(),
            archive_failure: self.archive_failure.subscribe(),
        }
    }

    pub fn show(&self, snapshot: StreamSnapshot) {
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }
}
