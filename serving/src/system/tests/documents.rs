//! The tables against the documents of the HTTP API: each field of a document is in a table, with its value, and each
//! column is from a document.

use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use serde_json::{Map, Value, json};
use thalweg_schemas::api::runs::RunSummary;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::realtime::protocol::{WorkerStatus, WorkerStream};
use thalweg_schemas::realtime::snapshot::PartitionHealth;
use thalweg_schemas::{Fault, Partition, ViewId};

use super::*;
use crate::fixture::stream;

type Object = Map<String, Value>;

fn object(of: &impl Serialize) -> Object {
    match serde_json::to_value(of).unwrap() {
        Value::Object(object) => object,
        other => panic!("{other}"),
    }
}

/// The rows of a table as objects; what is NULL is null.
fn rows(state: &SystemState, table: StateTable) -> Vec<Object> {
    let batch = state.batch(table).unwrap();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    serde_json::from_slice(&writer.into_inner()).unwrap()
}

/// A value in one form: texts of JSON as JSON, times without the letter of their zone and without zeros behind them,
/// nothing as null.
fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(text).map_or_else(|_| value.clone(), |value| plain(&value))
        }
        Value::String(text) => match text.trim_end_matches('Z').parse::<chrono::NaiveDateTime>() {
            Ok(time) => json!(time.and_utc().timestamp_micros() as f64),
            Err(_) => value.clone(),
        },
        Value::Number(number) => json!(number.as_f64()),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// Checks that a row has every field of a document, and nothing else: `columns` says for a field which columns show it,
