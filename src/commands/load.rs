//! `thalweg load`: history from files.
//!
//! Invariant: exit code 0 means that every row of every file is in the stream, once, except rows that were asked to be
//! left out and are counted.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use thalweg_batch::{LoadPlan, LoadProgress, LoadedReport, load};
use thalweg_client::terminal;
use thalweg_schemas::files::RowNotes;

use crate::config::LogFormat;
use crate::flags::{self, RowsFormat, RunFlags, WarehouseFlags};
use crate::logging;

const EXAMPLES: &str = "\
Examples:
  thalweg load orders 's3://history/orders/*.parquet'
  thalweg load orders 2024.csv 2025.csv --dry-run
  thalweg load orders 'export/*.ndjson' --skip-bad --warehouse s3://bucket/thalweg

Columns of a file meet those of the stream by their names. Values are taken as the stream takes those of JSON messages; a
row that does not fit ends the command, and nothing of its file enters. Rows have the partition -2, and their file and
number in `_source`. Running processes take them within about a second, into every view.

Each file enters in one commit. Run again, the command goes on with the files that are left: a file that is in the stream
does not enter twice.";

const SHOW: Duration = Duration::from_secs(1);
/// Notes on files that are printed.
const NOTES: usize = 10;

/// Load rows of files into a stream, as if they had always been there
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The stream
    stream: String,
    /// Paths and URLs of files; names may have *, ? and [...]
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Format of all files [default: by the end of each name]
    #[arg(long, value_enum)]
    format: Option<RowsFormat>,
    /// Leave out rows that do not fit, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Read all rows, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    run: RunFlags,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = flags::settings(&arguments.warehouse, &[flags::table(&arguments.run)])?;
    logging::start("warn", LogFormat::Text)?;
    let (warehouse, stream) = flags::open_stream(&settings, &arguments.stream).await?;
    let plan = LoadPlan {
        from: arguments.files,
        within: None,
        format: arguments.format.map(RowsFormat::of_layer),
        skip_bad: arguments.skip_bad,
        dry_run: arguments.dry_run,
        storage: settings.storage(),
    };
    let (began, mut told) = (Instant::now(), Instant::now());
    let notes = Arc::new(RowNotes::default());
    let on_terminal = std::io::stderr().is_terminal();
    let tell = |progress: &LoadProgress| {
        if told.elapsed() >= SHOW {
            told = Instant::now();
            let line = line(progress, began);
            if on_terminal { terminal::err_again(&line) } else { terminal::err(&line) }
        }
    };
    let loaded = load(&warehouse, &stream, &plan, &settings.batch(), &notes, tell).await;
    if on_terminal {
        terminal::err_again("");
    }
    let found = notes.take_notes();
    found.iter().take(NOTES).for_each(|note| terminal::err(&format!("note: {note}")));
    if found.len() > NOTES {
        terminal::err(&format!("note: … and {} more of the kind", found.len() - NOTES));
    }
    let loaded = loaded?;
    for skip in notes.skips() {
        terminal::err(&format!("left out: {skip}"));
    }
    let report = LoadedReport { loaded: &loaded, dry_run: plan.dry_run, skipped: notes.skipped() };
    terminal::out(&report.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn line(progress: &LoadProgress, began: Instant) -> String {
    let LoadProgress { files, done, rows, current, .. } = progress;
    let rate = *rows as f64 / began.elapsed().as_secs_f64().max(0.001);
    let current = current.as_deref().unwrap_or_default();
    format!("{done} of {files} files, {rows} rows, {rate:.0} rows/s: {current}")
}
