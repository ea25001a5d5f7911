//! What the speed layer can be told.
//!
//! Invariant: a property of the stream wins over the configuration, and what the exactness of answers rests on wins
//! over both.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_schemas::StreamName;

use crate::clock::Clock;

/// How every stream is ingested.
#[derive(Debug, Clone)]
pub struct SpeedConfig {
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
    /// Bytes of rows and states at which reading pauses.
    pub memory_budget: usize,
    /// How long readers may go on with what newer versions have replaced.
    pub grace: Duration,
    pub clock: Clock,
}

impl Default for SpeedConfig {
    fn default() -> Self {
        Self {
            kafka: BTreeMap::new(),
            micro_batch_rows: 65_536,
            micro_batch_wait: Duration::from_millis(20),
            epoch_bytes: 256 << 20,
            epoch_interval: Duration::from_secs(60),
            mark_interval: Duration::from_secs(60),
            memory_budget: 1 << 30,
            grace: Duration::from_secs(60),
            clock: Clock::system(),
        }
    }
}

/// Properties that users may change. The queue is small because it is not charged to the memory budget, and its
/// back-off short because the default of one second would idle a reader that drains faster than it.
const DEFAULTS: [(&str, &str); 6] = [
    ("client.id", "thalweg"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "32768"),
    ("socket.keepalive.enable", "true"),
    ("statistics.interval.ms", "1000"),
];

/// Properties that are part of the promise: the frontier is the only position, and nothing is skipped silently.
const FIXED: [(&str, &str); 5] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];

/// Every librdkafka property for `stream`.
pub(crate) fn kafka_properties(
    stream: &StreamName,
    common: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let mut out: BTreeMap<String, String> = pairs(&DEFAULTS).into_iter().collect();
    // librdkafka wants a group for every consumer; nothing is committed to it.
    out.insert("group.id".into(), format!("thalweg-{stream}"));
    out.extend(common.clone());
    out.extend(own.clone());
    out.extend(pairs(&FIXED));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_wins_over_the_configuration_and_the_promise_over_both() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let all = kafka_properties(
            &StreamName::new("s").unwrap(),
            &of(&[("bootstrap.servers", "a"), ("fetch.wait.max.ms", "7")]),
            &of(&[
                ("bootstrap.servers", "b"),
                ("auto.offset.reset", "earliest"),
            ]),
        );
        assert_eq!(all["bootstrap.servers"], "b");
        assert_eq!(all["fetch.wait.max.ms"], "7");
        assert_eq!(all["auto.offset.reset"], "error");
        assert_eq!(all["group.id"], "thalweg-s");
    }
}
