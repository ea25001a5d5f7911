//! The configuration of the speed layer, and the Kafka properties that follow from it.
//!
//! Invariant: a property of the stream overrides its connection, and the properties on which exact answers depend
//! override both.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use thalweg_schemas::clock::MonotonicClock;
use thalweg_schemas::definition::kafka_options;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::{Partition, StreamName};

use crate::budget::queue_bytes;
use crate::connections::{KafkaConnections, Properties};
use crate::schema_cache::{SchemaCache, without_registry};
use crate::{Error, Result};

/// The partitions of every stream that this process reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Assignment {
    /// All partitions, including those that the topic gains later.
    #[default]
    All,
    /// These partitions, if the topic has them, now or later.
    Static(BTreeSet<Partition>),
    /// The partitions that a Kafka consumer group assigns to this process until it revokes them.
    Group {
        /// The prefix of the group's name, `thalweg` if `None`; the stream's name follows.
        id: Option<String>,
        /// For static membership: a name that this process keeps over restarts.
        instance: Option<String>,
        /// The address at which others reach this process by Arrow Flight, `host:port`.
        advertise: String,
    },
}

impl Assignment {
    /// True if this process reads `partition` as soon as the topic has it, without an assignment by a group. Amendments
    /// go with partition 0.
    pub(crate) fn takes_found(&self, partition: Partition) -> bool {
        match self {
            Assignment::All => true,
            Assignment::Static(range) if partition.is_amended() => range.contains(&Partition(0)),
            Assignment::Static(range) => range.contains(&partition),
            // The group assigns the partition.
            Assignment::Group { .. } => false,
        }
    }

    /// The partitions of `found` that this process reads from the start.
    pub(crate) fn at_start(&self, found: impl Iterator<Item = Partition>) -> BTreeSet<Partition> {
        found.filter(|p| self.takes_found(*p)).collect()
    }
}

/// The settings for ingesting every stream.
#[derive(Debug, Clone)]
pub struct SpeedConfig {
    pub assignment: Assignment,
    /// The ways to Kafka; a stream's own properties override those of its connection.
    pub kafka: KafkaConnections,
    /// The schemas that were fetched from registries.
    pub schemas: SchemaCache,
    /// A micro-batch ends at this many messages …
    pub micro_batch_rows: usize,
    /// … or this long after its first message.
    pub micro_batch_wait: Duration,
    /// An epoch ends when its rows take this much memory …
    pub epoch_bytes: usize,
    /// … or this long after its first micro-batch.
    pub epoch_interval: Duration,
    /// An epoch's end is a mark if the last mark is older than this.
    pub mark_interval: Duration,
    /// The memory budget for messages, rows and states, in bytes. Reading pauses before they exceed it. See
    /// `budget.rs`.
    pub memory_budget: usize,
    /// How long readers may continue to use what newer versions have replaced.
    pub grace: Duration,
    /// The folder to which rebuilds spill; the system's temporary folder if `None`.
    pub spill: Option<PathBuf>,
    pub clock: MonotonicClock,
}

impl Default for SpeedConfig {
    fn default() -> Self {
        Self {
            assignment: Assignment::All,
            kafka: KafkaConnections::default(),
            schemas: SchemaCache::default(),
            micro_batch_rows: 65_536,
            micro_batch_wait: Duration::from_millis(20),
            epoch_bytes: 256 << 20,
            epoch_interval: Duration::from_secs(60),
            mark_interval: Duration::from_secs(60),
            memory_budget: 1 << 30,
            grace: Duration::from_secs(60),
            spill: None,
            clock: MonotonicClock::system(),
        }
    }
}

/// Properties that users may change. The back-off is short because librdkafka's default of one second would leave a
/// reader idle that drains the queue within that second.
const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "thalweg"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("socket.keepalive.enable", "true"),
    ("statistics.interval.ms", "1000"),
];

const QUEUE: &str = "queued.max.messages.kbytes";
const LONGEST_MESSAGE: &str = "message.max.bytes";

/// Properties that exact answers depend on: the frontier is the only position, and nothing is skipped silently.
const FIXED: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];

/// The smallest `fetch.max.bytes`. A whole fetch response is in memory at once, but librdkafka refuses a
/// `fetch.max.bytes` below the longest message.
const SMALLEST_FETCH: usize = 1 << 20;

