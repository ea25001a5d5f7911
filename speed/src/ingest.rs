//! The ingest loop of one stream: from drained batches to snapshots for readers and epochs for the archive.
//!
//! ```text
//!  batch ─▶ decode ─▶ update every held view ─▶ advance ─▶ snapshot
//!  upkeep after each event: trim, memory, epoch due?, merges, snapshot if something changed
//! ```
//!
//! Invariant: one event is handled at a time and to its end, so what readers are shown stands at one frontier; what
//! runs beside the loop (merges, rebuilds) works on immutable segments and pinned versions only.

mod epoch;
mod memory;
mod partitions;
mod views;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::context::SessionState;
use parking_lot::Mutex;
use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::partitions::rows_that_count;
use self::views::Done;
use crate::budget::MemoryShares;
use crate::config::{SpeedConfig, queue_of};
use crate::group::change::{AssignmentChange, Revoked};
use crate::kafka::channel::{BrokerStatus, ConsumerCommand, Drained, Source};
use crate::session::{Ended, Start, Upstream};
use crate::state::stream_state::{StreamState, same};
use crate::{Error, Result};

/// How often the clock is looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(50);

/// Ingests what `source` brings until `cancel`, then archives what is left.
///
/// Errors: what the source hands over, a layer that has gone, a broken promise. Nothing is lost by any of them.
pub async fn ingest(
    config: &SpeedConfig,
    start: Start,
    source: Source,
    links: &mut Upstream,
    cancel: &CancellationToken,
) -> Result<Ended> {
    let mut ingest = Ingest::new(config, start, source, links)?;
    ingest.reconcile();
    ingest.show();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return ingest.shut_down().await,
            _ = tick.tick() => IngestEvent::Tick,
            event = ingest.next_event() => event?,
        };
        if let Some(ended) = ingest.handle(event).await? {
            return Ok(ended);
        }
        ingest.upkeep().await?;
    }
}

/// What the loop waits for.
enum IngestEvent {
    Batch(Drained),
    Outcome(EpochOutcome),
    Done(Done),
    Master,
    /// The catalog or the published versions have changed.
    Views,
    /// The topic has so many partitions now.
    Grown(i32),
    AssignmentChange(AssignmentChange),
    /// The brokers have been reached, or are away.
    BrokerStatus(BrokerStatus),
    Tick,
}

/// An epoch that the archive has been given.
struct InFlight {
    to: Frontier,
    reply: oneshot::Receiver<EpochOutcome>,
}

struct Ingest<'a> {
    config: &'a SpeedConfig,
    links: &'a mut Upstream,
    source: Source,
    /// How many partitions the topic has.
    partitions: watch::Receiver<i32>,
    changes: mpsc::Receiver<AssignmentChange>,
    /// How many commands have changed what the consumer reads.
    assignment: u64,
    /// As of which of them a partition is read; 0 for those that were from the start on.
    since: HashMap<Partition, u64>,
    /// Partitions that go as soon as they are archived.
    revoking: Vec<Revoked>,
    link: watch::Receiver<BrokerStatus>,
    state: StreamState,
    shares: MemoryShares,
    /// Bytes of messages at which a micro-batch ends.
    batch_limit: usize,
    /// Taken while a micro-batch is decoded. Decoders are not `Sync`; nothing ever contends for it.
    decoder: Mutex<Option<Decoder>>,
    /// For micro-batches and merges, which are small.
    session: Arc<SessionState>,
    /// For rebuilds: bounded, spills.
    rebuild_session: Arc<SessionState>,
    jobs: JoinSet<Result<Done>>,
    /// How many rebuilds were started.
    rebuilds: u64,
    in_flight: Option<InFlight>,
    last_mark: Option<Duration>,
    last_asked: Option<Duration>,
}

impl<'a> Ingest<'a> {
    fn new(config: &'a SpeedConfig, mut start: Start, source: Source, links: &'a mut Upstream) -> Result<Self> {
        let unbounded = session::runtime(Some(&links.shared.warehouse), None, None)?;
        let definition = &start.stream.definition;
        let shares = MemoryShares::of(config.memory_budget, queue_of(config, &definition.kafka));
        let bounded = session::runtime(Some(&links.shared.warehouse), Some(shares.rebuild), None)?;
        let decoder = Decoder::new(definition)?;
        let (_, none) = mpsc::channel(1);
        let changes = std::mem::replace(&mut start.changes, none);
        let mut state = StreamState::new(start);
        state.epochs.limit_chunks(shares.batch);
        source.limit_batches(shares.first_batch());
        Ok(Self {
            decoder: Mutex::new(Some(decoder)),
            changes,
            assignment: 0,
            since: HashMap::new(),
            revoking: Vec::new(),
            state,
            shares,
            batch_limit: shares.first_batch(),
            partitions: source.partitions.clone(),
            link: source.link.clone(),
            config,
            links,
            source,
            session: Arc::new(session::state(unbounded, 1)),
            rebuild_session: Arc::new(session::state(bounded, 1)),
            jobs: JoinSet::new(),
            rebuilds: 0,
            in_flight: None,
            last_mark: None,
            last_asked: None,
        })
    }

    fn now(&self) -> Duration {
        self.config.clock.now()
    }

    fn disconnected(&self, what: &'static str) -> Error {
        Error::Disconnected { stream: self.state.stream.definition.name.clone(), what }
    }

    fn consumer_stopped(&self) -> Error {
        Error::ConsumerStopped { topic: self.state.stream.definition.topic.clone() }
    }

