//! `thalweg rejects`: what becomes of messages that could not be decoded.
//!
//! Invariant: exit code 0 means that every reject which can be decoded today has entered, once.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Subcommand};
use futures::FutureExt;
use thalweg_batch::{RetryProgress, RetryScope, retry_rejects};
use thalweg_client::terminal;
use thalweg_speed::{Assignment, Rereading};

use crate::config::LogFormat;
use crate::flags::{self, KafkaFlags, RunFlags, WarehouseFlags};
use crate::logging;

const EXAMPLES: &str = "\
Examples:
  thalweg rejects retry orders
  thalweg rejects retry orders --where \"_reject LIKE '%schema 17%'\" --dry-run

`SELECT * FROM rejects.orders` lists the rejects of a stream.";

const RETRY_EXAMPLES: &str = "\
Examples:
  thalweg rejects retry orders --dry-run
  thalweg rejects retry orders
  thalweg rejects retry orders --where \"_timestamp > TIMESTAMP '2026-05-01' AND _partition = 3\"
  thalweg rejects retry orders --warehouse s3://bucket/thalweg --kafka schema.registry.url=http://registry:8081

Archived rejects are decoded again under the definition of today. Those that are rows now enter the stream with the
partition -1 and their place in `_source`, in one commit, and leave rejects.STREAM. Running processes take them within
about a second, into every view. Run again, it enters nothing twice.";

const SHOW: Duration = Duration::from_secs(1);

/// Read rejects again; they are listed by SELECT * FROM rejects.STREAM
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    work: RejectsWork,
}

#[derive(Debug, Subcommand)]
enum RejectsWork {
    Retry(Box<RetryArguments>),
}

/// Decode rejects again, and enter those that are rows under today's definition
#[derive(Debug, Args)]
#[command(after_help = RETRY_EXAMPLES)]
struct RetryArguments {
    /// The stream
    stream: String,
    /// Only rejects that meet this condition over the columns of rejects.STREAM
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Count what would enter, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    run: RunFlags,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.work {
        RejectsWork::Retry(arguments) => retry(*arguments).await,
    }
}

async fn retry(arguments: RetryArguments) -> Result<ExitCode> {
    let groups = [flags::table(&arguments.kafka), flags::table(&arguments.run)];
    let settings = flags::settings(&arguments.warehouse, &groups)?;
    logging::start("warn", LogFormat::Text)?;
    let (warehouse, stream) = flags::open_stream(&settings, &arguments.stream).await?;
    let rereading = Arc::new(Rereading::new(&settings.speed(Assignment::All), &stream.definition)?);
    let scope = RetryScope { condition: arguments.condition, dry_run: arguments.dry_run };
    let mut told = Instant::now();
    let tell = |progress: RetryProgress| {
        if told.elapsed() >= SHOW {
            told = Instant::now();
            terminal::err(&format!("{} rejects read, {} of them are rows now", progress.read, progress.entered));
        }
    };
    let decode = |messages| {
        let rereading = Arc::clone(&rereading);
        async move {
            let decoded = rereading.decode(&messages).await;
            decoded.map_err(|error| (error.fault(), error.to_string()))
        }
        .boxed()
    };
    let name = &stream.definition.name;
    let done = retry_rejects(&warehouse, &stream, &scope, &settings.batch(), decode, tell).await?;
    let RetryProgress { read, entered } = done;
    let left = read - entered;
    terminal::out(&match (read, arguments.dry_run) {
        (0, _) => format!("stream `{name}` has no archived reject that is asked for"),
        (_, true) => format!("{entered} of {read} rejects would be rows, {left} would stay rejects"),
        (_, false) => format!("{entered} of {read} rejects are rows now, {left} stay rejects"),
    })?;
    Ok(ExitCode::SUCCESS)
}
