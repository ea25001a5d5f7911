//! The limits that end a query: time, memory, the number of queries, and a client that does not read.

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
    // The permit becomes free when the task has ended, a moment after the abort.
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
    // The permit becomes free when the operator's thread ends.
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
