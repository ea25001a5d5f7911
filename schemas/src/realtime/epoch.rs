//! Epochs: the rows between two archive commits, which the speed layer sends to the archive.
//!
//! Invariant: an epoch is committed whole or not at all, and only to a table whose frontier equals its `from`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use tokio::sync::oneshot;

use crate::warehouse::versions::{LastMessage, MasterVersion};
use crate::{Frontier, Partition, StreamName};

/// Everything read from `from` to `to`: rows and rejects.
#[derive(Debug, Clone)]
pub struct Epoch {
    pub stream: StreamName,
    /// Positions of every partition that the writer owns, as the writer believes the archive to be. An epoch without
    /// partitions changes nothing; its outcome is the newest version, read again.
    pub from: Frontier,
    /// Positions after this epoch; names the same partitions as `from`.
    pub to: Frontier,
    /// Batches of the stream's row schema, in the order of reading.
    pub rows: Vec<RecordBatch>,
    /// True if the epoch's end is a mark.
    pub mark: bool,
    /// The last message of each partition that advanced.
    pub last: HashMap<Partition, LastMessage>,
}

/// The outcome of an epoch.
#[derive(Debug, Clone)]
pub enum EpochOutcome {
    /// The epoch is in this version.
    Landed(Arc<MasterVersion>),
    /// Another writer wrote the range. Drop the buffered rows and resume from this version.
    Fenced(Arc<MasterVersion>),
}

/// An epoch sent to the archive. A dropped reply means that the archive has stopped.
#[derive(Debug)]
pub struct EpochRequest {
    pub epoch: Epoch,
    pub reply: oneshot::Sender<EpochOutcome>,
}