/// Every librdkafka property for `stream`; references to secrets are not resolved.
///
/// Errors: [`Error::FindConnection`]; [`Error::RefuseOption`] if the definition sets what it may not.
pub(crate) fn kafka_properties(stream: &StreamDefinition, config: &SpeedConfig) -> Result<Properties> {
    if let Some((_, reason)) = kafka_options::refused(&stream.kafka) {
        return Err(Error::RefuseOption { stream: stream.name.clone(), reason: reason.to_string() });
    }
    let connection = config.kafka.of(stream)?;
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let mut out: Properties = pairs(&DEFAULTS).into_iter().collect();
    let queue = queue_bytes(config.memory_budget);
    out.insert(QUEUE.into(), (queue >> 10).to_string());
    if !connection.contains_key(LONGEST_MESSAGE) && !stream.kafka.contains_key(LONGEST_MESSAGE) {
        let fetch = queue.max(SMALLEST_FETCH);
        out.insert("fetch.max.bytes".into(), fetch.to_string());
    }
    // librdkafka requires a group for every consumer; this client commits nothing to the group.
    out.insert("group.id".into(), format!("thalweg-{}", stream.name));
    out.extend(without_registry(connection));
    out.extend(stream.kafka.clone());
    out.extend(pairs(&FIXED));
    Ok(out)
}

/// The prefix of the client id of a worker in the group; the Flight address follows.
pub(crate) const WORKER: &str = "thalweg-speed@";

/// Defaults of the membership client. The group notices a dead worker after the session timeout. A live worker learns
/// of a change with its next heartbeat, twice per partition that moves, so heartbeats are frequent. New partitions of
/// the topic are looked for as often as by the other clients.
const MEMBER_DEFAULTS: [(&str, &str); 3] =
    [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500"), ("topic.metadata.refresh.interval.ms", "10000")];

/// The name of the group that reads `stream`.
pub(crate) fn group(stream: &StreamName, id: Option<&str>) -> String {
    format!("{}-{stream}", id.unwrap_or("thalweg"))
}

/// Every librdkafka property of the client that is a member of the group and reads nothing.
///
/// Errors: those of [`kafka_properties`].
pub(crate) fn member_properties(stream: &StreamDefinition, config: &SpeedConfig) -> Result<Properties> {
    let mut out: Properties = MEMBER_DEFAULTS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    out.extend(kafka_properties(stream, config)?);
    let mut set = |key: &str, value: String| out.insert(key.to_owned(), value);
    set("partition.assignment.strategy", "cooperative-sticky".into());
    set("statistics.interval.ms", "0".into());
    if let Assignment::Group { id, instance, advertise } = &config.assignment {
        set("group.id", group(&stream.name, id.as_deref()));
        set("client.id", format!("{WORKER}{advertise}"));
        if let Some(instance) = instance {
            // The stream's name is part of the instance id: two clients with one id in a shared group would fence
            // each other.
            set("group.instance.id", format!("{instance}-{}", stream.name));
        }
    }
    Ok(out)
}

/// Beginnings of properties that a producer does not take from a connection: those of readers, of which librdkafka
/// would warn, and the identity of its transactions.
const NOT_OF_PRODUCERS: [&str; 10] = [
    "transactional.id",
    "group.",
    "fetch.",
    "queued.",
    "session.timeout",
    "heartbeat.",
    "auto.",
    "enable.auto.",
    "isolation.level",
    "partition.assignment.",
];

/// Every librdkafka property of a client that writes to the topic of `stream`: `defaults`, under the user's, under
/// `fixed`. References to secrets are not resolved.
///
/// Errors: those of [`kafka_properties`].
pub(crate) fn producer_properties(
    stream: &StreamDefinition,
    kafka: &KafkaConnections,
    defaults: Properties,
    fixed: Properties,
) -> Result<Properties> {
    if let Some((_, reason)) = kafka_options::refused(&stream.kafka) {
        return Err(Error::RefuseOption { stream: stream.name.clone(), reason: reason.to_string() });
    }
    let mut out = defaults;
    out.extend(without_registry(kafka.of(stream)?));
    out.extend(stream.kafka.clone());
    out.retain(|property, _| !NOT_OF_PRODUCERS.iter().any(|prefix| property.starts_with(prefix)));
    out.extend(fixed);
    Ok(out)
}

/// The number of bytes that librdkafka may fetch ahead for `stream`: the user's setting, or the default from the
/// budget.
pub(crate) fn queue_of(config: &SpeedConfig, stream: &StreamDefinition) -> usize {
    let connection = config.kafka.of(stream).ok();
    let set = stream.kafka.get(QUEUE).or_else(|| connection?.get(QUEUE));
    set.and_then(|kib| kib.trim().parse::<usize>().ok())
        .map_or_else(|| queue_bytes(config.memory_budget), |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests;
