//! The channel from the consumer thread to the ingest loop.
//!
//! Invariant: the thread that drained `messages` reads `positions` right after draining. Every message below the
//! positions is in this batch or an earlier one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as commands;

use thalweg_schemas::decode::Messages;
use thalweg_schemas::warehouse::versions::LastMessage;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use crate::Result;

/// The number of batches that may wait for the loop. While one batch waits, the consumer makes the next one larger,
/// so a slow loop gets fewer and larger batches instead of a queue of small ones.
const DEPTH: usize = 1;
/// The size in bytes at which a micro-batch ends until the loop sets a limit.
const FIRST_LIMIT: usize = 64 << 10;

/// The result of one draining.
#[derive(Default)]
pub struct Drained {
    pub messages: Messages,
    /// The next offset of every assigned partition. The offset may move without a message, because transaction
    /// markers have offsets.
    pub positions: Frontier,
    /// The last message of each partition that has one in `messages`.
    pub last: HashMap<Partition, LastMessage>,
    /// Partitions at the end of their log.
    pub ends: BTreeSet<Partition>,
    /// The latest known high watermarks.
    pub high: Frontier,
    /// The number of commands that changed the assignment before this draining.
    pub assignment: u64,
}

/// A command of the loop to the consumer.
#[derive(Debug)]
pub enum ConsumerCommand {
    /// Stop fetching. Batches that are drained already still arrive.
    Pause,
    Resume,
    /// Read these partitions too, from these offsets.
    Assign(Frontier),
    /// Stop reading these partitions.
    Unassign(BTreeSet<Partition>),
}

/// Whether the brokers answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// The high watermarks at the time when the partitions were assigned; `None` until then.
    pub high: Option<Frontier>,
    /// Why the brokers do not answer; `None` while they answer.
    pub away: Option<String>,
}

/// Bytes between consumer and ingest, visible to both.
struct Backpressure {
    /// Bytes of messages in the channel.
    queued: AtomicUsize,
    /// Bytes of messages that the consumer keeps until the channel has room.
    pending: AtomicUsize,
    /// The size in bytes at which a micro-batch ends.
    limit: AtomicUsize,
}

impl Default for Backpressure {
    fn default() -> Self {
        Self { queued: AtomicUsize::default(), pending: AtomicUsize::default(), limit: AtomicUsize::new(FIRST_LIMIT) }
    }
}

/// The loop's side of the channel.
pub struct Source {
    pub(crate) batches: mpsc::Receiver<Result<Drained>>,
    pub(crate) commands: commands::Sender<ConsumerCommand>,
    /// The number of partitions of the topic.
    pub(crate) partitions: watch::Receiver<i32>,
    pub(crate) brokers: watch::Receiver<BrokerStatus>,
    backpressure: Arc<Backpressure>,
}

/// The consumer's side of the channel.
pub struct BatchSender {
    batches: mpsc::Sender<Result<Drained>>,
    pub commands: commands::Receiver<ConsumerCommand>,
    brokers: watch::Sender<BrokerStatus>,
    backpressure: Arc<Backpressure>,
}

impl Source {
    /// Makes a channel: the consumer's side and the loop's side.
    pub fn new(partitions: watch::Receiver<i32>) -> (BatchSender, Source) {
        let (batches, receiver) = mpsc::channel(DEPTH);
        let (sender, commands) = commands::channel();
        let (status, brokers) = watch::channel(BrokerStatus::default());
        let backpressure = Arc::<Backpressure>::default();
        let feed = BatchSender { batches, commands, brokers: status, backpressure: Arc::clone(&backpressure) };
        let source = Source { batches: receiver, commands: sender, partitions, brokers, backpressure };
        (feed, source)
    }

    /// The next batch; `None` once the consumer has stopped.
    pub(crate) async fn next(&mut self) -> Option<Result<Drained>> {
        let next = self.batches.recv().await;
        if let Some(Ok(drained)) = &next {
            self.backpressure.queued.fetch_sub(drained.messages.memory(), Ordering::Relaxed);
        }
        next
    }

    /// Bytes of messages that have left librdkafka and are waiting for the loop.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.backpressure.queued.load(Ordering::Relaxed) + self.backpressure.pending.load(Ordering::Relaxed)
    }

    /// Sets the size in bytes at which micro-batches end from now on.
    pub(crate) fn limit_batches(&self, bytes: usize) {
        self.backpressure.limit.store(bytes, Ordering::Relaxed);
    }
}

/// The result of offering a batch.
pub(crate) enum Offer {
    Taken,
    /// Another batch is waiting already.
    Refused(Box<Drained>),
    Ended,
}

impl BatchSender {
    /// Waits for room in the channel and sends `batch`. Returns false once the loop has ended.
    pub fn send(&self, batch: Result<Drained>) -> bool {
        self.charge(&batch);
        self.batches.blocking_send(batch).is_ok()
    }

    /// Sends `batch` if no other batch is waiting.
    pub(crate) fn offer(&self, batch: Drained) -> Offer {
        match self.batches.try_reserve() {
            Ok(permit) => {
                let batch = Ok(batch);
                self.charge(&batch);
                permit.send(batch);
                Offer::Taken
            }
            Err(TrySendError::Full(())) => Offer::Refused(Box::new(batch)),
            Err(TrySendError::Closed(())) => Offer::Ended,
        }
    }

    fn charge(&self, batch: &Result<Drained>) {
        if let Ok(drained) = batch {
            self.backpressure.queued.fetch_add(drained.messages.memory(), Ordering::Relaxed);
        }
    }

    /// The size in bytes at which a micro-batch has to end.
    pub(crate) fn batch_limit(&self) -> usize {
        self.backpressure.limit.load(Ordering::Relaxed)
    }

    /// Records the bytes that the consumer keeps because the loop is busy.
    pub(crate) fn keeps(&self, bytes: usize) {
        self.backpressure.pending.store(bytes, Ordering::Relaxed);
    }

    /// Records that all partitions are assigned; `high` are the high watermarks of their logs at that time.
    pub fn assigned(&self, high: Frontier) {
        self.brokers.send_replace(BrokerStatus { high: Some(high), away: None });
    }

    /// Records why the brokers do not answer; `None` means that they answer.
    pub fn away(&self, reason: Option<String>) {
        self.brokers.send_if_modified(|brokers| {
            let is_news = brokers.away != reason;
            brokers.away = reason;
            is_news
        });
    }

    /// True once the loop has ended.
    pub fn is_closed(&self) -> bool {
        self.batches.is_closed()
    }
}
