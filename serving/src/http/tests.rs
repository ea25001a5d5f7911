//! HTTP over a real listener: the answers that clients see, and the end of a query whose client disconnects.

mod door;
mod large;
mod reference;

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response as Reply};
use serde_json::{Value, json};
use thalweg_schemas::api::views::{ViewList, ViewPhase};
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use tokio::task::JoinHandle;

use super::*;
use crate::Result;
use crate::doors::{Doors, serve};
use crate::fixture::{World, at};
use crate::sources::ServingConfig;
use crate::status::stream::StreamConditions;

struct Server {
    world: World,
    url: String,
    client: Client,
    cancel: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
        Self::over(world).await
    }

    async fn over(world: World) -> Self {
        Self::configured(world, |_| ()).await
    }

    async fn configured(world: World, change: impl FnOnce(&mut ServingConfig)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        let mut config = ServingConfig { shutdown_grace: Duration::from_millis(100), ..world.config() };
        change(&mut config);
        let sources = world.sources.clone();
        let doors = Doors { http: listener, postgres: None, flight_sql: None, tls: None };
        let task = tokio::spawn(serve(doors, config, sources, cancel.clone()));
        Self { world, url, client: Client::new(), cancel, task }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    async fn get(&self, path: &str) -> Reply {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn sql(&self, sql: &str) -> Reply {
        self.post("/v1/sql").body(sql.to_owned()).send().await.unwrap()
    }
}

async fn error(reply: Reply) -> (u16, String, Value) {
    let status = reply.status().as_u16();
    let body: Value = reply.json().await.unwrap();
    let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(!body["error"]["message"].as_str().unwrap_or("").is_empty(), "{body}");
    assert!(reference::lists(status, &code), "docs/http.md does not list {status} {code}");
    (status, code, body["error"].clone())
}

#[tokio::test]
async fn sql_answers_json_with_its_frontier() {
    let server = Server::start().await;
    let sql = "SELECT readings, devices FROM totals";
    for request in [server.post("/v1/sql").body(sql), server.post("/v1/sql").json(&json!({ "sql": sql }))] {
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let header: Value = serde_json::from_str(reply.headers()["thalweg-frontier"].to_str().unwrap()).unwrap();
        let body: Value = reply.json().await.unwrap();
        assert_eq!(body["frontier"], header);
        assert_eq!(body["frontier"], json!({"sensor_data": {"0": 47, "1": 33}}));
        let columns = json!([{"name": "readings", "type": "Int64"}, {"name": "devices", "type": "Int64"}]);
        assert_eq!(body["columns"], columns);
        // 80 messages; 6 and 4 of them, at offsets 6, 13, …, cannot be decoded.
        assert_eq!(body["rows"], json!([[70, 4]]));
    }
}

#[tokio::test]
async fn sql_answers_csv() {
    let server = Server::start().await;
    let request = server.post("/v1/sql").header("accept", "text/csv");
    let reply = request.body("SELECT readings AS n FROM totals").send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], "text/csv; charset=utf-8");
    assert!(reply.headers().contains_key("thalweg-frontier"));
    assert_eq!(reply.text().await.unwrap(), "n\n70\n");
}

