//! The door over a real listener: tokens, hosts, slow clients, permits, and SQL that would overflow a stack.

use thalweg_schemas::api::audits::AuditList;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;
use crate::access::{Access, AccessToken, HttpLimits};
use crate::sources::ServingConfig;

const CREATE: &str = "CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data";

impl Server {
    /// Starts a server with another configuration.
    pub(super) async fn with(change: impl FnOnce(&mut ServingConfig)) -> Self {
        let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
        Self::configured(world, change).await
    }

    /// Starts a server with these tokens.
    async fn guarded(query: &str, admin: &str) -> Self {
        let token = |text: &str| (!text.is_empty()).then(|| AccessToken::new(text));
        let access = Access { query: token(query), admin: token(admin), ..Access::default() };
        Self::with(|config| config.access = access).await
    }

    /// Returns the status and the code of a request with a token; the code of a success is empty.
    async fn ask(&self, path: &str, body: Option<&str>, token: &str) -> (u16, String) {
        let url = format!("{}{path}", self.url);
        let request = match body {
            Some(body) => self.client.post(url).body(body.to_owned()),
            None => self.client.get(url),
        };
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        let reply = request.send().await.unwrap();
        match reply.status().as_u16() {
            200 => (200, String::new()),
            _ => {
                let (status, code, _) = error(reply).await;
                (status, code)
            }
        }
    }

    /// Sends bytes and returns everything until the server closes the connection.
    pub(super) async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.url.trim_start_matches("http://")).await.unwrap()
    }
}

