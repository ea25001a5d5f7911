//! The system tables and `thalweg_cancel` in plain SQL.

use super::*;
use crate::fixture::at;

async fn standing() -> (World, Arc<Engine>) {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    let engine = engine(&world);
    (world, engine)
}

#[tokio::test]
async fn the_state_of_the_server_is_read_with_sql() {
    let (_world, engine) = standing().await;
    let check = async |sql: &str, expect: &[&str]| {
        let got = lines(&rows(&engine, sql).await);
        // The first line is the names.
        assert_eq!(got.iter().filter(|line| !line.contains("name")).collect::<Vec<_>>(), expect, "{sql}");
    };
    check("SELECT name, status FROM thalweg.views WHERE name = 'totals'", &["| totals | serving |"]).await;
    check("SELECT name, lag FROM thalweg.thalweg.streams", &["| sensor_data | 0 |"]).await;
    check(
        "SELECT v.name, s.status FROM thalweg.views v JOIN thalweg.streams s ON v.stream = s.name
           WHERE v.name = 'totals'",
        &["| totals | running |"],
    )
    .await;
    check(
        "SELECT stream AS name, partition, frontier FROM thalweg.partitions",
        &["| sensor_data | 0 | 9 |", "| sensor_data | 1 | 7 |"],
    )
    .await;
    check("SELECT count(*) AS name FROM thalweg.settings", &["| 0 |"]).await;
    // A query sees itself, once, whatever it joins.
    check(
        "SELECT a.state AS name, a.id = b.id FROM thalweg.queries a, thalweg.queries b
           WHERE a.state = 'running' AND b.state = 'running' AND 'sees itself' <> ''",
        &["| running | true |"],
    )
    .await;
    for sql in ["SELECT * FROM thalweg.nothing", "SELECT nothing FROM thalweg.views"] {
        assert_eq!(code(&engine, sql).await, "invalid_query", "{sql}");
    }
}

#[tokio::test]
async fn a_query_that_runs_is_seen_and_cancelled() {
    let (_world, engine) = standing().await;
    let long = "SELECT count(*) FROM generate_series(1, 10000000000) AS t(endless)";
    let running = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { code(&engine, long).await }
    });
    let find = "SELECT count(*) AS n FROM thalweg.queries WHERE state = 'running' AND query LIKE '%(endless)%' AND \
                query NOT LIKE '%thalweg.queries%'";
    while !lines(&rows(&engine, find).await).contains(&"| 1 |".to_owned()) {}
    let cancel = "SELECT thalweg_cancel(id) AS done FROM thalweg.queries WHERE state = 'running' AND query LIKE \
                  '%(endless)' AND query NOT LIKE '%thalweg.queries%'";
    assert!(lines(&rows(&engine, cancel).await).contains(&"| true |".to_owned()));
    assert_eq!(running.await.unwrap(), "cancelled");
    let ended =
        "SELECT state FROM thalweg.queries WHERE query LIKE '%(endless)' AND query NOT LIKE '%thalweg.queries%'";
    assert!(lines(&rows(&engine, ended).await).contains(&"| cancelled |".to_owned()));
}
