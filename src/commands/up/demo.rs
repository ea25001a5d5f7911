//! `thalweg up --demo`: runs a broker in this process, the demo's definitions, and its generator.
//!
//! Invariant: the parts end in the order of the data: first the generator, then the platform, last the broker. So all
//! sent messages are archived, and the next start continues after them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use thalweg_client::{Client, terminal};
use thalweg_demo::DemoStream;
use thalweg_demo::broker::Broker;
use thalweg_demo::generator::{Plan, Rate};
use thalweg_demo::streams::{Faults, TimeSource};
use thalweg_schemas::definition::{self, Statement};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use toml::Table;
use tracing::warn;

use crate::config::Settings;
use crate::flags::Usage;
use crate::platform::{Platform, Stopped, supervise};

/// The property with Kafka's address.
const SERVERS: &str = "bootstrap.servers";
/// The generator's settings for the embedded broker. The broker may answer slowly while the machine is busy building
/// views, and a large batch costs it little more than a small one.
const PATIENT: [(&str, &str); 3] =
    [("linger.ms", "50"), ("request.timeout.ms", "300000"), ("socket.timeout.ms", "300000")];
/// Settings of the demo that differ from production: short intervals make the work of the layers visible, and the
/// screen stays readable.
const DEFAULTS: &str = r#"
epoch_interval = "5s"
mark_interval = "10s"
batch_interval = "30s"
log_level = "warn"
"#;
/// The broker deletes nothing, so the generator pauses when the broker's log reaches this size, in bytes.
const LOG_BYTES: u64 = 4 << 30;
const LOG_POLL: Duration = Duration::from_secs(5);
/// Pause between two checks whether every stream and view answers.
const READY_POLL: Duration = Duration::from_millis(25);
/// Time after which a message says what the start waits for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Example queries for the start screen.
const QUERIES: [&str; 3] = [
    "SELECT site, sum(alarms) AS alarms, max(hottest) AS hottest FROM site_alarms GROUP BY site ORDER BY alarms DESC",
    "SELECT address, failures, accounts, break_ins FROM suspicious_addresses ORDER BY failures DESC LIMIT 5",
    "SELECT * FROM stock_bars WHERE symbol = 'ACME' ORDER BY minute DESC LIMIT 5",
];

#[derive(Debug, Args)]
pub(super) struct DemoFlags {
    /// See it work with nothing installed: a Kafka broker in this process, live streams, views over them
    ///
    /// Everything is kept in the data folder; started again, it goes on where it was.
    #[arg(long)]
    demo: bool,
    /// How fast the demo sends, all streams together: 2000/s, 50k/s, max [default: 2000/s]
    #[arg(long, value_name = "RATE", requires = "demo")]
    demo_rate: Option<Rate>,
    /// Another world of the demo: other prices, other attackers [default: 1]
    #[arg(long, value_name = "N", requires = "demo")]
    demo_seed: Option<u64>,
    /// Where the demo's broker listens [default: 127.0.0.1:9092, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS:PORT", requires = "demo")]
    demo_broker: Option<SocketAddr>,
    /// Write down what the demo sent and where it arrived, one JSON object a line; appended to
    #[arg(long, value_name = "FILE", requires = "demo")]
    demo_record: Option<PathBuf>,
}

impl DemoFlags {
    /// Returns the settings that differ from the usual defaults.
    pub(super) fn defaults(&self) -> Table {
        let text = if self.demo { DEFAULTS } else { "" };
        text.parse().expect("the demo's settings are TOML")
    }

    fn plan(&self, broker: SocketAddr) -> Plan {
        let mut kafka = BTreeMap::from([(SERVERS.to_owned(), broker.to_string())]);
        kafka.extend(PATIENT.map(|(key, value)| (key.to_owned(), value.to_owned())));
        Plan {
            kafka,
            streams: DemoStream::ALL.to_vec(),
            rate: self.demo_rate.unwrap_or(Rate::PerSecond(2000.0)),
            seed: self.demo_seed.unwrap_or(1),
            time: TimeSource::Clock,
            faults: Faults::default(),
            count: None,
            record: self.demo_record.clone(),
        }
    }
}

/// Returns the definitions of the demo's streams and views.
pub(super) fn definitions() -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for stream in DemoStream::ALL {
        let parsed = definition::parse(stream.definitions());
        statements.extend(parsed.with_context(|| format!("the demo's {stream}.sql"))?);
    }
    Ok(statements)
}

/// A running broker, and the plan of the messages for it.
pub(super) struct Demo {
    broker: Broker,
    plan: Plan,
    data: PathBuf,
    /// The token by which the demo asks whether all is ready.
    token: Option<String>,
    began: Instant,
}

impl Demo {
    /// Starts the broker with its topics, and points `settings` to it. Returns `None` without `--demo`.
    ///
    /// Errors: [`Usage`] if the settings name another Kafka; errors of the broker.
    pub(super) async fn start(flags: &DemoFlags, settings: &mut Settings) -> Result<Option<Self>> {
        if !flags.demo {
            return Ok(None);
        }
        let began = Instant::now();
        if settings.kafka.contains_key(SERVERS) {
            let advice = "leave it out; or fill that Kafka with `thalweg demo` and start `thalweg up` without --demo";
            let sentence = format!("--demo brings its own Kafka, but {SERVERS} is set: {advice}");
            return Err(Usage(sentence).into());
        }
        let data = settings.data_dir().to_owned();
        let broker = Broker::start(&data.join("broker"), flags.demo_broker).await?;
        let plan = flags.plan(broker.address());
        plan.prepare().await?;
        let servers = broker.address().to_string();
        settings.kafka.insert(SERVERS.to_owned(), servers);
        Ok(Some(Self { broker, plan, data, token: settings.own_token(), began }))
    }

