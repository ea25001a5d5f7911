//! Clients that come, cancel, vanish, do not read, and are too many.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::access::{Access, AccessToken, HttpLimits};

const ENDLESS: &str = "SELECT a.value FROM generate_series(1, 100000000) a";

/// A query that computes for long before its first row.
const SLOW: &str = "SELECT max(sin(value)) FROM generate_series(1, 4000000000)";

fn running(server: &Server) -> bool {
    server.world.sources.metrics.queries().running > 0
}

#[tokio::test]
async fn a_token_is_the_password_and_definitions_need_the_admins() {
    let access = Access {
        query: Some(AccessToken::new("reads")),
        admin: Some(AccessToken::new("changes")),
        ..Access::default()
    };
    let server = Server::configured(|config| config.access = access).await;
    let without = server.client_of(&server.config()).await;
    assert!(without.is_err());
    let wrong = server.client_of(server.config().password("guess")).await.err().unwrap();
    assert!(said(&wrong).starts_with("28P01"), "{}", said(&wrong));
    let reader = server.client_of(server.config().user("anybody").password("reads")).await.unwrap();
    assert_eq!(value(&reader, "SELECT readings FROM totals").await, "70");
    assert!(refused(&reader, "DROP MATERIALIZED VIEW totals").await.starts_with("42501"));
    let admin = server.client_of(server.config().password("changes")).await.unwrap();
    assert!(refused(&admin, "DROP MATERIALIZED VIEW nowhere").await.starts_with("42P01"));
}

#[tokio::test]
async fn a_request_to_cancel_ends_only_the_clients_own_query() {
    let server = Server::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let stop = client.cancel_token();
    let (ended, _) = tokio::join!(client.simple_query(SLOW), async {
        until(|| running(&server)).await;
        other.cancel_token().cancel_query(NoTls).await.unwrap();
        assert_eq!(value(&other, "SELECT 1").await, "1");
        assert!(running(&server));
        stop.cancel_query(NoTls).await.unwrap();
    });
    assert!(said(&ended.unwrap_err()).starts_with("57014"));
    assert_eq!(value(&client, "SELECT 1").await, "1");
    until(|| !running(&server)).await;
}

#[tokio::test]
async fn the_session_limits_the_time_of_statements() {
    let server = Server::start().await;
    let client = server.client().await;
    let said = refused(&client, &format!("SET statement_timeout = '50ms'; {SLOW}")).await;
    assert!(said.starts_with("57014") && said.contains("statement timeout"), "{said}");
    assert_eq!(value(&client, "SELECT 1").await, "1");
    client.simple_query("RESET statement_timeout").await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_gone_ends_its_query() {
    let server = Server::start().await;
    for sql in [SLOW, ENDLESS] {
        let mut raw = connected(&server).await;
        raw.write_all(&query(sql)).await.unwrap();
        until(|| running(&server)).await;
        drop(raw);
        until(|| !running(&server)).await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_connection() {
    let limits = HttpLimits { client_within: Duration::from_millis(300), ..HttpLimits::default() };
    let server = Server::configured(|config| config.http = limits).await;
    let mut raw = connected(&server).await;
    raw.write_all(&query(ENDLESS)).await.unwrap();
    until(|| running(&server)).await;
    until(|| !running(&server)).await;
    drop(raw);
}

#[tokio::test]
async fn a_client_that_never_says_who_it_is_loses_its_connection() {
    let limits = HttpLimits { client_within: Duration::from_millis(200), ..HttpLimits::default() };
    let server = Server::configured(|config| config.http = limits).await;
    for head in [&b""[..], b"\0", b"\0\0\0\x20\0\x03\0\0user"] {
        let mut raw = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        raw.write_all(head).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), raw.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{head:?}");
    }
}

#[tokio::test]
async fn clients_beyond_the_limit_are_told_and_requests_to_cancel_pass() {
    let limits = HttpLimits { connections: 1, ..HttpLimits::default() };
    let server = Server::configured(|config| config.http = limits).await;
    let client = server.client().await;
    let error = server.client_of(&server.config()).await.err().unwrap();
    assert!(said(&error).starts_with("53300"), "{}", said(&error));
    let stop = client.cancel_token();
    let (ended, _) = tokio::join!(client.simple_query(SLOW), async {
        until(|| running(&server)).await;
        stop.cancel_query(NoTls).await.unwrap();
    });
    assert!(said(&ended.unwrap_err()).starts_with("57014"));
    drop(client);
    let again = async {
        loop {
            if let Ok(client) = server.client_of(&server.config()).await {
                return client;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_tells_clients_that_wait() {
    let server = Server::start().await;
    let client = server.client().await;
    assert_eq!(value(&client, "SELECT 1").await, "1");
    server.cancel.cancel();
    tokio::time::timeout(Duration::from_secs(10), server.task).await.unwrap().unwrap().unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
}

/// A connection after its start.
pub(super) async fn connected(server: &Server) -> TcpStream {
    let mut raw = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    raw.write_all(b"\0\0\0\x10\0\x03\0\0user\0u\0\0").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        assert_ne!(raw.read_buf(&mut answer).await.unwrap(), 0);
    }
    raw
}

/// A message of the simple protocol.
pub(super) fn query(sql: &str) -> Vec<u8> {
    let mut message = vec![b'Q'];
    message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    message
}
