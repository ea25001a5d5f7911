//! Answers of the engine against one query over all rows; what is refused, and what ends a query.

use std::collections::BTreeMap;

use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use std::time::Duration;
use thalweg_schemas::Frontier;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::warehouse::versions::Published;

use super::*;
use crate::fixture::{World, at};
use crate::status::stream::StreamConditions;

fn engine(world: &World) -> Arc<Engine> {
    Arc::new(Engine::new(world.config(), world.sources.clone()).unwrap())
}

/// Rows as sorted lines, so that answers compare whatever their order.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| l.starts_with('|'))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}

async fn rows(engine: &Arc<Engine>, sql: &str) -> Vec<RecordBatch> {
    let answer = engine.run(sql, Options::default()).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    answer.batches.try_collect().await.unwrap()
}

async fn code(engine: &Arc<Engine>, sql: &str) -> &'static str {
    let error = match engine.run(sql, Options::default()).await {
        Err(error) => error,
        Ok(answer) => match answer.batches.try_collect::<Vec<_>>().await {
            Err(error) => error,
            Ok(_) => panic!("{sql} was answered"),
        },
    };
    error.code().as_str()
}

/// The views' queries over all rows below `to`, in a session that knows nothing of layers.
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

/// Every statement answers as the reference does.
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
    let expected = BTreeMap::from([(crate::fixture::stream(), at(47, 33))]);
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
    // Of five aggregates one is asked for: the states of the others are not even read.
    for scan in logical.lines().filter(|l| l.contains("TableScan:")) {
        assert!(scan.contains("g0"), "{plan}");
        let states = (0..5).filter(|i| scan.contains(&format!("a{i}"))).count();
        assert_eq!(states, 1, "{scan}\n{plan}");
    }
}

#[tokio::test]
async fn what_is_not_there_yet_is_not_ready() {
    let (archived, cut, to) = (at(4, 4), at(4, 4), at(9, 9));
    let world = World::new().await;
    let engine = engine(&world);
    let asks = ["SELECT * FROM totals", "SELECT * FROM sensor_data", "SELECT * FROM batch.totals"];
    for sql in asks {
        assert_eq!(code(&engine, sql).await, "not_ready", "{sql}");
    }
    let snapshot = world.snapshot(&archived, &cut, &to).await;
    world.snapshots.send_replace(Some(Arc::new(snapshot)));
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_ready");
    rows(&engine, "SELECT * FROM sensor_data").await;

    world.publish(&cut, &to).await;
    rows(&engine, "SELECT * FROM totals").await;
    world.alter(|s| s.caught_up = false);
    for sql in asks {
        assert_eq!(code(&engine, sql).await, "not_ready", "{sql}");
    }
    world.alter(|s| s.caught_up = true);
    let totals = world.view_id("totals");
    world.alter(|s| {
        s.views.remove(&totals);
    });
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_ready");
    rows(&engine, "SELECT * FROM busy").await;
    world.streams.send_replace(Arc::default());
    assert_eq!(code(&engine, "SELECT * FROM busy").await, "not_ready");
}

#[tokio::test]
async fn a_view_that_is_being_built_says_so() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    let mut catalog = Catalog::clone(&world.catalog.borrow());
    for view in catalog.views.values_mut() {
        view.building = view.serving.take();
    }
    world.catalog.send_replace(Arc::new(catalog));
    for sql in ["SELECT * FROM totals", "SELECT * FROM speed.busy"] {
        let error = engine.run(sql, Options::default()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::NotReady);
        assert!(error.to_string().contains("being built"), "{error}");
    }
}

#[tokio::test]
async fn a_stopped_stream_says_why() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    world.failure.send_replace(Some("the topic was recreated".into()));
    let error = engine(&world).run("SELECT * FROM totals", Options::default()).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::StreamStopped);
    assert!(error.to_string().contains("recreated"), "{error}");
}

#[tokio::test]
async fn gaps_are_waited_out_and_never_answered() {
    let (archived, cut, to) = (at(6, 6), at(4, 4), at(15, 9));
    let world = World::standing(&archived, &cut, &to).await;
    let engine = engine(&world);
    let whole = world.snapshots.borrow().clone();
    let expected = lines(&rows(&engine, "SELECT * FROM totals").await);

    let id = world.view_id("totals");
    world.alter(|s| {
        let mut held = s.views[&id].as_ref().clone();
        held.partitions.values_mut().for_each(|s| drop(s.remove(0)));
        s.views.insert(id.clone(), Arc::new(held));
    });
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_held");
    world.alter(|s| drop(s.rows.remove(0)));
    assert_eq!(code(&engine, "SELECT * FROM sensor_data").await, "not_held");

    let healed = async {
        tokio::task::yield_now().await;
        world.snapshots.send_replace(whole);
    };
    let (found, ()) = tokio::join!(rows(&engine, "SELECT * FROM totals"), healed);
    assert_eq!(lines(&found), expected);
}

