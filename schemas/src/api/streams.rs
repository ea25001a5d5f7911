//! `GET /v1/streams`: how far streams and their partitions are, and which workers answer.
//!
//! Invariant: counts of rows and rejects begin with the process, frontiers with the stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::words;
use crate::realtime::protocol::WorkerStatus;
use crate::{Frontier, Offset, Partition, StreamName};

/// The answer of `GET /v1/streams`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamList {
    pub streams: Vec<StreamStatus>,
    /// If the realtime side is in other processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Vec<WorkerEntry>>,
}

/// A worker that the server asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerEntry {
    pub address: String,
    pub up: bool,
    /// Why it is not asked, if it is not up.
    pub reason: Option<String>,
    pub status: Option<WorkerStatus>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    pub name: StreamName,
    pub topic: String,
    pub status: StreamPhase,
    /// Why it is stopped or waits, and what to do.
    pub failure: Option<String>,
    /// True if queries are answered, if only at the frontier that was reached before Kafka went away.
    pub answers: bool,
    /// Why rows are not archived at the moment. They are served from memory, and archiving is tried again.
    pub archive_failure: Option<String>,
    /// Partitions that no worker holds, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unheld: BTreeMap<Partition, String>,
    pub origin: Frontier,
    pub frontier: Option<Frontier>,
    pub archive_frontier: Option<Frontier>,
    pub mark: Option<Frontier>,
    pub archive_version: Option<u64>,
    pub archive_files: Option<usize>,
    /// Messages not yet read.
    pub lag: i64,
    /// Since the process started.
    pub rows: u64,
    pub rejects: u64,
    /// ISO 8601, UTC.
    pub latest_event: Option<String>,
    pub memory_bytes: usize,
    pub memory_budget: usize,
    pub paused: bool,
    pub partitions: BTreeMap<Partition, PartitionStatus>,
    pub sql: String,
}

words! {
    /// What a stream is doing.
    pub enum StreamPhase {
        /// The stream's task has not shown anything yet.
        Starting = "starting",
        /// No broker answers.
        WaitingForKafka = "waiting_for_kafka",
        /// What the log held at the start is not read yet.
        CatchingUp = "catching_up",
        /// No worker holds some partitions.
        NotHeld = "not_held",
        /// Queries are answered.
        Running = "running",
        /// An error ended it.
        Stopped = "stopped",
    }
}

/// One partition of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    pub frontier: Offset,
    pub archive_frontier: Offset,
    pub high_watermark: Option<Offset>,
    pub lag: i64,
    pub rows: u64,
    pub rejects: u64,
    pub latest_event: Option<String>,
    /// Which worker holds it, if workers do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}
