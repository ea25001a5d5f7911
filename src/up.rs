//! `thalweg up`: all layers in one process, until a signal.
//!
//! Invariant: the line on stdout comes once the port accepts; exit code 0 means that everything held was archived.

mod demo;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::cli::{self, RunFlags, WarehouseFlags, checked, checked_duration};
use crate::config::{Settings, parse_count, parse_size};
use crate::signals::Signals;
use crate::{apply, logging, platform, terminal};

use self::demo::{Demo, DemoFlags};

const EXAMPLES: &str = "\
Examples:
  thalweg up --demo
  thalweg up --kafka bootstrap.servers=localhost:9092 --apply definitions.sql
  thalweg up --data-dir /tmp/second --http-addr 127.0.0.1:8643
  thalweg up --config thalweg.toml --log-format json
  thalweg up --warehouse s3://bucket/thalweg --storage aws_endpoint=http://127.0.0.1:9000 \\
    --storage aws_allow_http=true --storage aws_region=us-east-1

Every setting is a key of the settings file, an environment variable and a flag: epoch_bytes, THALWEG_EPOCH_BYTES,
--epoch-bytes. `thalweg config` documents them. SIGTERM and SIGINT archive what is held; a second one ends at once.";

/// What a second signal leaves behind.
const LOST: &str = "what was held is read from Kafka again by the next start";

/// Start everything: read Kafka, archive, keep views, answer SQL
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// SQL file whose definitions are applied first; repeat for more
    #[arg(long, value_name = "FILE")]
    apply: Vec<PathBuf>,
    #[command(flatten)]
    demo: DemoFlags,
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    speed: SpeedFlags,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    query: QueryFlags,
}

#[derive(Debug, Args, Serialize)]
struct ProcessFlags {
    /// Where HTTP is answered; port 0 takes a free one [default: 127.0.0.1:8642]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_addr: Option<SocketAddr>,
    /// error, warn, info, debug, trace, or per module: info,thalweg_speed=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How logs are written to stderr [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// How long a signal may take to archive what is held [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    shutdown_timeout: Option<String>,
}

#[derive(Debug, Args, Serialize)]
struct SpeedFlags {
    /// Property of librdkafka for every stream, as bootstrap.servers=HOST:PORT; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = cli::parse_pair)]
    #[serde(serialize_with = "cli::as_table")]
    kafka: Vec<(String, String)>,
    /// Messages after which a micro-batch ends [default: 65536]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    micro_batch_rows: Option<String>,
    /// Time after which a micro-batch ends [default: 20ms]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    micro_batch_wait: Option<String>,
    /// Size at which an epoch is archived [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    epoch_bytes: Option<String>,
    /// Age at which an epoch is archived [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    epoch_interval: Option<String>,
    /// Time between marks, where recomputations may cut [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    mark_interval: Option<String>,
    /// How long archived rows and covered segments stay in memory [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    grace: Option<String>,
    /// Memory of a stream's rows and state, at which reading pauses [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    memory_budget: Option<String>,
}

#[derive(Debug, Args, Serialize)]
struct BatchFlags {
    /// Time between recomputations of every view [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    batch_interval: Option<String>,
    /// How long replaced files stay in the warehouse [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    file_grace: Option<String>,
}

#[derive(Debug, Args, Serialize)]
struct QueryFlags {
    /// Time that a query may take [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    query_timeout: Option<String>,
    /// Memory that a query may take [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    query_memory: Option<String>,
    /// Threads of one query, 0 for one per core [default: 0]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    query_threads: Option<String>,
    /// Queries that run at the same time [default: 32]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    max_queries: Option<String>,
}

impl Arguments {
    pub(crate) fn settings(&self) -> Result<Settings> {
        let groups = [
            cli::table(&self.process),
            cli::table(&self.speed),
            cli::table(&self.batch),
            cli::table(&self.run),
            cli::table(&self.query),
        ];
        cli::settings_over(self.demo.defaults(), &self.warehouse, &groups)
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut settings = arguments.settings()?;
    logging::start(&settings.log_level, settings.log_format)?;
    let own = apply::read(&arguments.apply)?;
    let signals = Signals::listen()?;

    let listener = TcpListener::bind(settings.http_addr)
        .await
        .map_err(|e| cannot_listen(settings.http_addr, &e))?;
    let address = listener.local_addr()?;
    let warehouse = settings.open_warehouse()?;
    let demo = Demo::start(&arguments.demo, &mut settings).await?;
    let mut definitions = match demo {
        Some(_) => demo::definitions()?,
        None => Vec::new(),
    };
    definitions.extend(own);
    if !definitions.is_empty() {
        for applied in apply::apply(&warehouse, definitions).await? {
            tracing::info!(action = applied.action, warnings = ?applied.warnings, "applied");
        }
    }
    let platform = platform::start(&settings, warehouse, listener).await?;
    terminal::out(&format!("thalweg is listening on http://{address}"))?;
    let stop = signals.first(LOST);
    match demo {
        Some(demo) => demo.run(platform, address, stop).await?,
        None => platform.until(stop).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "{address} is in use, perhaps by another `thalweg up`; end that one, or take another port with --http-addr"
        ),
        _ => anyhow!(
            "{address} cannot be listened on: {error}; take another address with --http-addr"
        ),
    }
}
