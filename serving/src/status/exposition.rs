//! The state of the sources at the time of a scrape, as metric families.
//!
//! Invariant: families are built anew for each scrape, so a removed stream or partition leaves no series behind.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Frontier, StreamName};

use crate::metrics::Metrics;
use crate::sources::Sources;
use crate::status::stream::{StreamCondition, StreamConditions};
use crate::workers::Workers;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStream {
    stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    stream: String,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWorker {
    worker: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfView {
    view: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfViewPartition {
    view: String,
    partition: i32,
}

type Gauges<L> = Family<L, Gauge>;
type FloatGauges<L> = Family<L, Gauge<f64, AtomicU64>>;

/// All gauges that a scrape fills.
#[derive(Default)]
struct Live {
    up: Gauges<OfStream>,
    caught_up: Gauges<OfStream>,
    paused: Gauges<OfStream>,
    memory: Gauges<OfStream>,
    budget: Gauges<OfStream>,
    archive_version: Gauges<OfStream>,
    archive_files: Gauges<OfStream>,
    events: Family<OfPartition, Counter>,
    rejects: Family<OfPartition, Counter>,
    lag: Gauges<OfPartition>,
    waiting: Gauges<OfPartition>,
    frontier: Gauges<OfPartition>,
    archive_frontier: Gauges<OfPartition>,
    latest_event: FloatGauges<OfPartition>,
    failed: Gauges<OfView>,
    not_understood: Gauge,
    segments: Gauges<OfView>,
    segment_bytes: Gauges<OfView>,
    batch_version: Gauges<OfView>,
    batch_files: Gauges<OfView>,
    batch_published: FloatGauges<OfView>,
    cut: Gauges<OfViewPartition>,
    unheld: Gauges<OfStream>,
    worker_up: Gauges<OfWorker>,
}

/// Returns the text of a scrape: the counters of this process, then the state of the sources.
pub(crate) fn encode(sources: &Sources, stream_conditions: &StreamConditions) -> Result<String, std::fmt::Error> {
    let catalog = sources.shared.catalog.borrow().clone();
    let published = sources.shared.published.borrow().clone();
    encode_of(&sources.metrics, &catalog, &published, stream_conditions)
}

/// As [`encode`], for a process without queries.
pub(crate) fn encode_of(
    metrics: &Metrics,
    catalog: &Catalog,
    published: &Published,
    stream_conditions: &StreamConditions,
) -> Result<String, std::fmt::Error> {
    let live = Live::default();
    for (name, standing) in &stream_conditions.streams {
        live.add_stream(name, standing);
    }
    live.add_views(metrics, stream_conditions, catalog, published);
    let kept = catalog.views.values().filter(|view| view.not_understood().is_some()).count();
    live.not_understood.set(count(kept + catalog.kept_streams.len()));
    let mut text = String::new();
    encode_registry(&mut text, &metrics.registry)?;
    let mut registry = Registry::with_prefix("thalweg");
    if let Some((workers, statuses)) = &stream_conditions.workers {
        for (address, status) in statuses.iter() {
            let worker = OfWorker { worker: address.clone() };
            set(&live.worker_up, &worker, i64::from(status.is_ok()));
        }
        live.register_workers(&mut registry, workers);
    }
    live.register(&mut registry);
    encode_registry(&mut text, &registry)?;
    encode_eof(&mut text)?;
    Ok(text)
}

impl Live {
    fn add_stream(&self, name: &StreamName, standing: &StreamCondition) {
        let stream = OfStream { stream: name.to_string() };
        let up = standing.failure.is_none();
        set(&self.up, &stream, i64::from(up));
        if let Some(holders) = &standing.holders {
            set(&self.unheld, &stream, count(holders.unheld.len()));
        }
        set(&self.caught_up, &stream, i64::from(standing.caught_up));
        let Some(frontier) = &standing.frontier else {
            return;
        };
        set(&self.paused, &stream, i64::from(standing.paused));
        set(&self.memory, &stream, count(standing.memory_bytes));
        set(&self.budget, &stream, count(standing.memory_budget));
        set_frontier(&self.frontier, name, frontier);
        if let Some(master) = &standing.master {
            let version = i64::try_from(master.version).unwrap_or(i64::MAX);
            set(&self.archive_version, &stream, version);
            set(&self.archive_files, &stream, count(master.files.len()));
            set_frontier(&self.archive_frontier, name, &master.frontier);
        }
        self.add_health(name, standing);
    }

    fn add_health(&self, name: &StreamName, standing: &StreamCondition) {
        for (partition, health) in &standing.health {
            let labels = OfPartition { stream: name.to_string(), partition: partition.0 };
            self.events.get_or_create(&labels).inc_by(health.rows);
            self.rejects.get_or_create(&labels).inc_by(health.rejects);
            set(&self.lag, &labels, health.lag);
            set(&self.waiting, &labels, i64::from(health.waiting.is_some()));
            if let Some(us) = health.latest_event_us {
                let seconds = us as f64 / 1e6;
                self.latest_event.get_or_create(&labels).set(seconds);
            }
        }
    }

    fn add_views(
        &self,
        metrics: &Metrics,
        stream_conditions: &StreamConditions,
        catalog: &Catalog,
        published: &Published,
    ) {
        for (name, view) in &catalog.views {
            let Some(compiled) = view.serving.as_ref().or(view.building.as_ref()) else {
                continue;
            };
            let labels = OfView { view: name.to_string() };
            let standing = stream_conditions.streams.get(compiled.plan.stream());
            let id = compiled.plan.id();
            let failed = standing.is_some_and(|s| s.failed.contains_key(id)) || metrics.run_failure(id).is_some();
            set(&self.failed, &labels, i64::from(failed));
            if let Some(held) = standing.and_then(|s| s.views.get(compiled.plan.id())) {
                set(&self.segments, &labels, count(held.count));
                if let Some(bytes) = held.bytes {
                    set(&self.segment_bytes, &labels, count(bytes));
                }
            }
            if let Some(batch) = published.versions.get(compiled.plan.id()) {
                let version = i64::try_from(batch.version).unwrap_or(i64::MAX);
                set(&self.batch_version, &labels, version);
                set(&self.batch_files, &labels, count(batch.files.len()));
                let seconds = batch.published_ms as f64 / 1e3;
                self.batch_published.get_or_create(&labels).set(seconds);
                for (partition, offset) in batch.cut.iter() {
                    let labels = OfViewPartition { view: name.to_string(), partition: partition.0 };
                    set(&self.cut, &labels, offset.0);
                }
            }
        }
    }

    fn register_workers(&self, all: &mut Registry, workers: &Workers) {
        let counts = workers.counts();
        all.register("worker_up", "1 while a speed worker answers, 0 while it does not", self.worker_up.clone());
        all.register("partitions_unheld", "Partitions that no speed worker holds", self.unheld.clone());
        all.register(
            "pin_seconds",
            "Time until every speed worker has answered a query's pin",
            counts.pin_seconds.clone(),
        );
        all.register("remote_bytes", "Bytes of states and rows received from speed workers", counts.bytes.clone());
    }

    fn register(self, all: &mut Registry) {
        all.register("stream_up", "1 while a stream's speed layer runs, 0 while it is stopped by an error", self.up);
        all.register("stream_caught_up", "1 once a stream has read what its log held at the start", self.caught_up);
        all.register(
            "paused",
            "1 while reading from Kafka is paused because the memory budget is reached",
            self.paused,
        );
        all.register("memory_bytes", "Bytes held in rows and segments", self.memory);
        all.register("memory_budget_bytes", "The budget for rows and segments", self.budget);
        all.register(
            "archive_version",
            "Version of the master dataset: the number of its commits",
            self.archive_version,
        );
        all.register("archive_files", "Files of the master dataset", self.archive_files);
        all.register("events", "Rows read since the process started", self.events);
        all.register("rejects", "Messages that could not be decoded since the process started", self.rejects);
        all.register("lag", "Messages that are in Kafka and not yet read", self.lag);
        all.register(
            "waiting_for_schema",
            "1 while a partition waits for the schema of its next message; /v1/streams says why",
            self.waiting,
        );
        all.register("frontier", "The next offset to be read: everything below it is answered", self.frontier);
        all.register("archive_frontier", "The next offset to be archived", self.archive_frontier);
        all.register(
            "latest_event_timestamp_seconds",
            "Latest event time seen since the process started",
            self.latest_event,
        );
        all.register(
            "view_failed",
            "1 while a view cannot go on, or while its runs fail; /v1/views says why",
            self.failed,
        );
        all.register(
            "definitions_not_understood",
            "Definitions of the catalog that need a newer version of the program",
            self.not_understood,
        );
        all.register("segments", "Realtime segments held for a view", self.segments);
        all.register("segment_bytes", "Bytes of the realtime segments held for a view", self.segment_bytes);
        all.register("batch_version", "Version of a view's batch states", self.batch_version);
        all.register("batch_files", "Files of a view's newest batch states", self.batch_files);
        all.register(
            "batch_published_timestamp_seconds",
            "When a view's newest batch states were published",
            self.batch_published,
        );
        all.register("cut", "The frontier of a view's newest batch states", self.cut);
    }
}

fn set<L>(gauges: &Gauges<L>, labels: &L, value: i64)
where
    L: Clone + Eq + std::hash::Hash,
{
    gauges.get_or_create(labels).set(value);
}

fn set_frontier(gauges: &Gauges<OfPartition>, stream: &StreamName, frontier: &Frontier) {
    for (partition, offset) in frontier.iter() {
        let labels = OfPartition { stream: stream.to_string(), partition: partition.0 };
        set(gauges, &labels, offset.0);
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
