//! The thread that drains librdkafka into batches.
//!
//! Invariant: the thread reads positions right after draining, and they never go back. All offsets in the batches
//! sent so far lie below the positions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use thalweg_schemas::decode::Messages;
use thalweg_schemas::warehouse::versions::LastMessage;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::kafka::channel::{BatchSender, ConsumerCommand, Drained, Offer};
use crate::kafka::client_status::ClientStatus;
use crate::kafka::headers::add_headers;
use crate::kafka::identity::last_message;
use crate::kafka::outage::Outage;
use crate::kafka::topic::Topic;
use crate::{Error, Result};

/// How long an idle thread waits before it checks for commands.
const IDLE: Duration = Duration::from_millis(50);
/// A queue that stays empty for this long ends the micro-batch.
const QUIET: Duration = Duration::from_millis(2);
/// How long librdkafka may take to end the previous assignment of a partition that is assigned again.
const FORGET: Duration = Duration::from_secs(5);

/// The size and the age at which a micro-batch is full. The loop limits its bytes separately.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) rows: usize,
    pub(crate) wait: Duration,
}

/// Starts the thread, which reads `topic` from `at` on. The thread ends when the loop drops its source, or with an
/// error that it sends to the loop.
pub(crate) fn start(topic: Topic, at: Frontier, limits: BatchLimits, feed: BatchSender) -> Result<()> {
    topic.assign(&at)?;
    let consumer = Arc::clone(&topic.consumer);
    let name = topic.name.clone();
    let spawned = std::thread::Builder::new().name(format!("kafka-{name}")).spawn(move || {
        let mut drain = Drain {
            topic,
            pending: None,
            positions: at,
            assignment: 0,
            ends: BTreeSet::new(),
            high: Frontier::new(),
            limits,
            outage: Outage::default(),
        };
        let at = drain.positions.clone();
        let mut begun = drain.forget_old_positions(&consumer, &at);
        while !feed.is_closed() {
            begun = begun.and_then(|()| drain.step(&consumer, &feed));
            if let Err(error) = begun {
                feed.send(Err(error));
                break;
            }
        }
    });
    spawned.map(drop).map_err(|_| Error::ConsumerStopped { topic: name })
}

struct Drain {
    topic: Topic,
    /// A drained batch that the busy loop has not taken yet. It grows until the loop takes it or it is full.
    pending: Option<Drained>,
    positions: Frontier,
    /// The number of commands that changed which partitions are read.
    assignment: u64,
    ends: BTreeSet<Partition>,
    high: Frontier,
    limits: BatchLimits,
    outage: Outage,
}

impl Drain {
    /// Executes commands, drains the available messages into one micro-batch, and offers the batch to the loop.
    fn step(&mut self, consumer: &BaseConsumer<ClientStatus>, feed: &BatchSender) -> Result<()> {
        while let Ok(command) = feed.commands.try_recv() {
            let changes = matches!(command, ConsumerCommand::Assign(_) | ConsumerCommand::Unassign(_));
            if let Some(pending) = self.pending.take_if(|_| changes) {
                // A batch never mixes messages of two assignments.
                feed.keeps(0);
                feed.send(Ok(pending));
            }
            self.assignment += u64::from(changes);
            self.follow(consumer, command)?;
        }
        let offered_before = self.pending.is_some();
        let mut batch = self.pending.take().unwrap_or_default();
        let ended = self.ends.clone();
        let wait = if offered_before { QUIET } else { IDLE };
        let limit = feed.batch_limit();
        self.drain(consumer, &mut batch, wait, limit)?;
        let away = consumer.context().is_disconnected();
        if let Some(lasted) = self.outage.ends(Instant::now(), !away) {
            tracing::info!(topic = self.topic.name, ?lasted, "Kafka answers again");
        }
        feed.away(away.then(|| {
            format!("no broker is connected ({} was asked); reading goes on as soon as one is", self.topic.brokers)
        }));
        let moved = self.read_positions(consumer, &batch.last)?;
        let high = self.read_high(consumer);
        let news = moved || high || ended != self.ends || !batch.messages.is_empty();
        if !news && !offered_before {
            return Ok(());
        }
        batch.positions = self.positions.clone();
        batch.ends = self.ends.clone();
        batch.high = self.high.clone();
        batch.assignment = self.assignment;
        if self.is_full(&batch.messages, limit) {
            feed.keeps(0);
            feed.send(Ok(batch));
            return Ok(());
        }
        let kept = match feed.offer(batch) {
            Offer::Refused(batch) => Some(*batch),
            Offer::Taken | Offer::Ended => None,
        };
        feed.keeps(kept.as_ref().map_or(0, |batch| batch.messages.memory()));
        self.pending = kept;
        Ok(())
    }

    fn is_full(&self, messages: &Messages, limit: usize) -> bool {
        messages.len() >= self.limits.rows || messages.memory() >= limit
    }

