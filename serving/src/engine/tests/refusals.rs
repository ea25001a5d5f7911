//! Refused statements, and the line and column that their errors name.

use futures::TryStreamExt;

use super::engine;
use crate::fixture::{World, at};
use crate::options::Options;

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

/// Texts that double with each step are refused before anything works on what they become, also where a query of the
/// catalog is rewritten and planned on trial.
#[tokio::test]
async fn what_doubles_is_refused_before_it_is_optimised() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    let steps: Vec<_> = (1..35).map(|at| format!("t{at} AS (SELECT a || a AS a FROM t{})", at - 1)).collect();
    let doubling = format!(
        "WITH t0 AS (SELECT relname AS a FROM pg_catalog.pg_class), {} SELECT (SELECT max(relname) FROM \
         pg_catalog.pg_class) AS m FROM t34 WHERE a <> ''",
        steps.join(", ")
    );
    let quotes = format!("SELECT length({}''''{})", "quote_literal(".repeat(34), ")".repeat(34));
    for (sql, code) in [(doubling.as_str(), "too_large"), (&quotes, "memory_limit")] {
        let error = match engine.run(sql, Options::default()).await {
            Err(error) => error,
            Ok(answer) => answer.batches.try_collect::<Vec<_>>().await.unwrap_err(),
        };
        assert_eq!(error.body().code.as_str(), code, "{error}");
    }
}

#[tokio::test]
async fn places_stay_the_users_behind_an_option() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let sql = "SET thalweg.partial = 'allow';\nSELECT nothing FROM totals";
    let error = engine(&world).run(sql, Options::default()).await.err().unwrap();
    let body = error.body();
    assert_eq!((body.line, body.column), (Some(2), Some(8)));
}
