//! SQL through the real binary: the statements of `tests/slt/*.slt` over each protocol, on events from a real Kafka.
//!
//! Every file runs three times: on events that were just read, after a recomputation has published new batch
//! versions, and after SIGKILL and a restart. Neither the layer that holds the events nor the protocol may change one
//! character of an answer.
//!
//! Invariant: the events are in `tests/slt/events/<topic>.<partition>.jsonl`, one message per line, so partitions and
//! offsets are fixed. No expected answer depends on time.

mod flight_sql;
mod postgres;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner, strict_column_validator};
use thalweg_kit::segments::FIRST_MS;
use tokio::sync::OnceCell;

use self::flight_sql::FlightSqlDoor;
use self::postgres::Postgres;
use crate::kafka::{Kafka, Message};

const PATIENCE: Duration = Duration::from_secs(90);

/// The unexpected answers of each file, by the name of the file.
type Wrong = BTreeMap<String, Vec<String>>;

/// The result of running all files once, by the first test that needs it. The files share a Kafka and a process that
/// is killed between rounds.
static WRONG: OnceCell<Wrong> = OnceCell::const_new();

/// Declares a test for each file, so that a failure names its file.
macro_rules! files {
    ($($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let wrong = &WRONG.get_or_init(run_all).await[stringify!($name)];
            assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        })*

        #[test]
        fn every_file_is_a_test() {
            let names = files(&slt_folder(), "slt").iter().map(|path| name(path)).collect::<Vec<_>>();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

files! { definitions errors numbers postgres_words repeats rollups stream views }

async fn run_all() -> Wrong {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start();
    let topics = events();
    for topic in &topics {
        kafka.create(&topic.name, i32::try_from(topic.partitions.len()).unwrap()).await;
        kafka.produce(&topic.name, topic.messages());
    }
    let definitions = folder.path().join("definitions.sql");
    fs::copy(slt_folder().join("definitions.sql"), &definitions).unwrap();

    let mut wrong = Wrong::new();
    let mut thalweg = Thalweg::start(folder.path(), &definitions, &kafka.bootstrap);
    thalweg.wait_until_all_is_read(&topics).await;
    run_files(&thalweg, "just read", &mut wrong).await;

    let run = reqwest::Client::new().post(format!("{}/v1/batch/run", thalweg.url)).send().await.unwrap();
    assert!(run.status().is_success(), "{}", run.text().await.unwrap());
    run_files(&thalweg, "after a recomputation", &mut wrong).await;

    thalweg.process.kill().unwrap();
    thalweg.process.wait().unwrap();
    thalweg = Thalweg::start(folder.path(), &definitions, &kafka.bootstrap);
    thalweg.wait_until_all_is_read(&topics).await;
    run_files(&thalweg, "after SIGKILL and a new start", &mut wrong).await;
    wrong
}

fn slt_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")
}

/// Returns the sorted paths in `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no .{ending} in {}", folder.display());
    found
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// A topic and the messages of its partitions.
struct Topic {
    name: String,
    partitions: Vec<Vec<String>>,
}

impl Topic {
    fn messages(&self) -> impl Iterator<Item = Message> {
        (0..).zip(&self.partitions).flat_map(|(partition, messages)| {
            (0..).zip(messages).map(move |(offset, payload)| {
                let timestamp_ms = Some(FIRST_MS + 1000 * offset);
                Message { partition, timestamp_ms, payload: payload.clone() }
            })
        })
    }
}

fn events() -> Vec<Topic> {
    let mut topics: Vec<Topic> = Vec::new();
    for path in files(&slt_folder().join("events"), "jsonl") {
        let stem = name(&path);
        let (name, partition) = stem.split_once('.').unwrap();
        let messages: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        if topics.last().is_none_or(|topic| topic.name != name) {
            topics.push(Topic { name: name.to_owned(), partitions: Vec::new() });
        }
        let topic = topics.last_mut().unwrap();
        assert_eq!(partition.parse(), Ok(topic.partitions.len()), "{stem}");
        topic.partitions.push(messages);
    }
    topics
}

/// A running binary, killed when the test ends.
struct Thalweg {
    process: Child,
    url: String,
    /// `host:port` of Arrow Flight SQL.
    flight_sql: String,
    /// `host:port` of the PostgreSQL protocol.
    postgres: String,
}

impl Thalweg {
    fn start(folder: &Path, definitions: &Path, brokers: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("THALWEG_")) {
            command.env_remove(name);
        }
        let mut process = command
            .current_dir(folder)
            .args(["up", "--http-addr", "127.0.0.1:0", "--postgres-addr", "127.0.0.1:0"])
            .args(["--flight-sql-addr", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .arg("--apply")
            .arg(definitions)
            .args(["--epoch-interval", "1s", "--mark-interval", "1s"])
            .args(["--batch-interval", "1h", "--log-level", "warn", "--kafka"])
            .arg(format!("bootstrap.servers={brokers}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = |scheme: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(scheme));
            found.unwrap_or_else(|| panic!("the first line is {line:?}")).to_owned()
        };
        Self {
            process,
            url: format!("http://{}", address("http://")),
            flight_sql: address("grpc://"),
            postgres: address("postgres://"),
        }
    }

    /// Waits until every view is served at a frontier that covers all events.
    async fn wait_until_all_is_read(&self, topics: &[Topic]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = reqwest::get(format!("{}/readyz", self.url)).await.unwrap();
            let (status, reason) = (ready.status(), ready.text().await.unwrap());
            let streams = reqwest::get(format!("{}/v1/streams", self.url)).await;
            let streams: Value = streams.unwrap().json().await.unwrap();
            let views = reqwest::get(format!("{}/v1/views", self.url)).await;
            let views: Value = views.unwrap().json().await.unwrap();
            if status.is_success() && covers(&streams, topics) && all_served(&views) {
                return;
            }
            assert!(Instant::now() < deadline, "{reason}\n{streams:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Thalweg {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// True if every view is served. The readiness of the process does not require this.
fn all_served(views: &Value) -> bool {
    let views = views["views"].as_array().unwrap();
    views.iter().all(|view| view["status"] == "serving" && !view["segments"].is_null())
}

fn covers(streams: &Value, topics: &[Topic]) -> bool {
    let streams = streams["streams"].as_array().unwrap();
    topics.iter().all(|topic| {
        let of_topic = streams.iter().find(|s| s["topic"] == topic.name.as_str());
        (0..).zip(&topic.partitions).all(|(partition, messages)| {
            of_topic.is_some_and(|stream| {
                stream["frontier"][format!("{partition}")].as_u64() == Some(messages.len() as u64)
            })
        })
    })
}

/// Runs every statement of every file over each protocol, and records the unexpected answers.
async fn run_files(thalweg: &Thalweg, when: &str, wrong: &mut Wrong) {
    let url = format!("{}/v1/sql", thalweg.url);
    for (rollups, how) in [("true", ""), ("false", " without roll-ups")] {
        let http = || async { Ok(Http { url: url.clone(), client: reqwest::Client::new(), rollups }) };
        run_files_over(http, &format!("{when}, over HTTP{how}"), wrong).await;
    }
    let flight_sql = || async { Ok(FlightSqlDoor::connect(&thalweg.flight_sql).await) };
    run_files_over(flight_sql, &format!("{when}, over Flight SQL"), wrong).await;
    let postgres = || async { Ok(Postgres::connect(&thalweg.postgres).await) };
    run_files_over(postgres, &format!("{when}, over the PostgreSQL protocol"), wrong).await;
}

async fn run_files_over<D, Connecting>(connect: impl Fn() -> Connecting, when: &str, wrong: &mut Wrong)
where
    D: AsyncDB<Error = Refused, ColumnType = DefaultColumnType>,
    Connecting: Future<Output = Result<D, Refused>>,
{
    for path in files(&slt_folder(), "slt") {
        let wrong = wrong.entry(name(&path)).or_default();
        let mut runner = Runner::new(&connect);
        runner.with_column_validator(strict_column_validator);
        for record in sqllogictest::parse_file(&path).unwrap() {
            if let Err(error) = runner.run_async(record).await {
                wrong.push(format!("{when}: {error}"));
            }
        }
    }
}

struct Http {
    url: String,
    client: reqwest::Client,
    /// Whether states of views may answer aggregates of streams.
    rollups: &'static str,
}

/// An error in the form that the .slt files expect: `code: sentence (line:column)`.
#[derive(Debug)]
struct Refused(String);

impl Refused {
    /// Reads the object with `code`, `message`, `line` and `column`.
    fn of(error: &Value) -> Self {
        let mut text = format!("{}: {}", plain(&error["code"]), plain(&error["message"]));
        if let (Some(line), Some(column)) = (error["line"].as_u64(), error["column"].as_u64()) {
            text.push_str(&format!(" ({line}:{column})"));
        }
        Self(text)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[async_trait::async_trait]
impl AsyncDB for Http {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let request = self.client.post(&self.url).header("thalweg-rollups", self.rollups).body(sql.to_owned());
        let reply = request.send().await.unwrap();
        let answered = reply.status().is_success();
        let body: Value = reply.json().await.unwrap();
        if !answered {
            return Err(Refused::of(&body["error"]));
        }
        let columns = body["columns"].as_array().unwrap();
        let rows = body["rows"].as_array().unwrap();
        Ok(DBOutput::Rows {
            types: columns.iter().map(|c| column_type(&plain(&c["type"]))).collect(),
            rows: rows.iter().map(|row| row.as_array().unwrap().iter().map(plain).collect()).collect(),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "thalweg"
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn column_type(name: &str) -> DefaultColumnType {
    if name.starts_with("Int") || name.starts_with("UInt") {
        DefaultColumnType::Integer
    } else if name.starts_with("Float") || name.starts_with("Decimal") {
        DefaultColumnType::FloatingPoint
    } else if matches!(name, "Utf8" | "LargeUtf8" | "Utf8View") {
        DefaultColumnType::Text
    } else {
        DefaultColumnType::Any
    }
}
