//! The status of the process, its streams and its views, as clients see it.
//!
//! Invariant: every value is read from the sources at the time of the request.

pub(crate) mod stream;

pub(crate) mod exposition;
pub(crate) mod readiness;

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use thalweg_schemas::api::NotUnderstood;
use thalweg_schemas::api::process::ProcessStatus;
use thalweg_schemas::api::streams::{PartitionStatus, StreamList, StreamStatus, WorkerEntry};
use thalweg_schemas::api::views::{ViewList, ViewPhase, ViewStatus};
use thalweg_schemas::catalog::{Catalog, CatalogStream, CatalogView, CompiledView};
use thalweg_schemas::realtime::protocol::WorkerStatus;
use thalweg_schemas::realtime::snapshot::PartitionHealth;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Frontier, Offset, Partition, ViewName};

use crate::sources::Sources;
use crate::status::stream::{StreamCondition, StreamConditions, stream_conditions};

/// Returns the status of the process.
pub(crate) fn process(sources: &Sources) -> ProcessStatus {
    let queries = sources.metrics.queries();
    ProcessStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: sources.metrics.uptime().as_secs_f64(),
        queries_running: queries.running,
        queries_answered: queries.answered,
        queries_failed: queries.failed,
    }
}

/// Returns the status of all streams in the catalog.
pub(crate) async fn streams(sources: &Sources) -> StreamList {
    let catalog = sources.shared.catalog.borrow().clone();
    let stream_conditions = stream_conditions(sources).await;
    let unknown = StreamCondition::default();
    let streams = catalog.streams.iter().map(|(name, stream)| {
        let standing = stream_conditions.streams.get(name).unwrap_or(&unknown);
        stream_status(stream, standing)
    });
    StreamList {
        streams: streams.collect(),
        workers: stream_conditions.workers.map(|(_, statuses)| {
            let workers = statuses.iter().map(|(address, status)| worker(address, status));
            workers.collect()
        }),
        not_understood: kept_streams(&catalog),
    }
}

/// The streams that this process does not understand.
fn kept_streams(catalog: &Catalog) -> Vec<NotUnderstood> {
    let kept = catalog.kept_streams.iter();
    let kept = kept
        .map(|(name, kept)| NotUnderstood { name: name.to_string(), reason: kept.reason.clone().unwrap_or_default() });
    kept.collect()
}

/// The views that this process does not understand, or whose replacement it does not understand.
fn kept_views(catalog: &Catalog) -> Vec<NotUnderstood> {
    let kept = catalog.views.iter().filter_map(|(name, view)| {
        let reason = view.not_understood()?.to_owned();
        Some(NotUnderstood { name: name.to_string(), reason })
    });
    kept.collect()
}

fn worker(address: &str, status: &Result<WorkerStatus, String>) -> WorkerEntry {
    WorkerEntry {
        address: address.to_owned(),
        up: status.is_ok(),
        reason: status.as_ref().err().cloned(),
        status: status.as_ref().ok().cloned(),
    }
}

fn stream_status(stream: &CatalogStream, standing: &StreamCondition) -> StreamStatus {
    let health = || standing.health.values();
    let master = standing.master.as_deref();
    let holders = standing.holders.as_ref();
    StreamStatus {
        name: stream.definition.name.clone(),
        topic: stream.definition.topic.clone(),
        status: standing.phase(),
        failure: standing.reason().map(str::to_owned),
        answers: standing.answers(),
        archive_failure: standing.archive_failure.clone(),
        unheld: holders.map(|h| h.unheld.clone()).unwrap_or_default(),
        origin: stream.origin.clone(),
        frontier: standing.frontier.clone(),
        archive_frontier: master.map(|m| m.frontier.clone()),
        mark: master.map(|m| m.mark.clone()),
        archive_version: master.map(|m| m.version),
        archive_files: master.map(|m| m.files.len()),
        lag: health().map(|h| h.lag).sum(),
        rows: health().map(|h| h.rows).sum(),
        rejects: health().map(|h| h.rejects).sum(),
        latest_event: health().filter_map(|h| h.latest_event_us).max().and_then(iso),
        memory_bytes: standing.memory_bytes,
        memory_budget: standing.memory_budget,
        paused: standing.paused,
        partitions: partitions(standing),
        sql: stream.definition.shown_sql(),
    }
}