    /// Sends messages and shows the screen until `stop` is ready or a part fails, then ends all parts in order.
    pub(super) async fn run(self, platform: Platform, stop: impl Future<Output = ()>) -> Result<(), Stopped> {
        let Demo { broker, plan, data, token, began } = self;
        let resting = CancellationToken::new();
        let mut generator = AbortOnDropHandle::new(tokio::spawn(generate(plan, resting.clone())));
        let (kafka, address) = (broker.address(), platform.address());
        let screen = AbortOnDropHandle::new(tokio::spawn(async move {
            ready(address, token).await?;
            terminal::out(&screen(address, kafka, &data, began.elapsed()))
        }));
        let outcome = {
            let stopping = async {
                let full = async {
                    while broker.log_bytes() < LOG_BYTES {
                        tokio::time::sleep(LOG_POLL).await;
                    }
                    warn!(
                        "the broker's log holds {} GiB, so the demo sends no more; with another --data-dir it starts afresh",
                        LOG_BYTES >> 30
                    );
                    resting.cancel();
                    std::future::pending::<()>().await
                };
                tokio::select! { () = stop => {}, () = full => {} }
                resting.cancel();
                // The end of the generator has already been reported; the messages that arrived are archived in any
                // case.
                let _ = (&mut generator).await;
            };
            platform.until(stopping).await
        };
        drop((screen, generator));
        broker.stop().await;
        outcome
    }
}

/// Sends until `cancel`; after a failure, sending restarts from the end of the topics.
async fn generate(plan: Plan, cancel: CancellationToken) -> Result<(), Stopped> {
    let (failure, _) = watch::channel(None);
    let (sent, _) = watch::channel(0);
    let attempt = || send(&plan, &cancel, &sent);
    supervise("the demo's generator", &cancel, &failure, attempt).await
}

async fn send(plan: &Plan, cancel: &CancellationToken, sent: &watch::Sender<u64>) -> Result<(), Stopped> {
    plan.run(cancel, sent).await?;
    Ok(())
}

/// Waits until every stream has caught up and every view answers; prints one message if that takes long.
async fn ready(address: SocketAddr, token: Option<String>) -> Result<()> {
    let client = Client::new(&url(address), token)?;
    let patient_until = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let Err(reason) = answers(&client).await else {
            return Ok(());
        };
        if !told && Instant::now() > patient_until {
            terminal::err(&format!("still waiting: {reason}"));
            told = true;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Errors: why a stream or view does not answer yet. A view that is still being built does not affect `/readyz`, but
/// the screen must not suggest queries that read it.
async fn answers(client: &Client) -> Result<()> {
    client.send(client.request(Method::GET, "/readyz")?).await?;
    let views: Value = client.get("/v1/views").await?;
    let views = views["views"].as_array().map_or(&[][..], Vec::as_slice);
    match views.iter().find(|view| view["status"] != "serving") {
        Some(view) => bail!("view {} is being built", view["name"]),
        None => Ok(()),
    }
}

/// Returns the URL by which a client on this machine reaches the server.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    format!("http://{address}")
}

/// Returns the start screen for a new user.
fn screen(address: SocketAddr, kafka: SocketAddr, data: &Path, took: Duration) -> String {
    let program = std::env::args().next();
    let program = program.unwrap_or_else(|| "thalweg".to_owned());
    let url = url(address);
    let usual = url == crate::flags::DEFAULT_URL;
    let to = if usual { String::new() } else { format!(" --url {url}") };
    let queries = QUERIES.map(|query| format!("  {program} sql{to} \"{query}\"\n"));
    let (streams, views) = (DemoStream::ALL.len(), views());
    format!(
        "
Ready after {:.1} s: {streams} live streams and {views} views over them, every answer exact.

  Console  {url}/ in a browser
  HTTP     {url}
  Kafka    {kafka}, as in: kcat -b {kafka} -L
  Data     {}

Ask in the console, or in another terminal:

{}
Ctrl-C stops it; started again, it goes on where it was. Another --data-dir starts afresh.
",
        took.as_secs_f64(),
        data.display(),
        queries.concat(),
    )
}

fn views() -> usize {
    let statements = definitions().unwrap_or_default();
    let views = statements.iter().filter(|s| matches!(s, Statement::CreateView { .. }));
    views.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_definitions_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_string_lossy().into_owned();
        let warehouse = thalweg_schemas::warehouse::Warehouse::open(&url, &BTreeMap::new()).unwrap();
        let kafka = crate::Settings::from_table(toml::Table::new()).unwrap().speed(thalweg_speed::Assignment::All);
        let applied = crate::commands::apply::apply(&warehouse, &kafka, definitions().unwrap()).await.unwrap();
        assert_eq!(applied.len(), DemoStream::ALL.len() + views());
        for applied in applied {
            assert!(applied.warnings.is_empty(), "{applied:?}");
        }
    }

    #[test]
    fn the_screen_tells_where_everything_is() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let shown = |http, part: &str, expect| {
            let took = Duration::from_millis(1234);
            let text = screen(address(http), address("127.0.0.1:9092"), Path::new("data"), took);
            assert_eq!(text.contains(part), expect, "{text}");
        };
        shown("127.0.0.1:8642", "--url", false);
        shown("0.0.0.0:8642", "HTTP     http://127.0.0.1:8642\n", true);
        shown("0.0.0.0:8642", "Console  http://127.0.0.1:8642/ in", true);
        shown("127.0.0.1:77", "sql --url http://127.0.0.1:77 \"SELECT", true);
        shown("127.0.0.1:77", "kcat -b 127.0.0.1:9092 -L", true);
        shown("127.0.0.1:77", "Ready after 1.2 s: 3 live streams and 9 views", true);
    }
}
