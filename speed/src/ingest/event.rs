//! What the ingest loop waits for.
//!
//! Invariant: an event carries everything that it takes to handle it, so nothing is awaited twice.

use thalweg_schemas::ViewId;
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::realtime::segment::Segment;

use crate::group::change::AssignmentChange;
use crate::kafka::channel::{BrokerStatus, Drained};
use crate::state::rebuild::Rebuilt;

/// One thing that has happened.
pub(super) enum IngestEvent {
    Batch(Drained),
    /// The archive has answered for the epoch in flight.
    Outcome(EpochOutcome),
    Done(JobDone),
    /// The master dataset has a new version.
    Master,
    /// The catalog or the published versions have changed.
    Views,
    /// The topic has so many partitions now.
    Grown(i32),
    AssignmentChange(AssignmentChange),
    /// The brokers have been reached, or are away.
    BrokerStatus(BrokerStatus),
    Tick,
}

/// What a job beside the loop gives.
pub(super) enum JobDone {
    Merged(ViewId, Vec<Segment>),
    Rebuilt(Rebuilt),
}
