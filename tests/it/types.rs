//! Every type that a stream can have, on every path that a value can take: from memory, from the archive and from both;
//! as a row, in a filter, as the key of a group and as the argument of aggregates; in segments, batch states, rebuilds
//! and audits; over HTTP in one process, and over Flight between two.
//!
//! Invariant: the expected answers are computed from the table of [`cases`] in plain Rust. No SQL takes part in them.

mod cases;
mod world;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::cases::{Case, Event, cases, events};
use self::world::{Phase, World};
use crate::flight::processes::Server;

/// Asserts that the answer of `sql` has these rows, in any order.
async fn expect(server: &Server, context: &str, sql: &str, mut rows: Vec<Value>) {
    let reply = server.sql(sql).await;
    assert_eq!(reply.status, 200, "{context}: {sql}: {}", reply.body);
    let mut found = reply.body["rows"].as_array().unwrap().clone();
    found.sort_by_key(Value::to_string);
    rows.sort_by_key(Value::to_string);
    assert_eq!(found, rows, "{context}: {sql}");
}

/// The values of `case` in the rows, in the order of partition and offset.
fn values(case: &Case, events: &[Event]) -> Vec<Value> {
    events.iter().filter(|event| !event.reject).map(|event| case.value(event)).collect()
}

async fn rows(server: &Server, context: &str, cases: &[Case], events: &[Event]) {
    for case in cases {
        let listed = events.iter().filter(|event| !event.reject);
        let listed = listed.map(|event| json!([event.partition, event.offset, case.value(event)]));
        let sql = format!("SELECT _partition, _offset, {} FROM things", case.sql);
        expect(server, context, &sql, listed.collect()).await;
        let values = values(case, events);
        let nulls = values.iter().filter(|value| value.is_null()).count();
        let sql = format!("SELECT count(*) FROM things WHERE {} IS NULL", case.sql);
        expect(server, context, &sql, vec![json!([nulls])]).await;
        if let Some((literal, at)) = case.literal {
            let equal = values.iter().filter(|value| **value == case.output(at)).count();
            let sql = format!("SELECT count(*), min(_offset) >= 0 FROM things WHERE {} = {literal}", case.sql);
            expect(server, context, &sql, vec![json!([equal, true])]).await;
        }
    }
    let rejected = events.iter().filter(|event| event.reject);
    let rejected = rejected.map(|event| json!([event.partition, event.offset, event.key()])).collect();
    expect(server, context, "SELECT _partition, _offset, _key FROM rejects.things", rejected).await;
}

async fn views(server: &Server, context: &str, cases: &[Case], events: &[Event]) {
    for (at, case) in cases.iter().enumerate() {
        let values = values(case, events);
        let mut groups: BTreeMap<String, (Value, u64)> = BTreeMap::new();
        for value in &values {
            groups.entry(value.to_string()).or_insert((value.clone(), 0)).1 += 1;
        }
        let distinct = groups.values().filter(|(value, _)| !value.is_null()).count();
        let rows = groups.values().map(|(value, count)| json!([value, count])).collect();
        expect(server, context, &format!("SELECT k, n FROM keys_{at}"), rows).await;
        let present: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
        expect(
            server,
            context,
            &format!("SELECT present, kinds, earliest, latest, everything FROM values_{at}"),
            vec![json!([present.len(), distinct, values[0], values[values.len() - 1], values])],
        )
        .await;
        if case.ordered {
            let rank = |value: &&&Value| case.rank(value);
            let [least, most] = [present.iter().min_by_key(rank), present.iter().max_by_key(rank)];
            let sql = format!("SELECT least, most FROM ranges_{at}");
            expect(server, context, &sql, vec![json!([least, most])]).await;
        }
        if let Some((_, literal)) = case.literal {
            let equal = values.iter().filter(|value| **value == case.output(literal)).count();
            expect(server, context, &format!("SELECT n FROM equal_{at}"), vec![json!([equal])]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_takes_every_path() {
    let (cases, events) = (cases(), events());
    let mut world = World::new(&cases).await;
    for phase in [Phase::Memory, Phase::Both, Phase::Archive] {
        world.enter(phase).await;
        let context = format!("{phase:?}");
        let here = world.here().await;
        rows(&here, &context, &cases, &events).await;
        views(&here, &context, &cases, &events).await;
        if phase == Phase::Both {
            let worker = world.worker().await;
            let there = world.over(&worker).await;
            rows(&there, "Flight", &cases, &events).await;
            views(&there, "Flight", &cases, &events).await;
            world.audit().await;
        }
    }
    world.audit_rebuilt().await;
}
