//! `thalweg batch`: recomputes views in the warehouse, on a schedule until a signal, or once and immediately.
//!
//! Invariant: a process that recomputes a view holds the view's lease and publishes by compare-and-set, so no work is
//! done twice and no answer depends on the process.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use reqwest::Method;
use thalweg_batch::{BatchConfig, Progress, promote, run_view};
use thalweg_client::terminal;
use thalweg_schemas::api::paths;
use thalweg_schemas::api::runs::{RunList, RunMode, RunOutcome, RunQuery, RunReport};
use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Fault, ViewName};

use crate::commands::process;
use crate::config::LogFormat;
use crate::flags::{self, RunFlags, ServerFlags, WarehouseFlags};
use crate::flags::{BatchFlags, ProcessFlags};
use crate::logging;
use crate::platform::{self, Opened};

const EXAMPLES: &str = "\
Examples:
  thalweg batch --warehouse s3://bucket/thalweg --batch-interval 5m
  thalweg batch run
  thalweg batch run --view device_minutes --full

Without a subcommand it brings every view up to date on the interval, until a signal. A second one beside it takes over
what the first one leaves.";

const RUN_EXAMPLES: &str = "\
Examples:
  thalweg batch run
  thalweg batch run --view device_minutes --full --wait
  thalweg batch run --warehouse s3://bucket/thalweg --batch-memory 4GiB
  thalweg batch run --url http://127.0.0.1:8642

Exit code 1 if a view is being computed by another process; --wait waits for it.";

/// Pause between progress lines if stderr is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Pause between two checks of a view that another process computes.
const LOOK: Duration = Duration::from_secs(1);

/// The effect of a second signal, for its message.
const LOST: &str = "a run that was cut off has published nothing, and its lease runs out by itself";

/// Recompute views on their schedule; `batch run` does it once and now
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    work: Option<BatchWork>,
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    run: RunFlags,
}

#[derive(Debug, Subcommand)]
enum BatchWork {
    Run(RunArguments),
}

/// Bring views up to the newest mark of the archive
///
/// Running servers see the new states within about a second.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
struct RunArguments {
    /// Only this view [default: all]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// From the origin, instead of from the last cut
    #[arg(long)]
    full: bool,
    /// Wait for views that another process is computing, instead of leaving them to it
    #[arg(long)]
    wait: bool,
    /// Have a running `thalweg up` do it, instead of this process: http://HOST:PORT
    #[arg(long, value_name = "URL", conflicts_with_all = ELSEWHERE)]
    url: Option<String>,
    /// Token of that server, if it asks for one
    #[arg(long, value_name = "TOKEN", env = "THALWEG_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    run: RunFlags,
}

/// Flags that say how this process computes.
const ELSEWHERE: [&str; 9] = [
    "wait",
    "config",
    "data_dir",
    "warehouse",
    "storage",
    "batch_memory",
    "batch_threads",
    "spill_dir",
    "compact_files",
];

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.work {
        Some(BatchWork::Run(RunArguments { url: Some(url), token, view, full, .. })) => {
            run_there(&ServerFlags { url, token }, RunQuery { view, full }).await
        }
        Some(BatchWork::Run(arguments)) => run_now(arguments).await,
        None => keep_schedule(arguments).await,
    }
}

async fn keep_schedule(arguments: Arguments) -> Result<ExitCode> {
    let groups = [flags::table(&arguments.process), flags::table(&arguments.batch), flags::table(&arguments.run)];
    let settings = flags::settings(&arguments.warehouse, &groups)?;
    let start = async |opened| {
        let platform = platform::batch(&settings, opened).await?;
        let line = format!("thalweg batch is listening on http://{}", platform.address());
        Ok((platform, line))
    };
    process::run(&settings, LOST, Opened::probed(&settings), start).await
}

