//! Samples of a server's status, and the rates between them.
//!
//! Invariant: a rate is never computed from samples of two processes.

use std::collections::VecDeque;
use std::time::Duration;

use thalweg_schemas::api::NotUnderstood;
use thalweg_schemas::api::process::ProcessStatus;
use thalweg_schemas::api::streams::{StreamStatus, WorkerEntry};
use thalweg_schemas::api::views::ViewStatus;

/// The period that rates are computed over: short enough to look live, long enough to be readable.
const WINDOW: Duration = Duration::from_secs(10);

/// The status at one time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Time since the start of the command.
    pub(super) at: Duration,
    pub(super) streams: Vec<StreamStatus>,
    /// Empty if the realtime side is in the server's own process.
    pub(super) workers: Vec<WorkerEntry>,
    pub(super) views: Vec<ViewStatus>,
    /// Streams and views that need a newer version of the server.
    pub(super) not_understood: Vec<NotUnderstood>,
    pub(super) process: ProcessStatus,
}

/// Messages that the server has read since its start.
fn messages(stream: &StreamStatus) -> u64 {
    stream.rows + stream.rejects
}

/// Messages that are read but not archived yet.
pub(super) fn unarchived(stream: &StreamStatus) -> i64 {
    let partitions = stream.partitions.values();
    partitions.map(|p| p.frontier.0 - p.archive_frontier.0).sum()
}

/// The recent samples, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

impl History {
    pub(super) fn push(&mut self, sample: Sample) {
        let restarted =
            |last: &Sample| sample.process.uptime_seconds < last.process.uptime_seconds || sample.at < last.at;
        if self.newest().is_some_and(restarted) {
            self.0.clear();
        }
        // Keep one sample older than the window, so that slow sampling still has a rate.
        let old = |at: Duration| at + WINDOW < sample.at;
        while self.0.len() > 1 && old(self.0[1].at) {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub(super) fn newest(&self) -> Option<&Sample> {
        self.0.back()
    }

    /// Returns the messages a second that `stream` has read recently; `None` before the second sample or after a
    /// restart of the stream.
    pub(super) fn rate(&self, stream: &str) -> Option<f64> {
        let of = |sample: &Sample| {
            let found = sample.streams.iter().find(|s| s.name.as_str() == stream)?;
            Some((sample.at, messages(found)))
        };
        let mut counts = self.0.iter().rev().map_while(of);
        let (end, last) = counts.next()?;
        let mut next = last;
        let steady = counts.take_while(|(_, count)| {
            let grows = *count <= next;
            next = *count;
            grows
        });
        let (start, first) = steady.last()?;
        let seconds = (end.checked_sub(start)?).as_secs_f64();
        (seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A stream called `s` that has read `rows` and 2 rejects.
    pub(crate) fn stream(rows: u64) -> StreamStatus {
        serde_json::from_value(json!({
            "name": "s", "topic": "t", "status": "running", "failure": null, "answers": true, "archive_failure": null,
            "origin": {"0": 0, "1": 0}, "frontier": {"0": 1000, "1": 0}, "archive_frontier": {"0": 400, "1": 0},
            "mark": {"0": 400, "1": 0}, "archive_version": 3, "archive_files": 2, "lag": 5, "rows": rows, "rejects": 2,
            "latest_event": "2026-11-24T17:00:01.250000Z", "memory_bytes": 104_857_600,
            "memory_budget": 1_073_741_824, "paused": false, "sql": "CREATE EXTERNAL TABLE s …",
            "partitions": {
                "0": {"frontier": 1000, "archive_frontier": 400, "high_watermark": 1005, "lag": 5, "rows": rows,
                    "rejects": 2, "latest_event": "2026-11-24T17:00:01.250000Z"},
                "1": {"frontier": 0, "archive_frontier": 0, "high_watermark": 0, "lag": 0, "rows": 0, "rejects": 0,
                    "latest_event": null}
            }
        }))
        .unwrap()
    }

    pub(crate) fn sample(seconds: u64, streams: Vec<StreamStatus>) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            streams,
            workers: Vec::new(),
            views: Vec::new(),
            not_understood: Vec::new(),
            process: ProcessStatus {
                version: "1.0.0".to_owned(),
                uptime_seconds: 100.0 + seconds as f64,
                queries_running: 1,
                queries_answered: 1234,
                queries_failed: 2,
            },
        }
    }

    /// `counts` are seconds and rows.
    #[track_caller]
    fn check(counts: &[(u64, u64)], expect: Option<f64>) {
        let mut history = History::default();
        for (seconds, rows) in counts {
            history.push(sample(*seconds, vec![stream(*rows)]));
        }
        assert_eq!(history.rate("s"), expect, "{counts:?}");
        assert_eq!(history.rate("other"), None);
    }

    #[test]
    fn rates_are_over_the_last_while() {
        check(&[], None);
        check(&[(0, 10)], None);
        check(&[(0, 10), (2, 30)], Some(10.0));
        check(&[(0, 10), (2, 10)], Some(0.0));
        check(&[(0, 10), (0, 30)], None);
        check(&[(0, 0), (1, 0), (12, 1100), (13, 1200)], Some(100.0));
        check(&[(0, 0), (60, 600)], Some(10.0));
    }

    #[test]
    fn a_stream_that_starts_over_starts_counting() {
        check(&[(0, 500), (1, 600), (2, 0)], None);
        check(&[(0, 500), (1, 600), (2, 0), (3, 40)], Some(40.0));
    }

    #[test]
    fn another_process_is_another_history() {
        let mut history = History::default();
        history.push(sample(0, vec![stream(10)]));
        let mut other = sample(2, vec![stream(1000)]);
        other.process.uptime_seconds = 1.0;
        history.push(other);
        assert_eq!(history.rate("s"), None);
    }

    #[test]
    fn what_is_not_archived_is_counted() {
        assert_eq!(unarchived(&stream(0)), 600);
    }
}
