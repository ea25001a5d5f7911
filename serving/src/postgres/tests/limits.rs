//! What one connection may keep, and what it may do twice.

use tokio_postgres::types::Type;

use super::*;

/// Repeats a statement with a number until it is refused, and returns the state.
async fn until_refused(client: &Client, most: usize, sql: impl Fn(usize) -> String) -> String {
    for number in 0..most {
        if let Err(error) = client.simple_query(&sql(number)).await {
            return error.as_db_error().unwrap().code().code().to_owned();
        }
    }
    panic!("{} is taken {most} times", &sql(0)[..40]);
}

#[tokio::test]
async fn all_that_a_session_keeps_is_counted() {
    let server = Server::start().await;
    let client = server.client().await;
    let long = "x".repeat(1 << 20);
    // A statement that is kept, the most of it, and the state of the refusal.
    let check = async |most: usize, state: &str, sql: &dyn Fn(usize) -> String| {
        client.simple_query("BEGIN").await.unwrap();
        assert_eq!(until_refused(&client, most, sql).await, state, "{}", &sql(0)[..20]);
        client.simple_query("ROLLBACK; CLOSE ALL; DISCARD ALL").await.unwrap();
        assert_eq!(value(&client, "SELECT 1").await, "1");
    };
    check(20, "53200", &|at| format!("PREPARE q{at} AS SELECT '{long}'")).await;
    check(20, "53200", &|at| format!("DECLARE c{at} CURSOR WITH HOLD FOR SELECT '{long}'")).await;
    check(40, "53200", &|at| format!("PREPARE q{at} ({}int) AS SELECT 1", "int,".repeat(30_000))).await;
    check(1, "54023", &|at| format!("PREPARE q{at} ({}int) AS SELECT 1", "int,".repeat(32_767))).await;
    check(5000, "54000", &|at| format!("PREPARE q{at} AS SELECT 1")).await;
    check(2000, "54000", &|at| format!("SAVEPOINT s{at}")).await;
    check(1, "54000", &|_| format!("SET application_name = '{}'", "x".repeat(5000))).await;
    check(1, "54000", &|_| format!("SET thalweg.min_frontier = '{long}{long}'")).await;
}

#[tokio::test]
async fn types_and_descriptions_of_statements_count() {
    let server = Server::start().await;
    let client = server.client().await;
    let types = vec![Type::INT4; 30_000];
    let mut kept = Vec::new();
    let failure = loop {
        // The driver describes each statement that it prepares.
        match client.prepare_typed("SELECT 1 WHERE $30000 = 1", &types).await {
            Ok(statement) => kept.push(statement),
            Err(error) => break said(&error),
        }
        assert!(kept.len() < 40);
    };
    assert!(failure.starts_with("53200"), "{failure}");
    drop(kept);
    until_free(&client).await;
    let error = client.prepare("SELECT $32768").await.unwrap_err();
    assert!(said(&error).contains("up to $32767"), "{}", said(&error));
}

