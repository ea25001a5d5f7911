//! The rows of `thalweg.workers`: what each worker says of each stream that it reads.
//!
//! Invariant: a worker that does not answer has one row, without a stream and with the reason.

use std::collections::BTreeMap;

use serde::Serialize;
use thalweg_schemas::ViewId;
use thalweg_schemas::api::streams::WorkerEntry;
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::realtime::protocol::WorkerStream;

use super::rows::json;

#[derive(Serialize)]
pub(super) struct WorkerRow {
    address: String,
    up: bool,
    reason: Option<String>,
    worker: Option<String>,
    stream: Option<String>,
    failure: Option<String>,
    waiting: Option<String>,
    archive_failure: Option<String>,
    frontier: Option<String>,
    /// The partitions that have caught up, as a JSON array.
    caught_up: Option<String>,
    lag: Option<i64>,
    rows: Option<u64>,
    rejects: Option<u64>,
    /// Microseconds since 1970.
    latest_event: Option<i64>,
    /// Views that are held.
    views: Option<usize>,
    segments: Option<usize>,
    /// What failed, by the ids of views, as a JSON object.
    failed_views: Option<String>,
    delayed_views: Option<String>,
    memory_bytes: Option<usize>,
    memory_budget: Option<usize>,
    paused: Option<bool>,
}

impl WorkerRow {
    pub(super) fn of(worker: &WorkerEntry) -> Vec<Self> {
        let streams = worker.status.iter().flat_map(|status| &status.streams);
        let mut rows: Vec<Self> = streams.map(|(name, stream)| Self::reading(worker, name.as_str(), stream)).collect();
        if rows.is_empty() {
            rows.push(Self::idle(worker));
        }
        rows
    }

    fn idle(worker: &WorkerEntry) -> Self {
        Self {
            address: worker.address.clone(),
            up: worker.up,
            reason: worker.reason.clone(),
            worker: worker.status.as_ref().map(|status| status.worker.clone()),
            stream: None,
            failure: None,
            waiting: None,
            archive_failure: None,
            frontier: None,
            caught_up: None,
            lag: None,
            rows: None,
            rejects: None,
            latest_event: None,
            views: None,
            segments: None,
            failed_views: None,
            delayed_views: None,
            memory_bytes: None,
            memory_budget: None,
            paused: None,
        }
    }

    fn reading(worker: &WorkerEntry, name: &str, stream: &WorkerStream) -> Self {
        let health = || stream.health.values();
        let caught_up: Vec<String> = stream.caught_up.iter().map(ToString::to_string).collect();
        Self {
            stream: Some(name.to_owned()),
            failure: stream.failure.clone(),
            waiting: stream.waiting.clone(),
            archive_failure: stream.archive_failure.clone(),
            frontier: stream.frontier.as_ref().map(json),
            caught_up: Some(format!("[{}]", caught_up.join(","))),
            lag: Some(health().map(|partition| partition.lag).sum()),
            rows: Some(health().map(|partition| partition.rows).sum()),
            rejects: Some(health().map(|partition| partition.rejects).sum()),
            latest_event: health().filter_map(|partition| partition.latest_event_us).max(),
            views: Some(stream.segments.len()),
            segments: Some(stream.segments.values().sum()),
            failed_views: said(&stream.failed),
            delayed_views: said(&stream.delayed),
            memory_bytes: Some(stream.memory_bytes),
            memory_budget: Some(stream.memory_budget),
            paused: Some(stream.paused),
            ..Self::idle(worker)
        }
    }
}

/// The sentences of failures as JSON; `None` without a failure.
fn said(failures: &BTreeMap<ViewId, ViewFailure>) -> Option<String> {
    let said: BTreeMap<String, String> =
        failures.iter().map(|(id, failure)| (id.to_string(), failure.sentence())).collect();
    (!said.is_empty()).then(|| serde_json::to_string(&said).ok()).flatten()
}
