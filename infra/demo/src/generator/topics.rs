//! Topics: creates missing ones, and reads their ends.
//!
//! Invariant: an existing topic is never changed.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{Error, Result};

/// Timeout of one request to Kafka.
const ASK: Duration = Duration::from_secs(10);
/// Number of replicas: the cluster's default.
const BY_DEFAULT: i32 = -1;

/// Creates the topics that do not exist.
///
/// Errors: [`Error::Configure`], [`Error::Reach`], [`Error::CreateTopic`].
pub async fn create_topics(client: &ClientConfig, names: &[&str], partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        reading(client).create().map_err(|source| Error::Configure { source })?;
    let reach = |source| unreachable(client, source);
    // Reading metadata blocks; the closure returns the client for the next steps.
    let (admin, metadata) = blocking(move || {
        let metadata = admin.inner().fetch_metadata(None, ASK);
        (admin, metadata)
    })
    .await;
    let metadata = metadata.map_err(reach)?;
    let known: BTreeSet<&str> = metadata.topics().iter().map(|t| t.name()).collect();
    let missing: Vec<NewTopic<'_>> = names
        .iter()
        .filter(|name| !known.contains(*name))
        .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(BY_DEFAULT)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let options = AdminOptions::new().operation_timeout(Some(ASK));
    let created = admin.create_topics(&missing, &options).await;
    for outcome in created.map_err(reach)? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                let reason = code.to_string();
                return Err(Error::CreateTopic { topic, reason });
            }
        }
    }
    Ok(())
}

/// The number of messages ever written to a topic. The topic's generator continues at this position.
///
/// Errors: [`Error::Configure`], [`Error::Reach`].
pub(super) async fn messages_in(client: ClientConfig, topic: &'static str) -> Result<u64> {
    blocking(move || {
        let consumer: BaseConsumer = reading(&client).create().map_err(|source| Error::Configure { source })?;
        let reach = |source| unreachable(&client, source);
        let metadata = consumer.fetch_metadata(Some(topic), ASK).map_err(reach)?;
        let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        partitions
            .map(|partition| {
                let marks = consumer.fetch_watermarks(topic, partition.id(), ASK);
                Ok(marks.map_err(reach)?.1.max(0) as u64)
            })
            .sum()
    })
    .await
}

/// The producer's properties for a consumer. Without the properties of producers, librdkafka logs no warning.
fn reading(client: &ClientConfig) -> ClientConfig {
    let mut reading = client.clone();
    for of_producers in ["enable.idempotence", "acks", "linger.ms", "message.timeout.ms"] {
        reading.remove(of_producers);
    }
    reading
}

fn unreachable(client: &ClientConfig, source: KafkaError) -> Error {
    let brokers = client.get("bootstrap.servers");
    let brokers = brokers.or_else(|| client.get("metadata.broker.list"));
    Error::Reach { brokers: brokers.unwrap_or("(no bootstrap.servers)").to_owned(), source }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
