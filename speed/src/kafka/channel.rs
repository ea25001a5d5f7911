//! Where the ingest loop gets messages from: a channel that a consumer thread fills.
//!
//! Invariant: `positions` were read on the thread that drained `messages`, right after draining: everything below
//! them is in this batch or an earlier one.

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

/// Batches that may wait for the loop. One: while it waits, the consumer makes the next one larger, so that a slow
/// loop gets fewer and larger batches instead of a queue of small ones.
const DEPTH: usize = 1;
/// Where a micro-batch ends until the loop has said so.
const FIRST_LIMIT: usize = 64 << 10;

/// What one draining brought.
#[derive(Default)]
pub struct Drained {
    pub messages: Messages,
    /// Next offset of every assigned partition. It may move without a message: transaction markers have offsets.
    pub positions: Frontier,
    /// The last message of each partition that has one in `messages`.
    pub last: HashMap<Partition, LastMessage>,
    /// Partitions that stand at the end of their log.
    pub ends: BTreeSet<Partition>,
    /// High watermarks as last heard of.
    pub high: Frontier,
    /// How many commands that change the assignment were followed before this was drained.
    pub assignment: u64,
}

/// What the loop tells the consumer.
#[derive(Debug)]
pub enum ConsumerCommand {
    /// Stop fetching; batches that are drained already still come.
    Pause,
    Resume,
    /// Read these partitions too, from these offsets.
    Assign(Frontier),
    /// Read these no longer.
    Unassign(BTreeSet<Partition>),
}

/// Whether the brokers answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// High watermarks when the partitions were assigned; `None` until then.
    pub high: Option<Frontier>,
    /// Why the brokers do not answer, while they do not.
    pub away: Option<String>,
}

/// Bytes between consumer and ingest, visible to both.
struct Backpressure {
    /// Messages in the channel.
    queued: AtomicUsize,
    /// Messages that the consumer keeps until the channel has room.
    pending: AtomicUsize,
    /// Where a micro-batch ends.
    limit: AtomicUsize,
}

impl Default for Backpressure {
    fn default() -> Self {
        Self { queued: AtomicUsize::default(), pending: AtomicUsize::default(), limit: AtomicUsize::new(FIRST_LIMIT) }
    }
}

/// The loop's end of a consumer.
pub struct Source {
    pub(crate) batches: mpsc::Receiver<Result<Drained>>,
    pub(crate) commands: commands::Sender<ConsumerCommand>,
    /// How many partitions the topic has.
    pub(crate) partitions: watch::Receiver<i32>,
    pub(crate) brokers: watch::Receiver<BrokerStatus>,
    backpressure: Arc<Backpressure>,
}

/// The consumer's end.
pub struct BatchSender {
    batches: mpsc::Sender<Result<Drained>>,
    pub commands: commands::Receiver<ConsumerCommand>,
    brokers: watch::Sender<BrokerStatus>,
    backpressure: Arc<Backpressure>,
}

impl Source {
    /// A source and what feeds it.
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

    /// Bytes of messages that have left librdkafka and wait for the loop.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.backpressure.queued.load(Ordering::Relaxed) + self.backpressure.pending.load(Ordering::Relaxed)
    }

    /// Ends micro-batches at so many bytes from now on.
    pub(crate) fn limit_batches(&self, bytes: usize) {
        self.backpressure.limit.store(bytes, Ordering::Relaxed);
    }
}

/// What became of a batch that was offered.
pub(crate) enum Offer {
    Taken,
    /// Another one waits already.
    Refused(Box<Drained>),
    Ended,
}

impl BatchSender {
    /// Waits for room and hands `batch` over. False once the loop has ended.
    pub fn send(&self, batch: Result<Drained>) -> bool {
        self.charge(&batch);
        self.batches.blocking_send(batch).is_ok()
    }

    /// Hands `batch` over if no other waits.
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

    /// Bytes of messages at which a micro-batch is to end.
    pub(crate) fn batch_limit(&self) -> usize {
        self.backpressure.limit.load(Ordering::Relaxed)
    }

    /// Counts what the consumer keeps because the loop is busy.
    pub(crate) fn keeps(&self, bytes: usize) {
        self.backpressure.pending.store(bytes, Ordering::Relaxed);
    }

    /// All partitions are assigned; `high` is what was in their logs then.
    pub fn assigned(&self, high: Frontier) {
        self.brokers.send_replace(BrokerStatus { high: Some(high), away: None });
    }

    /// Says why the brokers do not answer, or that they do.
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
