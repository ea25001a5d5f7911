//! Screens, and the exact text that each of them draws.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;
use thalweg_schemas::StreamName;

use super::super::samples::tests::{sample, stream};
use super::*;

fn view(name: &str) -> ViewStatus {
    serde_json::from_value(json!({
        "name": name, "stream": "s", "status": "serving", "id": "00ff", "building": null,
        "cut": {"0": 400, "1": 0}, "frontier": {"0": 1000, "1": 0}, "published": "2026-11-24T16:56:00.000000Z",
        "age_seconds": 252.4, "batch_version": 7, "batch_files": 1, "batch_rows": 1234, "segments": 12,
        "segment_bytes": 3400, "warnings": [], "sql": "CREATE MATERIALIZED VIEW …",
        "last_run": {"mode": "incremental", "outcome": "published", "rows": 5000, "groups": 1234,
            "seconds": 0.34, "finished_ms": 1_796_662_560_000_i64, "error": null}
    }))
    .unwrap()
}

/// A screen with a stream at 300 messages a second, and two views, one of which cannot be computed.
fn screen() -> Screen {
    let mut screen = Screen::new("http://127.0.0.1:8642");
    for (at, rows) in [(0, 1000), (2, 1600)] {
        let mut sample = sample(at, vec![stream(rows)]);
        let mut failing = view("broken");
        failing.status = ViewPhase::Building;
        failing.cut = None;
        failing.age_seconds = None;
        let run = failing.last_run.as_mut().unwrap();
        run.outcome = RunEnd::Failed;
        run.error = Some("no space left on the device".into());
        sample.views = vec![view("minutes"), failing];
        screen.take(Duration::from_secs(at), Ok(sample));
    }
    screen
}

fn drawn(screen: &Screen, now: u64, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen, Duration::from_secs(now))).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer.content().chunks(usize::from(width));
    lines
        .map(|cells| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

#[track_caller]
fn check(screen: &Screen, now: u64, expect: &str) {
    let found = drawn(screen, now, (80, 24)).join("\n");
    assert_eq!(found.trim_end(), expect.trim_end(), "\n{found}\n");
}

#[test]
fn streams_views_and_the_selected_stream() {
    check(&screen(), 2, include_str!("tests/streams.txt"));
}

#[test]
fn the_selected_view_in_detail() {
    let mut screen = screen();
    screen.selected = 2;
    check(&screen, 2, include_str!("tests/views.txt"));
}

#[test]
fn a_stopped_stream_and_one_that_is_not_archived() {
    let mut screen = Screen::new("http://x");
    let mut stopped = stream(0);
    stopped.status = StreamPhase::Stopped;
    stopped.failure = Some("topic `t` does not exist".into());
    let mut full = stream(12_345_678);
    full.name = StreamName::new("full").unwrap();
    full.archive_failure = Some("no space left".into());
    let mut paused = stream(5);
    paused.name = StreamName::new("paused").unwrap();
    paused.paused = true;
    screen.take(Duration::ZERO, Ok(sample(0, vec![stopped, full, paused])));
    check(&screen, 0, include_str!("tests/stopped.txt"));
}

#[test]
fn a_silent_server() {
    let mut screen = Screen::new("http://x");
    assert_eq!(drawn(&screen, 0, (40, 3))[1], " asking …");
    screen.take(Duration::from_secs(1), Err("no answer".into()));
    assert_eq!(drawn(&screen, 66, (40, 3))[1], " silent for 1m 5s: no answer");
    let mut empty = sample(2, vec![]);
    empty.process.uptime_seconds = 3.0;
    screen.take(Duration::from_secs(2), Ok(empty));
    let lines = drawn(&screen, 2, (60, 5));
    assert_eq!(lines[1], "");
    assert_eq!(lines[2], " no streams yet; `thalweg apply FILE.sql` creates them");
}

#[test]
fn every_area_is_enough() {
    let mut screen = screen();
    for selected in [0, 2, 99] {
        screen.selected = selected;
        for size in [(1, 1), (2, 2), (10, 3), (20, 8), (80, 10), (300, 100)] {
            let lines = drawn(&screen, 2, size);
            assert_eq!(lines.len(), usize::from(size.1));
        }
    }
}

#[test]
fn the_selection_stays_in_sight() {
    let mut screen = Screen::new("http://x");
    let mut many = sample(0, vec![stream(1)]);
    many.views = (0..100).map(|n| view(&format!("view_{n}"))).collect();
    screen.take(Duration::ZERO, Ok(many));
    for selected in [1, 50, 100] {
        screen.selected = selected;
        let name = format!("view_{}", selected - 1);
        let lines = drawn(&screen, 0, (80, 24));
        let row = |line: &&String| line.starts_with(&format!(" {name} "));
        assert!(lines.iter().any(|line| row(&line)), "{name}: {lines:#?}");
        let detail = format!(" {name}, over s ");
        assert!(lines.iter().any(|line| line.contains(&detail)), "{lines:#?}");
    }
}

#[test]
fn numbers_and_spans_are_short() {
    for (n, text) in
        [(0, "0"), (999_999, "999999"), (1_234_567, "1234k"), (12_345_678, "12M"), (12_345_678_901, "12G"), (-5, "-5")]
    {
        assert_eq!(short(n), text);
    }
    for (seconds, text) in [
        (0.0, "0s"),
        (5.9, "5s"),
        (60.0, "1m"),
        (192.0, "3m 12s"),
        (7_500.0, "2h 5m"),
        (356_400.0, "4d 3h"),
        (-1.0, "0s"),
    ] {
        assert_eq!(span(seconds), text);
    }
}
