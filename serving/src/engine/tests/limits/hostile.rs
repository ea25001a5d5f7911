//! Queries that mean harm, of several kinds, beside queries that must be answered.
//!
//! Invariant: a hostile query ends with one of the limits' errors, within its time and a grace, and leaves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;

use super::{engine_with, rows};
use crate::Error;
use crate::engine::Engine;
use crate::options::Options;

const LIMIT: Duration = Duration::from_secs(1);

/// The longest time after its limit in which a query has to be gone. Planning a deep expression is one step that
/// nothing ends, and test builds plan slowly.
const GRACE: Duration = Duration::from_secs(4);

/// What the limits are for: of each kind, at least one query ends so.
const GUARDS: [(&str, &str); 8] = [
    ("cross joins", "timeout"),
    ("semi joins", "timeout"),
    ("wide strings", "memory_limit"),
    ("deep expressions", "timeout"),
    ("huge sorts", "timeout"),
    ("unnested arrays", "memory_limit"),
    ("recursive queries", "timeout"),
    ("recursive queries", "memory_limit"),
];

/// Kinds of hostile queries, each with ways to be so.
fn kinds() -> Vec<(&'static str, Vec<String>)> {
    let numbers = |rows: usize, name: &str| format!("generate_series(1, {rows}) {name}(k)");
    let (a, b, c) = (numbers(3000, "a"), numbers(3000, "b"), numbers(3000, "c"));
    let text = "'abcdefghij'";
    let sum = vec!["1"; 200].join(" + ");
    let cases = vec!["a.k + 1"; 75].join(" + ");
    vec![
        (
            "cross joins",
            vec![
                format!("SELECT a.k, b.k, c.k, count(*) FROM {a}, {b}, {c} GROUP BY 1, 2, 3 ORDER BY 4 LIMIT 1"),
                format!("SELECT count(*) FROM {a}, {b}, {c} WHERE (a.k * b.k + c.k) % 1000003 = 1000004"),
                format!("SELECT count(*) FROM {a} JOIN {b} ON a.k % 2 = b.k % 2 JOIN {c} ON b.k % 2 = c.k % 2 AND a.k * c.k < 0"),
                format!(
                    "SELECT count(*) FROM {}, {} WHERE (a.k + b.k) % 1000003 = 1000004",
                    numbers(300_000, "a"),
                    numbers(300_000, "b")
                ),
                format!("SELECT count(*) FROM {a} LEFT JOIN {b} ON a.k < b.k LEFT JOIN {c} ON b.k + a.k < c.k * 0 - 1"),
            ],
        ),
        (
            // Nothing is handed on before the end of such a join.
            "semi joins",
            vec![
                format!(
                    "SELECT count(*) FROM {} WHERE a.k % 2 IN (SELECT b.k % 2 FROM {})",
                    numbers(300_000, "a"),
                    numbers(300_000, "b")
                ),
                format!(
                    "SELECT count(*) FROM {} WHERE a.k % 2 NOT IN (SELECT b.k % 2 FROM {})",
                    numbers(300_000, "a"),
                    numbers(300_000, "b")
                ),
                format!(
                    "SELECT count(*) FROM {} WHERE a.k % 2 IN (SELECT b.k % 2 FROM {}) OR a.k = -1",
                    numbers(300_000, "a"),
                    numbers(300_000, "b")
                ),
                format!(
                    "SELECT count(*) FROM {} WHERE EXISTS (SELECT 1 FROM {})",
                    numbers(300_000, "a"),
                    numbers(300_000, "b")
                ),
                format!(
                    "SELECT count(*) FROM {} WHERE NOT EXISTS (SELECT 1 FROM {})",
                    numbers(300_000, "a"),
                    numbers(300_000, "b")
                ),
            ],
        ),
        (
            "wide strings",
            vec![
                format!("SELECT repeat({text}, 100000 + a.k) FROM {a}"),
                format!("SELECT max(length(repeat({text}, 100000 + a.k))) FROM {a}"),
                format!("SELECT count(*) FROM {a} WHERE repeat({text}, 100000 + a.k) LIKE '%z%'"),
                format!("SELECT lpad({text}, 1000000 + a.k), rpad({text}, 1000000 + a.k) FROM {a}"),
                format!("SELECT w, b.k FROM (SELECT repeat({text}, 10000 + a.k) w FROM {a}), {b}"),
                format!("SELECT array_agg(repeat({text}, 10000 + a.k)) FROM {a}"),
                format!("SELECT string_agg(replace(repeat({text}, 100 + a.k), 'a', repeat('xyz', 100)), ',') FROM {a}"),
            ],
        ),
        (
            "deep expressions",
            vec![
                format!("SELECT sum({sum}) FROM {}", numbers(100_000_000, "a")),
                format!("SELECT max({cases}) FROM {}", numbers(100_000_000, "a")),
            ],
        ),
        (
            "huge sorts",
            vec![
                format!("SELECT a.k FROM {} ORDER BY a.k % 1009, a.k % 13 OFFSET 90000000", numbers(100_000_000, "a")),
                format!("SELECT k, sum(k) OVER (ORDER BY k % 7) FROM {} OFFSET 90000000", numbers(100_000_000, "a")),
                format!(
                    "SELECT max(s) FROM (SELECT sum(k) OVER (ORDER BY k ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) s FROM {})",
                    numbers(100_000_000, "a")
                ),
            ],
        ),
        (
            "unnested arrays",
            vec![
                format!("SELECT count(*) FROM (SELECT unnest(range(1, 10000000 + a.k)) FROM {a})"),
                format!("SELECT max(x) FROM (SELECT unnest(array_repeat(a.k, 1000000 + a.k)) x FROM {a})"),
                format!(
                    "SELECT count(*) FROM (SELECT unnest(r) x FROM (SELECT range(1, 10000) r, repeat({text}, 1000 + a.k) w FROM {a}))"
                ),
            ],
        ),
        (
            "recursive queries",
            vec![
                "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t".to_owned(),
                "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + m FROM t, (VALUES (1), (2)) v(m)) SELECT count(*) FROM t".to_owned(),
                "WITH RECURSIVE t AS (SELECT 'ab' AS s UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t".to_owned(),
            ],
        ),
    ]
}

