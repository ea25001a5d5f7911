//! The connections of the ingest loop: to the consumer, the group, the other layers, and readers.
//!
//! Invariant: a closed channel is an error that names its other side. This file makes no decisions.

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

/// The loop's side of every channel.
pub(super) struct Connections<'a> {
    stream: Arc<CatalogStream>,
    upstream: &'a mut Upstream,
    source: Source,
    /// The number of partitions of the topic.
    partitions: watch::Receiver<i32>,
    brokers: watch::Receiver<BrokerStatus>,
    changes: mpsc::Receiver<AssignmentChange>,
    /// The number of commands that changed which partitions the consumer reads.
    commands: u64,
    /// The number of the command that assigned each partition; 0 for partitions that are read from the start.
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

    /// The next event from outside. Cancelling the call loses nothing.
    ///
    /// Errors: an error from the consumer, a closed channel.
    pub(super) async fn next(&mut self) -> Result<IngestEvent> {
        tokio::select! {
            batch = self.source.next() => match batch {
                Some(batch) => Ok(IngestEvent::Batch(Box::new(batch?))),
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
            // A stopped consumer is detected on the channel of batches.
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

    /// The newest catalog, whose change is still to be handled.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.upstream.shared.catalog.borrow())
    }

    pub(super) fn newest_catalog(&mut self) -> Arc<Catalog> {
        Arc::clone(&self.upstream.shared.catalog.borrow_and_update())
    }

    pub(super) fn newest_published(&mut self) -> Arc<Published> {
        Arc::clone(&self.upstream.shared.published.borrow_and_update())
    }

    /// Records the origins of partitions that have none yet.
    pub(super) async fn record_origin(&self, origins: &Frontier) -> Result<()> {
        self.upstream.shared.catalogs.record_origin(&self.stream.definition.name, origins).await?;
        Ok(())
    }

    /// Sends an epoch to the archive.
    pub(super) async fn archive(&self, request: EpochRequest) -> Result<()> {
        self.upstream.archive.send(request).await.map_err(|_| self.disconnected("archive"))
    }

    pub(super) fn show(&self, snapshot: StreamSnapshot) {
        self.upstream.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    /// Requests an early batch run.
    pub(super) fn request_run(&self) {
        self.upstream.pressure.notify_one();
    }

    pub(super) fn pause(&self) -> Result<()> {
        self.command(ConsumerCommand::Pause)
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.command(ConsumerCommand::Resume)
    }

    /// Makes the consumer read these partitions too.
    pub(super) fn assign(&mut self, at: &Frontier) -> Result<()> {
        self.commands += 1;
        for partition in at.partitions() {
            self.since.insert(partition, self.commands);
        }
        self.command(ConsumerCommand::Assign(at.clone()))
    }

    /// Makes the consumer stop reading these partitions. Messages that were drained before still count.
    pub(super) fn unassign(&mut self, partitions: BTreeSet<Partition>) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.commands += 1;
        self.command(ConsumerCommand::Unassign(partitions))
    }

    /// Forgets when these partitions were assigned.
    pub(super) fn forget(&mut self, partitions: &BTreeSet<Partition>) {
        self.since.retain(|p, _| !partitions.contains(p));
    }

    /// True if `drained` was drained after the latest assignment of `partition`, which this process must be reading.
    pub(super) fn is_current(&self, partition: Partition, drained: &Drained) -> bool {
        self.since.get(&partition).copied().unwrap_or_default() <= drained.assignment
    }

    fn command(&self, command: ConsumerCommand) -> Result<()> {
        self.source.commands.send(command).map_err(|_| self.consumer_stopped())
    }

    /// Bytes of messages that are waiting for the loop.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.source.waiting_bytes()
    }

    /// Sets the size in bytes at which micro-batches end from now on.
    pub(super) fn limit_batches(&self, bytes: usize) {
        self.source.limit_batches(bytes);
    }
}
