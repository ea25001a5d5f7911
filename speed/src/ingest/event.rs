//! The events that the ingest loop waits for.
//!
//! Invariant: an event carries everything that its handler needs, so the loop awaits nothing twice.

use std::sync::Arc;

use thalweg_schemas::ViewId;
use thalweg_schemas::algebra::Culprit;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::decode::SchemaId;
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::realtime::segment::Segment;

use crate::group::change::AssignmentChange;
use crate::ingest::amended::AmendedViews;
use crate::kafka::channel::{BrokerStatus, Drained};
use crate::registry::Unfetched;
use crate::schema_cache::FetchedSchema;
use crate::state::rebuild::Rebuilt;

/// One event.
pub(super) enum IngestEvent {
    Batch(Box<Drained>),
    /// The archive has answered for the epoch in flight.
    Outcome(EpochOutcome),
    Done(JobDone),
    /// The master dataset has a new version.
    Master,
    /// The catalog or the published versions have changed.
    Views,
    /// The new number of partitions of the topic.
    Grown(i32),
    AssignmentChange(AssignmentChange),
    /// The brokers have answered, or no longer answer.
    BrokerStatus(BrokerStatus),
    Tick,
}

/// The result of a job beside the loop.
pub(super) enum JobDone {
    /// A merge of segments of this incarnation of the view.
    Merged(ViewId, u64, Vec<Segment>),
    Rebuilt(Rebuilt),
    Amended(AmendedViews),
    /// A merge of segments of this incarnation of the view failed.
    MergeFailed(ViewId, u64, ViewFailure),
    /// The rebuild of this number failed, in this range.
    RebuildFailed(Arc<CompiledView>, u64, Culprit),
    /// A rebuild ended early, because nobody needs it.
    Aborted,
    /// What the registry answers for a schema.
    Schema(SchemaId, Result<FetchedSchema, Unfetched>),
    /// A search has ended: the failure as it was recorded, and a more precise one.
    Located(Arc<CompiledView>, Arc<ViewFailure>, ViewFailure),
}
