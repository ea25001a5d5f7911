//! An answer: batches of rows, and the frontier that they are exact at.
//!
//! Invariant: the frontier is known before the first row, so no client reads rows that it cannot place.

use std::pin::Pin as StdPin;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::Stream;
use thalweg_schemas::api::sql::{Frontiers, Partial};

use crate::Result;

/// Batches of an answer, in order.
pub(crate) type Batches = StdPin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// An answer whose frontier is known before its first row.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) frontier: Frontiers,
    /// It may lie below earlier answers, which its client has allowed.
    pub(crate) stale: bool,
    /// Empty unless the request allows it and it was needed.
    pub(crate) partial: Partial,
    pub(crate) batches: Batches,
}