#[tokio::test]
async fn a_cut_above_the_snapshot_is_waited_for() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    world.publish(&at(12, 9), &at(12, 9)).await;
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_held");
    let next = world.snapshot(&at(12, 9), &at(12, 9), &at(14, 9)).await;
    world.snapshots.send_replace(Some(Arc::new(next)));
    rows(&engine, "SELECT * FROM totals").await;
}

#[tokio::test]
async fn no_answer_goes_below_a_frontier_given_before() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    rows(&engine, "SELECT * FROM totals").await;
    let older = world.snapshot(&at(6, 6), &at(4, 4), &at(9, 8)).await;
    world.snapshots.send_replace(Some(Arc::new(older)));
    for sql in ["SELECT * FROM totals", "SELECT * FROM sensor_data"] {
        assert_eq!(code(&engine, sql).await, "not_held", "{sql}");
    }
}

#[tokio::test]
async fn queries_only_read() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    for sql in [
        "INSERT INTO sensor_data SELECT * FROM sensor_data",
        "COPY (SELECT 1) TO '/tmp/stolen.csv'",
        "SET datafusion.execution.batch_size = 1",
        "CREATE TABLE t AS SELECT 1",
        "EXPLAIN INSERT INTO sensor_data SELECT * FROM sensor_data",
        "DELETE FROM sensor_data",
        "SELECT 1; SELECT 2",
        "",
    ] {
        let error = engine.run(sql, Options::default()).await.err().unwrap_or_else(|| panic!("{sql}"));
        assert_eq!(error.status(), 400, "{sql}: {error}");
    }
}

#[tokio::test]
async fn mistakes_are_named_with_their_place() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    for (sql, code, place, part) in [
        ("SELECT *\n  FROM nowhere", "invalid_query", Some((2, 8)), "nowhere"),
        ("SELECT nothing FROM totals", "invalid_query", Some((1, 8)), "nothing"),
        ("SELECT 1 +", "syntax", Some((1, 11)), "xpression"),
        ("SELECT floor('a') FROM totals", "invalid_query", None, "floor"),
        ("SELECT 1 / (readings - readings) FROM totals", "query_failed", None, "zero"),
    ] {
        let error = match engine.run(sql, Options::default()).await {
            Err(error) => error,
            Ok(answer) => answer.batches.try_collect::<Vec<_>>().await.unwrap_err(),
        };
        let body = error.body();
        assert_eq!(body.code.as_str(), code, "{sql}: {error}");
        assert!(body.message.to_lowercase().contains(part), "{sql}: {error}");
        if let Some(place) = place {
            assert_eq!(body.line.zip(body.column), Some(place), "{sql}: {error}");
        }
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

#[tokio::test]
async fn limits_end_a_query() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let config = ServingConfig {
        query_timeout: Duration::from_millis(300),
        query_memory: 1 << 20,
        max_queries: 1,
        queue_wait: Duration::from_millis(20),
        ..world.config()
    };
    let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
    let endless = "SELECT max(value % 3) FROM generate_series(1, 100000000000)";
    assert_eq!(code(&engine, endless).await, "timeout");
    let large = "SELECT array_agg(value) FROM generate_series(1, 2000000)";
    assert_eq!(code(&engine, large).await, "memory_limit");

    let held = engine.run("SELECT value FROM generate_series(1, 100000000)", Options::default()).await.unwrap();
    assert_eq!(code(&engine, "SELECT 1").await, "too_busy");
    drop(held);
    // Its permit is free when its task has ended, a moment after it was aborted.
    let _ = engine.permits.acquire().await.unwrap();
    rows(&engine, "SELECT 1").await;
    let text = crate::status::exposition::encode(&world.sources, &StreamConditions::default()).unwrap();
    for outcome in ["ok", "timeout", "memory_limit", "too_busy", "cancelled"] {
        let counted = format!("thalweg_query_seconds_count{{outcome=\"{outcome}\"}} 1");
        assert!(text.contains(&counted), "{outcome}: {text}");
    }
    assert!(text.contains("thalweg_queries_running 0"), "{text}");
}

