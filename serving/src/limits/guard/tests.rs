//! What counts again: columns that are joined to longer values, and inputs that are joined to one batch.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;
use crate::limits::allowance::Terms;

/// Checks how often columns are joined, by name, over all operators of a plan.
async fn check(sql: &str, expect: &[(&str, usize)]) {
    let context = SessionContext::new();
    context
        .sql("CREATE TABLE t AS SELECT * FROM (VALUES ('a', 'b', 'c', 1)) v(a, b, c, n)")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let mut found: Vec<(String, usize)> = Vec::new();
    plan.apply(|node| {
        for column in joined_columns(node)? {
            let name = node.children()[0].schema().field(column).name().clone();
            match found.iter_mut().find(|(other, _)| *other == name) {
                Some((_, count)) => *count += 1,
                None => found.push((name, 1)),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found.sort();
    let found: Vec<(&str, usize)> = found.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(found, expect, "{sql}");
}

#[tokio::test]
async fn only_columns_that_are_joined_count() {
    check("SELECT a, b, c FROM t", &[]).await;
    check("SELECT upper(a), b = c FROM t", &[]).await;
    check("SELECT a || '-' || b, c, c AS c2, c AS c3 FROM t", &[("a", 1), ("b", 1)]).await;
    check("SELECT a || a || b, concat(a, b) FROM t", &[("a", 3), ("b", 2)]).await;
    check("SELECT length(a || upper(b)) FROM t WHERE c || c <> 'x'", &[("a", 1), ("b", 1), ("c", 2)]).await;
    check("SELECT make_array(a, a, b) FROM t", &[("a", 2), ("b", 1)]).await;
    check("SELECT n FROM t ORDER BY a || b", &[("a", 1), ("b", 1)]).await;
    check("SELECT max(a || b) FROM t", &[("a", 1), ("b", 1)]).await;
    check("SELECT c, max(concat_ws(',', a, b)) FROM t GROUP BY c", &[("a", 1), ("b", 1)]).await;
    check("SELECT max(a || b) OVER (PARTITION BY c) FROM t", &[("a", 1), ("b", 1)]).await;
}

/// Runs a query on one thread, in which guards may reserve `memory` bytes; what the engine reserves has no limit.
async fn run(sql: &str, memory: usize) -> Result<usize> {
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
    let settings = SessionConfig::new().with_target_partitions(1).with_batch_size(1024);
    let context = SessionContext::new_with_config(settings);
    let plan = context.sql(sql).await?.create_physical_plan().await?;
    let batches = collect(guarded(plan, &allowance)?, context.task_ctx()).await;
    assert_eq!(allowance.pool().reserved(), 0, "{sql}");
    Ok(batches?.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test]
async fn inputs_that_are_joined_to_one_batch_count_twice() {
    let check = async |sql: &str, rows: usize| {
        assert_eq!(run(sql, 2_000_000).await.unwrap(), rows, "{sql}");
        let error = run(sql, 700_000).await.unwrap_err().to_string();
        assert!(error.contains("a copy of batches"), "{sql}: {error}");
    };
    let (a, b) = ("generate_series(1, 100000) a(x)", "generate_series(1, 100000) b(y)");
    check(&format!("SELECT count(*) FROM {a} JOIN {b} ON x = y"), 1).await;
    check(&format!("SELECT count(*) FROM {a} JOIN {b} ON x = y AND x + y < 10"), 1).await;
}
