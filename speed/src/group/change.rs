//! Partitions that are assigned and revoked while the ingest loop runs, as the loop hears of them.
//!
//! ```text
//!  group ─▶ membership: GroupEvent ─▶ handover (survey, origin, archive, identity): AssignmentChange ─▶ ingest
//! ```
//!
//! Invariant: an assigned partition starts where the archive stood after the assignment. So what its last owner
//! archived is in the version that comes with it, and what that one did not archive is read again from Kafka.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::oneshot;

/// A change of the partitions that are read here.
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
    /// Read after the group assigned the partitions.
    pub master: Arc<MasterVersion>,
    /// High watermarks: what is to be read before the partitions count as caught up.
    pub high: Frontier,
}

/// Partitions that someone else reads next: what is held of them is archived, under a mark, and dropped.
#[derive(Debug)]
pub struct Revoked {
    pub partitions: BTreeSet<Partition>,
    /// Dropped once nothing of the partitions is held here any more.
    pub done: oneshot::Sender<()>,
}
