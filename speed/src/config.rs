//! What the speed layer can be told.
//!
//! Invariant: a property of the stream wins over the configuration, and what the exactness of answers rests on wins
//! over both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thalweg_schemas::{Partition, StreamName};

use crate::budget::queue_bytes;
use thalweg_schemas::clock::MonotonicClock;

/// Which partitions of every stream this process reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Assignment {
    /// All of them, also those that the topic is given later.
    #[default]
    All,
    /// These, as far as the topic has them, now or later.
    Static(BTreeSet<Partition>),
    /// Those that a Kafka consumer group gives it; they come and go.
    Group {
        /// What the group's name begins with, `thalweg` if `None`; the stream's name follows. A stream's own
        /// `kafka.group.id` is taken as it is.
        id: Option<String>,
        /// For static membership: a name of this process that it keeps over restarts.
        instance: Option<String>,
        /// Where others reach this process by Arrow Flight, `host:port`.
        advertise: String,
    },
}

impl Assignment {
    /// True if a partition that the topic is given later is read here without anybody saying so.
    pub(crate) fn takes_found(&self, partition: Partition) -> bool {
        match self {
            Assignment::All => true,
            Assignment::Static(range) => range.contains(&partition),
            // The group says so.
            Assignment::Group { .. } => false,
        }
    }

    /// Those of `found` that are read from the start on.
    pub(crate) fn at_start(&self, found: impl Iterator<Item = Partition>) -> BTreeSet<Partition> {
        found.filter(|p| self.takes_found(*p)).collect()
    }
}

/// How every stream is ingested.
#[derive(Debug, Clone)]
pub struct SpeedConfig {
    pub assignment: Assignment,
    /// librdkafka properties for every stream; the stream's own win.
    pub kafka: BTreeMap<String, String>,
    /// A micro-batch ends at this many messages …
    pub micro_batch_rows: usize,
    /// … or this long after its first one.
    pub micro_batch_wait: Duration,
    /// An epoch ends when its rows take this much memory …
    pub epoch_bytes: usize,
    /// … or this long after its first one.
    pub epoch_interval: Duration,
    /// An epoch's end is a mark if the last mark is older than this.
    pub mark_interval: Duration,
    /// Bytes that messages, rows and states may take: reading pauses before it is passed. See `budget.rs`.
    pub memory_budget: usize,
    /// How long readers may go on with what newer versions have replaced.
    pub grace: Duration,
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
            clock: MonotonicClock::system(),
        }
    }
}

/// Properties that users may change. The back-off is short because the default of one second would idle a reader that
/// drains faster than it.
const DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "thalweg"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("socket.keepalive.enable", "true"),
    ("statistics.interval.ms", "1000"),
];

const QUEUE: &str = "queued.max.messages.kbytes";
const LONGEST_MESSAGE: &str = "message.max.bytes";

/// Properties that are part of the promise: the frontier is the only position, and nothing is skipped silently.
const FIXED: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];

/// A whole fetch response is in memory at once. librdkafka refuses a smaller `fetch.max.bytes` than a message may have.
const SMALLEST_FETCH: usize = 1 << 20;

/// Every librdkafka property for `stream`, secrets as they were written.
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
    // librdkafka wants a group for every consumer; nothing is committed to it.
    out.insert("group.id".into(), format!("thalweg-{stream}"));
    out.extend(config.kafka.clone());
    out.extend(own.clone());
    out.extend(pairs(&FIXED));
    out
}

/// What a worker's client in the group is called, before its Flight address.
pub(crate) const WORKER: &str = "thalweg-speed@";

/// Of the membership client, where users say nothing. A worker that dies is missed after the session's time; one that
/// is alive hears of a change with its next heartbeat, twice per partition that moves, hence often. Partitions that the
/// topic is given later are looked for as often as elsewhere.
const MEMBER_DEFAULTS: [(&str, &str); 3] =
    [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500"), ("topic.metadata.refresh.interval.ms", "10000")];

/// The group that reads `stream`.
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
            // One client per stream: two of one name would drive each other out of a group that they share.
            set("group.instance.id", format!("{instance}-{stream}"));
        }
    }
    out
}

/// What librdkafka may fetch ahead for `stream`: its user's word, or what follows from the budget.
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
