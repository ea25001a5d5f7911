//! What one session of a stream starts from, what connects it to the other layers, and how it ends.
//!
//! Invariant: a session that ends leaves nothing behind that the next one needs, but what is archived.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_schemas::catalog::CatalogStream;
use thalweg_schemas::realtime::epoch::EpochRequest;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Partition, Shared};
use tokio::sync::{Notify, mpsc, watch};

use crate::group::change::AssignmentChange;

/// What connects a stream to the other layers.
pub struct Upstream {
    pub shared: Shared,
    /// Where epochs go.
    pub archive: mpsc::Sender<EpochRequest>,
    /// The newest version of the master dataset.
    pub masters: watch::Receiver<Arc<MasterVersion>>,
    /// What readers see.
    pub snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    /// Why the stream stopped before; cleared once it works.
    pub failure: watch::Sender<Option<String>>,
    /// Asks for an early batch run when memory is short.
    pub pressure: Arc<Notify>,
}

/// Where ingesting starts.
pub struct Start {
    pub stream: Arc<CatalogStream>,
    /// O, for every partition.
    pub origin: Frontier,
    /// The newest version; reading starts at its frontier.
    pub master: Arc<MasterVersion>,
    /// The partitions that are read from the start on.
    pub partitions: BTreeSet<Partition>,
    /// Later assignments and revocations. The sender may be dropped.
    pub changes: mpsc::Receiver<AssignmentChange>,
    /// A frontier below which nothing may be answered, because readers have seen it.
    pub floor: Frontier,
}

/// Why ingesting ended without an error.
#[derive(Debug)]
pub enum Ended {
    /// As asked; everything read is archived.
    ShutDown,
    /// Someone else archives a partition that was read here: resume from this version.
    Fenced(Arc<MasterVersion>),
}