    /// Takes messages until the batch is full or old enough, or until no message arrives. Waits up to `wait` for the
    /// first message.
    fn drain(
        &mut self,
        consumer: &BaseConsumer<ClientStatus>,
        batch: &mut Drained,
        mut wait: Duration,
        limit: usize,
    ) -> Result<()> {
        let mut newest: HashMap<Partition, BorrowedMessage<'_>> = HashMap::new();
        let mut deadline = None;
        while let Some(polled) = consumer.poll(wait) {
            match polled {
                Ok(message) => {
                    let partition = Partition(message.partition());
                    if self.positions.named(partition).is_none() {
                        continue;
                    }
                    batch.messages.push(
                        partition,
                        Offset(message.offset()),
                        message.timestamp().to_millis(),
                        message.payload(),
                    );
                    if let Some(key) = message.key() {
                        batch.messages.set_key(key);
                    }
                    add_headers(&message, &mut batch.messages);
                    self.ends.remove(&partition);
                    newest.insert(partition, message);
                }
                Err(KafkaError::PartitionEOF(p)) if self.positions.named(Partition(p)).is_some() => {
                    self.ends.insert(Partition(p));
                    // The end of a log is reported at once, without waiting for further messages.
                    deadline.get_or_insert_with(Instant::now);
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => {
                    let reason = error.to_string();
                    self.topic.classify(error, &self.positions.to_string())?;
                    if self.outage.fails(Instant::now()) {
                        tracing::warn!(topic = self.topic.name, "waiting for Kafka: {reason}");
                    }
                }
            }
            if self.is_full(&batch.messages, limit) {
                break;
            }
            let now = Instant::now();
            let left = deadline.get_or_insert(now + self.limits.wait).saturating_duration_since(now);
            wait = left.min(QUIET);
        }
        for (partition, m) in newest {
            let time = m.timestamp().to_millis();
            let last = last_message(m.offset(), time, m.key(), m.payload());
            batch.last.insert(partition, last);
        }
        Ok(())
    }

    /// Reads the positions from librdkafka. Returns true if a position has moved.
    ///
    /// Errors: [`Error::Consume`]; [`Error::Broken`] if a position does not lie above the last message.
    fn read_positions(
        &mut self,
        consumer: &BaseConsumer<ClientStatus>,
        last: &HashMap<Partition, LastMessage>,
    ) -> Result<bool> {
        let before = self.positions.clone();
        let positions = consumer.position().map_err(|source| self.topic.consume_error(source))?;
        for element in positions.elements_for_topic(&self.topic.name) {
            // A partition without messages so far has no position in librdkafka; its position is the assigned offset.
            let partition = Partition(element.partition());
            if let KafkaOffset::Offset(offset) = element.offset()
                && self.positions.named(partition).is_some()
            {
                self.positions.advance(partition, Offset(offset));
            }
        }
        for (partition, message) in last {
            if self.positions.get(*partition) <= message.offset {
                return Err(Error::Broken(format!(
                    "partition {partition} of topic {} gave offset {} and stands at {}",
                    self.topic.name,
                    message.offset,
                    self.positions.get(*partition)
                )));
            }
        }
        Ok(self.positions != before)
    }

    /// Reads the high watermarks. Returns true if one has changed.
    fn read_high(&mut self, consumer: &BaseConsumer<ClientStatus>) -> bool {
        let Some(high) = consumer.context().newer_high(&self.topic.name, &self.high) else {
            return false;
        };
        self.high = high;
        true
    }

    fn follow(&mut self, consumer: &BaseConsumer<ClientStatus>, command: ConsumerCommand) -> Result<()> {
        let followed = match command {
            ConsumerCommand::Pause | ConsumerCommand::Resume if self.positions.is_empty() => Ok(()),
            ConsumerCommand::Pause => consumer.pause(&self.topic.list(&self.positions)?),
            ConsumerCommand::Resume => consumer.resume(&self.topic.list(&self.positions)?),
            ConsumerCommand::Assign(from) => {
                let list = self.topic.list(&from)?;
                for (partition, offset) in from.iter() {
                    self.positions.set(partition, offset);
                }
                let assigned = consumer.incremental_assign(&list);
                if assigned.is_ok() {
                    self.forget_old_positions(consumer, &from)?;
                }
                assigned
            }
            ConsumerCommand::Unassign(revoked) => {
                let list = self.topic.list(&self.positions.within(revoked.iter().copied()))?;
                self.positions.remove(&revoked);
                self.ends.retain(|p| !revoked.contains(p));
                consumer.incremental_unassign(&list)
            }
        };
        followed.map_err(|source| self.topic.consume_error(source))
    }

    /// Waits until librdkafka has forgotten the old positions of `assigned`. A partition that is assigned again has
    /// no position until this thread polls a message of it. While librdkafka still ends the previous assignment, it
    /// reports that assignment's position, which may lie above the offsets that have to be read again.
    fn forget_old_positions(&self, consumer: &BaseConsumer<ClientStatus>, assigned: &Frontier) -> Result<()> {
        let deadline = Instant::now() + FORGET;
        while Instant::now() < deadline {
            let reported = consumer.position().map_err(|source| self.topic.consume_error(source))?;
            let old = reported.elements_for_topic(&self.topic.name);
            let old = old.iter().any(|element| {
                let again = assigned.named(Partition(element.partition())).is_some();
                again && matches!(element.offset(), KafkaOffset::Offset(_))
            });
            if !old {
                return Ok(());
            }
            std::thread::sleep(QUIET);
        }
        Err(Error::ConsumerStopped { topic: self.topic.name.clone() })
    }
}
