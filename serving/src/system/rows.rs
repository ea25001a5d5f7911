//! The rows of the system tables, made from what the status of the server says.
//!
//! Invariant: a time is in microseconds since 1970, a frontier is JSON, and what is not known is NULL.

use std::sync::atomic::Ordering;

use serde::Serialize;
use thalweg_schemas::api::NotUnderstood;
use thalweg_schemas::api::runs::RunSummary;
use thalweg_schemas::api::streams::StreamStatus;
use thalweg_schemas::api::views::ViewStatus;
use thalweg_schemas::failure::FailedStep;
use thalweg_schemas::{Fault, Frontier};

use crate::activity::{ClientSession, EndedQuery, RunningQuery};
use crate::metrics::{EndedAudit, EndedRun};

/// `{"0": 12}`.
pub(super) fn json(frontier: &Frontier) -> String {
    let positions = frontier.iter().map(|(partition, offset)| format!("\"{}\":{}", partition.0, offset.0));
    format!("{{{}}}", positions.collect::<Vec<_>>().join(","))
}

fn micros(ms: i64) -> i64 {
    ms.saturating_mul(1000)
}

#[derive(Serialize)]
pub(super) struct StreamRow {
    name: String,
    topic: String,
    status: &'static str,
    failure: Option<String>,
    answers: bool,
    archive_failure: Option<String>,
    /// Partitions that no worker holds, with the reasons, as JSON.
    unheld: Option<String>,
    origin: String,
    frontier: Option<String>,
    archive_frontier: Option<String>,
    mark: Option<String>,
    archive_version: Option<u64>,
    archive_files: Option<usize>,
    lag: i64,
    rows: u64,
    rejects: u64,
    latest_event: Option<String>,
    memory_bytes: usize,
    memory_budget: usize,
    paused: bool,
    definition: String,
}

