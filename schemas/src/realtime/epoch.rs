//! Epochs: the rows between two archive commits, handed from the speed layer to the archive.
//!
//! Invariant: an epoch lands whole or not at all, and only on a table whose frontier equals its `from`.

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
    /// Positions of every partition that the writer owns, as it believes the archive to be. An epoch that names none
    /// changes nothing: its outcome is the newest version, read anew.
    pub from: Frontier,
    /// Positions after this epoch; names the same partitions as `from`.
    pub to: Frontier,
    /// Row batches of the stream's row schema, in the order of reading.
    pub rows: Vec<RecordBatch>,
    /// True if the epoch's end is a mark.
    pub mark: bool,
    /// The last message of each partition that advanced.
    pub last: HashMap<Partition, LastMessage>,
}

/// What became of an epoch.
#[derive(Debug, Clone)]
pub enum EpochOutcome {
    /// It is in this version.
    Landed(Arc<MasterVersion>),
    /// Someone else wrote the range: drop what is buffered and resume from this version.
    Fenced(Arc<MasterVersion>),
}

/// An epoch on its way to the archive. If the reply is dropped, the archive has stopped.
#[derive(Debug)]
pub struct EpochRequest {
    pub epoch: Epoch,
    pub reply: oneshot::Sender<EpochOutcome>,
}
