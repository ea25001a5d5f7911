//! The wire format: every type written as JSON and read back.

use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::audits::{Against, AuditList, AuditPart, AuditQuery, AuditReport, FailedAudit};
use super::certificate::{Certificate, CertifiedView};
use super::dashboards::{Dashboard, DashboardChange, SavedDashboard, Tile, TileKind};
use super::error::{ErrorBody, ErrorCode, Refusal};
use super::process::{ProbeAnswer, ProbeState, ProcessStatus};
use super::runs::{RunEnd, RunList, RunMode, RunOutcome, RunQuery, RunReport, RunSummary};
use super::sql::{AnswerColumn, SqlAnswer, SqlRequest};
use super::streams::{PartitionStatus, StreamList, StreamPhase, StreamStatus, WorkerEntry};
use super::views::{ViewList, ViewPhase, ViewStatus};
use super::{NotUnderstood, SqlValue};
use crate::algebra::Difference;
use crate::failure::{FailedStep, ViewFailure};
use crate::realtime::protocol::WorkerStatus;
use crate::realtime::segment::Provenance;
use crate::{Fault, Frontier, Offset, Partition, StreamName, ViewId, ViewName};

/// Checks that `value` is written as `json`, and that `json` is read as `value`.
#[track_caller]
fn check<T: Debug + Serialize + DeserializeOwned>(value: T, json: Value) {
    assert_eq!(serde_json::to_value(&value).unwrap(), json, "{value:?}");
    let text = json.to_string();
    let from_text: T = serde_json::from_str(&text).expect(&text);
    let from_value: T = serde_json::from_value(json).expect(&text);
    for read in [from_text, from_value] {
        assert_eq!(format!("{read:?}"), format!("{value:?}"));
    }
}

/// Checks that `json` is not read as `T`.
#[track_caller]
fn refuse<T: Debug + DeserializeOwned>(json: Value) {
    assert!(serde_json::from_value::<T>(json.clone()).is_err(), "{json}");
}

/// Checks that every word is written as the enum says, and that a future word is read.
#[track_caller]
fn check_words<T: Copy + Debug + Serialize + DeserializeOwned>(all: &[T], words: &[&str], later: T) {
    assert_eq!(all.len(), words.len());
    for (value, word) in all.iter().zip(words) {
        check(*value, json!(word));
    }
    let read: T = serde_json::from_value(json!("some_later_word")).unwrap();
    assert_eq!(format!("{read:?}"), format!("{later:?}"));
}

fn stream() -> StreamName {
    StreamName::new("s").unwrap()
}

fn view() -> ViewName {
    ViewName::new("v").unwrap()
}

