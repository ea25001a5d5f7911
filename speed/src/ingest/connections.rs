//! What the ingest loop is connected to: the consumer, the group, the other layers, and readers.
//!
//! Invariant: an end that has gone is an error that names it; nothing is decided here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use thalweg_schemas::catalog::{Catalog, CatalogStream};
use thalweg_schemas::realtime::epoch::EpochRequest;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{MasterVersion, Published};
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::{mpsc, watch};

use crate::group::change::AssignmentChange;
use crate::ingest::event::IngestEvent;
use crate::kafka::channel::{BrokerStatus, ConsumerCommand, Drained, Source};
use crate::session::Upstream;
use crate::{Error, Result};

/// The loop's ends of all channels.
pub(super) struct Connections<'a> {
    stream: Arc<CatalogStream>,
    upstream: &'a mut Upstream,
    source: Source,
    /// How many partitions the topic has.
    partitions: watch::Receiver<i32>,
    brokers: watch::Receiver<BrokerStatus>,
    changes: mpsc::Receiver<AssignmentChange>,
    /// How many commands have changed what the consumer reads.
    commands: u64,
    /// As of which of them a partition is read; 0 for those that were from the start on.
    since: HashMap<Partition, u64>,
}

impl<'a> Connections<'a> {
    pub(super) fn new(
        stream: Arc<CatalogStream>,
        upstream: &'a mut Upstream,
        source: Source,
        changes: mpsc::Receiver<AssignmentChange>,
    ) -> Self {
        Self {
            stream,
            upstream,
            partitions: source.partitions.clone(),
            brokers: source.brokers.clone(),
            source,
            changes,
            commands: 0,
            since: HashMap::new(),
        }
    }

    /// The next event from outside. Cancelling it loses nothing.
    ///
    /// Errors: what the consumer hands over, an end that has gone.
    pub(super) async fn next(&mut self) -> Result<IngestEvent> {
        tokio::select! {
            batch = self.source.next() => match batch {
                Some(batch) => Ok(IngestEvent::Batch(batch?)),
                None => Err(self.consumer_stopped()),
            },
            changed = self.upstream.masters.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Master),
                Err(_) => Err(self.disconnected("archive")),
            },
            changed = self.upstream.shared.published.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Views),
                Err(_) => Err(self.disconnected("batch layer")),
            },
            changed = self.upstream.shared.catalog.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Views),
                Err(_) => Err(self.disconnected("catalog")),
            },
            changed = self.partitions.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Grown(*self.partitions.borrow_and_update())),
                Err(_) => Err(self.consumer_stopped()),
            },
            Some(change) = self.changes.recv() => Ok(IngestEvent::AssignmentChange(change)),
            // When the consumer has gone, its batches say so.
            Ok(()) = self.brokers.changed() => Ok(IngestEvent::BrokerStatus(self.brokers.borrow_and_update().clone())),
        }
    }

    fn disconnected(&self, what: &'static str) -> Error {
        Error::Disconnected { stream: self.stream.definition.name.clone(), what }
    }

    fn consumer_stopped(&self) -> Error {
        Error::ConsumerStopped { topic: self.stream.definition.topic.clone() }
    }

    pub(super) fn warehouse(&self) -> &Warehouse {
        &self.upstream.shared.warehouse
    }

    pub(super) fn newest_master(&mut self) -> Arc<MasterVersion> {
        Arc::clone(&self.upstream.masters.borrow_and_update())
    }

    pub(super) fn newest_catalog(&mut self) -> Arc<Catalog> {
        Arc::clone(&self.upstream.shared.catalog.borrow_and_update())
    }

    pub(super) fn newest_published(&mut self) -> Arc<Published> {
        Arc::clone(&self.upstream.shared.published.borrow_and_update())
    }

    /// Records where partitions begin that have no origin yet.
    pub(super) async fn record_origin(&self, origins: &Frontier) -> Result<()> {
        self.upstream.shared.catalogs.record_origin(&self.stream.definition.name, origins).await?;
        Ok(())
    }

    /// Hands an epoch to the archive.
    pub(super) async fn archive(&self, request: EpochRequest) -> Result<()> {
        self.upstream.archive.send(request).await.map_err(|_| self.disconnected("archive"))
    }

    pub(super) fn show(&self, snapshot: StreamSnapshot) {
        self.upstream.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    /// Asks for an early batch run.
    pub(super) fn request_run(&self) {
        self.upstream.pressure.notify_one();
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.command(ConsumerCommand::Pause)
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.command(ConsumerCommand::Resume)
    }

    /// These partitions are read too.
    pub(super) fn assign(&mut self, at: &Frontier) -> Result<()> {
        self.commands += 1;
        for partition in at.partitions() {
            self.since.insert(partition, self.commands);
        }
        self.command(ConsumerCommand::Assign(at.clone()))
    }

    /// These partitions are read no longer; what was drained of them before still counts.
    pub(super) fn unassign(&mut self, partitions: BTreeSet<Partition>) -> Result<()> {
        self.commands += 1;
        self.command(ConsumerCommand::Unassign(partitions))
    }

    /// Forgets as of when these partitions were read.
    pub(super) fn forget(&mut self, partitions: &BTreeSet<Partition>) {
        self.since.retain(|p, _| !partitions.contains(p));
    }

    /// Whether a partition that is read here had been assigned, perhaps again, when `drained` was drained.
    pub(super) fn is_current(&self, partition: Partition, drained: &Drained) -> bool {
        self.since.get(&partition).copied().unwrap_or_default() <= drained.assignment
    }

    fn command(&self, command: ConsumerCommand) -> Result<()> {
        self.source.commands.send(command).map_err(|_| self.consumer_stopped())
    }

    /// Bytes of messages that wait for the loop.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.source.waiting_bytes()
    }

    /// Ends micro-batches at so many bytes from now on.
    pub(super) fn limit_batches(&self, bytes: usize) {
        self.source.limit_batches(bytes);
    }
}