/// Asks a running server.
async fn run_there(server: &ServerFlags, query: RunQuery) -> Result<ExitCode> {
    let client = server.client()?;
    let request = client.request(Method::POST, paths::BATCH_RUN)?.query(&query);
    let RunList { runs } = client.json(client.send(request).await?).await?;
    if runs.is_empty() {
        terminal::err("there is no view; `thalweg apply FILE.sql` creates some");
    }
    let mut complete = true;
    for report in &runs {
        complete &= show(report)?;
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a report; true if the view is up to date.
fn show(report: &RunReport) -> Result<bool> {
    let line = describe(report);
    match report.outcome {
        RunOutcome::Failed(_) => terminal::err(&format!("error: {line}")),
        _ => terminal::out(&terminal::plain(&line))?,
    }
    Ok(!matches!(report.outcome, RunOutcome::Busy { .. } | RunOutcome::Failed(_)))
}

async fn run_now(arguments: RunArguments) -> Result<ExitCode> {
    let settings = flags::settings(&arguments.warehouse, &[flags::table(&arguments.run)])?;
    logging::start("warn", LogFormat::Text)?;
    let name = arguments.view.as_deref().map(ViewName::new).transpose()?;
    let mode = if arguments.full { RunMode::Full } else { RunMode::Incremental };
    let warehouse = settings.open_warehouse()?;
    let catalogs = CatalogStore::new(warehouse.clone());
    let catalog = catalogs.load().await?;
    let config = settings.batch();
    let views = catalog.compiled_of(name.as_ref())?;
    let mut complete = report_not_understood(&catalog, name.as_ref());
    if views.is_empty() && complete {
        terminal::err("there is no view; `thalweg apply FILE.sql` creates some");
    }
    for view in views {
        let mut waiting = false;
        let report = loop {
            let run = run_one(&warehouse, &catalog, &view, mode, &config);
            let report = run.await?;
            match &report.outcome {
                RunOutcome::Busy { holder, .. } if arguments.wait => {
                    if !waiting {
                        terminal::err(&format!("{}: waiting for {holder}", report.view));
                    }
                    waiting = true;
                    tokio::time::sleep(LOOK).await;
                }
                _ => break report,
            }
        };
        complete &= show(&report)?;
        if let Err(error) = promote(&warehouse, &catalogs, &catalog, &view, |_| ()).await {
            if error.fault() == Fault::Bug {
                return Err(error.into());
            }
            terminal::err(&format!("error: {}: {error}", report.view));
            complete = false;
        }
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names the views that this program cannot compute, because a newer version has defined them. Returns true if there
/// is none.
fn report_not_understood(catalog: &Catalog, only: Option<&ViewName>) -> bool {
    let asked = catalog.views.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
    let unknown: Vec<_> = asked.filter_map(|(name, view)| Some((name, view.not_understood()?))).collect();
    for (name, reason) in &unknown {
        terminal::err(&format!("error: {name}: this version of thalweg does not understand the definition: {reason}"));
    }
    unknown.is_empty()
}

async fn run_one(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    mode: RunMode,
    config: &BatchConfig,
) -> Result<RunReport> {
    let name = &view.definition.name;
    let mut shown = ProgressLine::new(name);
    let report = run_view(warehouse, catalog, view, mode, config, |p| shown.show(p)).await;
    shown.end();
    report.with_context(|| format!("view `{name}`"))
}

fn describe(report: &RunReport) -> String {
    let view = &report.view;
    match &report.outcome {
        RunOutcome::Published => format!(
            "{view}: {} rows into {} groups in {:.1?}, cut at {}",
            terminal::grouped(report.rows_read),
            terminal::grouped(report.groups),
            report.elapsed,
            report.to
        ),
        RunOutcome::NothingNew => format!("{view}: nothing new since the cut at {}", report.to),
        RunOutcome::Fenced => format!("{view}: another run published first; nothing to do"),
        RunOutcome::Busy { holder, .. } => {
            format!("{view}: {holder} is computing it; --wait waits for that")
        }
        RunOutcome::Failed(failure) => format!("{view}: {}. {}", failure.sentence(), failure.advice()),
    }
}

/// Progress on stderr: one changing line on a terminal, an occasional line elsewhere.
struct ProgressLine<'a> {
    view: &'a ViewName,
    on_terminal: bool,
    shown: bool,
    last: Instant,
}

impl<'a> ProgressLine<'a> {
    fn new(view: &'a ViewName) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        Self { view, on_terminal, shown: false, last: Instant::now() }
    }

    fn show(&mut self, progress: Progress) {
        let line = progress_line(self.view, progress);
        if self.on_terminal {
            terminal::err_again(&line);
            self.shown = true;
        } else if self.last.elapsed() >= LINE_EVERY {
            terminal::err(&line);
            self.last = Instant::now();
        }
    }

    fn end(&self) {
        if self.shown {
            terminal::err_again("");
        }
    }
}

fn progress_line(view: &ViewName, progress: Progress) -> String {
    let read = terminal::grouped(progress.rows_read);
    match progress.rows_expected.filter(|rows| *rows > 0) {
        Some(expected) => {
            let percent = (progress.rows_read.min(expected) * 100) / expected;
            format!("{view}: {read} of {} rows, {percent}%", terminal::grouped(expected))
        }
        None => format!("{view}: {read} rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_rows_and_percent() {
        let view = ViewName::new("v").unwrap();
        let line =
            |rows_read, rows_expected| progress_line(&view, Progress { rows_read, rows_expected, states_written: 0 });
        assert_eq!(line(1500, Some(6000)), "v: 1 500 of 6 000 rows, 25%");
        assert_eq!(line(0, Some(0)), "v: 0 rows");
        assert_eq!(line(7, None), "v: 7 rows");
    }
}
