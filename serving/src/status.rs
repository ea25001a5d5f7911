//! How streams and views are doing, as JSON for `status` and consoles.
//!
//! Invariant: everything shown is read from the sources at the time of the request.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use thalweg_schemas::catalog::{Catalog, CatalogStream, CatalogView, CompiledView};
use thalweg_schemas::dataset::Published;
use thalweg_schemas::snapshot::{PartitionHealth, StreamHandle, StreamSnapshot};
use thalweg_schemas::{Frontier, Offset, Partition, ViewName};

use crate::metrics::RunSummary;
use crate::sources::Sources;

/// `GET /v1/streams`: `{"streams": [...]}`.
#[derive(Debug, Serialize)]
pub(crate) struct Streams {
    streams: Vec<StreamStatus>,
}

#[derive(Debug, Serialize)]
struct StreamStatus {
    name: String,
    topic: String,
    /// `starting`, `waiting_for_kafka`, `catching_up`, `running` or `stopped`.
    status: &'static str,
    /// Why it is stopped or waits, and what to do.
    failure: Option<String>,
    /// True if queries are answered, if only at the frontier that was reached before Kafka went away.
    answers: bool,
    /// Why rows are not archived at the moment. They are served from memory, and archiving is tried again.
    archive_failure: Option<String>,
    origin: Frontier,
    frontier: Option<Frontier>,
    archive_frontier: Option<Frontier>,
    mark: Option<Frontier>,
    archive_version: Option<u64>,
    archive_files: Option<usize>,
    /// Messages not yet read.
    lag: i64,
    /// Since the process started.
    rows: u64,
    rejects: u64,
    /// ISO 8601, UTC.
    latest_event: Option<String>,
    memory_bytes: usize,
    memory_budget: usize,
    paused: bool,
    partitions: BTreeMap<Partition, PartitionStatus>,
    sql: String,
}

#[derive(Debug, Serialize)]
struct PartitionStatus {
    frontier: Offset,
    archive_frontier: Offset,
    high_watermark: Option<Offset>,
    lag: i64,
    rows: u64,
    rejects: u64,
    latest_event: Option<String>,
}

/// `GET /v1/views`: `{"views": [...]}`.
#[derive(Debug, Serialize)]
pub(crate) struct Views {
    views: Vec<ViewStatus>,
}

#[derive(Debug, Serialize)]
struct ViewStatus {
    name: ViewName,
    stream: String,
    /// `serving`, or `building` until the first batch version is published.
    status: &'static str,
    id: String,
    /// The id that will replace `id` once it is built.
    building: Option<String>,
    /// B: the frontier of the newest batch version.
    cut: Option<Frontier>,
    /// F of the stream.
    frontier: Option<Frontier>,
    /// When the newest batch version was published: ISO 8601, UTC, and its age.
    published: Option<String>,
    age_seconds: Option<f64>,
    batch_version: Option<u64>,
    batch_files: Option<usize>,
    /// Groups over all batch files; a group that is in several files counts in each.
    batch_rows: Option<u64>,
    segments: Option<usize>,
    segment_bytes: Option<usize>,
    /// What may grow without bound, for example.
    warnings: Vec<String>,
    /// The newest recomputation that this process has run.
    last_run: Option<RunSummary>,
    sql: String,
}

/// `GET /v1/process`.
#[derive(Debug, Serialize)]
pub(crate) struct Process {
    version: &'static str,
    uptime_seconds: f64,
    queries_running: i64,
    /// Since the process started; definitions count too.
    queries_answered: u64,
    queries_failed: u64,
}

/// The process itself.
pub(crate) fn process(sources: &Sources) -> Process {
    let queries = sources.metrics.queries();
    Process {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: sources.metrics.uptime().as_secs_f64(),
        queries_running: queries.running,
        queries_answered: queries.answered,
        queries_failed: queries.failed,
    }
}

/// All streams of the catalog.
pub(crate) fn streams(sources: &Sources) -> Streams {
    let catalog = sources.catalog.borrow().clone();
    let handles = sources.streams.borrow().clone();
    let streams = catalog
        .streams
        .values()
        .map(|stream| stream_status(stream, handles.get(&stream.definition.name)))
        .collect();
    Streams { streams }
}

fn stream_status(stream: &CatalogStream, handle: Option<&StreamHandle>) -> StreamStatus {
    let failure = handle.and_then(|h| h.failure.borrow().clone());
    let archive_failure = handle.and_then(|h| h.archive_failure.borrow().clone());
    let snapshot = handle.and_then(|h| h.snapshots.borrow().clone());
    let snapshot = snapshot.as_deref();
    let waiting = snapshot.and_then(|s| s.waiting.clone());
    let answers = failure.is_none() && snapshot.is_some_and(|s| s.caught_up);
    let status = match (&failure, snapshot) {
        (Some(_), _) => "stopped",
        (None, None) => "starting",
        (None, Some(_)) if waiting.is_some() => "waiting_for_kafka",
        (None, Some(s)) if !s.caught_up => "catching_up",
        (None, Some(_)) => "running",
    };
    let health = || snapshot.iter().flat_map(|s| s.health.values());
    StreamStatus {
        name: stream.definition.name.to_string(),
        topic: stream.definition.topic.clone(),
        status,
        failure: failure.or(waiting),
        answers,
        archive_failure,
        origin: stream.origin.clone(),
        frontier: snapshot.map(|s| s.frontier.clone()),
        archive_frontier: snapshot.map(|s| s.master.frontier.clone()),
        mark: snapshot.map(|s| s.master.mark.clone()),
        archive_version: snapshot.map(|s| s.master.version),
        archive_files: snapshot.map(|s| s.master.files.len()),
        lag: health().map(|h| h.lag).sum(),
        rows: health().map(|h| h.rows).sum(),
        rejects: health().map(|h| h.rejects).sum(),
        latest_event: health()
            .filter_map(|h| h.latest_event_us)
            .max()
            .and_then(iso),
        memory_bytes: snapshot.map_or(0, |s| s.memory_bytes),
        memory_budget: snapshot.map_or(0, |s| s.memory_budget),
        paused: snapshot.is_some_and(|s| s.paused),
        partitions: snapshot.map(partitions).unwrap_or_default(),
        sql: stream.definition.shown_sql(),
    }
}