/// and with which values.
#[track_caller]
fn check(document: &Object, row: &Object, columns: impl Fn(&str, &Value) -> Option<Vec<(&'static str, Value)>>) {
    let mut shown: BTreeMap<String, Value> = BTreeMap::new();
    for (field, value) in document {
        match columns(field, value) {
            Some(columns) => shown.extend(columns.into_iter().map(|(name, value)| (name.to_owned(), plain(&value)))),
            None => drop(shown.insert(field.clone(), plain(value))),
        }
    }
    let found: BTreeMap<String, Value> = row.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
    let missing: Vec<&String> = shown.keys().filter(|name| !found.contains_key(*name)).collect();
    assert!(missing.is_empty(), "fields of a document that no column shows: {missing:?}");
    for (name, value) in &found {
        assert_eq!(value, shown.get(name).unwrap_or(&Value::Null), "{name}");
    }
    let unknown: Vec<&String> =
        found.iter().filter(|(name, _)| !shown.contains_key(*name)).map(|(name, _)| name).collect();
    assert!(unknown.iter().all(|name| found[*name].is_null()), "columns that no document has: {unknown:?}");
}

fn failure(step: FailedStep) -> ViewFailure {
    ViewFailure {
        step,
        fault: Fault::User,
        reason: "Divide by zero error".into(),
        expression: Some("sum(s.a / s.b)".into()),
        from: at(3, 3),
        to: at(4, 3),
        since_ms: 1_700_000_000_123,
    }
}

async fn state(world: &World) -> SystemState {
    let activity = Arc::new(Activity::default());
    let tables = StateTable::ALL.into_iter().collect();
    read(tables, SystemSources { sources: &world.sources, activity: &activity }).await
}

#[tokio::test]
async fn streams_partitions_and_views_show_what_their_documents_say() {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    world.record_run();
    world.fail_run("device_minutes", failure(FailedStep::Run));
    world.archive_failure.send_replace(Some("the disk is full".into()));
    let mut state = state(&world).await;
    let held = [(Partition(1), "worker w1 waits".to_owned())];
    let list = state.streams.as_mut().unwrap();
    list.streams[0].unheld = held.into_iter().collect();
    list.streams[0].partitions.get_mut(&Partition(0)).unwrap().worker = Some("w0".into());

    let list = state.streams.as_ref().unwrap();
    let (streams, partitions) = (rows(&state, StateTable::Streams), rows(&state, StateTable::Partitions));
    let rejects = rows(&state, StateTable::Rejects);
    assert_eq!((streams.len(), partitions.len(), rejects.len()), (1, 2, 2));
    for (stream, row) in list.streams.iter().zip(&streams) {
        check(&object(stream), row, |field, value| match field {
            "sql" => Some(vec![("definition", value.clone())]),
            // A table of their own.
            "partitions" => Some(Vec::new()),
            _ => None,
        });
        for ((number, partition), (row, rejected)) in stream.partitions.iter().zip(partitions.iter().zip(&rejects)) {
            let mut document = object(partition);
            document.insert("stream".into(), json!(stream.name));
            document.insert("partition".into(), json!(number.0));
            check(&document, row, |_, _| None);
            document.retain(|field, _| rejected.contains_key(field));
            check(&document, rejected, |_, _| None);
        }
    }

    let views = rows(&state, StateTable::Views);
    let list = state.views.as_ref().unwrap();
    assert_eq!(views.len(), list.views.len());
    assert!(list.views.iter().any(|view| view.failure.is_some()));
    for (view, row) in list.views.iter().zip(&views) {
        check(&object(view), row, |field, value| match field {
            "sql" => Some(vec![("definition", value.clone())]),
            "warnings" => {
                let lines: Vec<&str> = value.as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let text = if lines.is_empty() { Value::Null } else { json!(lines.join("\n")) };
                Some(vec![("warnings", text)])
            }
            "failure" => Some(failed(view.failure.as_ref().unwrap())),
            // A table of their own, which the next test checks.
            "last_run" => Some(Vec::new()),
            _ => None,
        });
    }
}

/// The columns that show a failure.
fn failed(failure: &ViewFailure) -> Vec<(&'static str, Value)> {
    let mut columns = vec![("failure", json!(failure.sentence())), ("failure_help", json!(failure.advice()))];
    for (field, value) in object(failure) {
        columns.push(match field.as_str() {
            "step" => ("failure_step", value),
            "fault" => ("failure_fault", value),
            "reason" => ("failure_reason", value),
            "expression" => ("failure_expression", value),
            "from" => ("failure_from", value),
            "to" => ("failure_to", value),
            "since_ms" => ("failing_since", json!(value.as_i64().unwrap() * 1000)),
            other => panic!("no column shows {other} of a failure"),
        });
    }
    columns
}

#[tokio::test]
async fn the_newest_run_of_a_view_is_in_the_table_of_runs() {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    world.record_run();
    world.fail_run("device_minutes", failure(FailedStep::Run));
    let state = state(&world).await;
    let runs = rows(&state, StateTable::Runs);
    let mut compared = 0;
    for view in &state.views.as_ref().unwrap().views {
        let Some(run): Option<&RunSummary> = view.last_run.as_ref() else { continue };
        let row = runs.iter().rfind(|row| row["view"] == json!(view.name)).unwrap();
        for (field, value) in object(run) {
            let (column, value) = match field.as_str() {
                "finished_ms" => ("finished", json!(value.as_i64().unwrap() * 1000)),
                other => (other, value),
            };
            let found = row.get(column).unwrap_or_else(|| panic!("no column shows {field} of a run"));
            assert_eq!(plain(found), plain(&value), "{field}");
        }
        compared += 1;
    }
    assert_eq!(compared, 2);
}

fn reading() -> WorkerStream {
    let health = |lag, latest_event_us| PartitionHealth {
        high_watermark: Some(thalweg_schemas::Offset(50)),
        lag,
        latest_event_us,
        rows: 5,
        rejects: 1,
        waiting: None,
    };
    WorkerStream {
        failure: Some("the topic is gone".into()),
        waiting: Some("no broker".into()),
        archive_failure: Some("the disk is full".into()),
        frontier: Some(at(9, 7)),
        caught_up: [Partition(0), Partition(1)].into(),
        health: [(Partition(0), health(3, Some(1_000_000))), (Partition(1), health(4, None))].into(),
        segments: [(ViewId::of(&["a"]), 2), (ViewId::of(&["b"]), 3)].into(),
        failed: [(ViewId::of(&["a"]), failure(FailedStep::Update))].into(),
        delayed: [(ViewId::of(&["b"]), failure(FailedStep::Rebuild))].into(),
        memory_bytes: 10,
        memory_budget: 100,
        paused: true,
    }
}

#[tokio::test]
async fn workers_show_what_their_document_says() {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    let mut state = state(&world).await;
    assert!(rows(&state, StateTable::Workers).is_empty());
    let entry = |address: &str, status: std::result::Result<WorkerStatus, String>| WorkerEntry {
        address: address.into(),
        up: status.is_ok(),
        reason: status.as_ref().err().cloned(),
        status: status.ok(),
    };
    let of = |streams| WorkerStatus { worker: "w".into(), streams };
    let workers = vec![
        entry("one:1", Ok(of([(stream(), reading())].into()))),
        entry("two:2", Ok(of(BTreeMap::new()))),
        entry("three:3", Err("does not answer".into())),
    ];
    state.streams.as_mut().unwrap().workers = Some(workers.clone());
    let found = rows(&state, StateTable::Workers);
    assert_eq!(found.len(), workers.len());
    for (worker, row) in workers.iter().zip(&found) {
        let mut document = object(worker);
        document.remove("status");
        let stream = worker.status.as_ref().and_then(|status| status.streams.iter().next());
        let name = worker.status.as_ref().map(|status| status.worker.clone());
        document.insert("worker".into(), json!(name));
        if let Some((name, stream)) = stream {
            document.insert("stream".into(), json!(name));
            document.extend(object(stream));
        }
        let said = |value: &Value| -> Value {
            let read: BTreeMap<String, ViewFailure> = serde_json::from_value(value.clone()).unwrap();
            read.into_iter().map(|(id, failure)| (id, json!(failure.sentence()))).collect::<Object>().into()
        };
        check(&document, row, |field, value| match field {
            "failed" => Some(vec![("failed_views", said(value))]),
            "delayed" => Some(vec![("delayed_views", said(value))]),
            "segments" => Some(vec![("views", json!(2)), ("segments", json!(5))]),
            // Sums over the partitions, which are in a table of their own.
            "health" => Some(vec![
                ("lag", json!(7)),
                ("rows", json!(10)),
                ("rejects", json!(2)),
                ("latest_event", json!(1_000_000)),
            ]),
            _ => None,
        });
    }
}

#[tokio::test]
async fn the_process_and_what_is_not_understood_are_shown() {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    let mut state = state(&world).await;
    check(&object(state.process.as_ref().unwrap()), &rows(&state, StateTable::Process)[0], |_, _| None);
    assert!(rows(&state, StateTable::NotUnderstood).is_empty());
    let kept = |name: &str| thalweg_schemas::api::NotUnderstood { name: name.into(), reason: "it is newer".into() };
    state.streams.as_mut().unwrap().not_understood = vec![kept("s")];
    state.views.as_mut().unwrap().not_understood = vec![kept("v")];
    for ((kind, document), row) in
        [("stream", kept("s")), ("view", kept("v"))].iter().zip(rows(&state, StateTable::NotUnderstood))
    {
        let mut document = object(document);
        document.insert("kind".into(), json!(kind));
        check(&document, &row, |_, _| None);
    }
}

#[test]
fn each_table_is_in_the_manual() {
    let page = include_str!("../../../../docs/operating.md");
    for table in StateTable::ALL {
        let line = page.lines().find(|line| line.starts_with(&format!("| `thalweg.{}` |", table.name())));
        let line = line.unwrap_or_else(|| panic!("docs/operating.md has no thalweg.{}", table.name()));
        let named = line.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        for column in named.filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')) {
            assert!(table.schema().column_with_name(column).is_some(), "{}.{column}", table.name());
        }
    }
}
