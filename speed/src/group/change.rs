//! Partitions that come and go while the loop runs: what it is told.
//!
//! ```text
//!  group ─▶ membership ─▶ gain (survey, origin, archive, identity) ─▶ Change ─▶ ingest loop
//! ```
//!
//! Invariant: a gained partition starts where the archive stood after it became ours, so what its last owner archived
//! is in the version that comes with it; what that one did not archive is read again from Kafka.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::oneshot;

/// What changes.
#[derive(Debug)]
pub enum AssignmentChange {
    Assign(Assigned),
    Revoke(Revoked),
}

/// Partitions that are read here from now on.
#[derive(Debug)]
pub struct Assigned {
    /// Where reading starts: the archive's frontier in each of them.
    pub at: Frontier,
    /// O of all partitions, these among them.
    pub origin: Frontier,
    /// Read after the partitions became ours.
    pub master: Arc<MasterVersion>,
    /// What is to be read before they count as caught up.
    pub high: Frontier,
}

/// Partitions that someone else reads next: what is held of them is archived, under a mark, and dropped.
#[derive(Debug)]
pub struct Revoked {
    pub partitions: BTreeSet<Partition>,
    /// Dropped once nothing of them is held here any more.
    pub done: oneshot::Sender<()>,
}