#[tokio::test]
async fn the_time_limit_does_not_wait_for_an_operator_without_pauses() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let config = ServingConfig { query_timeout: Duration::from_millis(100), max_queries: 2, ..world.config() };
    let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
    let join = "SELECT count(*) FROM generate_series(1, 300000) a, generate_series(1, 8000) b WHERE (a.value * b.value) % 7 = 8";
    assert_eq!(code(&engine, join).await, "timeout");
    // The permit comes back when the operator's thread does.
    let _ = engine.permits.acquire_many(2).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_in_time_and_is_not_taken_for_whole() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let config = ServingConfig { query_timeout: Duration::from_millis(500), max_queries: 1, ..world.config() };
    let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
    let sql = "SELECT value FROM generate_series(1, 100000000)";
    let held = engine.run(sql, Options::default()).await.unwrap();
    let _ = engine.permits.acquire().await.unwrap();
    let error = held.batches.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
}

#[tokio::test]
async fn a_dropped_stream_of_the_same_name_starts_anew() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    rows(&engine, "SELECT * FROM sensor_data").await;
    let whole = world.catalog.borrow().clone();
    world.catalog.send_replace(Arc::new(Catalog::default()));
    assert_eq!(code(&engine, "SELECT * FROM sensor_data").await, "invalid_query");
    world.catalog.send_replace(whole);
    let lower = world.snapshot(&at(2, 2), &at(2, 2), &at(3, 3)).await;
    world.snapshots.send_replace(Some(Arc::new(lower)));
    world.published.send_replace(Arc::new(Published::default()));
    rows(&engine, "SELECT * FROM sensor_data").await;
}

#[tokio::test]
async fn a_frontier_that_is_asked_for_is_waited_for() {
    let (archived, cut) = (at(6, 6), at(4, 4));
    let world = World::standing(&archived, &cut, &at(9, 9)).await;
    let engine = engine(&world);
    let below = r#"SET thalweg.min_frontier = '{"sensor_data": {"0": 9}}'; SELECT * FROM totals"#;
    rows(&engine, below).await;
    let above = r#"SET thalweg.min_frontier = '{"sensor_data": {"0": 11}}'; SELECT * FROM totals"#;
    assert_eq!(code(&engine, above).await, "not_held");
    let error = engine.run(above, Options::default()).await.err().unwrap();
    assert!(error.to_string().contains("which the request asks for"), "{error}");

    let next = world.snapshot(&archived, &cut, &at(11, 9)).await;
    let arrives = async {
        tokio::task::yield_now().await;
        world.snapshots.send_replace(Some(Arc::new(next)));
    };
    let (found, ()) = tokio::join!(rows(&engine, above), arrives);
    assert_eq!(found.len(), 1);
    let unknown = r#"SET thalweg.min_frontier = '{"elsewhere": {"0": 1}}'; SELECT * FROM totals"#;
    assert_eq!(code(&engine, unknown).await, "bad_option");
}

#[tokio::test]
async fn places_stay_the_users_behind_an_option() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let sql = "SET thalweg.partial = 'allow';\nSELECT nothing FROM totals";
    let error = engine(&world).run(sql, Options::default()).await.err().unwrap();
    let body = error.body();
    assert_eq!((body.line, body.column), (Some(2), Some(8)));
}

#[tokio::test]
async fn a_stale_answer_may_lie_below_earlier_ones_but_not_below_what_is_asked_for() {
    let (archived, cut) = (at(4, 4), at(4, 4));
    let world = World::standing(&archived, &cut, &at(9, 9)).await;
    let engine = engine(&world);
    let totals = "SELECT * FROM totals";
    rows(&engine, totals).await;
    let lower = world.snapshot(&archived, &cut, &at(6, 6)).await;
    world.snapshots.send_replace(Some(Arc::new(lower)));
    assert_eq!(code(&engine, totals).await, "not_held");
    let stale = |more: &str| format!("SET thalweg.stale = 'allow'; {more}{totals}");
    let answer = engine.run(&stale(""), Options::default()).await.unwrap();
    assert!(answer.stale);
    assert_eq!(answer.frontier.values().next(), Some(&at(6, 6)));
    let asks = stale(r#"SET thalweg.min_frontier = '{"sensor_data": {"0": 9}}'; "#);
    assert_eq!(code(&engine, &asks).await, "not_held");
}
