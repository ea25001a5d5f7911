//! Answers: every statement answers as one query over all rows does. Also checks how such a query is planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use thalweg_schemas::Frontier;

use super::{engine, lines, rows};
use crate::fixture::{World, at, stream};
use crate::options::Options;

/// A session that runs the views' queries over all rows below `to` and has no layers.
async fn reference(world: &World, to: &Frontier) -> SessionContext {
    let context = SessionContext::new_with_state(world.state.clone());
    let all = world.rows(&at(0, 0), to);
    let table = MemTable::try_new(all.schema(), vec![vec![all]]).unwrap();
    context.register_table("everything", Arc::new(table)).unwrap();
    let rows =
        "SELECT device, ts, temperature, amount, _partition, _offset, _timestamp FROM everything WHERE _reject IS NULL";
    let rejects = "SELECT _partition, _offset, _timestamp, _reject, _payload FROM everything WHERE _reject IS NOT NULL";
    let mut tables = vec![("sensor_data".to_owned(), rows.to_owned())];
    tables.push(("rejected".to_owned(), rejects.to_owned()));
    for view in world.views() {
        let name = view.definition.name.to_string();
        tables.push((name, view.definition.query.clone()));
    }
    for (name, query) in tables {
        let view = context.sql(&query).await.unwrap().into_view();
        context.register_table(name, view).unwrap();
    }
    context
}

/// Checks that every statement answers as the reference does.
async fn check_equal(archived: Frontier, cut: Frontier, to: Frontier) {
    let world = World::standing(&archived, &cut, &to).await;
    let engine = engine(&world);
    let reference = reference(&world, &to).await;
    for sql in [
        "SELECT * FROM device_minutes",
        "SELECT * FROM totals",
        "SELECT * FROM busy",
        "SELECT * FROM sensor_data",
        "SELECT device, peak FROM device_minutes WHERE device = 'd1' AND minute < '2026-01-01T00:02:00'",
        "SELECT device, sum(readings), max(peak) FROM device_minutes GROUP BY device",
        "SELECT m.device, m.alarms, t.readings FROM device_minutes m, totals t WHERE m.readings > 1",
        "SELECT count(*), sum(temperature), min(ts) FROM sensor_data WHERE _offset >= 3 AND device <> 'd0'",
        "SELECT count(*) AS from_rows, (SELECT readings FROM totals) AS from_view FROM sensor_data",
    ] {
        let expected = reference.sql(sql).await.unwrap().collect().await.unwrap();
        let found = rows(&engine, sql).await;
        assert_eq!(lines(&found), lines(&expected), "{sql}, A {archived}, B {cut}, F {to}");
    }
    let expected = reference.sql("SELECT * FROM rejected").await.unwrap();
    let found = rows(&engine, "SELECT * FROM rejects.sensor_data").await;
    assert_eq!(lines(&found), lines(&expected.collect().await.unwrap()));
}

#[tokio::test]
async fn answers_equal_one_query_over_all_rows() {
    check_equal(at(30, 20), at(22, 11), at(47, 33)).await;
}

#[tokio::test]
async fn answers_are_equal_with_one_layer_empty() {
    check_equal(at(0, 0), at(0, 0), at(19, 8)).await;
    check_equal(at(19, 8), at(19, 8), at(19, 8)).await;
    check_equal(at(0, 0), at(0, 0), at(0, 0)).await;
    check_equal(at(12, 0), at(12, 0), at(12, 5)).await;
}

#[tokio::test]
async fn both_sides_add_up_at_one_frontier() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let engine = engine(&world);
    let sql = "SELECT b.readings + s.readings = m.readings AND m.readings = r.n AS exact
        FROM batch.totals b, speed.totals s, totals m, (SELECT count(*) AS n FROM sensor_data) r";
    let answer = engine.run(sql, Options::default()).await.unwrap();
    let expected = BTreeMap::from([(stream(), at(47, 33))]);
    assert_eq!(answer.frontier, expected);
    let found: Vec<RecordBatch> = answer.batches.try_collect().await.unwrap();
    assert_eq!(lines(&found), ["| exact |", "| true |"]);
}

#[tokio::test]
async fn explain_shows_both_frontiers_and_pushes_filters_and_columns() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let sql = "EXPLAIN SELECT device, peak FROM device_minutes WHERE device = 'd1'";
    let text = lines(&rows(&engine(&world), sql).await).join("\n");
    let plan = rows(&engine(&world), sql).await;
    let plan = pretty_format_batches(&plan).unwrap().to_string();
    assert!(text.contains("device_minutes batch below {0:22, 1:11}"), "{plan}");
    assert!(text.contains("device_minutes speed from {0:22, 1:11} to {0:47, 1:33}"), "{plan}");
    let logical = plan.split("physical_plan").next().unwrap();
    let aggregate = logical.find("Aggregate:").expect(&plan);
    let below: Vec<usize> = logical.match_indices(" Filter: ").map(|(i, _)| i).collect();
    assert_eq!(below.len(), 2, "the filter is on both sides: {plan}");
    assert!(below.iter().all(|i| *i > aggregate), "below the aggregate: {plan}");
    // The query reads one of five aggregates; the scans leave out the states of the others.
    for scan in logical.lines().filter(|l| l.contains("TableScan:")) {
        assert!(scan.contains("g0"), "{plan}");
        let states = (0..5).filter(|i| scan.contains(&format!("a{i}"))).count();
        assert_eq!(states, 1, "{scan}\n{plan}");
    }
}

#[tokio::test]
async fn a_plan_names_files_without_the_place_of_the_warehouse() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let root = world.sources.shared.warehouse.url().path().trim_matches('/').to_owned();
    for explain in ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE"] {
        let plan = rows(&engine(&world), &format!("{explain} SELECT * FROM device_minutes")).await;
        let plan = pretty_format_batches(&plan).unwrap().to_string();
        assert!(plan.contains("[views/") && !plan.contains(&root), "{root}: {plan}");
    }
}

#[tokio::test]
async fn tables_can_be_listed_before_they_can_be_read() {
    let world = World::new().await;
    let engine = engine(&world);
    let tables = lines(&rows(&engine, "SHOW TABLES").await).join("\n");
    for name in ["public | totals", "batch | busy", "speed | busy", "rejects | sensor_data"] {
        assert!(tables.contains(name), "{name} in {tables}");
    }
    let sql =
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'busy'";
    assert_eq!(lines(&rows(&engine, sql).await).len(), 3);
    rows(&engine, "SELECT 1").await;
}