#[tokio::test]
async fn errors_are_json_wherever_they_arise() {
    let server = Server::start().await;
    let (status, code, body) = error(server.sql("SELECT *\nFROM nowhere").await).await;
    assert_eq!((status, code.as_str()), (400, "invalid_query"));
    assert_eq!((&body["line"], &body["column"]), (&json!(2), &json!(6)));
    let (status, code, _) = error(server.sql("SELECT 1 FROM").await).await;
    assert_eq!((status, code.as_str()), (400, "syntax"));
    let (status, code, _) = error(server.get("/v2/sql").await).await;
    assert_eq!((status, code.as_str()), (404, "no_such_path"));
    let (status, code, _) = error(server.get("/v1/sql").await).await;
    assert_eq!((status, code.as_str()), (405, "no_such_method"));
    let request = server.post("/v1/sql").header("accept", "image/png").body("SELECT 1");
    let (status, code, _) = error(request.send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (406, "not_acceptable"));
    let request = server.post("/v1/sql").body(vec![b' '; REQUEST_BYTES + 1]);
    let (status, code, _) = error(request.send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (413, "bad_request"));
    let request = server.post("/v1/sql").header("origin", "https://elsewhere.example");
    let (status, code, _) = error(request.body("SELECT 1").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "other_site"));
    let (status, code, _) = error(server.post("/v1/audit?views=x").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (400, "bad_request"));
    let (status, code, _) = error(server.post("/v1/audit?view=nowhere").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (404, "not_found"));
    let (status, code, _) = error(server.post("/v1/audit").send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn definitions_are_applied_and_followed() {
    let server = Server::start().await;
    let follow = {
        let (catalogs, catalog) = (server.world.sources.shared.catalogs.clone(), &server.world.catalog);
        async move {
            loop {
                catalogs.landed().await;
                let latest = catalogs.load().await.unwrap();
                catalog.send_replace(latest);
            }
        }
    };
    let create = server.sql("CREATE MATERIALIZED VIEW peaks AS SELECT max(temperature) AS peak FROM sensor_data");
    let reply = tokio::select! {
        reply = create => reply,
        () = follow => unreachable!("it does not end"),
    };
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["rows"], json!([["created view peaks", null]]), "{body}");
    let (status, code, _) = error(server.sql("SELECT * FROM peaks").await).await;
    assert_eq!((status, code.as_str()), (503, "not_ready"));

    let again = "CREATE MATERIALIZED VIEW peaks AS SELECT min(temperature) AS peak FROM sensor_data";
    let (status, code, _) = error(server.sql(again).await).await;
    assert_eq!((status, code.as_str()), (409, "conflict"));
    let (status, code, _) = error(server.sql("DROP TABLE sensor_data").await).await;
    assert_eq!((status, code.as_str()), (409, "conflict"));
    let refused = "CREATE MATERIALIZED VIEW w AS SELECT rank() OVER () FROM sensor_data";
    let (status, code, _) = error(server.sql(refused).await).await;
    assert_eq!((status, code.as_str()), (400, "refused"));
    let (status, code, _) = error(server.sql("DROP MATERIALIZED VIEW peaks; SELECT 1").await).await;
    assert_eq!((status, code.as_str()), (400, "mixed_statements"));
}

