//! `thalweg up`: runs all layers in one process, until a signal.
//!
//! Invariant: the line on stdout appears once the port accepts; exit code 0 means that all rows in memory were
//! archived.

mod demo;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use thalweg_client::terminal;
use thalweg_speed::Assignment;

use crate::commands::{apply, process};
use crate::config::Settings;
use crate::flags::{self, RunFlags, WarehouseFlags};
use crate::flags::{BatchFlags, KafkaFlags, ProcessFlags, QueryFlags, SpeedFlags};
use crate::logging;
use crate::platform::{self, Opened};
use crate::signals::Signals;

use self::demo::{Demo, DemoFlags};

const EXAMPLES: &str = "\
Examples:
  thalweg up --demo
  thalweg up --kafka bootstrap.servers=localhost:9092 --apply definitions.sql
  thalweg up --data-dir /tmp/second --http-addr 127.0.0.1:8652 --postgres-addr '' --flight-sql-addr ''
  thalweg up --config thalweg.toml --log-format json
  thalweg up --warehouse s3://bucket/thalweg --storage aws_endpoint=http://127.0.0.1:9000 \\
    --storage aws_allow_http=true --storage aws_region=us-east-1

Every setting is a key of the settings file, an environment variable and a flag: epoch_bytes, THALWEG_EPOCH_BYTES,
--epoch-bytes. `thalweg config` documents them. SIGTERM and SIGINT archive what is held; a second one ends at once.";

/// The effect of a second signal, for its message.
const LOST: &str = "what was held is read from Kafka again by the next start";

/// Start everything: read Kafka, archive, keep views, answer SQL
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// SQL file whose definitions are applied first, unless they stand already; repeat for more
    #[arg(long, value_name = "FILE")]
    apply: Vec<PathBuf>,
    #[command(flatten)]
    demo: DemoFlags,
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    speed: SpeedFlags,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    query: QueryFlags,
}

impl Arguments {
    pub(crate) fn settings(&self) -> Result<Settings> {
        let groups = [
            flags::table(&self.process),
            flags::table(&self.kafka),
            flags::table(&self.speed),
            flags::table(&self.batch),
            flags::table(&self.run),
            flags::table(&self.query),
        ];
        flags::settings_over(self.demo.defaults(), &self.warehouse, &groups)
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut settings = arguments.settings()?;
    let access = process::access(&settings, true)?;
    logging::start(&settings.log_level, settings.log_format)?;
    process::tell(&settings);
    let own = apply::read(&arguments.apply)?;
    let signals = Signals::listen()?;

    let opened = Opened::serving(&settings).await?;
    let demo = Demo::start(&arguments.demo, &mut settings).await?;
    let mut definitions = match demo {
        Some(_) => demo::definitions()?,
        None => Vec::new(),
    };
    definitions.extend(own);
    if !definitions.is_empty() {
        for applied in apply::apply(&opened.warehouse, &settings.speed(Assignment::All), definitions).await? {
            tracing::info!(action = applied.action, warnings = ?applied.warnings, "applied");
        }
    }
    let platform = platform::up(&settings, access, opened).await?;
    terminal::out(&format!("thalweg is listening on {}", platform.addresses()))?;
    let stop = signals.first(LOST);
    match demo {
        Some(demo) => demo.run(platform, stop).await?,
        None => platform.until(stop).await?,
    }
    Ok(ExitCode::SUCCESS)
}
