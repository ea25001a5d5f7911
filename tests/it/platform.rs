//! Every role without a command line: it answers over HTTP, keeps its definitions, and ends in order.
//!
//! Invariant: the tests need only a temporary folder. No stream defined here has a Kafka.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use thalweg::{Platform, Settings, Stopped};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);
const STREAM: &str = "CREATE EXTERNAL TABLE events (k STRING, x BIGINT) STORED AS KAFKA LOCATION 'events' \
     OPTIONS ('format' 'json')";

/// A process of any role, and a client of it.
struct Running {
    url: String,
    http: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Stopped>>,
}

/// Settings of a process whose ports are free ones, over the warehouse in `folder`.
fn settings(folder: &Path) -> toml::Table {
    let mut table = toml::Table::new();
    for (key, value) in [
        ("http_addr", "127.0.0.1:0"),
        ("flight_addr", "127.0.0.1:0"),
        ("postgres_addr", "127.0.0.1:0"),
        ("flight_sql_addr", "127.0.0.1:0"),
        ("partitions", "0"),
    ] {
        table.insert(key.to_owned(), value.into());
    }
    table.insert("data_dir".to_owned(), folder.to_str().unwrap().into());
    table
}

async fn start_up(folder: &Path) -> Running {
    Running::of(Platform::up(&Settings::from_table(settings(folder)).unwrap()).await.unwrap())
}

impl Running {
    fn of(platform: Platform) -> Self {
        let url = format!("http://{}", platform.address());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(platform.until(async { stopped.await.unwrap() }));
        Self { url, http: Client::builder().no_proxy().build().unwrap(), stop, task }
    }

    /// Returns the status and the body of a path.
    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Returns the rows of a statement's answer.
    async fn sql(&self, sql: &str) -> Value {
        let request = self.http.post(format!("{}/v1/sql", self.url)).body(sql.to_owned());
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["rows"].clone()
    }

    /// Returns the status and the body of a statement that is refused.
    async fn refused(&self, sql: &str) -> (u16, Value) {
        let answer = self.http.post(format!("{}/v1/sql", self.url)).body(sql.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until `path` shows what `is_shown` looks for.
    async fn until(&self, path: &str, is_shown: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, shown) = self.get(path).await;
            if is_shown(&shown) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{path}: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap().unwrap();
        assert!(self.http.get(format!("{}/healthz", self.url)).send().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_platform_answers_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let up = start_up(folder.path()).await;
    assert_eq!(up.get("/readyz").await, (200, json!({"status": "ready"})));
    assert_eq!(up.get("/v1/streams").await, (200, json!({"streams": []})));
    assert_eq!(up.sql("SELECT 1 + 1 AS two").await, json!([[2]]));
    up.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_kafka_stops_nothing_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let up = start_up(folder.path()).await;
    assert_eq!(up.sql(STREAM).await, json!([["created stream events", null]]));
    let deadline = Instant::now() + PATIENCE;
    let failure = loop {
        let (_, shown) = up.get("/v1/streams").await;
        if let Some(failure) = shown["streams"][0]["failure"].as_str() {
            break failure.to_owned();
        }
        assert!(Instant::now() < deadline, "no failure is shown: {shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for advice in ["does not say where Kafka is", "--kafka bootstrap.servers=HOST:PORT"] {
        assert!(failure.contains(advice), "{failure}");
    }
    assert_eq!(up.sql("SELECT 1 AS one").await, json!([[1]]));
    // A query of a stopped stream is answered at once, with the stream's own reason.
    let asked = Instant::now();
    let (status, refusal) = up.refused("SELECT count(*) FROM events").await;
    assert_eq!((status, &refusal["error"]["code"]), (503, &json!("stream_stopped")), "{refusal}");
    assert!(refusal["error"]["message"].as_str().unwrap().contains("does not say where Kafka is"), "{refusal}");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    up.end().await;

    let again = start_up(folder.path()).await;
    let (_, shown) = again.get("/v1/streams").await;
    assert_eq!(shown["streams"][0]["name"], "events");
    let (status, reason) = again.get("/readyz").await;
    assert_eq!((status, &reason["error"]["code"]), (503, &json!("not_ready")), "{reason}");
    again.end().await;
}

/// A part that ends before it is asked to, or not at all, fails the end of its process.
#[tokio::test(flavor = "multi_thread")]
async fn every_role_lives_until_it_is_asked_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let up = start_up(folder.path()).await;
    up.sql(STREAM).await;
    up.sql("CREATE MATERIALIZED VIEW sums AS SELECT k, sum(x) AS x FROM events GROUP BY k").await;
    let of = Settings::from_table(settings(folder.path())).unwrap();
    let (speed, worker) = Platform::speed(&of).await.unwrap();
    let mut table = settings(folder.path());
    table.insert("workers".to_owned(), worker.into());
    let replica = Platform::serve(&Settings::from_table(table).unwrap()).await.unwrap();
    let replica = Running::of(replica);
    let (speed, batch) = (Running::of(speed), Running::of(Platform::batch(&of).await.unwrap()));
    for process in [&up, &speed, &batch, &replica] {
        assert_eq!(process.get("/healthz").await.0, 200);
    }
    for process in [&up, &replica] {
        let (_, shown) = process.get("/v1/views").await;
        assert_eq!(shown["views"][0]["name"], "sums");
    }
    for process in [replica, speed, batch, up] {
        process.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_of_a_newer_version_is_named_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let up = start_up(folder.path()).await;
    assert_eq!(up.sql(STREAM).await, json!([["created stream events", null]]));
    let catalog = folder.path().join("warehouse/catalog");
    let mut file: Value = serde_json::from_slice(&std::fs::read(catalog.join("00000001.json")).unwrap()).unwrap();
    let sql = "CREATE MATERIALIZED VIEW tiers AS SELECT tier(k) AS t, count(*) AS n FROM events GROUP BY 1";
    let entry = json!({"building": {"id": "0123456789abcdef0123456789abcdef", "sql": sql}, "tiers": 2.50});
    file["views"]["tiers"] = entry.clone();
    file["version"] = json!(2);
    // A process of a newer version writes beside the one that runs.
    std::fs::write(catalog.join("00000002.json"), file.to_string()).unwrap();
    let shown = up.until("/v1/views", |shown| shown["not_understood"].is_array()).await;
    assert_eq!(shown["not_understood"][0]["name"], "tiers", "{shown}");
    assert!(shown["not_understood"][0]["reason"].as_str().unwrap().contains("tiers"), "{shown}");
    let (status, refusal) = up.refused("SELECT * FROM tiers").await;
    assert_eq!((status, &refusal["error"]["code"]), (503, &json!("not_understood")), "{refusal}");
    assert_eq!(up.sql("SELECT 1 AS one").await, json!([[1]]));
    let view = "CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n FROM events GROUP BY k";
    assert_eq!(up.sql(view).await, json!([["created view counts", null]]));
    let written: Value = serde_json::from_slice(&std::fs::read(catalog.join("00000003.json")).unwrap()).unwrap();
    assert_eq!(written["views"]["tiers"], entry);
    up.end().await;

    // A process that starts over such a catalog starts.
    let again = start_up(folder.path()).await;
    let shown = again.until("/v1/views", |shown| shown["not_understood"].is_array()).await;
    assert_eq!(shown["views"][0]["name"], "counts", "{shown}");
    again.end().await;
}