#[tokio::test]
async fn a_probe_without_a_token_is_told_no_reason() {
    let server = Server::guarded("q", "a").await;
    server.world.failure.send_replace(Some("no broker at kafka.internal:9092".into()));
    for (token, detail) in
        [("", "`sensor_data`: stopped"), ("wrong", "`sensor_data`: stopped"), ("q", "kafka.internal")]
    {
        let request = server.client.get(format!("{}/readyz", server.url));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 503);
        let text = reply.text().await.unwrap();
        assert!(text.contains(detail), "{token}: {text}");
        assert_eq!(text.contains("kafka.internal"), token == "q", "{token}: {text}");
    }
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let server = Server::guarded("q", "a").await;
    let sql = Some("SELECT readings FROM totals");
    let (unauthorized, forbidden) = ((401, "unauthorized"), (403, "forbidden"));
    for (path, body, without, query) in [
        ("/v1/sql", sql, unauthorized, (200, "")),
        ("/v1/streams", None, unauthorized, (200, "")),
        ("/v1/views", None, unauthorized, (200, "")),
        ("/v1/process", None, unauthorized, (200, "")),
        ("/metrics", None, unauthorized, (200, "")),
        ("/v1/audit?view=totals", Some(""), unauthorized, forbidden),
        ("/v1/batch/run", Some(""), unauthorized, forbidden),
        ("/healthz", None, (200, ""), (200, "")),
        ("/readyz", None, (200, ""), (200, "")),
        ("/nowhere", None, unauthorized, (404, "no_such_path")),
    ] {
        for (token, expect) in [("", without), ("wrong", without), ("q", query)] {
            let (status, code) = server.ask(path, body, token).await;
            assert_eq!((status, code.as_str()), expect, "{path} with `{token}`");
        }
        if path != "/nowhere" {
            assert_eq!(server.ask(path, body, "a").await.0, 200, "{path}");
        }
    }
    for definition in [CREATE, "DROP MATERIALIZED VIEW totals", "CREATE EXTERNAL TABLE"] {
        let (status, _) = server.ask("/v1/sql", Some(definition), "").await;
        assert_eq!(status, 401);
    }
    assert_eq!(server.ask("/v1/sql", Some(CREATE), "q").await, (403, "forbidden".into()));
    assert_eq!(server.ask("/v1/sql", Some("DROP MATERIALIZED VIEW nowhere"), "a").await, (404, "not_found".into()));
    let reply = server.sql("SELECT 1").await;
    assert_eq!(reply.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn one_token_alone_opens_no_right_of_the_other() {
    let server = Server::guarded("q", "").await;
    assert_eq!(server.ask("/v1/sql", Some("SELECT 1"), "q").await.0, 200);
    assert_eq!(server.ask("/v1/sql", Some(CREATE), "q").await, (403, "forbidden".into()));
    assert_eq!(server.ask("/v1/audit", Some(""), "q").await, (403, "forbidden".into()));
    let server = Server::guarded("", "a").await;
    assert_eq!(server.ask("/v1/sql", Some("SELECT 1"), "").await, (401, "unauthorized".into()));
    assert_eq!(server.ask("/v1/sql", Some("SELECT 1"), "a").await.0, 200);
}

#[tokio::test]
async fn a_replica_that_only_reads_says_so() {
    let server = Server::with(|config| config.access.definitions = false).await;
    assert_eq!(server.ask("/v1/sql", Some("SELECT 1"), "").await.0, 200);
    let (status, code, body) = error(server.sql(CREATE).await).await;
    assert_eq!((status, code.as_str()), (403, "forbidden"));
    assert!(body["message"].as_str().unwrap().contains("replica_definitions"), "{body}");
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused() {
    let hosts = Some(["thalweg.example".to_owned()].into());
    let server = Server::with(|config| config.access.hosts = hosts).await;
    let ask = async |host: &str, path: &str, more: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{host}connection: close\r\n{more}\r\n");
        let reply = server.raw(&request).await;
        reply.split(' ').nth(1).unwrap().to_owned()
    };
    for (host, expect) in [
        ("host: localhost:8642\r\n", "200"),
        ("host: thalweg.example\r\n", "200"),
        ("host: evil.example\r\n", "403"),
        ("host: evil.example:8642\r\n", "403"),
        ("", "403"),
    ] {
        assert_eq!(ask(host, "/v1/streams", "").await, expect, "{host}");
        assert_eq!(ask(host, "/readyz", "").await, "200", "{host}");
    }
    let origin = "origin: http://evil.example\r\ncontent-length: 8\r\n";
    let post = format!("POST /v1/sql HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n{origin}\r\nSELECT 1");
    assert!(server.raw(&post).await.contains("other_site"));
}

#[tokio::test]
async fn slow_clients_lose_their_connection() {
    let within = Duration::from_millis(300);
    let server = Server::with(|config| config.http = HttpLimits { client_within: within, ..config.http.clone() }).await;
    // The last of them begins a second request on one connection.
    for begun in ["", "POST /v1/sql HTTP/1.1\r\nhost: localh", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /"]
    {
        let closed = tokio::time::timeout(Duration::from_secs(20), server.raw(begun)).await;
        assert!(closed.is_ok(), "{begun}");
    }
    let body = "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nSELECT";
    let reply = tokio::time::timeout(Duration::from_secs(20), server.raw(body)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("http_timeout"), "{reply}");
    assert_eq!(server.sql("SELECT 1").await.status(), 200);
}

#[tokio::test]
async fn a_client_that_reads_nothing_loses_its_connection() {
    let limits = HttpLimits { client_within: Duration::from_millis(300), connections: 1 };
    let server = Server::with(|config| config.http = limits).await;
    let rows: Vec<String> = (0..64).map(|row| format!("({row})")).collect();
    // 64 MB are more than the buffers of a connection hold.
    let sql = format!("SELECT repeat('x', 1000000) FROM (VALUES {}) AS t (a)", rows.join(", "));
    let head = format!("POST /v1/sql HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", sql.len());
    let mut idle = server.connect().await;
    idle.write_all(format!("{head}{sql}").as_bytes()).await.unwrap();
    assert!(idle.read(&mut [0; 1]).await.unwrap() > 0);
    // The only place is free again before the query's own time is over.
    let answered = tokio::time::timeout(Duration::from_secs(20), server.sql("SELECT 1"));
    assert_eq!(answered.await.expect("the connection is still open").status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_within_a_second_request_ends_its_query() {
    let server = Server::with(|_| ()).await;
    let running = || {
        let text = crate::status::exposition::encode(&server.world.sources, &StreamConditions::default()).unwrap();
        !text.contains("thalweg_queries_running 0")
    };
    let sql = "SELECT max(value % 3) FROM generate_series(1, 100000000000)";
    let head = format!("POST /v1/sql HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", sql.len());
    let mut client = server.connect().await;
    client.write_all(format!("{head}{sql}{head}").as_bytes()).await.unwrap();
    let until = async |expect: bool| {
        let reached = async {
            while running() != expect {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap();
    };
    until(true).await;
    drop(client);
    until(false).await;
}

#[tokio::test]
async fn connections_are_limited_and_later_ones_wait() {
    let server = Server::with(|config| config.http = HttpLimits { connections: 2, ..config.http.clone() }).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(request).await.unwrap();
        assert!(stream.read(&mut [0; 1]).await.unwrap() > 0);
        open.push(stream);
    }
    let mut third = server.connect().await;
    third.write_all(request).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), third.read(&mut [0; 1])).await;
    assert!(early.is_err(), "it was answered at once");
    open.clear();
    assert!(third.read(&mut [0; 1]).await.unwrap() > 0);
}

#[tokio::test]
async fn calls_without_a_place_are_sent_away() {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&end));
    world.sources.audit = Arc::new(move |_| {
        let (begun, end) = (Arc::clone(&begins), Arc::clone(&ends));
        Box::pin(async move {
            begun.notify_one();
            end.notified().await;
            Ok(AuditList { audits: Vec::new(), failed: Vec::new() })
        })
    });
    let server = Server::configured(world, |config| config.max_calls = 1).await;
    let running = tokio::spawn(server.post("/v1/audit").send());
    begun.notified().await;
    for path in ["/v1/audit", "/v1/batch/run"] {
        let reply = server.post(path).send().await.unwrap();
        assert_eq!(reply.headers()["retry-after"], "5");
        let (status, code, _) = error(reply).await;
        assert_eq!((status, code.as_str()), (503, "too_busy"), "{path}");
    }
    end.notify_one();
    assert_eq!(running.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.post("/v1/batch/run").send().await.unwrap().status(), 200);
}