/// Waits until the statements that the driver has closed are closed.
async fn until_free(client: &Client) {
    let waited = async { while client.query("SELECT 1", &[]).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
}

#[tokio::test]
async fn portals_of_the_protocol_are_counted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let block = client.transaction().await.unwrap();
    let statement = block.prepare("SELECT length($1)").await.unwrap();
    let long = "x".repeat(1 << 20);
    let mut portals = Vec::new();
    let failure = loop {
        match block.bind(&statement, &[&long]).await {
            Ok(portal) => portals.push(portal),
            Err(error) => break said(&error),
        }
        assert!(portals.len() < 40);
    };
    assert!(failure.starts_with("53200"), "{failure}");
    block.rollback().await.unwrap();
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_rollback_to_a_savepoint_takes_settings_back() {
    let server = Server::start().await;
    let client = server.client().await;
    let check = async |sql: &str, expect: &str| {
        client.simple_query("RESET ALL").await.unwrap();
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
        assert_eq!(value(&client, "SHOW application_name").await, expect, "{sql}");
        client.simple_query("ROLLBACK").await.unwrap();
    };
    let set = |value: &str| format!("SET application_name = '{value}'");
    let (a, b, c) = (set("a"), set("b"), set("c"));
    check(&format!("BEGIN; {a}; SAVEPOINT s; {b}; ROLLBACK TO s"), "a").await;
    check(&format!("BEGIN; {a}; SAVEPOINT s; {b}; RELEASE s"), "b").await;
    check(&format!("BEGIN; {a}; SAVEPOINT s; {b}; ROLLBACK TO s; COMMIT"), "a").await;
    check(&format!("BEGIN; SAVEPOINT s; {a}; SAVEPOINT s; {b}; ROLLBACK TO s; {c}; ROLLBACK TO s"), "a").await;
    check(&format!("BEGIN; SAVEPOINT s; {a}; SAVEPOINT t; {b}; ROLLBACK TO s; ROLLBACK"), "").await;
    check(&format!("BEGIN; SAVEPOINT s; SET LOCAL application_name = 'l'; ROLLBACK TO s; {b}; COMMIT"), "b").await;
    client.simple_query("RESET ALL; BEGIN; SAVEPOINT s; SAVEPOINT t; ROLLBACK TO s").await.unwrap();
    assert!(refused(&client, "ROLLBACK TO t").await.starts_with("3B001"));
    // The error has failed the block.
    assert!(refused(&client, "SET application_name = 'd'").await.starts_with("25P02"));
    client.simple_query("ROLLBACK TO s; SELECT 1; COMMIT").await.unwrap();
    assert_eq!(value(&client, "SHOW application_name").await, "");
}

#[tokio::test]
async fn a_cursor_whose_reading_fails_stays_failed() {
    let server = Server::start().await;
    let client = server.client().await;
    let failing = "SELECT 1 / (value - 30000) FROM generate_series(1, 100000)";
    client.simple_query(&format!("DECLARE c CURSOR WITH HOLD FOR {failing}")).await.unwrap();
    assert!(refused(&client, "FETCH ALL FROM c").await.starts_with("22012"));
    for _ in 0..2 {
        assert!(refused(&client, "FETCH 1 FROM c").await.starts_with("55000"));
    }
    client.simple_query("CLOSE c").await.unwrap();
    assert!(refused(&client, "FETCH 1 FROM c").await.starts_with("34000"));
}

#[tokio::test]
async fn a_portal_that_changes_something_runs_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let check = async |client: &mut Client, sql: &str, expect: Option<&str>| {
        let block = client.transaction().await.unwrap();
        let portal = block.bind(sql, &[]).await.unwrap();
        block.query_portal(&portal, 0).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
        let again = block.query_portal(&portal, 0).await.err().map(|error| said(&error)[..5].to_owned());
        assert_eq!(again.as_deref(), expect, "{sql}");
        block.rollback().await.unwrap();
    };
    check(&mut client, "COMMENT ON TABLE sensor_data IS 'new'", Some("55000")).await;
    check(&mut client, "SET application_name = 'x'", Some("55000")).await;
    check(&mut client, "SELECT 1", None).await;
    check(&mut client, "SHOW application_name", None).await;
}

#[tokio::test]
async fn the_number_of_a_connection_is_the_one_that_cancels() {
    let server = Server::start().await;
    let (first, second) = (server.client().await, server.client().await);
    let number = async |client: &Client| client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let numbers: [i32; 2] = [number(&first).await, number(&second).await];
    assert_ne!(numbers[0], numbers[1]);
    assert_eq!(value(&first, "SELECT pg_backend_pid()").await, numbers[0].to_string());
}

#[tokio::test]
async fn one_long_text_that_many_rows_share_is_not_spread_out() {
    let server = Server::configured(|config| config.query_memory = 64 << 20).await;
    let client = server.client().await;
    let long = format!("arrow_cast(repeat('x', {}), 'Dictionary(Int32, Utf8)')", 1 << 20);
    client
        .simple_query(&format!("DECLARE c CURSOR WITH HOLD FOR SELECT {long} FROM generate_series(1, 8000)"))
        .await
        .unwrap();
    let two = rows(&client, "FETCH 2 FROM c").await;
    assert_eq!(two.iter().map(|row| row[0].as_ref().unwrap().len()).collect::<Vec<_>>(), [1 << 20; 2]);
    client.simple_query("CLOSE c").await.unwrap();
    let wide = vec![format!("{long} AS c"); 1].join(", ");
    assert_eq!(rows(&client, &format!("SELECT {wide}")).await.len(), 1);
}
