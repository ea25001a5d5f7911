//! Describes the selected stream or view in sentences, with the details that its table row leaves out.
//!
//! Invariant: problems that need the user (a failure, a pause) come first, so that a small screen does not cut them
//! off.

use bytesize::ByteSize;
use thalweg_schemas::Frontier;
use thalweg_schemas::api::runs::{RunEnd, RunSummary};
use thalweg_schemas::api::streams::StreamStatus;
use thalweg_schemas::api::views::ViewStatus;

use crate::terminal::grouped;

/// Returns a title and lines.
pub(super) fn of_stream(stream: &StreamStatus) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    if let Some(failure) = &stream.failure {
        lines.push(format!(" stopped: {failure}"));
    }
    if let Some(failure) = &stream.archive_failure {
        lines.push(format!(" not archived for now: {failure}"));
    }
    for (partition, reason) in &stream.unheld {
        lines.push(format!(" partition {partition} is held by nobody: {reason}"));
    }
    if stream.paused {
        lines.push(" reading pauses: the memory budget is reached; nothing is lost".to_owned());
    }
    lines.push(format!(
        " memory {} of {}; {} rows and {} rejects read by this process",
        ByteSize(stream.memory_bytes as u64),
        ByteSize(stream.memory_budget as u64),
        grouped(stream.rows),
        grouped(stream.rejects),
    ));
    for (number, partition) in &stream.partitions {
        let latest = partition.latest_event.as_ref();
        let worker = partition.worker.as_ref();
        lines.push(format!(
            " partition {number}: read to {}, archived to {}, lag {}{}{}",
            partition.frontier,
            partition.archive_frontier,
            partition.lag,
            latest.map_or_else(String::new, |at| format!(", latest {}", second(at))),
            worker.map_or_else(String::new, |worker| format!(", at {worker}")),
        ));
    }
    (format!("{}, topic {}", stream.name, stream.topic), lines)
}

pub(super) fn of_view(view: &ViewStatus) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    if let Some(failure) = &view.failure {
        lines.push(format!(" {}. {}", failure.sentence(), failure.advice()));
    }
    if let Some(run) = &view.last_run {
        lines.push(match &run.error {
            Some(error) => format!(" last run {}: {error}", outcome(run)),
            None => format!(
                " last run ({}): {}, {} rows read, {} groups written",
                run.mode.as_str(),
                outcome(run),
                grouped(run.rows),
                grouped(run.groups)
            ),
        });
    }
    if let Some(cut) = &view.cut {
        lines.push(format!(" batch layer up to   {}", positions(cut)));
    }
    if let Some(frontier) = &view.frontier {
        lines.push(format!(" answers up to       {}", positions(frontier)));
    }
    if view.building.is_some() {
        lines.push(" its replacement is being built; until then this one is served".to_owned());
    }
    let warnings = view.warnings.iter();
    lines.extend(warnings.map(|warning| format!(" warning: {warning}")));
    (format!("{}, over {}", view.name, view.stream), lines)
}

/// `2026-11-24T17:00:01.25Z` as `2026-11-24 17:00:01`.
fn second(iso: &str) -> String {
    iso.get(..19).unwrap_or(iso).replace('T', " ")
}

/// `0:497 1:503`
pub(super) fn positions(frontier: &Frontier) -> String {
    let pairs = frontier.iter().map(|(p, offset)| format!("{p}:{offset}"));
    pairs.collect::<Vec<_>>().join(" ")
}

/// `published 1.2s`
pub(super) fn outcome(run: &RunSummary) -> String {
    let outcome = match run.outcome {
        RunEnd::NothingNew => "unchanged",
        other => other.as_str(),
    };
    format!("{outcome} {:.1}s", run.seconds)
}
