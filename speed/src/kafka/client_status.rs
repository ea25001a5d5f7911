//! The state of a client from librdkafka's statistics: high watermarks, and whether a broker is connected.
//!
//! Invariant: a high watermark never decreases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Statistics};
use thalweg_schemas::{Frontier, Offset, Partition};

/// The newest statistics of one client. librdkafka writes them, and the consumer thread reads them.
#[derive(Default)]
pub(crate) struct ClientStatus {
    high: Mutex<HashMap<String, Frontier>>,
    disconnected: AtomicBool,
}

impl ClientStatus {
    /// True if no broker is connected.
    pub(super) fn is_disconnected(&self) -> bool {
        self.disconnected.load(Ordering::Relaxed)
    }

    /// The high watermarks of `topic`, if they differ from `known`.
    pub(super) fn newer_high(&self, topic: &str, known: &Frontier) -> Option<Frontier> {
        self.high.lock().get(topic).filter(|high| *high != known).cloned()
    }
}

impl ClientContext for ClientStatus {
    fn stats(&self, statistics: Statistics) {
        let connected = statistics.brokers.values().any(|b| b.state == "UP");
        self.disconnected.store(!connected, Ordering::Relaxed);
        let mut high = self.high.lock();
        for (topic, stats) in statistics.topics {
            let known = high.entry(topic).or_default();
            for (id, partition) in stats.partitions {
                if id >= 0 && partition.hi_offset >= 0 {
                    known.advance(Partition(id), Offset(partition.hi_offset));
                }
            }
        }
    }

    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        // The consumer returns connection problems as errors; this log is only for debugging.
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for ClientStatus {}
