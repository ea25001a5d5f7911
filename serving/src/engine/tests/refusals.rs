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

#[tokio::test]
async fn places_stay_the_users_behind_an_option() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let sql = "SET thalweg.partial = 'allow';\nSELECT nothing FROM totals";
    let error = engine(&world).run(sql, Options::default()).await.err().unwrap();
    let body = error.body();
    assert_eq!((body.line, body.column), (Some(2), Some(8)));
}