#[tokio::test]
async fn status_shows_streams_and_views() {
    let server = Server::start().await;
    server.world.record_run();
    let streams: Value = server.get("/v1/streams").await.json().await.unwrap();
    let stream = &streams["streams"][0];
    assert_eq!(stream["name"], "sensor_data");
    assert_eq!(stream["status"], "running");
    assert_eq!(stream["frontier"], json!({"0": 47, "1": 33}));
    assert_eq!(stream["archive_frontier"], json!({"0": 30, "1": 20}));
    assert_eq!((&stream["rows"], &stream["rejects"]), (&json!(20), &json!(4)));
    assert_eq!(stream["latest_event"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(stream["partitions"]["1"]["high_watermark"], 33);

    let views: Value = server.get("/v1/views").await.json().await.unwrap();
    let names: Vec<&str> = views["views"].as_array().unwrap().iter().filter_map(|v| v["name"].as_str()).collect();
    assert_eq!(names, ["busy", "device_minutes", "totals"]);
    let totals = &views["views"][2];
    assert_eq!(totals["status"], "serving");
    assert_eq!(totals["cut"], json!({"0": 22, "1": 11}));
    assert_eq!(totals["published"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(totals["segments"], 4);
    assert_eq!(totals["last_run"]["rows"], 12);
    assert!(totals["age_seconds"].as_f64().unwrap() > 0.0);

    let metrics = server.get("/metrics").await.text().await.unwrap();
    for line in [
        "thalweg_frontier{stream=\"sensor_data\",partition=\"0\"} 47",
        "thalweg_archive_frontier{stream=\"sensor_data\",partition=\"1\"} 20",
        "thalweg_events_total{stream=\"sensor_data\",partition=\"0\"} 10",
        "thalweg_cut{view=\"totals\",partition=\"1\"} 11",
        "thalweg_memory_budget_bytes{stream=\"sensor_data\"} 100",
        "thalweg_batch_run_rows_total{view=\"totals\",mode=\"full\",outcome=\"published\"} 12",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(server.get("/readyz").await.status(), 200);
    server.world.failure.send_replace(Some("the topic was recreated".into()));
    let (status, code, body) = error(server.get("/readyz").await).await;
    assert_eq!((status, code.as_str()), (503, "not_ready"));
    assert!(body["message"].as_str().unwrap().contains("recreated"), "{body}");
    server.world.failure.send_replace(None);
    server.world.alter(|s| s.caught_up = false);
    assert_eq!(server.get("/readyz").await.status(), 503);
    server.world.alter(|s| {
        s.caught_up = true;
        s.views.clear();
    });
    assert_eq!(server.get("/readyz").await.status(), 503);
    assert_eq!(server.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_client_may_allow_a_stale_answer_and_is_told_of_it() {
    let server = Server::start().await;
    let allowed = |sql: &str| {
        let request = server.post("/v1/sql").header("thalweg-stale", "allow");
        request.body(sql.to_owned()).send()
    };
    let stale = |reply: &Reply| reply.headers().get("thalweg-stale").is_some();
    let totals = "SELECT * FROM totals";
    let fresh = allowed(totals).await.unwrap();
    assert!(!stale(&fresh));
    let fresh: Value = fresh.json().await.unwrap();
    assert_eq!(fresh.get("stale"), None);

    server.world.alter(|s| {
        s.caught_up = false;
        s.waiting = Some("no broker".into());
    });
    let (status, code, body) = error(server.sql(totals).await).await;
    assert_eq!((status, code.as_str()), (503, "not_ready"));
    let said = body["message"].as_str().unwrap();
    for word in ["no broker", "thalweg-stale: allow", "SET thalweg.stale = 'allow'"] {
        assert!(said.contains(word), "{said}");
    }
    let reply = allowed(totals).await.unwrap();
    assert!(stale(&reply));
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(reply["stale"], json!(true));
    assert_eq!(reply["rows"], fresh["rows"]);
    assert_eq!(reply["frontier"], fresh["frontier"]);
    let streams: Value = server.get("/v1/streams").await.json().await.unwrap();
    let stream = &streams["streams"][0];
    assert_eq!(stream["status"], "waiting_for_kafka");
    assert_eq!(stream["failure"], "no broker");
    assert_eq!(server.get("/readyz").await.status(), 503);
    // A broker that becomes unreachable later does not affect the data in memory.
    server.world.alter(|s| s.caught_up = true);
    assert!(!stale(&server.sql(totals).await));
    assert_eq!(server.get("/readyz").await.status(), 200);

    server.world.failure.send_replace(Some("the topic was recreated".into()));
    assert!(stale(&allowed(totals).await.unwrap()));
    let refused = server.post("/v1/sql").header("thalweg-stale", "yes");
    assert_eq!(refused.body(totals).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn an_archive_in_trouble_is_told_and_serves_on() {
    let server = Server::start().await;
    let full = "no space left";
    server.world.archive_failure.send_replace(Some(full.to_owned()));
    let streams: Value = server.get("/v1/streams").await.json().await.unwrap();
    assert_eq!(streams["streams"][0]["archive_failure"], full);
    assert_eq!(streams["streams"][0]["status"], "running");
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn the_process_counts_its_queries() {
    let server = Server::start().await;
    for sql in ["SELECT readings FROM totals", "SELECT nothing FROM totals"] {
        server.sql(sql).await.text().await.unwrap();
    }
    // A query is counted after its last byte was sent, and the reader may see that byte first.
    let counted = async {
        loop {
            let process: Value = server.get("/v1/process").await.json().await.unwrap();
            let counts = ["running", "answered", "failed"].map(|c| format!("queries_{c}"));
            if counts.map(|count| process[count].as_i64().unwrap()) == [0, 1, 1] {
                return process;
            }
        }
    };
    let process = tokio::time::timeout(Duration::from_secs(10), counted).await;
    assert!(process.unwrap()["uptime_seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn other_layers_are_called() {
    let server = Server::start().await;
    let reply = server.post("/v1/audit?view=totals").send().await.unwrap();
    let body: Value = reply.json().await.unwrap();
    assert_eq!((&body["audits"][0]["view"], &body["audits"][0]["parts"]), (&json!("totals"), &json!([])));
    let reply = server.post("/v1/batch/run?full=true").send().await.unwrap();
    let body: Value = reply.json().await.unwrap();
    assert_eq!((&body["runs"][0]["mode"], &body["runs"][0]["outcome"]), (&json!("full"), &json!("published")));
}

#[tokio::test]
async fn large_answers_stream_and_are_whole() {
    let server = Server::start().await;
    let reply = server.sql("SELECT value, 'x' AS x FROM generate_series(1, 300000)").await;
    assert_eq!(reply.status(), 200);
    assert!(reply.content_length().is_none(), "it is streamed");
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["rows"].as_array().unwrap().len(), 300_000);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let server = Server::start().await;
    let sql = "SELECT 10 / (value - 200000) AS q FROM generate_series(1, 300000)";
    let reply = server.sql(sql).await;
    assert_eq!(reply.status(), 200);
    assert!(reply.bytes().await.is_err());
}

#[tokio::test]
async fn a_client_that_is_gone_ends_its_query() {
    let server = Server::start().await;
    let mut reply = server.sql("SELECT value FROM generate_series(1, 100000000)").await;
    assert!(reply.chunk().await.unwrap().is_some());
    let running = || {
        let text = crate::status::exposition::encode(&server.world.sources, &StreamConditions::default()).unwrap();
        !text.contains("thalweg_queries_running 0")
    };
    assert!(running());
    drop(reply);
    let ended = async {
        while running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    let text = crate::status::exposition::encode(&server.world.sources, &StreamConditions::default()).unwrap();
    assert!(text.contains("outcome=\"cancelled\""), "{text}");
}

#[tokio::test]
async fn a_shutdown_ends_even_a_query_that_nobody_reads() {
    let server = Server::start().await;
    let reply = server.sql("SELECT value FROM generate_series(1, 100000000)").await;
    server.cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), server.task).await;
    ended.unwrap().unwrap().unwrap();
    drop(reply);
}

#[tokio::test]
async fn a_failed_view_is_shown_with_its_reason_and_keeps_nothing_from_being_answered() {
    let server = Server::start().await;
    let totals = server.world.view_id("totals");
    let failure = ViewFailure {
        step: FailedStep::Rebuild,
        fault: Fault::Engine,
        reason: "capacity overflow".into(),
        expression: Some("lpad(device, n)".into()),
        from: at(30, 20),
        to: at(31, 20),
        since_ms: 5,
    };
    server.world.alter(|snapshot| {
        snapshot.views.remove(&totals);
        snapshot.failed.insert(totals.clone(), Arc::new(failure.clone()));
    });
    let shown: ViewList = server.get("/v1/views").await.json().await.unwrap();
    let by_name = |name: &str| shown.views.iter().find(|view| view.name.as_str() == name).unwrap();
    assert_eq!((by_name("totals").status, by_name("totals").failure.as_ref()), (ViewPhase::Failed, Some(&failure)));
    assert_eq!((by_name("busy").status, by_name("busy").failure.as_ref()), (ViewPhase::Serving, None));
    let (status, code, body) = error(server.sql("SELECT * FROM totals").await).await;
    assert_eq!((status, code.as_str()), (503, "view_failed"));
    let said = body["message"].as_str().unwrap();
    assert!(said.contains("offset 30 of partition 0 in lpad(device, n): capacity overflow"), "{said}");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    for line in ["thalweg_view_failed{view=\"totals\"} 1", "thalweg_view_failed{view=\"busy\"} 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!(server.get("/readyz").await.status(), 200, "it stays failed, which must not hold a rollout");

    // A run that fails while the realtime side is sound: the answer is exact, and the failure is shown.
    server.world.fail_run("busy", ViewFailure { step: FailedStep::Run, ..failure });
    let shown: ViewList = server.get("/v1/views").await.json().await.unwrap();
    let busy = shown.views.iter().find(|view| view.name.as_str() == "busy").unwrap();
    assert_eq!((busy.status, busy.failure.as_ref().map(|f| f.step)), (ViewPhase::Serving, Some(FailedStep::Run)));
    assert_eq!(server.sql("SELECT * FROM busy").await.status(), 200);
}