/// Asks until the end of the answer.
async fn ask(engine: &Arc<Engine>, sql: &str) -> Result<usize, Error> {
    let answer = engine.run(sql, Options::default()).await?;
    answer.batches.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_queries_end_and_keep_nobody_waiting() {
    let (_world, engine) = engine_with(|config| {
        config.query_timeout = LIMIT;
        config.query_memory = 32 << 20;
        config.all_queries_memory = 64 << 20;
        config.queue_wait = Duration::from_secs(1);
        config.max_join_pairs = u64::MAX;
    })
    .await;
    let (mut faults, mut ends) = (Vec::new(), BTreeSet::new());
    for (kind, sql) in kinds().into_iter().flat_map(|(kind, all)| all.into_iter().map(move |sql| (kind, sql))) {
        let start = Instant::now();
        let hostile = ["", ""].map(|_| {
            let (engine, sql) = (Arc::clone(&engine), sql.clone());
            tokio::spawn(async move { ask(&engine, &sql).await })
        });
        for sql in ["SELECT 1", "SELECT * FROM totals", "SELECT peak FROM device_minutes WHERE device = 'd1'"] {
            let asked = Instant::now();
            rows(&engine, sql).await;
            if asked.elapsed() > Duration::from_secs(1) {
                faults.push(format!("{sql} took {:?} beside {kind}", asked.elapsed()));
            }
        }
        for end in hostile {
            match end.await.unwrap().map_err(|error| (error.code().as_str(), error.to_string())) {
                Ok(_) => {}
                Err((code @ ("timeout" | "memory_limit" | "query_failed"), _)) => {
                    ends.insert((kind, code));
                }
                Err(error) => faults.push(format!("{kind}: {error:?}: {sql}")),
            }
        }
        let took = start.elapsed();
        engine.rest().await;
        let gone = start.elapsed();
        if gone > LIMIT + GRACE {
            faults
                .push(format!("{kind}: answered after {took:?}, gone after {gone:?}: {}", &sql[..sql.len().min(200)]));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for end in GUARDS {
        assert!(ends.contains(&end), "no query of {end:?}: {ends:?}");
    }
}
