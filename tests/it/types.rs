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

/// The answers of one server that were not as expected.
struct Answers<'a> {
    server: &'a Server,
    context: &'a str,
    wrong: &'a mut Vec<String>,
}

impl Answers<'_> {
    /// Checks that the answer of `sql` has these rows, in any order.
    async fn expect(&mut self, sql: &str, mut rows: Vec<Value>) {
        let reply = self.server.sql(sql).await;
        let Some(found) = reply.body["rows"].as_array() else {
            self.wrong.push(format!("{}: {sql}: {}", self.context, reply.body));
            return;
        };
        let mut found = found.clone();
        found.sort_by_key(Value::to_string);
        rows.sort_by_key(Value::to_string);
        if found != rows {
            let at = found.iter().zip(&rows).find(|(found, row)| found != row);
            let counts = format!("{} rows instead of {}", found.len(), rows.len());
            self.wrong.push(format!("{}: {sql}: {counts}, first difference {at:?}", self.context));
        }
    }
}

/// The values of `case` in the rows, in the order of partition and offset.
fn values(case: &Case, events: &[Event]) -> Vec<Value> {
    events.iter().filter(|event| !event.reject).map(|event| case.value(event)).collect()
}

async fn rows(answers: &mut Answers<'_>, cases: &[Case], events: &[Event]) {
    for case in cases {
        let listed = events.iter().filter(|event| !event.reject);
        let listed = listed.map(|event| json!([event.partition, event.offset, case.value(event)]));
        let sql = format!("SELECT _partition, _offset, {} FROM things", case.sql);
        answers.expect(&sql, listed.collect()).await;
        let values = values(case, events);
        let nulls = values.iter().filter(|value| value.is_null()).count();
        let sql = format!("SELECT count(*) FROM things WHERE {} IS NULL", case.sql);
        answers.expect(&sql, vec![json!([nulls])]).await;
        if let Some((literal, at)) = case.literal {
            let equal = values.iter().filter(|value| **value == case.output(at)).count();
            let sql = format!("SELECT count(*), min(_offset) >= 0 FROM things WHERE {} = {literal}", case.sql);
            answers.expect(&sql, vec![json!([equal, true])]).await;
        }
    }
    let rejected = events.iter().filter(|event| event.reject);
    let rejected = rejected.map(|event| json!([event.partition, event.offset, event.key()])).collect();
    answers.expect("SELECT _partition, _offset, _key FROM rejects.things", rejected).await;
}

/// Every spelling of a list's items as rows.
async fn items(answers: &mut Answers<'_>, cases: &[Case], events: &[Event]) {
    let list = |sql| cases.iter().find(|case| case.sql == sql).unwrap();
    let (tags, stocks) = (list("tags"), list("items"));
    let of = |case: &Case, event: &Event| case.value(event).as_array().cloned().unwrap_or_default();
    let (mut inner, mut outer, mut alone, mut skus, mut both) = (vec![], vec![], vec![], vec![], vec![]);
    for event in events.iter().filter(|event| !event.reject) {
        let found = of(tags, event);
        let row = |tag: &Value| json!([event.partition, event.offset, tag]);
        inner.extend(found.iter().map(row));
        alone.extend(found.iter().map(|tag| json!([tag])));
        outer.extend(if found.is_empty() { vec![row(&Value::Null)] } else { found.iter().map(row).collect() });
        for item in of(stocks, event) {
            skus.push(json!([item["sku"]]));
            both.extend(found.iter().map(|tag| json!([item["sku"], tag])));
        }
    }
    let columns = "_partition, _offset, tag";
    for join in
        ["CROSS JOIN UNNEST(t.tags) AS u(tag)", ", UNNEST(tags) AS u(tag)", "JOIN UNNEST(t.tags) AS tag ON true"]
    {
        answers.expect(&format!("SELECT {columns} FROM things AS t {join}"), inner.clone()).await;
    }
    let sql = format!("SELECT {columns} FROM things LEFT JOIN UNNEST(things.tags) AS u(tag) ON true");
    answers.expect(&sql, outer).await;
    answers.expect("SELECT unnest(tags) FROM things", alone).await;
    answers.expect("SELECT i.sku FROM things CROSS JOIN UNNEST(items) AS u(i)", skus.clone()).await;
    answers.expect("SELECT i['sku'] FROM (SELECT unnest(items) AS i FROM things)", skus).await;
    let sql =
        "SELECT i.sku, tag FROM things AS t CROSS JOIN UNNEST(t.items) AS u(i) CROSS JOIN UNNEST(t.tags) AS v(tag)";
    answers.expect(sql, both).await;
}

async fn views(answers: &mut Answers<'_>, cases: &[Case], events: &[Event]) {
    for (at, case) in cases.iter().enumerate() {
        let values = values(case, events);
        let mut groups: BTreeMap<String, (Value, u64)> = BTreeMap::new();
        for value in &values {
            groups.entry(value.to_string()).or_insert((value.clone(), 0)).1 += 1;
        }
        let distinct = groups.values().filter(|(value, _)| !value.is_null()).count();
        let rows = groups.values().map(|(value, count)| json!([value, count])).collect();
        answers.expect(&format!("SELECT k, n FROM keys_{at}"), rows).await;
        let present: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
        answers
            .expect(
                &format!("SELECT present, kinds, earliest, latest, everything FROM values_{at}"),
                vec![json!([present.len(), distinct, values[0], values[values.len() - 1], values])],
            )
            .await;
        if case.ordered {
            let rank = |value: &&&Value| case.rank(value);
            let [least, most] = [present.iter().min_by_key(rank), present.iter().max_by_key(rank)];
            let sql = format!("SELECT least, most FROM ranges_{at}");
            answers.expect(&sql, vec![json!([least, most])]).await;
        }
        if let Some((_, literal)) = case.literal {
            let equal = values.iter().filter(|value| **value == case.output(literal)).count();
            answers.expect(&format!("SELECT n FROM equal_{at}"), vec![json!([equal])]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_takes_every_path() {
    let (cases, events) = (cases(), events());
    let mut world = World::new(&cases).await;
    let mut wrong = Vec::new();
    for phase in [Phase::Memory, Phase::Both, Phase::Archive] {
        world.enter(phase).await;
        let context = format!("{phase:?}");
        let server = world.here().await;
        let mut answers = Answers { server: &server, context: &context, wrong: &mut wrong };
        rows(&mut answers, &cases, &events).await;
        items(&mut answers, &cases, &events).await;
        views(&mut answers, &cases, &events).await;
        if phase == Phase::Both {
            let worker = world.worker().await;
            let server = world.over(&worker).await;
            let mut answers = Answers { server: &server, context: "Flight", wrong: &mut wrong };
            rows(&mut answers, &cases, &events).await;
            items(&mut answers, &cases, &events).await;
            views(&mut answers, &cases, &events).await;
            wrong.extend(world.audit().await);
        }
    }
    wrong.extend(world.audit_rebuilt().await);
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
