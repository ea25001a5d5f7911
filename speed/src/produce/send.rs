//! The client that sends: an idempotent producer with a bounded queue.
//!
//! Invariant: a full queue means waiting. A row is sent at most once by this program; librdkafka repeats a message only
//! in a way that the brokers recognize.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use tokio_util::sync::CancellationToken;

use super::counts::{Produced, RowCounts};
use super::plan::{ProducePlan, RowsFrom};
use super::rows::{EncodedRow, FromFile, reader_gone};
use crate::connections::Properties;
use crate::kafka::client::ClientProperties;
use crate::{Error, Result};

/// How long librdkafka is served between two looks at what else there is to do.
const SERVE: Duration = Duration::from_millis(5);
/// Messages between two looks at delivery reports.
const REPORTS: u64 = 64;
/// A slower sender may catch up this much.
const CREDIT: Duration = Duration::from_millis(200);

/// Properties that users may change. The queue holds what is sent in a moment, and no more.
const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "thalweg-produce"),
    ("linger.ms", "10"),
    ("queue.buffering.max.kbytes", "65536"),
    ("socket.keepalive.enable", "true"),
    // The longest that brokers allow, if nobody changed them.
    ("transaction.timeout.ms", "900000"),
];

/// Takes the reports of librdkafka.
struct Reports(Arc<RowCounts>);

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(Code::Fatal) {
            self.0.silent(reason.to_owned());
        }
    }
}

impl ProducerContext for Reports {
    /// The number of the row.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => self.0.deliver(),
            Err((error, message)) => self.0.lose(number as u64, explain(error, message.payload_len())),
        }
    }
}

