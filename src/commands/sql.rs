//! `thalweg sql`: runs one statement, a script, or the shell; prints answers as tables, CSV or JSON.
//!
//! Invariant: stdout contains only the rows; their count, time and frontier go to stderr.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::client::{Client, Refused};
use crate::flags::{ServerFlags, Usage};
use crate::terminal;

mod ask;
mod commands;
mod complete;
mod describe;
mod editor;
mod excerpt;
mod names;
mod pager;
mod render;
mod script;
mod session;
mod shell;
mod split;
mod words;

use ask::Wishes;
use render::OutputFormat;
use script::SqlScript;
use session::Session;

const EXAMPLES: &str = "\
Examples:
  thalweg sql                                        the shell: TAB completes, \\? helps
  thalweg sql \"SELECT device, max(peak) FROM device_minutes GROUP BY device\"
  thalweg sql \"SELECT * FROM rejects.sensor_data\" --format csv > rejects.csv
  thalweg sql --file views.sql --file report.sql     statement by statement, up to the first error
  thalweg sql < report.sql
  thalweg sql - --format json < query.sql
  thalweg sql --stale \"SELECT * FROM device_minutes\"      while Kafka is away: what is archived
  thalweg sql \"SHOW TABLES\"
  thalweg sql \"SELECT * FROM totals\" --min-frontier '{\"sensor_data\": {\"0\": 1234}}'
  thalweg sql \"SELECT * FROM totals\" --partial

A stream, a view, batch.VIEW, speed.VIEW and rejects.STREAM are tables.

The shell keeps its history in $XDG_STATE_HOME/thalweg or ~/.local/state/thalweg.
Answers larger than the screen go through $PAGER, or `less -S`; PAGER= turns that off.";

/// Ask a running server, in SQL; without a statement, open the shell
///
/// The frontier at which the answer is exact (next offset per partition) is printed on stderr. If stdin is no
/// terminal, its statements are run one after the other, as --file does.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The statement; `-` reads one from stdin
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// Run the statements and \commands of a file, up to the first error; repeat for more
    #[arg(short, long, value_name = "FILE", conflicts_with = "sql")]
    file: Vec<PathBuf>,
    /// Go on with the next statement of a script after an error; the exit code is 1 all the same
    #[arg(long, conflicts_with = "sql")]
    keep_going: bool,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
    /// Take an answer that may lie below earlier ones while a stream has not caught up, as when Kafka is away
    #[arg(long)]
    stale: bool,
    /// Wait until the answer covers this frontier: the next offset per stream and partition, as JSON
    ///
    /// What an earlier answer printed on stderr, for reads that never go back; or the offset after a produced message,
    /// for an answer that has seen it.
    #[arg(long, value_name = "JSON")]
    min_frontier: Option<String>,
    /// Answer without what no speed worker holds, as the batch layer left it; which partitions is said on stderr
    #[arg(long)]
    partial: bool,
    /// Neither read nor write the shell's history
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let mut session = Session::new(client, arguments.server.url, arguments.format);
    session.wishes =
        Wishes { stale: arguments.stale, min_frontier: arguments.min_frontier, partial: arguments.partial };
    match arguments.sql {
        Some(sql) if sql == "-" => one(&mut session, &read_stdin()?).await,
        Some(sql) => one(&mut session, &sql).await,
        None if !arguments.file.is_empty() => {
            let mut scripts = Vec::new();
            for file in &arguments.file {
                scripts.push(SqlScript::new(&file.to_string_lossy(), read_file(file)?));
            }
            run_scripts(&mut session, &scripts, arguments.keep_going).await
        }
        None if std::io::stdin().is_terminal() => shell::run(session, !arguments.no_history).await,
        None => {
            let script = SqlScript::new("stdin", read_stdin()?);
            run_scripts(&mut session, &[script], arguments.keep_going).await
        }
    }
}

async fn one(session: &mut Session, sql: &str) -> Result<ExitCode> {
    match session.statement(sql).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<Refused>() => {
            terminal::err(&excerpt::explain(&error, sql, None));
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error),
    }
}

async fn run_scripts(session: &mut Session, scripts: &[SqlScript], keep_going: bool) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for script in scripts {
        let end = script::run(session, script, keep_going).await?;
        if end.failed {
            code = ExitCode::FAILURE;
        }
        if end.quit || (end.failed && !keep_going) {
            break;
        }
    }
    Ok(code)
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("stdin cannot be read")?;
    Ok(text)
}

fn read_file(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| Usage(format!("{} cannot be read: {e}", file.display())).into())
}
