//! The messages that tell the ingest loop about assigned and revoked partitions.
//!
//! ```text
//!  group ─▶ membership: GroupEvent ─▶ handover (survey, origin, archive, identity): AssignmentChange ─▶ ingest
//! ```
//!
//! Invariant: reading of an assigned partition starts at the archive's frontier as it stands after the assignment.
//! The version in the message holds everything that the previous owner archived. Kafka delivers again the messages
//! that the previous owner did not archive.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::oneshot;

/// A change of the partitions that this process reads.
#[derive(Debug)]
pub enum AssignmentChange {
    Assign(Assigned),
    Revoke(Revoked),
}

/// Partitions that this process reads from now on.
#[derive(Debug)]
pub struct Assigned {
    /// Where reading starts: the archive's frontier in each of these partitions.
    pub at: Frontier,
    /// O of all partitions, including these.
    pub origin: Frontier,
    /// The version of the master dataset, read after the group assigned the partitions.
    pub master: Arc<MasterVersion>,
    /// High watermarks: a partition counts as caught up once it has been read up to here.
    pub high: Frontier,
}

/// Partitions that another process reads next. The loop archives their rows under a mark and then drops them.
#[derive(Debug)]
pub struct Revoked {
    pub partitions: BTreeSet<Partition>,
    /// Dropped once this process holds nothing of the partitions any more.
    pub done: oneshot::Sender<()>,
}