fn explain(error: &KafkaError, bytes: usize) -> String {
    match error.rdkafka_error_code() {
        Some(Code::MessageTimedOut) => "no broker took it in time".to_owned(),
        Some(Code::PurgeQueue | Code::PurgeInflight) => "it was not sent, because others failed".to_owned(),
        Some(Code::MessageSizeTooLarge) => {
            format!("a message of {bytes} bytes is longer than message.max.bytes of the client or of the topic")
        }
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

/// Sends rows to one topic.
pub(super) struct Sender {
    producer: BaseProducer<Reports>,
    topic: String,
    counts: Arc<RowCounts>,
    stop: CancellationToken,
    timeout: Duration,
    is_transactional: bool,
}

impl Sender {
    /// Makes the client, asks for the topic, and begins the transaction if there is one. Blocks.
    ///
    /// Errors: those of the client's configuration; [`Error::Survey`], [`Error::FindTopic`], [`Error::Transaction`].
    pub(super) fn open(plan: &ProducePlan, counts: Arc<RowCounts>, stop: CancellationToken) -> Result<Self> {
        let text = |pairs: &[(&str, &str)]| -> Properties {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let defaults = text(&DEFAULTS);
        let mut fixed = text(&[("enable.idempotence", "true"), ("acks", "all"), ("statistics.interval.ms", "0")]);
        let mut timeout = plan.timeout;
        if plan.transactional {
            // librdkafka refuses messages that may wait longer than their transaction.
            let client = ClientProperties::of_producer(&plan.kafka, &plan.stream, defaults.clone(), fixed.clone())?;
            let longest = client.get("transaction.timeout.ms").and_then(|text| text.parse().ok());
            timeout = longest.map_or(timeout, |most| timeout.min(Duration::from_millis(most)));
            fixed.insert("transactional.id".to_owned(), transactional_id(plan));
        }
        fixed.insert("message.timeout.ms".to_owned(), timeout.as_millis().to_string());
        let client = ClientProperties::of_producer(&plan.kafka, &plan.stream, defaults, fixed)?;
        let producer: BaseProducer<Reports> = client.create(Reports(Arc::clone(&counts)))?;
        let topic = plan.stream.topic.clone();
        find(&producer, &topic, &client.brokers, plan.timeout)?;
        if plan.transactional {
            let failed = |source| Error::Transaction { topic: topic.clone(), what: "begun", source };
            producer.init_transactions(plan.timeout).map_err(failed)?;
            producer.begin_transaction().map_err(failed)?;
        }
        let is_transactional = plan.transactional;
        Ok(Self { producer, topic, counts, stop, timeout: plan.timeout, is_transactional })
    }

    /// Sends the rows that come, until the last one, an error, or the request to stop; then waits for all reports.
    pub(super) fn send_all(&self, from: &Receiver<FromFile>, plan: &ProducePlan) -> Produced {
        let mut pace = SendPace::new(plan.rate);
        let mut failure = None;
        let is_complete = loop {
            if self.is_over() {
                break false;
            }
            match from.try_recv() {
                Ok(FromFile::Rows(rows)) => {
                    if !rows.iter().all(|row| self.send(&row, &mut pace)) {
                        break false;
                    }
                }
                Ok(FromFile::End) => break true,
                Ok(FromFile::Failed(error)) => {
                    failure = Some(error);
                    break false;
                }
                Err(TryRecvError::Empty) => self.producer.poll(SERVE),
                Err(TryRecvError::Disconnected) => {
                    failure = Some(reader_gone());
                    break false;
                }
            }
        };
        // What an aborted transaction had under way is no loss of its own.
        let is_given_up = self.is_transactional && !is_complete;
        let lost = self.counts.losses();
        if is_given_up {
            self.producer.purge(PurgeConfig::default().queue().inflight());
        }
        self.flush();
        let lost = if is_given_up { lost } else { self.counts.losses() };
        let is_complete = is_complete && self.counts.lost() == 0;
        let mut is_committed = None;
        if self.is_transactional {
            match self.end(is_complete) {
                Ok(()) => is_committed = Some(is_complete),
                Err(error) => {
                    is_committed = Some(false);
                    failure.get_or_insert(error);
                }
            }
        }
        Produced { is_complete, is_committed, failure, lost }
    }

    /// True if nothing more is to be sent.
    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.counts.lost() > 0
    }

    /// Sends a row, when the rate and the queue allow it. Returns false if sending is over.
    fn send(&self, row: &EncodedRow<'_>, pace: &mut SendPace) -> bool {
        while let Some(wait) = pace.wait() {
            self.producer.poll(wait.min(SERVE));
            if self.is_over() {
                return false;
            }
        }
        if self.counts.sent.load(std::sync::atomic::Ordering::Relaxed).is_multiple_of(REPORTS) {
            self.producer.poll(Duration::ZERO);
        }
        let number = usize::try_from(row.number).unwrap_or(usize::MAX);
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&self.topic, number);
        (record.key, record.payload) = (row.key, row.payload);
        loop {
            if self.is_over() {
                return false;
            }
            let refused = match self.producer.send(record) {
                Ok(()) => {
                    self.counts.send(row.number, row.bytes());
                    return true;
                }
                Err(refused) => refused,
            };
            record = refused.1;
            if refused.0.rdkafka_error_code() != Some(Code::QueueFull) || self.counts.in_flight() == 0 {
                self.counts.send(row.number, 0);
                self.counts.lose(row.number, explain(&refused.0, row.bytes()));
                return false;
            }
            self.producer.poll(SERVE);
        }
    }

    /// Waits for the reports of all messages, each of which comes in time. Once a message was lost, those that are not
    /// under way are given up.
    fn flush(&self) {
        let mut is_purged = false;
        while self.counts.in_flight() > 0 {
            if self.counts.lost() > 0 && !is_purged {
                self.producer.purge(PurgeConfig::default().queue());
                is_purged = true;
            }
            self.producer.poll(SERVE);
        }
    }

    /// Commits or aborts the transaction.
    fn end(&self, commit: bool) -> Result<()> {
        let failed = |what| move |source| Error::Transaction { topic: self.topic.clone(), what, source };
        if !commit {
            return self.producer.abort_transaction(self.timeout).map_err(failed("aborted"));
        }
        let committed = self.producer.commit_transaction(self.timeout).map_err(failed("committed"));
        if let Err(Error::Transaction { source: KafkaError::Transaction(error), .. }) = &committed
            && error.txn_requires_abort()
        {
            self.producer.abort_transaction(self.timeout).map_err(failed("aborted"))?;
        }
        committed
    }
}

/// The id by which brokers know who sends. A file that is sent again after a crash has the id of its first attempt, so
/// the brokers abort what that left open.
fn transactional_id(plan: &ProducePlan) -> String {
    let what = match &plan.from {
        RowsFrom::Stdin => uuid::Uuid::new_v4().to_string(),
        RowsFrom::File(path) => {
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            let place = format!("{}:{}", thalweg_schemas::host::name().unwrap_or_default(), path.display());
            blake3::hash(place.as_bytes()).to_hex()[..16].to_owned()
        }
    };
    format!("thalweg-produce-{}-{what}", plan.stream.name)
}

/// Asks for all topics: the question for one would create it where brokers create topics by themselves.
fn find(producer: &BaseProducer<Reports>, topic: &str, brokers: &str, timeout: Duration) -> Result<()> {
    let survey = |source| Error::Survey { topic: topic.to_owned(), brokers: brokers.to_owned(), source };
    let found = producer.client().fetch_metadata(None, timeout).map_err(survey)?;
    match found.topics().iter().any(|found| found.name() == topic) {
        true => Ok(()),
        false => Err(Error::FindTopic { topic: topic.to_owned(), brokers: brokers.to_owned() }),
    }
}

/// Says when the next message may go.
#[derive(Debug)]
struct SendPace {
    /// The time between two messages; zero if there is no limit.
    every: Duration,
    next: Instant,
}

impl SendPace {
    fn new(rate: Option<f64>) -> Self {
        let every =
            rate.map_or(Duration::ZERO, |rate| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX));
        Self { every, next: Instant::now() }
    }

    /// How long the next message has to wait; `None` counts it as sent.
    fn wait(&mut self) -> Option<Duration> {
        if self.every.is_zero() {
            return None;
        }
        let now = Instant::now();
        if now < self.next {
            return Some(self.next - now);
        }
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.next = self.next.max(earliest).checked_add(self.every).unwrap_or(now);
        None
    }
}
