//! The configuration of the speed layer, and the Kafka properties that follow from it.
//!
//! Invariant: a property of the stream overrides the configuration, and the properties on which exact answers depend
//! override both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use thalweg_schemas::{Partition, StreamName};

use crate::budget::queue_bytes;
use thalweg_schemas::clock::MonotonicClock;

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
        /// The prefix of the group's name, `thalweg` if `None`; the stream's name follows. A stream's own
        /// `kafka.group.id` is used unchanged.
        id: Option<String>,
        /// For static membership: a name that this process keeps over restarts.
        instance: Option<String>,
        /// The address at which others reach this process by Arrow Flight, `host:port`.
        advertise: String,
    },
}

impl Assignment {
    /// True if this process reads `partition` as soon as the topic has it, without an assignment by a group.
    pub(crate) fn takes_found(&self, partition: Partition) -> bool {
        match self {
            Assignment::All => true,
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
    /// librdkafka properties for every stream; the stream's own properties override them.
    pub kafka: BTreeMap<String, String>,
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
            kafka: BTreeMap::new(),
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
pub(crate) fn kafka_properties(
    stream: &StreamName,
    config: &SpeedConfig,
    own: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let mut out: BTreeMap<String, String> = pairs(&DEFAULTS).into_iter().collect();
    let queue = queue_bytes(config.memory_budget);
    out.insert(QUEUE.into(), (queue >> 10).to_string());
    if !config.kafka.contains_key(LONGEST_MESSAGE) && !own.contains_key(LONGEST_MESSAGE) {
        let fetch = queue.max(SMALLEST_FETCH);
        out.insert("fetch.max.bytes".into(), fetch.to_string());
    }
    // librdkafka requires a group for every consumer; this client commits nothing to the group.
    out.insert("group.id".into(), format!("thalweg-{stream}"));
    out.extend(config.kafka.clone());
    out.extend(own.clone());
    out.extend(pairs(&FIXED));
    out
}

/// The prefix of the client id of a worker in the group; the Flight address follows.
pub(crate) const WORKER: &str = "thalweg-speed@";

/// Defaults of the membership client. The group notices a dead worker after the session timeout. A live worker learns
/// of a change with its next heartbeat, twice per partition that moves, so heartbeats are frequent. New partitions of
/// the topic are looked for as often as by the other clients.
const MEMBER_DEFAULTS: [(&str, &str); 3] =
    [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500"), ("topic.metadata.refresh.interval.ms", "10000")];

/// The name of the group that reads `stream`.
pub(crate) fn group(stream: &StreamName, id: Option<&str>, own: &BTreeMap<String, String>) -> String {
    match own.get("group.id") {
        Some(group) => group.clone(),
        None => format!("{}-{stream}", id.unwrap_or("thalweg")),
    }
}

/// Every librdkafka property of the client that is a member of the group and reads nothing.
pub(crate) fn member_properties(
    stream: &StreamName,
    config: &SpeedConfig,
    own: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> =
        MEMBER_DEFAULTS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    out.extend(kafka_properties(stream, config, own));
    let mut set = |key: &str, value: String| out.insert(key.to_owned(), value);
    set("partition.assignment.strategy", "cooperative-sticky".into());
    set("statistics.interval.ms", "0".into());
    if let Assignment::Group { id, instance, advertise } = &config.assignment {
        set("group.id", group(stream, id.as_deref(), own));
        set("client.id", format!("{WORKER}{advertise}"));
        if let Some(instance) = instance {
            // The stream's name is part of the instance id: two clients with one id in a shared group would fence
            // each other.
            set("group.instance.id", format!("{instance}-{stream}"));
        }
    }
    out
}

/// The number of bytes that librdkafka may fetch ahead for `stream`: the user's setting, or the default from the
/// budget.
pub(crate) fn queue_of(config: &SpeedConfig, own: &BTreeMap<String, String>) -> usize {
    let set = own.get(QUEUE).or_else(|| config.kafka.get(QUEUE));
    set.and_then(|kib| kib.trim().parse::<usize>().ok())
        .map_or_else(|| queue_bytes(config.memory_budget), |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn config(kafka: &[(&str, &str)], memory_budget: usize) -> SpeedConfig {
        SpeedConfig { kafka: of(kafka), memory_budget, ..SpeedConfig::default() }
    }

    #[test]
    fn a_member_is_named_for_its_group_its_stream_and_its_address() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let check = |id: Option<&str>, instance: Option<&str>, own: Pairs<'_>, expect: Pairs<'_>| {
            let config = SpeedConfig {
                assignment: Assignment::Group {
                    id: id.map(str::to_owned),
                    instance: instance.map(str::to_owned),
                    advertise: "here:9200".into(),
                },
                ..SpeedConfig::default()
            };
            let own = own.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let all = member_properties(&StreamName::new("s").unwrap(), &config, &own);
            for (key, value) in expect {
                assert_eq!(all.get(*key).map_or("", String::as_str), *value, "{key}");
            }
        };
        let names = [
            ("group.id", "thalweg-s"),
            ("client.id", "thalweg-speed@here:9200"),
            ("group.instance.id", ""),
            ("enable.auto.commit", "false"),
            ("session.timeout.ms", "6000"),
        ];
        check(None, None, &[], &names);
        check(Some("a"), Some("w1"), &[], &[("group.id", "a-s"), ("group.instance.id", "w1-s")]);
        let own = [("group.id", "mine"), ("session.timeout.ms", "9000"), ("client.id", "x")];
        let kept = [("group.id", "mine"), ("session.timeout.ms", "9000"), names[1]];
        check(Some("a"), None, &own, &kept);
    }

    #[test]
    fn found_partitions_are_taken_by_range() {
        let check = |assignment: &Assignment, expect: &[i32]| {
            let got = assignment.at_start((0..4).map(Partition));
            let got: Vec<i32> = got.iter().map(|p| p.0).collect();
            assert_eq!(got, expect, "{assignment:?}");
        };
        check(&Assignment::All, &[0, 1, 2, 3]);
        let range = [1, 2, 9].map(Partition).into();
        check(&Assignment::Static(range), &[1, 2]);
        let group = Assignment::Group { id: None, instance: None, advertise: "a:1".into() };
        check(&group, &[]);
    }

    #[test]
    fn the_stream_wins_over_the_configuration_and_the_promise_over_both() {
        let all = kafka_properties(
            &StreamName::new("s").unwrap(),
            &config(&[("bootstrap.servers", "a"), ("fetch.wait.max.ms", "7")], 1),
            &of(&[("bootstrap.servers", "b"), ("auto.offset.reset", "earliest")]),
        );
        assert_eq!(all["bootstrap.servers"], "b");
        assert_eq!(all["fetch.wait.max.ms"], "7");
        assert_eq!(all["auto.offset.reset"], "error");
        assert_eq!(all["group.id"], "thalweg-s");
    }

    #[test]
    fn what_is_fetched_ahead_follows_from_the_budget() {
        let check = |common: &[(&str, &str)], own: &[(&str, &str)], budget, kib: &str, fetch| {
            let (config, own) = (config(common, budget), of(own));
            let all = kafka_properties(&StreamName::new("s").unwrap(), &config, &own);
            assert_eq!(all[QUEUE], kib);
            assert_eq!(queue_of(&config, &own), kib.parse::<usize>().unwrap() << 10);
            assert_eq!(all.get("fetch.max.bytes").map(String::as_str), fetch);
        };
        check(&[], &[], 1 << 30, "32768", Some("33554432"));
        check(&[], &[], 16 << 20, "1024", Some("1048576"));
        check(&[], &[], 2 << 20, "128", Some("1048576"));
        check(&[(QUEUE, "7")], &[], 1 << 30, "7", Some("33554432"));
        check(&[(QUEUE, "7")], &[(QUEUE, "9")], 1 << 30, "9", Some("33554432"));
        check(&[], &[(LONGEST_MESSAGE, "5000000")], 1 << 20, "128", None);
    }
}
