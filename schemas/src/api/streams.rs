//! `GET /v1/streams`: the progress of streams and their partitions, and the workers that answer.
//!
//! Invariant: counts of rows and rejects start with the process, frontiers with the stream.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NotUnderstood;
use super::words::words;
use crate::realtime::protocol::WorkerStatus;
use crate::{Frontier, Offset, Partition, StreamName};

/// The answer of `GET /v1/streams`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamList {
    pub streams: Vec<StreamStatus>,
    /// The workers, if the speed layer runs in other processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Vec<WorkerEntry>>,
    /// Streams of the catalog that this version of the program does not understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_understood: Vec<NotUnderstood>,
}

/// A worker that the server asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerEntry {
    pub address: String,
    pub up: bool,
    /// The reason why the worker is not asked, if it is not up.
    pub reason: Option<String>,
    pub status: Option<WorkerStatus>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    pub name: StreamName,
    pub topic: String,
    pub status: StreamPhase,
    /// The reason why the stream is stopped or waits, with advice.
    pub failure: Option<String>,
    /// True if queries are answered. Without Kafka, they are answered at the last reached frontier.
    pub answers: bool,
    /// The reason why rows are not being archived. They are served from memory, and archiving is retried.
    pub archive_failure: Option<String>,
    /// Partitions that no worker holds, with the reason.
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
    /// The count since the process started.
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
    /// The phase of a stream.
    pub enum StreamPhase {
        /// The stream's task has not published anything yet.
        Starting = "starting",
        /// No broker answers.
        WaitingForKafka = "waiting_for_kafka",
        /// The next message of some partitions has a schema that the registry does not give.
        WaitingForSchema = "waiting_for_schema",
        /// Messages that were in the log at the start are still unread.
        CatchingUp = "catching_up",
        /// No worker holds some partitions.
        NotHeld = "not_held",
        /// Queries are answered.
        Running = "running",
        /// An error ended the stream.
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
    /// Why reading waits: the schema of the next message is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// The worker that holds the partition, if workers do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}
