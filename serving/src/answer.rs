//! An answer: batches of rows, and the frontier at which they are exact.
//!
//! Invariant: the frontier is known before the first row, so a client always knows the frontier of the rows it reads.

use std::collections::BTreeMap;
use std::pin::Pin as StdPin;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::MemoryPool;
use futures::stream::Stream;
use thalweg_schemas::api::certificate::Certificate;
use thalweg_schemas::api::sql::{Frontiers, Partial};
use thalweg_schemas::{ViewId, ViewName};

use crate::Result;
use crate::identity::AnswerIdentity;

/// Batches of an answer, in order.
pub(crate) type Batches = StdPin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// An answer whose frontier is known before its first row.
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) frontier: Frontiers,
    /// True if the answer may lie below earlier answers. The client has allowed this.
    pub(crate) stale: bool,
    /// Partitions without realtime data; empty unless the request allows a partial answer.
    pub(crate) partial: Partial,
    /// The ids of the views that are read.
    pub(crate) views: BTreeMap<ViewName, ViewId>,
    /// What the answer was computed from, if the client has asked for that.
    pub(crate) certificate: Option<Certificate>,
    /// What the answer depends on; `None` if it depends on more than can be told.
    pub(crate) identity: Option<AnswerIdentity>,
    pub(crate) batches: Batches,
    /// Where the bytes of the encoded answer count; `None` for an answer that is small.
    pub(crate) memory: Option<Arc<dyn MemoryPool>>,
}
