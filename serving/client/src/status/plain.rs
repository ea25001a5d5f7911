//! The status as text, for pipes, logs and a single look.
//!
//! Invariant: all values come from the server; only the layout is computed here.

use std::time::Duration;

use bytesize::ByteSize;
use thalweg_schemas::Partition;
use thalweg_schemas::api::streams::{PartitionStatus, StreamStatus, WorkerEntry};
use thalweg_schemas::api::views::ViewStatus;

use super::details::positions;
use super::samples::Sample;
use crate::terminal;

pub(super) fn text(sample: &Sample) -> String {
    let mut parts = Vec::new();
    if !sample.workers.is_empty() {
        let workers: Vec<String> = sample.workers.iter().map(worker_text).collect();
        parts.push(workers.join("\n"));
    }
    if sample.streams.is_empty() {
        parts.push("no streams; `thalweg apply FILE.sql` creates them".to_owned());
    }
    parts.extend(sample.streams.iter().map(stream_text));
    if !sample.views.is_empty() {
        parts.push(views_text(&sample.views));
    }
    if !sample.not_understood.is_empty() {
        let kept = sample.not_understood.iter();
        let kept: Vec<String> =
            kept.map(|kept| format!("{} is not understood here: {}", kept.name, kept.reason)).collect();
        parts.push(kept.join("\n"));
    }
    parts.join("\n\n")
}

fn worker_text(worker: &WorkerEntry) -> String {
    let state = match (&worker.reason, worker.up) {
        (_, true) => "up".to_owned(),
        (Some(reason), false) => format!("down: it {reason}"),
        (None, false) => "down".to_owned(),
    };
    format!("worker {}: {state}", worker.address)
}

fn stream_text(stream: &StreamStatus) -> String {
    let [used, budget] = [stream.memory_bytes, stream.memory_budget].map(|bytes| ByteSize(bytes as u64));
    let paused = if stream.paused { ", paused" } else { "" };
    let mut text = format!(
        "stream {} (topic {}): {}{paused}, lag {}, memory {used} of {budget}",
        stream.name,
        stream.topic,
        stream.status.as_str().replace('_', " "),
        stream.lag
    );
    if let Some(failure) = &stream.failure {
        text.push_str(&format!("\n  {failure}"));
    }
    if let Some(failure) = &stream.archive_failure {
        text.push_str(&format!("\n  not archived for now, tried again: {failure}"));
    }
    for (partition, reason) in &stream.unheld {
        text.push_str(&format!("\n  partition {partition} is held by nobody: {reason}"));
    }
    if !stream.partitions.is_empty() {
        let apart = stream.partitions.values().any(|p| p.worker.is_some());
        let rows: Vec<Vec<String>> = stream.partitions.iter().map(partition_row).collect();
        let head = ["  partition", "frontier", "archived", "lag", "rows", "rejects", "latest event", "worker"];
        let head = &head[..if apart { 8 } else { 7 }];
        let right = [true, true, true, true, true, true, false, false];
        text.push('\n');
        text.push_str(&table(head, &right[..head.len()], &rows));
    }
    text
}

fn partition_row((number, partition): (&Partition, &PartitionStatus)) -> Vec<String> {
    let mut row = vec![
        number.to_string(),
        partition.frontier.to_string(),
        partition.archive_frontier.to_string(),
        partition.lag.to_string(),
        partition.rows.to_string(),
        partition.rejects.to_string(),
        partition.latest_event.clone().unwrap_or_default(),
    ];
    row.extend(partition.worker.clone());
    row
}

fn views_text(views: &[ViewStatus]) -> String {
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let replacing = match &view.building {
                Some(_) => ", replacement building",
                None => "",
            };
            vec![
                view.name.to_string(),
                view.stream.to_string(),
                format!("{}{replacing}", view.status),
                view.age_seconds.map(age).unwrap_or_default(),
                number(view.batch_rows),
                number(view.segments.map(|n| n as u64)),
                view.cut.as_ref().map(positions).unwrap_or_default(),
            ]
        })
        .collect();
    let head = ["view", "stream", "status", "batch age", "batch rows", "segments", "cut"];
    let right = [false, false, false, true, true, true, false];
    let mut text = table(&head, &right, &rows);
    for view in views {
        if let Some(failure) = &view.failure {
            text.push_str(&format!("\n  {}: {}. {}", view.name, failure.sentence(), failure.advice()));
        }
        let error = view.last_run.as_ref().and_then(|run| run.error.as_ref());
        if let (Some(error), None) = (error, &view.failure) {
            text.push_str(&format!("\n  the last run of {} failed: {error}", view.name));
        }
    }
    text
}

fn table(head: &[&str], right: &[bool], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&text| text.to_owned()).collect();
    terminal::table(&head, right, rows)
}

/// Formats whole seconds: "1m 5s".
fn age(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs(seconds.max(0.0) as u64)).to_string()
}
