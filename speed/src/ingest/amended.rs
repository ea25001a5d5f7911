//! What became of work over amendments, and when the next may begin.
//!
//! Invariant: every view that was held when the work began is in its result.

use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::algebra::Culprit;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::segment::Segment;

use crate::state::stream_state::amendments::DueAmendments;

/// The work over amendments, for every view that was held.
pub(super) struct AmendedViews {
    pub(super) due: DueAmendments,
    pub(super) views: Vec<AmendedView>,
}

pub(super) struct AmendedView {
    pub(super) view: Arc<CompiledView>,
    /// The segments over the amendments, or why there are none.
    pub(super) segments: Result<Vec<Segment>, Culprit>,
}

/// When amendments may be taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Amending {
    #[default]
    Idle,
    Running,
    /// Not before this time, because the files could not be read.
    Paused(Duration),
}