    async fn next_event(&mut self) -> Result<IngestEvent> {
        tokio::select! {
            batch = self.source.next() => match batch {
                Some(batch) => Ok(IngestEvent::Batch(batch?)),
                None => Err(self.consumer_stopped()),
            },
            outcome = outcome(&mut self.in_flight) => match outcome {
                Some(outcome) => Ok(IngestEvent::Outcome(outcome)),
                None => Err(self.disconnected("archive")),
            },
            Some(done) = self.jobs.join_next() => match done {
                Ok(done) => Ok(IngestEvent::Done(done?)),
                Err(source) => Err(self.task_failed(source)),
            },
            changed = self.links.masters.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Master),
                Err(_) => Err(self.disconnected("archive")),
            },
            changed = self.links.shared.published.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Views),
                Err(_) => Err(self.disconnected("batch layer")),
            },
            changed = self.links.shared.catalog.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Views),
                Err(_) => Err(self.disconnected("catalog")),
            },
            changed = self.partitions.changed() => match changed {
                Ok(()) => Ok(IngestEvent::Grown(*self.partitions.borrow_and_update())),
                Err(_) => Err(self.consumer_stopped()),
            },
            Some(change) = self.changes.recv() => Ok(IngestEvent::AssignmentChange(change)),
            // When the consumer has gone, its batches say so.
            Ok(()) = self.link.changed() => Ok(IngestEvent::BrokerStatus(self.link.borrow_and_update().clone())),
        }
    }

    async fn handle(&mut self, event: IngestEvent) -> Result<Option<Ended>> {
        match event {
            IngestEvent::Batch(drained) => self.take(drained).await?,
            IngestEvent::Outcome(outcome) => return Ok(self.settle(outcome)),
            IngestEvent::Done(done) => self.finish(done).await?,
            IngestEvent::Master => return Ok(self.follow_master()),
            IngestEvent::Views => self.reconcile(),
            IngestEvent::Grown(count) => self.grow(count).await?,
            IngestEvent::AssignmentChange(change) => self.change(change)?,
            IngestEvent::BrokerStatus(link) => self.state.connect(link),
            IngestEvent::Tick => {}
        }
        Ok(None)
    }

    /// One micro-batch: after this, rows and all held views stand at its positions.
    async fn take(&mut self, mut drained: Drained) -> Result<()> {
        let counted = self.counted(&drained);
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
            let segments = self.update_views(&rows, &to).await?;
            tracing::debug!(
                stream = %self.state.stream.definition.name,
                rows = rows.num_rows(),
                ?decoded,
                updated = ?started.elapsed(),
                "micro-batch"
            );
            let states = segments.iter().flat_map(|(_, segments)| segments);
            let states: usize = states.map(|segment| segment.bytes).sum();
            self.size_batches(raw, rows.get_array_memory_size() + states);
            let now = self.now();
            self.state.advance(now, to, rows, drained.last, segments)?;
        }
        self.state.place(&drained.high, drained.ends);
        Ok(())
    }

    async fn decode(&mut self, messages: Messages) -> Result<arrow::record_batch::RecordBatch> {
        let mut decoder = match self.decoder.get_mut().take() {
            Some(decoder) => decoder,
            None => Decoder::new(&self.state.stream.definition)?,
        };
        // Decoding is what costs most; the threads that answer queries must not wait for it.
        let decoding = tokio::task::spawn_blocking(move || {
            let decoded = decoder.decode(&messages);
            (decoder, decoded)
        });
        let (decoder, decoded) = decoding.await.map_err(|source| self.task_failed(source))?;
        *self.decoder.get_mut() = Some(decoder);
        Ok(decoded?.rows)
    }

    fn task_failed(&self, source: tokio::task::JoinError) -> Error {
        Error::Task { stream: self.state.stream.definition.name.clone(), source }
    }

    /// The master dataset has a new version: the same rows in other files, or someone else's epoch.
    fn follow_master(&mut self) -> Option<Ended> {
        let version = Arc::clone(&self.links.masters.borrow_and_update());
        if version.version <= self.state.master.version {
            return None;
        }
        let frontier = self.state.mine(&version.frontier);
        if same(&frontier, &self.state.archived) {
            self.state.adopt(version);
            self.reconcile();
            return None;
        }
        // Ours shows up here before, after or without its reply, which decides.
        if self.in_flight.is_some() {
            return None;
        }
        Some(Ended::Fenced(version))
    }

    fn command(&self, command: ConsumerCommand) -> Result<()> {
        self.source.commands.send(command).map_err(|_| self.consumer_stopped())
    }

    /// What is due after every event.
    async fn upkeep(&mut self) -> Result<()> {
        let now = self.now();
        self.state.trim(now, self.config.grace);
        self.drop_revoked(now).await?;
        self.watch_memory(now).await?;
        self.cut_if_due(now).await?;
        self.start_merges();
        if self.state.dirty {
            self.show();
        }
        Ok(())
    }

    fn show(&mut self) {
        let snapshot = self.state.snapshot(self.used(), self.config.memory_budget);
        self.links.snapshots.send_replace(Some(Arc::new(snapshot)));
        self.state.dirty = false;
    }
}

/// The outcome of the epoch in flight, `None` if the archive has dropped it; waits for ever if there is none.
async fn outcome(in_flight: &mut Option<InFlight>) -> Option<EpochOutcome> {
    match in_flight {
        Some(epoch) => (&mut epoch.reply).await.ok(),
        None => pending().await,
    }
}