fn partitions(snapshot: &StreamSnapshot) -> BTreeMap<Partition, PartitionStatus> {
    let unknown = PartitionHealth::default();
    snapshot
        .frontier
        .iter()
        .map(|(partition, frontier)| {
            let health = snapshot.health.get(&partition).unwrap_or(&unknown);
            let status = PartitionStatus {
                frontier,
                archive_frontier: snapshot.master.frontier.get(partition),
                high_watermark: health.high_watermark,
                lag: health.lag,
                rows: health.rows,
                rejects: health.rejects,
                latest_event: health.latest_event_us.and_then(iso),
            };
            (partition, status)
        })
        .collect()
}

/// All views of the catalog.
pub(crate) fn views(sources: &Sources) -> Views {
    let catalog = sources.catalog.borrow().clone();
    let published = sources.published.borrow().clone();
    let now_ms = Utc::now().timestamp_millis();
    let views = catalog
        .views
        .iter()
        .filter_map(|(name, view)| view_status(sources, &published, now_ms, name, view))
        .collect();
    Views { views }
}

fn view_status(
    sources: &Sources,
    published: &Published,
    now_ms: i64,
    name: &ViewName,
    view: &CatalogView,
) -> Option<ViewStatus> {
    let shown: &CompiledView = view.serving.as_ref().or(view.building.as_ref())?;
    let id = shown.plan.id();
    let replacing = match (&view.serving, &view.building) {
        (Some(_), Some(building)) => Some(building.plan.id().to_string()),
        _ => None,
    };
    let snapshot = sources
        .streams
        .borrow()
        .get(shown.plan.stream())
        .and_then(|handle| handle.snapshots.borrow().clone());
    let held = snapshot.as_ref().and_then(|s| s.views.get(id));
    let batch = published.versions.get(id);
    Some(ViewStatus {
        name: name.clone(),
        stream: shown.plan.stream().to_string(),
        status: if view.serving.is_some() {
            "serving"
        } else {
            "building"
        },
        id: id.to_string(),
        building: replacing,
        cut: batch.map(|b| b.cut.clone()),
        frontier: snapshot.as_ref().map(|s| s.frontier.clone()),
        published: batch.and_then(|b| iso(b.published_ms.saturating_mul(1000))),
        age_seconds: batch.map(|b| (now_ms - b.published_ms) as f64 / 1e3),
        batch_version: batch.map(|b| b.version),
        batch_files: batch.map(|b| b.files.len()),
        batch_rows: batch.and_then(|b| b.files.iter().map(|f| f.rows).sum()),
        segments: held.map(|h| h.iter().count()),
        segment_bytes: held.map(|h| h.bytes()),
        warnings: shown.plan.warnings().to_vec(),
        last_run: sources.metrics.last_run(name),
        sql: shown.definition.sql.clone(),
    })
}

/// Why the server cannot answer everything that the catalog names, if it cannot: one sentence per stream or view.
pub(crate) fn not_ready(sources: &Sources) -> Vec<String> {
    let catalog = sources.catalog.borrow().clone();
    let handles = sources.streams.borrow().clone();
    let published = sources.published.borrow().clone();
    let mut reasons = Vec::new();
    for stream in catalog.streams.values() {
        let shown = stream_status(stream, handles.get(&stream.definition.name));
        if !shown.answers {
            let reason = shown.failure.unwrap_or_else(|| shown.status.to_owned());
            reasons.push(format!("stream `{}`: {reason}", shown.name));
        }
    }
    reasons.extend(views_not_ready(&catalog, &published, |view| {
        handles
            .get(view.plan.stream())
            .and_then(|handle| handle.snapshots.borrow().clone())
            .is_some_and(|s| s.views.contains_key(view.plan.id()))
    }));
    reasons
}

fn views_not_ready(
    catalog: &Catalog,
    published: &Published,
    held: impl Fn(&CompiledView) -> bool,
) -> Vec<String> {
    catalog
        .views
        .iter()
        .filter_map(|(name, view)| match &view.serving {
            None => Some(format!("view `{name}`: building")),
            Some(v) if !published.versions.contains_key(v.plan.id()) => {
                Some(format!("view `{name}`: no batch version is known yet"))
            }
            Some(v) if !held(v) => Some(format!("view `{name}`: rebuilding its realtime state")),
            Some(_) => None,
        })
        .collect()
}

/// Microseconds since 1970 as ISO 8601 in UTC; none if it is no date.
fn iso(us: i64) -> Option<String> {
    DateTime::<Utc>::from_timestamp_micros(us)
        .map(|t| t.to_rfc3339_opts(SecondsFormat::Micros, true))
}
