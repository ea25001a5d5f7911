//! One session of a stream: its start values, its connections to the other layers, and its end.
//!
//! Invariant: the next session needs nothing from an ended session except its archived rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_schemas::catalog::CatalogStream;
use thalweg_schemas::realtime::epoch::EpochRequest;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Partition, Shared};
use tokio::sync::{Notify, mpsc, watch};

use crate::group::change::AssignmentChange;

/// The connections of a stream to the other layers.
pub struct Upstream {
    pub shared: Shared,
    /// Receives the epochs.
    pub archive: mpsc::Sender<EpochRequest>,
    /// The newest version of the master dataset.
    pub masters: watch::Receiver<Arc<MasterVersion>>,
    /// The snapshots for readers.
    pub snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    /// Why the stream stopped the last time; cleared once the stream works.
    pub failure: watch::Sender<Option<String>>,
    /// Requests an early batch run when memory is short.
    pub pressure: Arc<Notify>,
}

/// The values with which ingesting starts.
pub struct Start {
    pub stream: Arc<CatalogStream>,
    /// O, for every partition.
    pub origin: Frontier,
    /// The newest version of the master dataset; reading starts at its frontier.
    pub master: Arc<MasterVersion>,
    /// The partitions that the session reads from its start.
    pub partitions: BTreeSet<Partition>,
    /// Later assignments and revocations. The sender may be dropped.
    pub changes: mpsc::Receiver<AssignmentChange>,
    /// No query may be answered below this frontier, because readers have already seen it.
    pub floor: Frontier,
}

/// Why ingesting ended without an error.
#[derive(Debug)]
pub enum Ended {
    /// A shutdown was requested; everything that was read is archived.
    ShutDown,
    /// Another process archives a partition that this process reads. Resume from this version.
    Fenced(Arc<MasterVersion>),
}
