//! One stream's messages on their way to Kafka.
//!
//! Invariant: messages are handed to librdkafka in the order of their positions, and each is settled once.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

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
use crate::streams::{DemoStream, Message, Script};
use crate::{Error, Result};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Messages in flight at most: enough for any rate on one machine, few enough to wait for in the end.
const IN_FLIGHT: usize = 2_000;
/// What is sent before acknowledgements are looked at again.
const AT_ONCE: u64 = 2_000;

/// What becomes of a message that was not sent.
const PURGED: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue);

/// A message and where it arrived.
type Settled = (Message, Result<(i32, i64)>);

pub(super) struct Feed {
    stream: DemoStream,
    script: Script,
    next: u64,
    end: Option<u64>,
    producer: FutureProducer,
    record: Option<Record>,
    in_flight: FuturesOrdered<BoxFuture<'static, Settled>>,
    tally: Tally,
    /// How many of them others know of.
    told: u64,
}

impl Feed {
    pub(super) fn new(
        stream: DemoStream,
        script: Script,
        first: u64,
        end: Option<u64>,
        producer: FutureProducer,
        record: Option<Record>,
    ) -> Self {
        Self {
            stream,
            script,
            next: first,
            end,
            producer,
            record,
            in_flight: FuturesOrdered::new(),
            tally: Tally::new(stream, first),
            told: 0,
        }
    }

    /// Sends until the end, an error or `cancel`, which an error sets off for the other feeds too; then waits for what
    /// is in flight, so that all of it is recorded.
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
            // What librdkafka has not sent yet need not be sent any more.
            self.producer.purge(PurgeConfig::default().queue());
        }
        while let Some(settled) = self.in_flight.next().await {
            outcome = outcome.and(self.settle(settled));
        }
        self.tell(sent)?;
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
                    self.tell(sent)?;
                }
            }
        }
        Ok(())
    }

    /// Hands up to `due` messages over, as far as there is room; how many it was.
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

    /// Breaks if librdkafka has no room.
    fn send_one(&mut self) -> Result<ControlFlow<()>> {
        let message = self.script.message(self.next);
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

    /// Lets others see what was acknowledged since.
    fn tell(&mut self, sent: &watch::Sender<u64>) -> Result<()> {
        let new = self.tally.messages - self.told;
        if new > 0 {
            sent.send_modify(|all| *all += new);
            self.told += new;
            if let Some(record) = &self.record {
                record.flush()?;
            }
        }
        Ok(())
    }
}
