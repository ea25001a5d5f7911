//! What is known of a topic before there is a stream of it: its newest messages, and the schema that its registry has.
//!
//! Invariant: nothing is committed, and no consumer group is joined.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use thalweg_schemas::decode::{RegisteredSchema, SchemaId};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::config::SpeedConfig;
use crate::kafka::topic::Topic;
use crate::registry::SchemaRegistry;
use crate::{Error, Result};

/// How long reading the sample may take.
const READ: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);

/// At most `count` of the newest messages of the topic of `stream`, from all partitions. Fewer if reading takes long.
/// Messages without a payload are left out.
///
/// Errors: those of a client; [`Error::FindTopic`], [`Error::Survey`].
pub async fn newest_messages(config: &SpeedConfig, stream: &StreamDefinition, count: usize) -> Result<Vec<Vec<u8>>> {
    let topic = Topic::open(config, stream)?;
    let reading = tokio::task::spawn_blocking(move || read(&topic, count));
    reading.await.map_err(|source| Error::Task { stream: stream.name.clone(), source })?
}

fn read(topic: &Topic, count: usize) -> Result<Vec<Vec<u8>>> {
    let log = topic.survey(None)?;
    let each = i64::try_from(count.div_ceil(log.len().max(1))).unwrap_or(i64::MAX);
    let held = log.iter().filter(|(_, marks)| marks.high > marks.low);
    let from: Frontier =
        held.map(|(partition, marks)| (*partition, marks.low.max(Offset(marks.high.0.saturating_sub(each))))).collect();
    let mut found = Vec::new();
    if from.is_empty() {
        return Ok(found);
    }
    topic.assign(&from)?;
    let mut open: BTreeSet<Partition> = from.partitions().collect();
    let deadline = Instant::now() + READ;
    while found.len() < count && !open.is_empty() && Instant::now() < deadline {
        match topic.consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => found.extend(message.payload().map(<[u8]>::to_vec)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&Partition(partition))),
            Some(Err(error)) => topic.classify(error, &from.to_string())?,
        }
    }
    Ok(found)
}

/// The newest schema that the registry of the stream's connection has for values of the topic; `None` if the connection
/// has no registry.
///
/// Errors: why there is none: those of a client, and a sentence of the registry.
pub async fn newest_schema(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Option<RegisteredSchema>> {
    let registry = match SchemaRegistry::open(config, stream) {
        Err(Error::FindRegistry { .. }) => return Ok(None),
        opened => opened?,
    };
    let subject = format!("{}-value", stream.topic);
    let refused = |reason| Error::FindSchema { topic: stream.topic.clone(), reason };
    let id = registry.newest(&subject).await.map_err(|failed| refused(failed.reason))?;
    let fetched = registry.fetch(SchemaId::Number(id)).await.map_err(|failed| refused(failed.reason))?;
    fetched.map(Some).map_err(refused)
}
