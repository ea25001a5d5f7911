//! The simple protocol: texts of statements, blocks, settings, cursors and COPY.

use futures::TryStreamExt;

use super::*;

#[tokio::test]
async fn statements_are_answered_in_order_and_an_error_ends_the_text() {
    let server = Server::start().await;
    let client = server.client().await;
    assert_eq!(value(&client, "SELECT readings FROM totals").await, "70");
    let all = rows(&client, "SELECT 1; SELECT 2 AS b, 'x'; ;").await;
    assert_eq!(all, [vec![Some("1".to_owned())], vec![Some("2".to_owned()), Some("x".to_owned())]]);
    assert!(rows(&client, " -- nothing\n").await.is_empty());
    let said = refused(&client, "SET application_name = 'a'; SELECT nothing FROM totals; SET application_name = 'b'");
    assert!(said.await.starts_with("42703"));
    assert_eq!(value(&client, "SHOW application_name").await, "a");
}

#[tokio::test]
async fn errors_have_a_state_a_code_and_a_place() {
    let server = Server::start().await;
    let client = server.client().await;
    let check = async |sql: &str, state: &str, code: Option<&str>, position: Option<u32>| {
        let error = client.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap();
        let place = match error.position() {
            Some(tokio_postgres::error::ErrorPosition::Original(place)) => Some(*place),
            _ => None,
        };
        let got = (error.code().code(), error.routine(), place);
        assert_eq!(got, (state, code, position), "{sql}: {}", error.message());
        assert!(!error.message().is_empty());
    };
    check("SELECT 1 FROM", "42601", Some("syntax"), Some(14)).await;
    check("SELECT 'ü'; SELECT *\nFROM nowhere", "42P01", Some("invalid_query"), Some(27)).await;
    check("SELECT colour FROM totals", "42703", Some("invalid_query"), Some(8)).await;
    check("SELECT no_such_function(1)", "42883", Some("invalid_query"), Some(8)).await;
    check("SELECT 1 / (value - value) FROM generate_series(1, 2)", "22012", Some("query_failed"), None).await;
    check("INSERT INTO totals VALUES (1)", "0A000", Some("refused"), None).await;
    check("DROP MATERIALIZED VIEW nowhere", "42P01", Some("not_found"), None).await;
    check("LISTEN x", "0A000", Some("refused"), None).await;
    check("COPY totals FROM STDIN", "0A000", Some("refused"), None).await;
    check("SET TimeZone = 'Europe/Berlin'", "22023", None, None).await;
    check("SET thalweg.parts = 'x'", "22023", Some("bad_option"), None).await;
    check("EXECUTE nothing", "26000", None, None).await;
    check("FETCH 1 FROM nothing", "34000", None, None).await;
    check("SAVEPOINT s", "25P01", None, None).await;
}

