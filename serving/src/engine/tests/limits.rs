//! The limits that end a query: time, memory, places, and a client that does not read or goes away.

mod hostile;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use thalweg_schemas::api::error::ErrorCode;

use super::{code, lines, rows};
use crate::Error;
use crate::engine::{Engine, LaneTime};
use crate::fixture::{World, at};
use crate::options::Options;
use crate::sources::ServingConfig;
use crate::status::stream::StreamConditions;

/// A query that is endless for any test, and heavy.
const ENDLESS: &str = "SELECT max(value % 3) FROM generate_series(1, 100000000000)";

async fn engine_with(change: impl FnOnce(&mut ServingConfig)) -> (World, Arc<Engine>) {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let mut config = ServingConfig { queue_wait: Duration::from_millis(20), ..world.config() };
    change(&mut config);
    let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
    (world, engine)
}

impl Engine {
    /// Waits until all work of all queries has ended.
    async fn rest(&self) {
        let (heavy, light) = (self.config.max_queries, self.config.max_light_queries);
        for (places, count) in
            [(&self.places.heavy, heavy), (&self.places.light, light), (&self.places.plans, heavy + light)]
        {
            let _ = places.acquire_many(u32::try_from(count).unwrap()).await.unwrap();
        }
        assert_eq!((self.memory.reserved(), self.lanes.lost()), (0, 0), "memory stays, or work is lost");
    }

