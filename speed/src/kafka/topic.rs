//! The facts about a topic that are checked before reading: its partitions, their watermarks, and the last archived
//! messages.
//!
//! Invariant: no message is passed on before the log was found to continue the archive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::warehouse::versions::LastMessage;
use thalweg_schemas::{Frontier, Offset, Partition};
use tokio::sync::watch;

use crate::config::SpeedConfig;
use crate::error::{KafkaErrorClass, classify};
use crate::kafka::client::ClientProperties;
use crate::kafka::client_status::ClientStatus;
use crate::kafka::identity::{Watermarks, check_message, last_message};
use crate::{Error, Result};

/// How long one request to the brokers may take.
const ASK: Duration = Duration::from_secs(10);
/// How long reading back the last archived messages may take.
const READ_BACK: Duration = Duration::from_secs(30);
/// How often the topic is checked for new partitions.
const DISCOVER: Duration = Duration::from_secs(10);

/// A topic, and a client that can read it.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) brokers: String,
    pub(crate) consumer: Arc<BaseConsumer<ClientStatus>>,
}

impl Topic {
    /// Creates a client for the topic of `stream`; no request is sent to Kafka yet.
    ///
    /// Errors: those of [`ClientProperties::of_reader`], [`Error::Configure`].
    pub(crate) fn open(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Self> {
        let client = ClientProperties::of_reader(config, stream)?;
        let consumer = client.create(ClientStatus::default())?;
        Ok(Self { name: stream.topic.clone(), brokers: client.brokers, consumer: Arc::new(consumer) })
    }

    /// Says that the brokers have not answered yet.
    pub(crate) fn silence(&self) -> String {
        format!("no answer from {} yet about topic `{}`; is a broker there?", self.brokers, self.name)
    }

    fn survey_error(&self, source: KafkaError) -> Error {
        Error::Survey { topic: self.name.clone(), brokers: self.brokers.clone(), source }
    }

    /// The number of partitions of the topic. Blocks.
    ///
    /// Errors: [`Error::FindTopic`], [`Error::Survey`].
    pub(crate) fn partitions(&self) -> Result<i32> {
        let metadata =
            self.consumer.fetch_metadata(Some(&self.name), ASK).map_err(|source| self.survey_error(source))?;
        let found = metadata.topics().iter().find(|t| t.name() == self.name);
        let code = found.and_then(|t| t.error()).map(RDKafkaErrorCode::from);
        match (found, code) {
            (Some(topic), None) if !topic.partitions().is_empty() => Ok(topic.partitions().len() as i32),
            (_, Some(code)) if code != RDKafkaErrorCode::UnknownTopicOrPartition => {
                Err(self.survey_error(KafkaError::MetadataFetch(code)))
            }
            _ => Err(Error::FindTopic { topic: self.name.clone(), brokers: self.brokers.clone() }),
        }
    }

    /// Makes the client know `partitions`: a client learns of new partitions only every few minutes, and takes one that
    /// it does not know for one that does not exist. Blocks.
    ///
    /// Errors: those of [`Topic::partitions`]; [`Error::AwaitPartition`] if the brokers do not know one yet.
    pub(crate) fn learn(&self, partitions: &BTreeSet<Partition>) -> Result<()> {
        let count = self.partitions()?;
        match partitions.last().filter(|last| last.0 >= count) {
            None => Ok(()),
            Some(&partition) => Err(Error::AwaitPartition { topic: self.name.clone(), partition, count }),
        }
    }

    /// The first and the next offset of these partitions, or of all partitions. Blocks.
    ///
    /// Errors: those of [`Topic::partitions`].
    pub(crate) fn survey(&self, of: Option<&BTreeSet<Partition>>) -> Result<BTreeMap<Partition, Watermarks>> {
        let asked: Vec<i32> = match of {
            Some(partitions) => partitions.iter().map(|p| p.0).collect(),
            None => (0..self.partitions()?).collect(),
        };
        asked
            .into_iter()
            .map(|p| {
                let (low, high) =
                    self.consumer.fetch_watermarks(&self.name, p, ASK).map_err(|source| self.survey_error(source))?;
                let marks = Watermarks { low: Offset(low), high: Offset(high) };
                Ok((Partition(p), marks))
            })
            .collect()
    }

    /// Reads the last archived messages from Kafka again, if the log still has them, and compares them. Blocks.
    ///
    /// Errors: [`Error::Recreated`], [`Error::ReadBack`], [`Error::Consume`].
    pub(crate) fn check_last(
        &self,
        log: &BTreeMap<Partition, Watermarks>,
        last: &HashMap<Partition, LastMessage>,
    ) -> Result<()> {
        let mut open: BTreeMap<Partition, &LastMessage> = last
            .iter()
            .filter(|(p, m)| log.get(p).is_some_and(|marks| marks.low <= m.offset))
            .map(|(p, m)| (*p, m))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        self.assign(&open.iter().map(|(p, m)| (*p, m.offset)).collect())?;
        let deadline = Instant::now() + READ_BACK;
        while !open.is_empty() {
            if Instant::now() >= deadline {
                return Err(Error::ReadBack { topic: self.name.clone(), missing: open.into_keys().collect() });
            }
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    let partition = Partition(message.partition());
                    if let Some(archived) = open.remove(&partition) {
                        let found = last_message(
                            message.offset(),
                            message.timestamp().to_millis(),
                            message.key(),
                            message.payload(),
                        );
                        check_message(&self.name, partition, archived, &found)?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(p))) => {
                    open.remove(&Partition(p));
                }
                Some(Err(source)) => self.classify(source, "where the archive ends")?,
            }
        }
        // A client that only checks must not continue to fetch.
        self.assign(&Frontier::new())
    }

    /// Assigns the partitions of `at` to the client, and no others.
    pub(crate) fn assign(&self, at: &Frontier) -> Result<()> {
        let list = self.list(at)?;
        let assigned = self.consumer.assign(&list);
        assigned.map_err(|source| self.consume_error(source))
    }

    /// Converts `at` to librdkafka's list of offsets.
    pub(crate) fn list(&self, at: &Frontier) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(at.len());
        for (partition, offset) in at.iter() {
            list.add_partition_offset(&self.name, partition.0, KafkaOffset::Offset(offset.0))
                .map_err(|source| self.consume_error(source))?;
        }
        Ok(list)
    }

    pub(crate) fn consume_error(&self, source: KafkaError) -> Error {
        Error::Consume { topic: self.name.clone(), source }
    }

    /// Returns every error that librdkafka does not handle itself. `at` is the position of the stream, for the message.
    pub(crate) fn classify(&self, source: KafkaError, at: &str) -> Result<()> {
        match source.rdkafka_error_code().map(classify) {
            Some(KafkaErrorClass::Wait) => {
                tracing::debug!(topic = self.name, error = %source, "librdkafka tries again");
                Ok(())
            }
            Some(KafkaErrorClass::OffsetGone) => Err(Error::OffsetGone { topic: self.name.clone(), at: at.to_owned() }),
            _ => Err(self.consume_error(source)),
        }
    }

    /// Notifies the loop when the topic has gained partitions; ends with the loop.
    pub(crate) async fn discover(self, partitions: watch::Sender<i32>) {
        loop {
            tokio::select! {
                () = partitions.closed() => return,
                () = tokio::time::sleep(DISCOVER) => {}
            }
            let topic = self.clone();
            let asked = tokio::task::spawn_blocking(move || topic.partitions()).await;
            // The consumer handles brokers that do not answer. Without an answer, no new partition is known here.
            if let Ok(Ok(count)) = asked {
                partitions.send_if_modified(|known| {
                    let grown = count > *known;
                    *known = count.max(*known);
                    grown
                });
            }
        }
    }
}