impl StreamRow {
    pub(super) fn of(stream: &StreamStatus) -> Self {
        Self {
            name: stream.name.to_string(),
            topic: stream.topic.clone(),
            status: stream.status.as_str(),
            failure: stream.failure.clone(),
            answers: stream.answers,
            archive_failure: stream.archive_failure.clone(),
            unheld: (!stream.unheld.is_empty()).then(|| serde_json::to_string(&stream.unheld).ok()).flatten(),
            origin: json(&stream.origin),
            frontier: stream.frontier.as_ref().map(json),
            archive_frontier: stream.archive_frontier.as_ref().map(json),
            mark: stream.mark.as_ref().map(json),
            archive_version: stream.archive_version,
            archive_files: stream.archive_files,
            lag: stream.lag,
            rows: stream.rows,
            rejects: stream.rejects,
            latest_event: stream.latest_event.clone(),
            memory_bytes: stream.memory_bytes,
            memory_budget: stream.memory_budget,
            paused: stream.paused,
            definition: stream.sql.clone(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct PartitionRow {
    stream: String,
    partition: i32,
    frontier: i64,
    archive_frontier: i64,
    high_watermark: Option<i64>,
    lag: i64,
    rows: u64,
    rejects: u64,
    latest_event: Option<String>,
    waiting: Option<String>,
    worker: Option<String>,
}

impl PartitionRow {
    pub(super) fn of(stream: &StreamStatus) -> impl Iterator<Item = Self> {
        stream.partitions.iter().map(|(partition, status)| Self {
            stream: stream.name.to_string(),
            partition: partition.0,
            frontier: status.frontier.0,
            archive_frontier: status.archive_frontier.0,
            high_watermark: status.high_watermark.map(|offset| offset.0),
            lag: status.lag,
            rows: status.rows,
            rejects: status.rejects,
            latest_event: status.latest_event.clone(),
            waiting: status.waiting.clone(),
            worker: status.worker.clone(),
        })
    }
}

/// Rejects of a partition since the process started; `rejects.STREAM` has the messages themselves.
#[derive(Serialize)]
pub(super) struct RejectRow {
    stream: String,
    partition: i32,
    rejects: u64,
    rows: u64,
}

impl RejectRow {
    pub(super) fn of(stream: &StreamStatus) -> impl Iterator<Item = Self> {
        stream.partitions.iter().map(|(partition, status)| Self {
            stream: stream.name.to_string(),
            partition: partition.0,
            rejects: status.rejects,
            rows: status.rows,
        })
    }
}

#[derive(Serialize)]
pub(super) struct ViewRow {
    name: String,
    stream: String,
    status: &'static str,
    id: String,
    building: Option<String>,
    cut: Option<String>,
    frontier: Option<String>,
    published: Option<String>,
    age_seconds: Option<f64>,
    batch_version: Option<u64>,
    batch_files: Option<usize>,
    batch_rows: Option<u64>,
    segments: Option<usize>,
    segment_bytes: Option<usize>,
    failure: Option<String>,
    failure_help: Option<&'static str>,
    failure_step: Option<FailedStep>,
    failure_fault: Option<Fault>,
    failure_reason: Option<String>,
    failure_expression: Option<String>,
    failure_from: Option<String>,
    failure_to: Option<String>,
    failing_since: Option<i64>,
    warnings: Option<String>,
    definition: String,
}

impl ViewRow {
    pub(super) fn of(view: &ViewStatus) -> Self {
        let failure = view.failure.as_ref();
        Self {
            name: view.name.to_string(),
            stream: view.stream.to_string(),
            status: view.status.as_str(),
            id: view.id.to_string(),
            building: view.building.as_ref().map(ToString::to_string),
            cut: view.cut.as_ref().map(json),
            frontier: view.frontier.as_ref().map(json),
            published: view.published.clone(),
            age_seconds: view.age_seconds,
            batch_version: view.batch_version,
            batch_files: view.batch_files,
            batch_rows: view.batch_rows,
            segments: view.segments,
            segment_bytes: view.segment_bytes,
            failure: failure.map(|failure| failure.sentence()),
            failure_help: failure.map(|failure| failure.advice()),
            failure_step: failure.map(|failure| failure.step),
            failure_fault: failure.map(|failure| failure.fault),
            failure_reason: failure.map(|failure| failure.reason.clone()),
            failure_expression: failure.and_then(|failure| failure.expression.clone()),
            failure_from: failure.map(|failure| json(&failure.from)),
            failure_to: failure.map(|failure| json(&failure.to)),
            failing_since: failure.map(|failure| micros(failure.since_ms)),
            warnings: (!view.warnings.is_empty()).then(|| view.warnings.join("\n")),
            definition: view.sql.clone(),
        }
    }
}

/// A definition that this version of the program does not understand.
#[derive(Serialize)]
pub(super) struct NotUnderstoodRow {
    /// `stream` or `view`.
    kind: &'static str,
    name: String,
    reason: String,
}

impl NotUnderstoodRow {
    pub(super) fn of(kind: &'static str, kept: &NotUnderstood) -> Self {
        Self { kind, name: kept.name.clone(), reason: kept.reason.clone() }
    }
}

#[derive(Serialize)]
pub(super) struct RunRow {
    view: String,
    view_id: String,
    mode: &'static str,
    outcome: &'static str,
    from: String,
    to: String,
    rows: u64,
    groups: u64,
    files: usize,
    bytes: u64,
    seconds: f64,
    finished: i64,
    error: Option<String>,
}

impl RunRow {
    pub(super) fn of(EndedRun { report, finished_ms }: &EndedRun) -> Self {
        let summary = RunSummary::of(report, *finished_ms);
        Self {
            view: report.view.to_string(),
            view_id: report.id.to_string(),
            mode: summary.mode.as_str(),
            outcome: summary.outcome.as_str(),
            from: json(&report.from),
            to: json(&report.to),
            rows: summary.rows,
            groups: summary.groups,
            files: report.files,
            bytes: report.bytes,
            seconds: summary.seconds,
            finished: micros(*finished_ms),
            error: summary.error,
        }
    }
}

#[derive(Serialize)]
pub(super) struct AuditRow {
    view: String,
    view_id: Option<String>,
    /// NULL if nothing was compared.
    equal: Option<bool>,
    cut: Option<String>,
    from: Option<String>,
    to: Option<String>,
    segments: usize,
    offsets: i64,
    groups: usize,
    differences: u64,
    finished: i64,
    error: Option<String>,
}

impl AuditRow {
    pub(super) fn of(audit: &EndedAudit) -> Self {
        let finished = micros(audit.finished_ms);
        match &audit.outcome {
            Err(failed) => Self {
                view: failed.view.to_string(),
                view_id: None,
                equal: None,
                cut: None,
                from: None,
                to: None,
                segments: 0,
                offsets: 0,
                groups: 0,
                differences: 0,
                finished,
                error: Some(failed.reason.clone()),
            },
            Ok(report) => Self {
                view: report.view.to_string(),
                view_id: Some(report.id.to_string()),
                equal: (!report.parts.is_empty()).then(|| report.is_equal()),
                cut: Some(json(&report.cut)),
                from: Some(json(&report.from)),
                to: Some(json(&report.to)),
                segments: report.parts.iter().map(|part| part.segments).sum(),
                offsets: report.parts.iter().map(|part| part.offsets).sum(),
                groups: report.parts.iter().map(|part| part.groups).sum(),
                differences: report.parts.iter().map(|part| part.differences.len() as u64 + part.more).sum(),
                finished,
                error: None,
            },
        }
    }
}

#[derive(Serialize)]
pub(super) struct QueryRow {
    id: u64,
    /// `running`, or how the query has ended.
    state: &'static str,
    protocol: &'static str,
    session: Option<u64>,
    started: i64,
    seconds: f64,
    rows: u64,
    frontier: Option<String>,
    query: String,
}

impl QueryRow {
    fn of(query: &RunningQuery, state: &'static str, seconds: f64) -> Self {
        let frontier = query.frontier.lock().clone();
        Self {
            id: query.id,
            state,
            protocol: query.client.protocol.as_str(),
            session: query.client.session,
            started: micros(query.began_ms),
            seconds,
            rows: query.rows.load(Ordering::Relaxed),
            frontier: frontier.and_then(|frontier| serde_json::to_string(&frontier).ok()),
            query: query.text.lock().clone(),
        }
    }

    pub(super) fn of_running(query: &RunningQuery) -> Self {
        Self::of(query, "running", query.seconds())
    }

    pub(super) fn of_ended(ended: &EndedQuery) -> Self {
        Self::of(&ended.query, ended.outcome, ended.seconds)
    }
}

#[derive(Serialize)]
pub(super) struct SessionRow {
    id: u64,
    protocol: &'static str,
    address: String,
    user: String,
    application: String,
    started: i64,
}

impl SessionRow {
    pub(super) fn of(session: &ClientSession) -> Self {
        Self {
            id: session.id,
            protocol: session.protocol.as_str(),
            address: session.address.clone(),
            user: session.user.clone(),
            application: session.application.clone(),
            started: micros(session.began_ms),
        }
    }
}
