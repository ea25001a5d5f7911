//! The limits that end a query: time, memory, places, and a client that does not read or goes away.

mod hostile;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use thalweg_schemas::api::error::ErrorCode;

use super::{code, rows};
use crate::engine::Engine;
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
        assert_eq!(self.memory.reserved(), 0);
        assert_eq!(self.lanes.lost(), 0);
    }
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
    engine.rest().await;
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_query_alone() {
    let (_world, engine) = engine_with(|_| {}).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let failed = engine.on_lane::<()>(deadline, "SELECT 1", async { panic!("a test") }).await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::Internal);
    assert!(failed.to_string().contains("the log says more under"), "{failed}");
    rows(&engine, "SELECT 1").await;
    engine.rest().await;
}

#[tokio::test]
async fn work_that_does_not_return_is_written_off_and_others_are_answered() {
    let (_world, engine) = engine_with(|config| config.max_lost_queries = 1).await;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let asking = Arc::clone(&engine);
    let client = tokio::spawn(async move {
        let stuck = async move {
            begin.send(()).unwrap();
            // Holds a thread of the lane, as an operator that never yields.
            let _ = ended.recv();
        };
        asking.on_lane(deadline, "", stuck).await
    });
    begun.await.unwrap();
    client.abort();
    let lost = async {
        while engine.overloaded().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), lost).await.unwrap();
    assert_eq!(code(&engine, ENDLESS).await, "too_busy");
    rows(&engine, "SELECT 1").await;
    rows(&engine, "SELECT * FROM totals").await;
    drop(end);
    engine.rest().await;
    assert!(engine.overloaded().is_none());
}