#[tokio::test]
async fn blocks_are_harmless_and_a_failed_one_answers_nothing() {
    let server = Server::start().await;
    let client = server.client().await;
    for sql in ["COMMIT", "ROLLBACK", "BEGIN", "BEGIN", "SELECT 1", "SAVEPOINT a", "RELEASE a", "COMMIT"] {
        client.simple_query(sql).await.unwrap();
    }
    client.simple_query("BEGIN; SAVEPOINT a").await.unwrap();
    assert!(refused(&client, "SELECT nothing").await.starts_with("42"));
    assert!(refused(&client, "SELECT 1").await.starts_with("25P02"));
    assert!(refused(&client, "SHOW ALL").await.starts_with("25P02"));
    client.simple_query("ROLLBACK TO a").await.unwrap();
    assert_eq!(value(&client, "SELECT 1").await, "1");
    assert!(refused(&client, "SELECT nothing").await.starts_with("42"));
    client.simple_query("ROLLBACK").await.unwrap();
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test]
async fn settings_belong_to_one_session_and_follow_its_blocks() {
    let server = Server::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let shown = async |name: &str| value(&client, &format!("SHOW {name}")).await;
    client.simple_query("SET application_name = 'x'; SET thalweg.partial = 'allow'").await.unwrap();
    assert_eq!((shown("application_name").await.as_str(), shown("thalweg.partial").await.as_str()), ("x", "allow"));
    assert_eq!(value(&other, "SHOW thalweg.partial").await, "refuse");
    client.simple_query("BEGIN; SET application_name = 'y'; SET LOCAL search_path = z").await.unwrap();
    assert_eq!((shown("application_name").await.as_str(), shown("search_path").await.as_str()), ("y", "z"));
    client.simple_query("COMMIT").await.unwrap();
    assert_eq!((shown("application_name").await.as_str(), shown("search_path").await.as_str()), ("y", "public"));
    client.simple_query("BEGIN; SET application_name = 'z'; ROLLBACK").await.unwrap();
    assert_eq!(shown("application_name").await, "y");
    client.simple_query("RESET ALL").await.unwrap();
    assert_eq!((shown("application_name").await.as_str(), shown("thalweg.partial").await.as_str()), ("", "refuse"));
    let names: Vec<Option<String>> = rows(&client, "SHOW ALL").await.into_iter().map(|row| row[0].clone()).collect();
    assert!(names.contains(&Some("thalweg.stale".to_owned())));
    client.simple_query("DISCARD ALL").await.unwrap();
}

#[tokio::test]
async fn the_options_of_queries_hold_for_the_session() {
    let server = Server::start().await;
    let client = server.client().await;
    assert_eq!(value(&client, "SHOW thalweg.frontier").await, "{}");
    assert_eq!(value(&client, "SELECT readings FROM totals").await, "70");
    let frontier = value(&client, "SHOW thalweg.frontier").await;
    assert_eq!(frontier, r#"{"sensor_data":{"0":47,"1":33}}"#);
    server.world.alter(|snapshot| {
        snapshot.caught_up = false;
        snapshot.waiting = Some("no broker".into());
    });
    assert!(refused(&client, "SELECT readings FROM totals").await.starts_with("57P03"));
    client.simple_query("SET thalweg.stale = 'allow'").await.unwrap();
    assert_eq!(value(&client, "SELECT readings FROM totals").await, "70");
    client.simple_query(r#"SET thalweg.min_frontier = '{"sensor_data":{"0":48}}'"#).await.unwrap();
    assert!(client.simple_query("SELECT readings FROM totals").await.is_err());
    client.simple_query("RESET thalweg.min_frontier").await.unwrap();
    assert_eq!(value(&client, "SELECT readings FROM totals").await, "70");
}

#[tokio::test]
async fn definitions_are_applied_and_their_tags_are_told() {
    let server = Server::start().await;
    let follow = {
        let (catalogs, catalog) = (server.world.sources.shared.catalogs.clone(), server.world.catalog.clone());
        async move {
            loop {
                catalogs.landed().await;
                let latest = catalogs.load().await.unwrap();
                catalog.send_replace(latest);
            }
        }
    };
    let client = server.client().await;
    let sql = "CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data;
               DROP MATERIALIZED VIEW peaks; SELECT 5";
    let messages = tokio::select! {
        () = follow => unreachable!(),
        messages = client.simple_query(sql) => messages.unwrap(),
    };
    let done = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::CommandComplete(_))).count();
    assert_eq!(done, 3);
    let catalog = server.world.sources.shared.catalogs.load().await.unwrap();
    assert!(!catalog.views.keys().any(|name| name.as_str() == "peaks"));
}