fn partitions(standing: &StreamCondition) -> BTreeMap<Partition, PartitionStatus> {
    let unknown = PartitionHealth::default();
    let partition = |(partition, frontier): (Partition, Offset)| {
        let health = standing.health.get(&partition).unwrap_or(&unknown);
        let archived = standing.master.as_ref().map(|m| m.frontier.get(partition));
        let holders = standing.holders.as_ref();
        let status = PartitionStatus {
            frontier,
            archive_frontier: archived.unwrap_or_default(),
            high_watermark: health.high_watermark,
            lag: health.lag,
            rows: health.rows,
            rejects: health.rejects,
            latest_event: health.latest_event_us.and_then(iso),
            waiting: health.waiting.clone(),
            worker: holders.and_then(|h| h.held.get(&partition).cloned()),
        };
        (partition, status)
    };
    standing.frontier.iter().flat_map(Frontier::iter).map(partition).collect()
}

/// Returns the status of all views in the catalog.
pub(crate) async fn views(sources: &Sources) -> ViewList {
    let stream_conditions = stream_conditions(sources).await;
    let catalog = sources.shared.catalog.borrow().clone();
    let published = sources.shared.published.borrow().clone();
    let now_ms = Utc::now().timestamp_millis();
    let views = catalog
        .views
        .iter()
        .filter_map(|(name, view)| view_status(sources, &stream_conditions, &published, now_ms, name, view))
        .collect();
    ViewList { views, not_understood: kept_views(&catalog) }
}

fn view_status(
    sources: &Sources,
    stream_conditions: &StreamConditions,
    published: &Published,
    now_ms: i64,
    name: &ViewName,
    view: &CatalogView,
) -> Option<ViewStatus> {
    let shown: &CompiledView = view.serving.as_ref().or(view.building.as_ref())?;
    let id = shown.plan.id();
    let replacing = match (&view.serving, &view.building) {
        (Some(_), Some(building)) => Some(building.plan.id().clone()),
        _ => None,
    };
    let standing = stream_conditions.streams.get(shown.plan.stream());
    let held = standing.and_then(|s| s.views.get(id));
    let batch = published.versions.get(id);
    let held_failure = standing.and_then(|s| s.failed.get(id)).map(|failure| failure.as_ref().clone());
    let delay = standing.and_then(|s| s.delayed.get(id));
    let run_failure = sources.metrics.run_failure(id);
    let status = match (&view.serving, &held_failure, &run_failure) {
        (_, Some(_), _) | (None, _, Some(_)) => ViewPhase::Failed,
        (Some(_), ..) => ViewPhase::Serving,
        (None, ..) => ViewPhase::Building,
    };
    Some(ViewStatus {
        name: name.clone(),
        stream: shown.plan.stream().clone(),
        status,
        id: id.clone(),
        building: replacing,
        cut: batch.map(|b| b.cut.clone()),
        frontier: standing.and_then(|s| s.frontier.clone()),
        published: batch.and_then(|b| iso(b.published_ms.saturating_mul(1000))),
        age_seconds: batch.map(|b| (now_ms - b.published_ms) as f64 / 1e3),
        batch_version: batch.map(|b| b.version),
        batch_files: batch.map(|b| b.files.len()),
        batch_rows: batch.and_then(|b| b.files.iter().map(|f| f.rows).sum()),
        segments: held.map(|h| h.count),
        segment_bytes: held.and_then(|h| h.bytes),
        failure: held_failure.or_else(|| delay.map(|failure| failure.as_ref().clone())).or(run_failure),
        warnings: shown.plan.warnings(),
        last_run: sources.metrics.last_run(name),
        sql: shown.definition.sql.clone(),
    })
}

/// Formats microseconds since 1970 as ISO 8601 in UTC; `None` if the value is not a date.
fn iso(us: i64) -> Option<String> {
    DateTime::<Utc>::from_timestamp_micros(us).map(|t| t.to_rfc3339_opts(SecondsFormat::Micros, true))
}
