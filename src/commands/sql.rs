//! `thalweg sql`: runs one statement, a script, or the shell; prints answers as tables, CSV or JSON.
//!
//! Invariant: what is read from stdin and files is chosen here; `serving/client` sends and prints.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use thalweg_client::sql::{OutputFormat, Session, SqlScript, Wishes, prompt};

use crate::flags::{ServerFlags, Usage};

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
  thalweg sql \"SELECT * FROM device_minutes WHERE device = $1\" --param boiler-7
  thalweg sql \"SELECT * FROM totals\" --source batch

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
    /// A value for the next of $1, $2, … in the statement; repeat for more
    ///
    /// The value is read as one of the type that the statement expects in its place.
    #[arg(long, value_name = "VALUE", requires = "sql", allow_hyphen_values = true)]
    param: Vec<String>,
    /// Which layers answer for views: both merged, the batch layer up to its cut, or the speed layer from there on
    #[arg(long, value_name = "LAYER", value_parser = ["merged", "batch", "speed"])]
    source: Option<String>,
    /// Neither read nor write the shell's history
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let wishes = Wishes {
        stale: arguments.stale,
        min_frontier: arguments.min_frontier,
        partial: arguments.partial,
        source: arguments.source,
        params: arguments.param,
    };
    let client = arguments.server.client()?;
    let mut session = Session::new(client, arguments.server.url, arguments.format, wishes);
    match arguments.sql {
        Some(sql) if sql == "-" => session.one(&read_stdin()?).await,
        Some(sql) => session.one(&sql).await,
        None if !arguments.file.is_empty() => {
            let mut scripts = Vec::new();
            for file in &arguments.file {
                scripts.push(SqlScript::new(&file.to_string_lossy(), read_file(file)?));
            }
            session.scripts(&scripts, arguments.keep_going).await
        }
        None if std::io::stdin().is_terminal() => prompt(session, !arguments.no_history).await,
        None => {
            let script = SqlScript::new("stdin", read_stdin()?);
            session.scripts(&[script], arguments.keep_going).await
        }
    }
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("stdin cannot be read")?;
    Ok(text)
}

fn read_file(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| Usage(format!("{} cannot be read: {e}", file.display())).into())
}
