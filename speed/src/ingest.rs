//! The ingest loop of one stream: from drained batches to snapshots for readers and epochs for the archive.
//!
//! ```text
//!  batch ─▶ decode ─▶ update every held view ─▶ advance ─▶ snapshot
//!  upkeep after each event: trim, memory, epoch due?, merges, snapshot if something changed
//! ```
//!
//! Invariant: the loop handles one event at a time and completely, so every snapshot for readers stands at one
//! frontier. A failure of one view ends neither the loop nor another view. Jobs beside the loop (merges, rebuilds,
//! searches for a message) work only on immutable segments, rows and pinned versions.

mod amended;

mod event;

mod connections;
mod searches;
mod work;

mod amendments;
mod epoch;
mod failures;
mod memory;
mod partitions;
mod schemas;
mod views;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use thalweg_schemas::decode::{Decoder, Messages};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::connections::Connections;
use self::event::IngestEvent;
use self::partitions::rows_that_count;
use self::schemas::AwaitedSchemas;
use self::views::Updated;
use self::work::Work;
use crate::Result;
use crate::budget::MemoryShares;
use crate::config::{SpeedConfig, queue_of};
use crate::kafka::channel::{Drained, Source};
use crate::session::{Ended, Start, Upstream};
use crate::state::stream_state::StreamState;

/// How often the loop checks the clock when no other event occurs.
const TICK: Duration = Duration::from_millis(50);

/// Ingests the batches of `source` until `cancel`, then archives the remaining rows.
///
/// Errors: an error from the source, a layer that has stopped, a broken invariant. None of them loses data.
pub async fn ingest(
    config: &SpeedConfig,
    start: Start,
    source: Source,
    upstream: &mut Upstream,
    cancel: &CancellationToken,
) -> Result<Ended> {
    let mut ingest = Ingest::new(config, start, source, upstream)?;
    ingest.reconcile();
    ingest.show();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return ingest.shut_down().await,
            _ = tick.tick() => IngestEvent::Tick,
            event = ingest.connections.next() => event?,
            event = ingest.work.next() => event?,
        };
        if let Some(ended) = ingest.handle(event).await? {
            return Ok(ended);
        }
        ingest.upkeep().await?;
    }
}

/// The loop: its connections, its state, and its work in progress.
struct Ingest<'a> {
    config: &'a SpeedConfig,
    shares: MemoryShares,
    decoder: Arc<Decoder>,
    schemas: AwaitedSchemas,
    connections: Connections<'a>,
    state: StreamState,
    work: Work,
}

impl<'a> Ingest<'a> {
    fn new(config: &'a SpeedConfig, mut start: Start, source: Source, upstream: &'a mut Upstream) -> Result<Self> {
        let stream = Arc::clone(&start.stream);
        let definition = &stream.definition;
        let shares = MemoryShares::of(config.memory_budget, queue_of(config, definition));
        let (_, none) = mpsc::channel(1);
        let changes = std::mem::replace(&mut start.changes, none);
        let catalogs = upstream.shared.catalogs.clone();
        let connections = Connections::new(Arc::clone(&stream), upstream, source, changes);
        connections.limit_batches(shares.first_batch());
        Ok(Self {
            config,
            decoder: Arc::new(Decoder::new(definition)?),
            schemas: AwaitedSchemas::new(config, definition, &catalogs)?,
            work: Work::new(definition.name.clone(), connections.warehouse(), &shares, config.spill.clone())?,
            state: StreamState::new(start, shares.batch),
            connections,
            shares,
        })
    }

    fn now(&self) -> Duration {
        self.config.clock.now()
    }