    /// Waits until as many lanes are lost.
    async fn lost(&self, count: usize) {
        let reached = async {
            while self.lanes.lost() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("another number of lanes is lost");
    }
}

#[tokio::test]
async fn constants_are_written_out_for_few_rows_at_a_time() {
    let memory = 64 << 20;
    let (_world, engine) = engine_with(|config| config.query_memory = memory).await;
    let long: Vec<String> = ["a", "b", "c", "d"].iter().map(|x| format!("lpad('{x}', 250000) AS {x}")).collect();
    let sql = format!("SELECT {} FROM generate_series(1, 200)", long.join(", "));
    let batches = rows(&engine, &sql).await;
    assert_eq!(batches.iter().map(arrow::record_batch::RecordBatch::num_rows).sum::<usize>(), 200);
    let grown = format!(
        "SELECT sum(length(concat(value::STRING, {}))) AS n FROM generate_series(1, 200)",
        "lpad('a', 1000000)"
    );
    assert_eq!(lines(&rows(&engine, &grown).await), ["| 200000492 |", "| n |"]);
    engine.rest().await;
    let (_world, engine) = engine_with(|config| config.query_memory = 8 << 20).await;
    let too_long =
        format!("SELECT {} FROM generate_series(1, 2)", ["lpad('a', 1000000)"; 6].join(" || value::STRING || "));
    assert_eq!(code(&engine, &too_long).await, "memory_limit");
    engine.rest().await;
}

#[tokio::test]
async fn limits_end_a_query() {
    let (world, engine) = engine_with(|config| {
        config.query_timeout = Duration::from_millis(300);
        config.query_memory = 1 << 20;
        config.max_queries = 1;
    })
    .await;
    assert_eq!(code(&engine, ENDLESS).await, "timeout");
    engine.rest().await;
    let large = "SELECT array_agg(value) FROM generate_series(1, 2000000)";
    assert_eq!(code(&engine, large).await, "memory_limit");
    engine.rest().await;

    let held = engine.run("SELECT value FROM generate_series(1, 100000000)", Options::default()).await.unwrap();
    assert_eq!(code(&engine, ENDLESS).await, "too_busy");
    rows(&engine, "SELECT 1").await;
    drop(held);
    engine.rest().await;
    let text = crate::status::exposition::encode(&world.sources, &StreamConditions::default()).unwrap();
    for outcome in ["ok", "timeout", "memory_limit", "too_busy", "cancelled"] {
        let counted = format!("thalweg_query_seconds_count{{outcome=\"{outcome}\"}} 1");
        assert!(text.contains(&counted), "{outcome}: {text}");
    }
    assert!(text.contains("thalweg_queries_running 0"), "{text}");
    assert!(text.contains("thalweg_queries_lost 0"), "{text}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_in_time_and_is_not_taken_for_whole() {
    let (_world, engine) = engine_with(|config| config.query_timeout = Duration::from_millis(500)).await;
    let sql = "SELECT value FROM generate_series(1, 100000000)";
    let held = engine.run(sql, Options::default()).await.unwrap();
    engine.rest().await;
    let error = held.batches.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_work_along() {
    let (_world, engine) = engine_with(|config| config.max_queries = 2).await;
    for sql in [ENDLESS, "SELECT count(*) FROM generate_series(1, 3000000) a, generate_series(1, 3000) b"] {
        let asked = tokio::time::timeout(Duration::from_millis(100), code(&engine, sql));
        assert!(asked.await.is_err(), "{sql} ended by itself");
        engine.rest().await;
    }
}

#[tokio::test]
async fn all_queries_together_hold_no_more_than_their_sum() {
    let (_world, engine) = engine_with(|config| {
        config.query_memory = 64 << 20;
        config.all_queries_memory = 48 << 20;
    })
    .await;
    let large = "SELECT array_agg(value) FROM generate_series(1, 20000000)";
    let error = engine.run(large, Options::default()).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::MemoryLimit);
    assert!(error.to_string().contains("all queries together"), "{error}");
    engine.rest().await;
}

#[tokio::test]
async fn size_is_refused_before_it_starts() {
    let (_world, engine) = engine_with(|_| {}).await;
    let check = async |sql: &str, expect: &str| {
        let error = engine.run(sql, Options::default()).await.err().unwrap_or_else(|| panic!("{sql} was answered"));
        assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
        assert!(error.to_string().contains(expect), "{error}");
    };
    let mut doubling = "WITH t0 AS (SELECT device FROM sensor_data)".to_owned();
    for i in 1..40 {
        doubling += &format!(", t{i} AS (SELECT a.device FROM t{0} a JOIN t{0} b ON a.device = b.device)", i - 1);
    }
    check(&format!("{doubling} SELECT count(*) FROM t39"), "tables").await;
    check(&format!("EXPLAIN {doubling} SELECT count(*) FROM t39"), "tables").await;
    let quoted =
        doubling.replace("FROM t", "FROM \"t").replace(" a JOIN t", "\" a JOIN \"t").replace(" b ON", "\" b ON");
    assert!(quoted.contains("FROM \"t38\" a JOIN \"t38\" b ON"), "{quoted}");
    check(&format!("{quoted} SELECT count(*) FROM t39"), "tables").await;

    let columns: Vec<String> = (0..34).map(|i| format!("c{i}")).collect();
    let (names, values) = (columns.join(", "), vec!["1"; 34].join(", "));
    for sets in [format!("CUBE ({names})"), format!("c0, CUBE ({names})"), format!("CUBE (c0, c1), CUBE ({names})")] {
        check(&format!("SELECT count(*) FROM (VALUES ({values})) t({names}) GROUP BY {sets}"), "grouping sets").await;
    }
    rows(&engine, &format!("SELECT count(*) FROM (VALUES ({values})) t({names}) GROUP BY CUBE (c0, c1, c2)")).await;
    let cube = vec!["device"; 34].join(", ");
    let view = format!("SELECT device, count(*) AS n FROM sensor_data GROUP BY device, CUBE ({cube})");
    check(&format!("CREATE MATERIALIZED VIEW v AS {view}"), "grouping sets").await;

    let mut chain = "WITH t0 AS (SELECT 'x' AS a UNION ALL SELECT 'y')".to_owned();
    for i in 1..35 {
        chain += &format!(", t{i} AS (SELECT a || a AS a FROM t{})", i - 1);
    }
    check(&format!("{chain} SELECT a FROM t34 WHERE a <> ''"), "parts of expressions").await;
    check(&format!("{chain} SELECT a FROM t34"), "parts of expressions").await;
    check(&format!("SELECT 1 IN ({}1)", "1,".repeat(400_000)), "words and signs").await;
    engine.rest().await;
}

#[tokio::test]
async fn a_long_batch_is_not_taken_for_wide_rows() {
    let (_world, engine) = engine_with(|config| config.query_memory = 64 << 20).await;
    let before = std::time::Instant::now();
    let sql = "SELECT max(s) FROM (SELECT sum(value) OVER () AS s FROM generate_series(1, 1000000))";
    assert_eq!(lines(&rows(&engine, sql).await)[0], "| 500000500000 |");
    // Batches of a few rows take minutes.
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    engine.rest().await;
}

#[tokio::test]
async fn one_wide_row_makes_only_its_join_slow() {
    let (_world, engine) = engine_with(|config| config.query_memory = 64 << 20).await;
    let width = "CASE WHEN k = 7 THEN 1000000 ELSE 1 END";
    let wide = format!("SELECT k, repeat('x', {width}) AS w FROM generate_series(1, 2000) g(k)");
    let joined = format!("({wide}) a JOIN generate_series(1, 2000) b(k) ON a.k = b.k");
    let found = rows(&engine, &format!("SELECT count(*), sum(length(w)) FROM {joined}")).await;
    assert_eq!(lines(&found)[0], "| 2000 | 1001999 |");
    engine.rest().await;
}

#[tokio::test]
async fn a_sort_larger_than_the_memory_spills() {
    let width = "100 + CAST((k * 7919) % 2000 AS INT)";
    let wide = format!("SELECT k, repeat('x', {width}) AS w FROM generate_series(1, 150000) g(k)");
    let sql = format!("SELECT k, w FROM ({wide}) ORDER BY w, k");
    for mib in [32, 48, 64] {
        let (_world, engine) = engine_with(|config| config.query_memory = mib << 20).await;
        let answer = engine.run(&sql, Options::default()).await.unwrap_or_else(|e| panic!("{mib} MiB: {e}"));
        let count = answer.batches.try_fold(0, |count, batch| async move { Ok(count + batch.num_rows()) });
        assert_eq!(count.await.unwrap_or_else(|e| panic!("{mib} MiB: {e}")), 150_000);
        engine.rest().await;
    }
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_query_alone() {
    let (_world, engine) = engine_with(|_| {}).await;
    let time = time(Duration::from_secs(10));
    let failed = engine.on_lane::<()>(time, "SELECT 1", async { panic!("a test") }).await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::Internal);
    assert!(failed.to_string().contains("the log says more under"), "{failed}");
    rows(&engine, "SELECT 1").await;
    engine.rest().await;
}

/// Time for work on a lane.
fn time(within: Duration) -> LaneTime {
    let late = || Error::PlanInTime { seconds: 0.0 };
    LaneTime { within, deadline: None, late: Box::new(late) }
}

#[tokio::test]
async fn plans_that_do_not_end_keep_no_place() {
    let (_world, engine) = engine_with(|config| {
        config.max_queries = 1;
        config.max_light_queries = 1;
        config.max_lost_queries = 1;
    })
    .await;
    let mut ends = Vec::new();
    let stuck = async |count: usize| {
        let mut clients = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..count {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let asking = Arc::clone(&engine);
            let work = async move { ended.recv().is_err() };
            clients.push(tokio::spawn(async move { asking.on_lane(time(Duration::from_millis(200)), "", work).await }));
            ends.push(end);
        }
        for client in clients {
            assert_eq!(client.await.unwrap().unwrap_err().code(), ErrorCode::Timeout);
        }
        ends
    };
    ends.extend(stuck(2).await);
    engine.lost(2).await;
    rows(&engine, "SELECT 1").await;
    ends.extend(stuck(1).await);
    engine.lost(3).await;
    let error = engine.run("SELECT 1", Options::default()).await.err().unwrap();
    assert!(matches!(error, Error::PlansLost { lost: 3 }), "{error}");
    assert_eq!(error.code(), ErrorCode::TooBusy);
    drop(ends);
    // Lost plans have no place any more.
    engine.lost(0).await;
    engine.rest().await;
    rows(&engine, "SELECT 1").await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_and_that_does_not_end_is_lost() {
    let (_world, engine) = engine_with(|_| {}).await;
    let lane = engine.lanes.take().unwrap();
    let watch = lane.watch(tokio::time::Instant::now() + Duration::from_millis(50));
    engine.lost(1).await;
    drop((lane, watch));
    engine.rest().await;
}

#[tokio::test]
async fn definitions_that_take_too_long_are_not_told_as_a_query() {
    let error = Error::ApplyInTime { seconds: 60.0 };
    assert_eq!((error.code(), error.status()), (ErrorCode::Unavailable, 503));
    assert!(error.to_string().contains("60 s, and it is not known whether"), "{error}");
    let (_world, engine) = engine_with(|_| {}).await;
    let late = LaneTime {
        within: Duration::from_millis(1),
        deadline: None,
        late: Box::new(|| Error::ApplyInTime { seconds: 60.0 }),
    };
    let failed = engine.on_lane::<()>(late, "", std::future::pending()).await.unwrap_err();
    assert!(matches!(failed, Error::ApplyInTime { .. }), "{failed}");
    engine.rest().await;
}

#[tokio::test]
async fn work_that_does_not_return_is_written_off_and_others_are_answered() {
    let (_world, engine) = engine_with(|config| config.max_lost_queries = 1).await;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let asking = Arc::clone(&engine);
    let client = tokio::spawn(async move {
        let stuck = async move {
            begin.send(()).unwrap();
            // Holds a thread of the lane, as an operator that never yields.
            let _ = ended.recv();
        };
        asking.on_lane(time(Duration::from_secs(60)), "", stuck).await
    });
    begun.await.unwrap();
    client.abort();
    engine.lost(1).await;
    assert!(engine.overloaded().is_some());
    assert_eq!(code(&engine, ENDLESS).await, "too_busy");
    rows(&engine, "SELECT 1").await;
    rows(&engine, "SELECT * FROM totals").await;
    drop(end);
    engine.lost(0).await;
    engine.rest().await;
    assert!(engine.overloaded().is_none());
}