fn id() -> ViewId {
    serde_json::from_value(json!("00ff")).unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn words_are_written_and_later_ones_are_read() {
    let phases =
        ["starting", "waiting_for_kafka", "waiting_for_schema", "catching_up", "not_held", "running", "stopped"];
    check_words(StreamPhase::ALL, &phases, StreamPhase::Unknown);
    check_words(ViewPhase::ALL, &["serving", "building", "failed"], ViewPhase::Unknown);
    check_words(RunEnd::ALL, &["published", "nothing_new", "fenced", "busy", "failed"], RunEnd::Unknown);
    check_words(Against::ALL, &["archive", "published"], Against::Unknown);
    check_words(TileKind::ALL, &["time", "bars", "table", "number"], TileKind::Unknown);
    check_words(ProbeState::ALL, &["ok", "ready"], ProbeState::Unknown);
    #[rustfmt::skip]
    let codes = [
        "bad_request", "bad_option", "bad_parameter", "empty", "mixed_statements", "read_only", "syntax", "invalid_query",
        "query_failed", "too_large", "refused", "other_site", "unauthorized", "forbidden", "not_found", "no_such_path",
        "no_such_method", "not_acceptable",
        "conflict", "cancelled", "internal", "not_ready", "not_held", "stream_stopped", "view_failed", "not_understood",
        "worker_failed", "too_busy", "storage",
        "unavailable", "timeout", "memory_limit",
    ];
    check_words(ErrorCode::ALL, &codes, ErrorCode::Unknown);
    assert_eq!(format!("{:<9}|", RunEnd::Busy), "busy     |");
    for (mode, word) in [(RunMode::Incremental, "incremental"), (RunMode::Full, "full")] {
        check(mode, json!(word));
        assert_eq!(mode.as_str(), word);
    }
    check(Provenance::Live, json!("live"));
    check(Provenance::Rebuilt, json!("rebuilt"));
    for (fault, word) in [(Fault::User, "user"), (Fault::Transient, "transient"), (Fault::Bug, "bug")] {
        check(fault, json!(word));
    }
}

#[test]
fn requests() {
    let sql = "SELECT 1".to_owned();
    let plain = SqlRequest {
        sql,
        params: Vec::new(),
        stale: None,
        min_frontier: None,
        partial: None,
        source: None,
        certificate: None,
        rollups: None,
    };
    check(plain.clone(), json!({"sql": "SELECT 1"}));
    let params = ["1", "\"a\"", "null", "[true]"].map(|text| SqlValue::new(text).unwrap()).into();
    let given =
        SqlRequest { params, source: text("batch"), certificate: Some(true), rollups: Some(false), ..plain.clone() };
    let options = json!({"sql": "SELECT 1", "params": [1, "a", null, [true]], "source": "batch", "certificate": true,
        "rollups": false});
    check(given, options);
    // No digit is lost, and a value that nests without end takes no stack.
    let long = "[".repeat(100_000) + &"]".repeat(100_000);
    for value in ["9223372036854775807", "0.1000", "1e400", "12345678901234567890123", &long] {
        let body = format!("{{\"sql\": \"SELECT $1\", \"params\": [{value}]}}");
        let read: SqlRequest = serde_json::from_str(&body).unwrap();
        assert_eq!(read.params[0].text(), value);
    }
    check(
        SqlRequest { stale: Some(true), min_frontier: Some(json!({"s": {"0": 7}})), partial: text("allow"), ..plain },
        json!({"sql": "SELECT 1", "stale": true, "min_frontier": {"s": {"0": 7}}, "partial": "allow"}),
    );
    check(AuditQuery { view: None }, json!({}));
    check(AuditQuery { view: text("v") }, json!({"view": "v"}));
    check(RunQuery { view: None, full: false }, json!({"full": false}));
    check(RunQuery { view: text("v"), full: true }, json!({"view": "v", "full": true}));
    assert_eq!(serde_json::from_value::<RunQuery>(json!({})).unwrap(), RunQuery::default());
    // A request with an unknown key is refused as a whole.
    refuse::<SqlRequest>(json!({"sql": "SELECT 1", "limit": 5}));
    refuse::<AuditQuery>(json!({"views": "v"}));
    refuse::<RunQuery>(json!({"fully": true}));
}

#[test]
fn errors() {
    let error = |line, column| Refusal {
        error: ErrorBody { code: ErrorCode::Syntax, message: "expected a name".into(), line, column },
    };
    check(error(None, None), json!({"error": {"code": "syntax", "message": "expected a name"}}));
    check(
        error(Some(2), Some(6)),
        json!({"error": {"code": "syntax", "message": "expected a name", "line": 2, "column": 6}}),
    );
}

#[test]
fn answers_of_sql() {
    let mut answer = SqlAnswer {
        columns: vec![AnswerColumn { name: "n".into(), data_type: "Int64".into() }],
        frontier: [(stream(), Frontier::from([(0, 7)]))].into(),
        stale: false,
        partial: Default::default(),
        certificate: None,
        rows: vec![vec![json!(1)], vec![json!(null)]],
    };
    let columns = json!([{"name": "n", "type": "Int64"}]);
    check(answer.clone(), json!({"columns": columns, "frontier": {"s": {"0": 7}}, "rows": [[1], [null]]}));
    answer.stale = true;
    answer.partial = [(stream(), [Partition(3)].into())].into();
    answer.rows.clear();
    let frontier = json!({"s": {"0": 7}});
    check(
        answer.clone(),
        json!({"columns": columns, "frontier": frontier, "stale": true, "partial": {"s": [3]}, "rows": []}),
    );
    let certified = CertifiedView { id: id(), batch_version: 3, cut: Frontier::from([(0, 4)]) };
    let certificate =
        Certificate { sql: "af".into(), streams: answer.frontier.clone(), views: [(view(), certified)].into() };
    let json = json!({"sql": "af", "streams": {"s": {"0": 7}},
        "views": {"v": {"id": "00ff", "batch_version": 3, "cut": {"0": 4}}}});
    check(certificate.clone(), json.clone());
    let answer = SqlAnswer { stale: false, partial: Default::default(), certificate: Some(certificate), ..answer };
    check(answer, json!({"columns": columns, "frontier": frontier, "certificate": json, "rows": []}));
}

#[test]
fn the_process() {
    check(ProbeAnswer { status: ProbeState::Ok }, json!({"status": "ok"}));
    let process = ProcessStatus {
        version: "1.2.3".into(),
        uptime_seconds: 1.5,
        queries_running: 1,
        queries_answered: 2,
        queries_failed: 3,
    };
    check(
        process,
        json!({"version": "1.2.3", "uptime_seconds": 1.5, "queries_running": 1, "queries_answered": 2,
            "queries_failed": 3}),
    );
}

fn partition(worker: Option<String>) -> PartitionStatus {
    PartitionStatus {
        frontier: Offset(7),
        archive_frontier: Offset(5),
        high_watermark: Some(Offset(9)),
        lag: 2,
        rows: 6,
        rejects: 1,
        latest_event: None,
        waiting: None,
        worker,
    }
}

#[test]
fn partitions() {
    let json = json!({"frontier": 7, "archive_frontier": 5, "high_watermark": 9, "lag": 2, "rows": 6, "rejects": 1,
        "latest_event": null});
    check(partition(None), json.clone());
    let mut held = json;
    held["worker"] = json!("w:1");
    check(partition(text("w:1")), held);
}

fn status() -> StreamStatus {
    StreamStatus {
        name: stream(),
        topic: "t".into(),
        status: StreamPhase::Running,
        failure: None,
        answers: true,
        archive_failure: None,
        unheld: Default::default(),
        origin: Frontier::from([(0, 0)]),
        frontier: Some(Frontier::from([(0, 7)])),
        archive_frontier: Some(Frontier::from([(0, 5)])),
        mark: Some(Frontier::from([(0, 4)])),
        archive_version: Some(3),
        archive_files: Some(2),
        lag: 2,
        rows: 6,
        rejects: 1,
        latest_event: text("2026-01-01T00:00:00.000000Z"),
        memory_bytes: 10,
        memory_budget: 100,
        paused: false,
        partitions: [(Partition(0), partition(None))].into(),
        sql: "CREATE …".into(),
    }
}

#[test]
fn streams() {
    let json = json!({
        "name": "s", "topic": "t", "status": "running", "failure": null, "answers": true, "archive_failure": null,
        "origin": {"0": 0}, "frontier": {"0": 7}, "archive_frontier": {"0": 5}, "mark": {"0": 4},
        "archive_version": 3, "archive_files": 2, "lag": 2, "rows": 6, "rejects": 1,
        "latest_event": "2026-01-01T00:00:00.000000Z", "memory_bytes": 10, "memory_budget": 100, "paused": false,
        "partitions": {"0": serde_json::to_value(partition(None)).unwrap()}, "sql": "CREATE …",
    });
    check(status(), json.clone());
    let mut unheld = json.clone();
    unheld["status"] = json!("not_held");
    unheld["unheld"] = json!({"1": "no worker reads it"});
    let held_by_nobody = [(Partition(1), "no worker reads it".to_owned())].into();
    check(StreamStatus { status: StreamPhase::NotHeld, unheld: held_by_nobody, ..status() }, unheld);
    check(
        StreamList { streams: vec![status()], workers: None, not_understood: Vec::new() },
        json!({"streams": [json]}),
    );

    let worker = WorkerStatus { worker: "w".into(), streams: Default::default() };
    let up = WorkerEntry { address: "w:1".into(), up: true, reason: None, status: Some(worker) };
    let down = WorkerEntry { address: "x:1".into(), up: false, reason: text("does not answer"), status: None };
    check(
        StreamList {
            streams: Vec::new(),
            workers: Some(vec![up, down]),
            not_understood: vec![NotUnderstood { name: "p".into(), reason: "newer".into() }],
        },
        json!({"streams": [], "not_understood": [{"name": "p", "reason": "newer"}], "workers": [
            {"address": "w:1", "up": true, "reason": null, "status": {"worker": "w", "streams": {}}},
            {"address": "x:1", "up": false, "reason": "does not answer", "status": null},
        ]}),
    );
}

fn report(outcome: RunOutcome) -> RunReport {
    RunReport {
        view: view(),
        id: id(),
        mode: RunMode::Full,
        from: Frontier::from([(0, 0)]),
        to: Frontier::from([(0, 4)]),
        rows_read: 4,
        groups: 2,
        files: 1,
        bytes: 1000,
        elapsed: Duration::from_millis(250),
        outcome,
    }
}

fn failure() -> ViewFailure {
    ViewFailure {
        step: FailedStep::Run,
        fault: Fault::User,
        reason: "Divide by zero error".into(),
        expression: text("sum(s.a / s.b)"),
        from: Frontier::from([(1, 9)]),
        to: Frontier::from([(1, 10)]),
        since_ms: 1_000,
    }
}

fn failure_json() -> Value {
    json!({"step": "run", "fault": "user", "reason": "Divide by zero error", "expression": "sum(s.a / s.b)",
        "from": {"1": 9}, "to": {"1": 10}, "since_ms": 1_000})
}

#[test]
fn runs() {
    let busy = RunOutcome::Busy { holder: "process 7 on a".into(), until_ms: 30_000 };
    let failed = RunOutcome::Failed(failure());
    for (outcome, json, end, error) in [
        (RunOutcome::Published, json!("published"), "published", None),
        (RunOutcome::NothingNew, json!("nothing_new"), "nothing_new", None),
        (RunOutcome::Fenced, json!("fenced"), "fenced", None),
        (
            busy,
            json!({"busy": {"holder": "process 7 on a", "until_ms": 30_000}}),
            "busy",
            text("computed by process 7 on a"),
        ),
        (failed, json!({"failed": failure_json()}), "failed", Some(failure().sentence())),
    ] {
        let report = report(outcome);
        check(
            report.clone(),
            json!({"view": "v", "id": "00ff", "mode": "full", "from": {"0": 0}, "to": {"0": 4}, "rows_read": 4,
                "groups": 2, "files": 1, "bytes": 1000, "elapsed_ms": 250, "outcome": json}),
        );
        check(
            RunSummary::of(&report, 1_000),
            json!({"mode": "full", "outcome": end, "rows": 4, "groups": 2, "seconds": 0.25, "finished_ms": 1_000,
                "error": error}),
        );
    }
    check(RunList { runs: Vec::new() }, json!({"runs": []}));
}

#[test]
fn views() {
    let status = ViewStatus {
        name: view(),
        stream: stream(),
        status: ViewPhase::Failed,
        id: id(),
        building: Some(id()),
        cut: Some(Frontier::from([(0, 4)])),
        frontier: Some(Frontier::from([(0, 7)])),
        published: text("2026-01-01T00:00:00.000000Z"),
        age_seconds: Some(1.5),
        batch_version: Some(3),
        batch_files: Some(1),
        batch_rows: Some(2),
        segments: Some(4),
        segment_bytes: None,
        failure: Some(failure()),
        warnings: vec!["grows".into()],
        last_run: Some(RunSummary::of(&report(RunOutcome::Published), 1_000)),
        sql: "CREATE …".into(),
    };
    let run = json!({"mode": "full", "outcome": "published", "rows": 4, "groups": 2, "seconds": 0.25,
        "finished_ms": 1_000, "error": null});
    check(
        ViewList { views: vec![status], not_understood: Vec::new() },
        json!({"views": [{
            "name": "v", "stream": "s", "status": "failed", "id": "00ff", "building": "00ff", "cut": {"0": 4},
            "frontier": {"0": 7}, "published": "2026-01-01T00:00:00.000000Z", "age_seconds": 1.5, "batch_version": 3,
            "batch_files": 1, "batch_rows": 2, "segments": 4, "segment_bytes": null, "failure": failure_json(),
            "warnings": ["grows"],
            "last_run": run, "sql": "CREATE …",
        }]}),
    );
}

#[test]
fn audits() {
    let part = AuditPart {
        provenance: Provenance::Rebuilt,
        against: Against::Published,
        segments: 2,
        offsets: 4,
        groups: 1,
        differences: Vec::new(),
        more: 0,
    };
    let mut report = AuditReport {
        view: view(),
        id: id(),
        cut: Frontier::from([(0, 4)]),
        from: Frontier::from([(0, 0)]),
        to: Frontier::from([(0, 4)]),
        parts: vec![part],
    };
    let json = |differences: Value| {
        json!({"view": "v", "id": "00ff", "cut": {"0": 4}, "from": {"0": 0}, "to": {"0": 4}, "parts": [
            {"provenance": "rebuilt", "against": "published", "segments": 2, "offsets": 4, "groups": 1,
                "differences": differences, "more": 0},
        ]})
    };
    check(report.clone(), json(json!([])));
    assert!(report.is_equal());
    let group = vec!["0".to_owned(), "a".to_owned()];
    let value = Difference { group: group.clone(), aggregate: text("count(*)"), left: text("1"), right: text("2") };
    let missing = Difference { group, aggregate: None, left: None, right: text("present") };
    report.parts[0].differences = vec![value, missing];
    let differences = json!([
        {"group": ["0", "a"], "aggregate": "count(*)", "left": "1", "right": "2"},
        {"group": ["0", "a"], "aggregate": null, "left": null, "right": "present"},
    ]);
    check(report.clone(), json(differences.clone()));
    assert!(!report.is_equal());
    check(
        AuditList { audits: vec![report.clone()], failed: Vec::new() },
        json!({"audits": [json(differences.clone())]}),
    );
    let failed = vec![FailedAudit { view: report.view.clone(), reason: "the view has failed".into() }];
    check(
        AuditList { audits: vec![report], failed },
        json!({"audits": [json(differences)], "failed": [{"view": "v", "reason": "the view has failed"}]}),
    );
}

#[test]
fn answers_of_a_newer_server_are_understood() {
    let mut later =
        serde_json::to_value(StreamList { streams: vec![status()], workers: None, not_understood: Vec::new() })
            .unwrap();
    later["later"] = json!(1);
    later["streams"][0]["later"] = json!([{}]);
    later["streams"][0]["status"] = json!("napping");
    later["streams"][0]["partitions"]["0"]["later"] = json!(null);
    let read: StreamList = serde_json::from_value(later).unwrap();
    let expect = StreamStatus { status: StreamPhase::Unknown, ..status() };
    assert_eq!(read.streams, [expect]);
    let error = json!({"error": {"code": "later_code", "message": "m", "help": "h"}});
    let read: Refusal = serde_json::from_value(error).unwrap();
    assert_eq!((read.error.code, read.error.message.as_str()), (ErrorCode::Unknown, "m"));
}

#[test]
fn dashboards() {
    let (title, sql) = ("t".to_owned(), "SELECT 1".to_owned());
    let tile =
        Tile { title, sql, kind: TileKind::Bars, x: Some("a".into()), y: vec!["b".into()], by: None, wide: true };
    let dashboard = Dashboard { title: "d".into(), refresh_seconds: 5, tiles: vec![tile] };
    let tile = json!({"title": "t", "sql": "SELECT 1", "kind": "bars", "x": "a", "y": ["b"], "by": null, "wide": true});
    let content = json!({"title": "d", "refresh_seconds": 5, "tiles": [tile]});
    let change = DashboardChange { version: 3, dashboard: dashboard.clone() };
    check(change, json!({"version": 3, "dashboard": content}));
    let saved = SavedDashboard { name: "n".into(), version: 4, dashboard };
    check(saved, json!({"name": "n", "version": 4, "dashboard": content}));
    refuse::<DashboardChange>(json!({"version": 3}));
    refuse::<DashboardChange>(json!({"version": -1, "dashboard": content}));
    refuse::<Dashboard>(json!({"title": "d", "refresh_seconds": 5, "tiles": [], "script": ""}));
}