    async fn handle(&mut self, event: IngestEvent) -> Result<Option<Ended>> {
        match event {
            IngestEvent::Batch(drained) => self.take(*drained).await?,
            IngestEvent::Outcome(outcome) => return Ok(self.settle(outcome)),
            IngestEvent::Done(done) => self.finish(done).await?,
            IngestEvent::Master => return Ok(self.follow_master()),
            IngestEvent::Views => self.reconcile(),
            IngestEvent::Grown(count) => self.grow(count).await?,
            IngestEvent::AssignmentChange(change) => self.change(change)?,
            IngestEvent::BrokerStatus(brokers) => self.state.connect(brokers),
            IngestEvent::Tick => {}
        }
        Ok(None)
    }

    /// Processes one micro-batch: afterwards the rows and all held views stand at the positions of the batch.
    async fn take(&mut self, mut drained: Drained) -> Result<()> {
        let counted = self.counted(&drained);
        self.await_schemas(&mut drained, &counted).await?;
        let positions = drained.positions.within(counted.iter().copied());
        let to = self.state.frontier().max(&positions);
        drained.last.retain(|p, _| counted.contains(p));
        drained.ends.retain(|p| counted.contains(p));
        if !drained.messages.is_empty() || to != *self.state.frontier() {
            let started = Instant::now();
            let raw = drained.messages.memory();
            let rows = self.decode(drained.messages).await?;
            let rows = rows_that_count(rows, &counted, &drained.positions)?;
            let decoded = started.elapsed();
            let Updated { segments, failed } = self.update_views(&rows, &to).await?;
            let from = self.state.frontier().clone();
            tracing::debug!(
                stream = %self.state.name(),
                rows = rows.num_rows(),
                ?decoded,
                updated = ?started.elapsed(),
                "micro-batch"
            );
            let states = segments.iter().flat_map(|(_, segments)| segments);
            let states: usize = states.map(|segment| segment.bytes).sum();
            self.size_batches(raw, rows.get_array_memory_size() + states);
            let now = self.now();
            self.state.advance(now, to.clone(), rows, drained.last, segments)?;
            for (view, error) in failed {
                self.fail_update(now, view, (from.clone(), to.clone()), error);
            }
        }
        self.state.observe(&drained.high, drained.ends);
        Ok(())
    }

    /// Decodes on a thread for blocking work, because decoding is the most expensive step and must not delay the
    /// threads that answer queries.
    async fn decode(&self, messages: Messages) -> Result<RecordBatch> {
        let decoder = Arc::clone(&self.decoder);
        let decoding = tokio::task::spawn_blocking(move || decoder.decode(&messages));
        let decoded = decoding.await.map_err(|source| self.work.failed(source))?;
        Ok(decoded?.rows)
    }

    /// Handles a new version of the master dataset: the same rows in other files, amendments, or an epoch of another
    /// process.
    fn follow_master(&mut self) -> Option<Ended> {
        let version = self.connections.newest_master();
        if version.version <= self.state.master().version {
            return None;
        }
        let frontier = self.state.within(&version.frontier).of_topic();
        if frontier.stands_at(&self.state.archived().of_topic()) {
            self.state.adopt(version);
            self.reconcile();
            return None;
        }
        // The version of our own epoch may arrive here before, after or without the archive's reply. The reply
        // decides.
        if self.work.is_archiving() {
            return None;
        }
        Some(Ended::Fenced(version))
    }

    /// The work that is due after every event.
    async fn upkeep(&mut self) -> Result<()> {
        let now = self.now();
        self.state.trim(now, self.config.grace);
        self.drop_revoked(now).await?;
        self.watch_memory(now).await?;
        self.cut_if_due(now).await?;
        if self.state.is_retry_due(now) {
            self.reconcile();
        }
        self.take_amendments(now)?;
        self.work.end_rebuilds(&self.state.rebuilds());
        self.start_merges();
        self.start_search();
        if !self.state.is_shown() {
            self.show();
        }
        Ok(())
    }

    fn show(&mut self) {
        let snapshot = self.state.show(self.used(), self.config.memory_budget);
        self.connections.show(snapshot);
    }
}
