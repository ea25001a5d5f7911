//! `thalweg produce`: sends the rows of a file to the topic of a stream.
//!
//! Invariant: exit code 0 means that every row of the file was acknowledged by Kafka; with `--transactional`, that all
//! of them can be read.

mod report;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use thalweg_client::terminal;
use thalweg_demo::generator::Rate;
use thalweg_schemas::StreamName;
use thalweg_schemas::api::paths::STREAMS;
use thalweg_schemas::api::streams::StreamList;
use thalweg_schemas::catalog::define_stream;
use thalweg_schemas::definition;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::files::FileFormat;
use thalweg_speed::{ProduceCounts, ProducePlan, RowsFrom, produce};
use tokio_util::sync::CancellationToken;

use crate::commands::apply;
use crate::config::{Settings, parse_count, parse_duration};
use crate::flags::{self, KafkaFlags, RowsFormat, ServerFlags, Usage};
use crate::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  thalweg produce trades --file trades.csv --kafka bootstrap.servers=localhost:9092
  thalweg produce trades --file trades.parquet --key symbol --rate 5000/s
  thalweg produce trades --file trades.ndjson --transactional      all of it can be read, or none
  psql -c \"COPY trades TO STDOUT CSV HEADER\" | thalweg produce trades --stdin --format csv
  thalweg produce trades --file new.csv --definitions streams.sql --dry-run

Columns of the file meet those of the stream by their names. Values are taken as the stream takes those of JSON messages,
so nothing that is sent becomes a reject. A row that does not fit ends the command, and nothing of its batch is sent.

Exit code 0 if all rows were delivered.";

/// The effect of a second signal, for its message.
const LOST: &str = "what became of the last messages is not known";
const SHOW: Duration = Duration::from_secs(1);

/// Send the rows of a file to the topic of a stream, encoded as the stream reads them
///
/// Waits while Kafka is away, up to --timeout. After Ctrl-C nothing new is sent, and the reports of what is under way
/// are awaited.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The stream
    #[arg(value_name = "STREAM")]
    stream: String,
    /// File with the rows; `-` reads stdin
    #[arg(long, value_name = "FILE", required_unless_present = "stdin", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Read the rows from stdin
    #[arg(long)]
    stdin: bool,
    /// Format of the rows [default: by the end of the file's name]
    #[arg(long, value_enum)]
    format: Option<RowsFormat>,
    /// The most rows in a second: 2000/s, 50k/s, 30/m, or max
    #[arg(long, value_name = "RATE", default_value = "max")]
    rate: Rate,
    /// Column whose text is the key of a message; rows with the same key keep their order
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Stop after this many rows of the file
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<usize>,
    /// Leave out rows that do not fit, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Make all rows one transaction of Kafka: readers see all of them, or none
    ///
    /// The transaction must end within 15 minutes, or transaction.timeout.ms. Streams do not advance over an open
    /// transaction. The same file sent again ends what a killed command left open.
    #[arg(long)]
    transactional: bool,
    /// Read and encode all rows, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// How long Kafka may be away
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
    /// Take the stream from files of definitions instead of a running server; repeat for more
    #[arg(long, value_name = "FILE")]
    definitions: Vec<PathBuf>,
    /// Settings file with the connections to Kafka [default: thalweg.toml in the current folder, if there]
    #[arg(long, value_name = "FILE", env = "THALWEG_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    server: ServerFlags,
}

impl Arguments {
    fn rows(&self) -> Result<(RowsFrom, FileFormat)> {
        let from = match &self.file {
            Some(path) if path.as_os_str() != "-" => RowsFrom::File(path.clone()),
            _ => RowsFrom::Stdin,
        };
        let guessed = match &from {
            RowsFrom::File(path) => FileFormat::of_name(&path.to_string_lossy()),
            RowsFrom::Stdin => None,
        };
        let lacks = || Usage(format!("say with --format how the rows of {from} are written"));
        let format = self.format.map(RowsFormat::of_layer).or(guessed).ok_or_else(lacks)?;
        Ok((from, format))
    }

    async fn definition(&self) -> Result<StreamDefinition> {
        let refuse = |e: thalweg_schemas::Error| Usage(e.to_string());
        let name = StreamName::new(&self.stream).map_err(|e| Usage(e.to_string()))?;
        if !self.definitions.is_empty() {
            return Ok(define_stream(apply::read(&self.definitions)?, &name).await.map_err(refuse)?);
        }
        let list: StreamList = self.server.client()?.get(STREAMS).await?;
        let Some(found) = list.streams.into_iter().find(|stream| stream.name == name) else {
            return Err(anyhow!("{} has no stream `{name}`; `thalweg status` lists its streams", self.server.url));
        };
        Ok(define_stream(definition::parse(&found.sql)?, &name).await?)
    }

    async fn plan(&self) -> Result<ProducePlan> {
        let (from, format) = self.rows()?;
        let settings = Settings::load(toml::Table::new(), self.config.as_deref(), flags::table(&self.kafka));
        let settings = settings.map_err(|e| Usage(format!("{e:#}")))?;
        Ok(ProducePlan {
            stream: self.definition().await?,
            kafka: settings.connections(),
            from,
            format,
            key: self.key.clone(),
            rate: match self.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Unlimited => None,
            },
            limit: self.limit.map(|limit| limit as u64),
            skip_bad: self.skip_bad,
            transactional: self.transactional,
            dry_run: self.dry_run,
            timeout: self.timeout,
        })
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let plan = arguments.plan().await?;
    let signals = Signals::listen()?.first(LOST);
    let (counts, stop, began) = (ProduceCounts::default(), CancellationToken::new(), Instant::now());
    let producing = tokio::task::spawn_blocking({
        let (plan, counts, stop) = (plan.clone(), counts.clone(), stop.clone());
        move || produce(&plan, &counts, &stop)
    });
    tokio::pin!(producing, signals);
    let mut show = tokio::time::interval_at((Instant::now() + SHOW).into(), SHOW);
    let mut before = 0;
    let produced = loop {
        tokio::select! {
            produced = &mut producing => break produced?,
            () = &mut signals, if !stop.is_cancelled() => stop.cancel(),
            _ = show.tick() => {
                before = tell(&counts, before);
            }
        }
    };
    if std::io::stderr().is_terminal() {
        terminal::err_again("");
    }
    counts.take_notes().iter().for_each(|note| terminal::err(&format!("note: {note}")));
    let produced = produced?;
    report::skipped(&counts).iter().for_each(|line| terminal::err(line));
    let (line, failure) = report::ended(&plan, &counts, produced, began.elapsed());
    terminal::out(&line)?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Shows the progress: a line that changes on a terminal, a line each time elsewhere. Returns the rows so far.
fn tell(counts: &ProduceCounts, before: u64) -> u64 {
    for note in counts.take_notes() {
        terminal::err(&format!("note: {note}"));
    }
    let line = report::progress(counts, counts.sent().saturating_sub(before));
    match std::io::stderr().is_terminal() {
        true => terminal::err_again(&line),
        false => terminal::err(&line),
    }
    counts.sent()
}