#[tokio::test]
async fn statements_are_prepared_and_cursors_read_in_sql() {
    let server = Server::start().await;
    let client = server.client().await;
    client.simple_query("PREPARE q (int) AS SELECT $1 + 1 AS n, $2 || '!' AS t").await.unwrap();
    assert!(refused(&client, "PREPARE q AS SELECT 1").await.starts_with("42P05"));
    let got = rows(&client, "EXECUTE q (41, 'it''s'); EXECUTE q (NULL, NULL)").await;
    assert_eq!(got[0], [Some("42".to_owned()), Some("it's!".to_owned())]);
    assert_eq!(got[1], [None, None]);
    assert!(refused(&client, "EXECUTE q ('x', 'y')").await.starts_with("22P02"));
    client.simple_query("DEALLOCATE q").await.unwrap();
    assert!(refused(&client, "EXECUTE q (1, 'x')").await.starts_with("26000"));

    let declare = "DECLARE c CURSOR FOR SELECT value FROM generate_series(1, 20000)";
    assert!(refused(&client, declare).await.starts_with("25P01"));
    client.simple_query(&format!("BEGIN; {declare}")).await.unwrap();
    assert_eq!(rows(&client, "FETCH 2 FROM c").await.len(), 2);
    assert_eq!(value(&client, "MOVE 9997 FROM c; FETCH NEXT FROM c").await, "10000");
    assert_eq!(rows(&client, "FETCH FORWARD ALL FROM c").await.len(), 10_000);
    assert!(rows(&client, "FETCH 5 FROM c").await.is_empty());
    client.simple_query("CLOSE c; COMMIT").await.unwrap();
    client.simple_query("DECLARE h CURSOR WITH HOLD FOR SELECT 7").await.unwrap();
    assert_eq!(value(&client, "FETCH h").await, "7");
    client.simple_query("CLOSE ALL").await.unwrap();
    assert!(refused(&client, "FETCH h").await.starts_with("34000"));
}

async fn copied(client: &Client, sql: &str) -> Vec<u8> {
    let stream = client.copy_out(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
    let chunks: Vec<::bytes::Bytes> = stream.try_collect().await.unwrap();
    chunks.concat()
}

#[tokio::test]
async fn answers_are_copied_out() {
    let server = Server::start().await;
    let client = server.client().await;
    let check = async |sql: &str, expect: &[u8]| {
        let got = copied(&client, sql).await;
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expect), "{sql}");
    };
    check("COPY (SELECT readings, devices FROM totals) TO STDOUT", b"70\t4\n").await;
    check("COPY totals (readings) TO STDOUT (FORMAT csv, HEADER)", b"readings\n70\n").await;
    let odd = "SELECT 'a,\"b' AS x, NULL AS y, '' AS z, E'l\\ni\\t\\\\' AS w";
    check(&format!("COPY ({odd}) TO STDOUT"), b"a,\"b\t\\N\t\tl\\ni\\t\\\\\n").await;
    check(&format!("COPY ({odd}) TO STDOUT CSV HEADER"), b"x,y,z,w\n\"a,\"\"b\",,\"\",\"l\ni\t\\\"\n").await;
    check("COPY (SELECT 1, NULL) TO STDOUT (FORMAT csv, DELIMITER ';', NULL '-')", b"1;-\n").await;
    check("COPY (SELECT 'x') TO STDOUT (FORMAT csv, FORCE_QUOTE *)", b"\"x\"\n").await;
    let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    binary.extend_from_slice(b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\xff\xff");
    assert_eq!(copied(&client, "COPY (SELECT 5, NULL) TO STDOUT (FORMAT binary)").await, binary);
    let long = copied(&client, "COPY (SELECT value FROM generate_series(1, 300000)) TO STDOUT").await;
    assert_eq!(long.iter().filter(|byte| **byte == b'\n').count(), 300_000);
    let failed = client.copy_out("COPY (SELECT 10 / (value - 200000) FROM generate_series(1, 300000)) TO STDOUT").await;
    assert!(failed.unwrap().try_collect::<Vec<::bytes::Bytes>>().await.is_err());
    assert_eq!(value(&client, "SELECT 1").await, "1");
}
