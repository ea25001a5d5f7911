//! Sends the messages of one stream to Kafka.
//!
//! Invariant: messages are passed to librdkafka in the order of their positions, and each message is settled once.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer, PurgeConfig};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::pace::{Pace, Rate};
use super::record::Record;
use super::tally::Tally;
use crate::streams::{DemoStream, EventClock, Message, Script};
use crate::{Error, Result};

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(10);
/// Most messages in flight: enough for any rate on one machine, and few to wait for at the end.
const IN_FLIGHT: usize = 2_000;
/// Most messages sent before the next look at acknowledgements.
const AT_ONCE: u64 = 2_000;

/// The error of a message that was purged before it was sent.
const PURGED: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue);

/// A message, and its partition and offset.
type Settled = (Message, Result<(i32, i64)>);

pub(super) struct Feed {
    stream: DemoStream,
    script: Script,
    clock: EventClock,
    next: u64,
    end: Option<u64>,
    producer: FutureProducer,
    record: Option<Record>,
    in_flight: FuturesOrdered<BoxFuture<'static, Settled>>,
    tally: Tally,
    /// The number of messages that `sent` already counts.
    reported: u64,
}

impl Feed {
    pub(super) fn new(
        stream: DemoStream,
        script: Script,
        clock: EventClock,
        first: u64,
        end: Option<u64>,
        producer: FutureProducer,
        record: Option<Record>,
    ) -> Self {
        Self {
            stream,
            script,
            clock,
            next: first,
            end,
            producer,
            record,
            in_flight: FuturesOrdered::new(),
            tally: Tally::new(stream, first),
            reported: 0,
        }
    }

    /// Sends until the end, an error or `cancel`; an error also cancels the other feeds. Then waits for the messages
    /// in flight, so that all of them are recorded.
    pub(super) async fn run(
        mut self,
        rate: Rate,
        cancel: &CancellationToken,
        sent: &watch::Sender<u64>,
    ) -> Result<Tally> {
        let mut outcome = self.send_all(rate, cancel, sent).await;
        if outcome.is_err() {
            cancel.cancel();
        }
        if cancel.is_cancelled() {
            // Drop the messages that librdkafka has not sent yet.
            self.producer.purge(PurgeConfig::default().queue());
        }
        while let Some(settled) = self.in_flight.next().await {
            outcome = outcome.and(self.settle(settled));
        }
        self.report(sent)?;
        outcome.map(|()| self.tally)
    }

    async fn send_all(&mut self, rate: Rate, cancel: &CancellationToken, sent: &watch::Sender<u64>) -> Result<()> {
        let began = Instant::now();
        let mut pace = Pace::new(rate, Duration::ZERO);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !cancel.is_cancelled() && self.end.is_none_or(|end| self.next < end) {
            tokio::select! {
                () = cancel.cancelled() => {}
                Some(settled) = self.in_flight.next() => self.settle(settled)?,
                _ = ticks.tick() => {
                    let due = pace.due(began.elapsed());
                    pace.sent(self.send(due)?);
                    self.report(sent)?;
                }
            }
        }
        Ok(())
    }

    /// Passes up to `due` messages to librdkafka while there is room. Returns the number of passed messages.
    fn send(&mut self, due: u64) -> Result<u64> {
        let left = self.end.map_or(u64::MAX, |end| end - self.next);
        let room = IN_FLIGHT.saturating_sub(self.in_flight.len()) as u64;
        let wanted = due.min(left).min(room).min(AT_ONCE);
        for sent in 0..wanted {
            if self.send_one()?.is_break() {
                return Ok(sent);
            }
        }
        Ok(wanted)
    }

    /// Passes one message to librdkafka; breaks if librdkafka's queue is full.
    fn send_one(&mut self) -> Result<ControlFlow<()>> {
        let message = self.script.message(self.next, &mut self.clock, Utc::now().timestamp_millis());
        let topic = self.stream.name();
        let record = FutureRecord::to(topic).key(&message.key).payload(&message.payload);
        let delivery = match self.producer.send_result(record) {
            Ok(delivery) => delivery,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                return Ok(ControlFlow::Break(()));
            }
            Err((source, _)) => {
                let topic = topic.to_owned();
                return Err(Error::Deliver { topic, source });
            }
        };
        self.next += 1;
        self.in_flight.push_back(Box::pin(async move {
            let topic = topic.to_owned();
            let place = match delivery.await {
                Ok(Ok(delivery)) => Ok((delivery.partition, delivery.offset)),
                Ok(Err((source, _))) => Err(Error::Deliver { topic, source }),
                Err(_) => Err(Error::Forgotten { topic }),
            };
            (message, place)
        }));
        Ok(ControlFlow::Continue(()))
    }

    fn settle(&mut self, (message, place): Settled) -> Result<()> {
        let (partition, offset) = match place {
            Err(Error::Deliver { source, .. }) if source == PURGED => return Ok(()),
            place => place?,
        };
        self.tally.add(&message, partition, offset);
        if let Some(record) = &self.record {
            record.add(self.stream, &message, partition, offset)?;
        }
        Ok(())
    }

    /// Adds newly acknowledged messages to `sent`, and flushes the record.
    fn report(&mut self, sent: &watch::Sender<u64>) -> Result<()> {
        let new = self.tally.messages - self.reported;
        if new > 0 {
            sent.send_modify(|all| *all += new);
            self.reported += new;
            if let Some(record) = &self.record {
                record.flush()?;
            }
        }
        Ok(())
    }
}
