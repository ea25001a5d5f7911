//! Window functions whose values are far larger than their rows, and some that are not.

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::guarded;
use super::*;
use crate::limits::allowance::Terms;

/// The rows of a query and its values as text. Guards may reserve `memory` bytes.
async fn run(sql: &str, memory: usize, counts: bool) -> Result<(usize, String)> {
    let terms = Terms {
        deadline: Instant::now() + Duration::from_secs(3600),
        time: Duration::from_secs(3600),
        memory,
        threads: 1,
        batch_rows: 1024,
        join_rows: BTreeMap::new(),
        can_restart: false,
    };
    let allowance = Arc::new(Allowance::new(&terms, Arc::new(GreedyMemoryPool::new(memory))));
    let settings = SessionConfig::new().with_target_partitions(2).with_batch_size(1024);
    let mut state = SessionStateBuilder::new().with_config(settings).with_default_features().build();
    if counts {
        state.add_analyzer_rule(Arc::new(CountWindows));
    }
    let context = SessionContext::new_with_state(state);
    let plan = context.sql(sql).await?.create_physical_plan().await?;
    let plan = if counts { guarded(plan, &allowance)? } else { plan };
    let batches = collect(plan, context.task_ctx()).await;
    assert_eq!(allowance.pool().reserved(), 0, "{sql}");
    let batches = batches?;
    let text = arrow::util::pretty::pretty_format_batches(&batches)?.to_string();
    Ok((batches.iter().map(|batch| batch.num_rows()).sum(), text))
}

const ROWS: &str = "(SELECT value AS i, value % 10 AS k, repeat('x', 100) AS s FROM generate_series(1, 4000)) AS t";

#[tokio::test]
async fn values_count_before_they_are_a_column() {
    for call in [
        "array_agg(i) OVER (ORDER BY i)",
        "array_agg(s) OVER (ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING)",
        "string_agg(s, ',') OVER (ORDER BY i)",
        "array_agg(i) OVER ()",
        "array_agg(i) OVER (PARTITION BY i % 2)",
        "array_agg(i) FILTER (WHERE i % 2 = 0) OVER ()",
        "array_agg(i) FILTER (WHERE i % 2 = 0) OVER (ORDER BY i)",
        "array_agg(i) OVER (ORDER BY i DESC ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
        "array_agg(i) OVER (ORDER BY i ROWS BETWEEN 2000 PRECEDING AND CURRENT ROW)",
        "max(CASE WHEN i = 7 THEN repeat('y', 20000) END) OVER ()",
        "max(CASE WHEN i = 7 THEN repeat('y', 20000) END) OVER (ORDER BY i)",
        "max(repeat('y', 20000)) FILTER (WHERE i = 7) OVER ()",
        "first_value(CASE WHEN i = 1 THEN repeat('y', 20000) END) OVER (ORDER BY i)",
        "last_value(CASE WHEN i = 4000 THEN repeat('y', 20000) END) OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
    ] {
        let sql = format!("SELECT count(v) FROM (SELECT {call} AS v FROM {ROWS}) AS w");
        let found = run(&sql, 12 << 20, true).await;
        let found = found.map(|(rows, _)| rows).map_err(|error| error.to_string());
        assert!(found.as_ref().is_err_and(|error| error.contains("window function")), "{call}: {found:?}");
    }
}

#[tokio::test]
async fn what_is_handed_on_is_free_again() {
    // All values together are far larger than the memory, and those of one batch are not.
    for (call, rows) in [
        ("array_agg(i) OVER (PARTITION BY i / 100 ORDER BY i)", 40_000),
        ("array_agg(i) OVER (ORDER BY i ROWS BETWEEN 40 PRECEDING AND CURRENT ROW)", 40_000),
        ("first_value(repeat('z', 100)) OVER (ORDER BY i)", 40_000),
        ("sum(i) OVER (ORDER BY i)", 200_000),
    ] {
        let table = format!("(SELECT value AS i FROM generate_series(1, {rows})) AS t");
        let sql = format!("SELECT count(v) FROM (SELECT {call} AS v FROM {table}) AS w");
        run(&sql, 16 << 20, true).await.unwrap_or_else(|error| panic!("{call}: {error}"));
    }
}

#[tokio::test]
async fn values_are_those_of_the_engine() {
    let table = "(SELECT value AS i, value % 3 AS k, CASE WHEN value % 4 > 0 THEN value % 4 END AS n, \
                 CASE WHEN value % 5 > 0 THEN concat('t', value % 5) END AS s FROM generate_series(1, 40)) AS t";
    let calls = [
        "array_agg(n)",
        "string_agg(s, '-')",
        "count(*)",
        "count(n)",
        "count(DISTINCT n)",
        "sum(n)",
        "avg(n)",
        "min(s)",
        "max(n)",
        "sum(DISTINCT n)",
        "median(n)",
        "bool_or(n = 1)",
        "first_value(s)",
        "last_value(s)",
        "nth_value(s, 2)",
        "array_agg(n) FILTER (WHERE i % 2 = 0)",
        "string_agg(s, ',') FILTER (WHERE n = 1)",
        "count(*) FILTER (WHERE n = 1)",
        "count(DISTINCT s) FILTER (WHERE n > 1)",
        "lag(s)",
        "row_number()",
        "ntile(4)",
        "stddev(n)",
        "corr(n, i)",
        "approx_distinct(s)",
        "first_value(s) IGNORE NULLS",
    ];
    let windows = [
        "()",
        "(PARTITION BY k)",
        "(ORDER BY i)",
        "(PARTITION BY k ORDER BY i)",
        "(PARTITION BY k ORDER BY i DESC)",
        "(ORDER BY n, i ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)",
        "(ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
        "(PARTITION BY k RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
        "(ORDER BY n RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)",
        "(ORDER BY k GROUPS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
    ];
    let mut same = 0;
    for window in windows {
        for call in calls {
            let sql = format!("SELECT i, {call} OVER {window} FROM {table} ORDER BY i");
            let (engine, counted) = (run(&sql, 1 << 30, false).await, run(&sql, 1 << 30, true).await);
            match (engine, counted) {
                (Ok(engine), Ok(counted)) => {
                    assert_eq!(counted, engine, "{sql}");
                    same += 1;
                }
                (Err(_), Err(_)) => {}
                (engine, counted) => panic!("{sql}: {counted:?} instead of {engine:?}"),
            }
        }
    }
    assert!(same > 200, "{same}");
}
