//! `thalweg check`: reports errors in definitions, with file, line and column.
//!
//! Invariant: the command reads only the given files, and writes only its report.

mod report;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use thalweg_client::terminal;
use thalweg_schemas::check::{self, Severity};

use crate::flags::Usage;

const EXAMPLES: &str = "\
Examples:
  thalweg check definitions.sql
  thalweg check streams.sql views.sql
  thalweg check - --format json < definitions.sql

Statements are checked in order: a view sees the streams of the files before it. Exit code 1 if there are errors;
warnings alone are 0.";

/// Say what is wrong with definitions, without touching anything
///
/// Needs no warehouse, no Kafka and no server. All errors are reported, not only the first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// SQL files; `-` reads stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How findings are printed; json is for editors and scripts
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Text,
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut names = Vec::new();
    let mut texts = Vec::new();
    for file in &arguments.files {
        let (name, text) = read(file)?;
        names.push(name);
        texts.push(text);
    }
    let checked = check::check(&texts).await;
    let shown = match arguments.format {
        ReportFormat::Text => report::text(&names, &texts, &checked, terminal::is_coloured()),
        ReportFormat::Json => report::json(&names, &checked),
    };
    terminal::out(&shown)?;
    let failed = checked.findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(ExitCode::from(u8::from(failed)))
}

/// Reads a file and returns its display name and its text.
fn read(file: &Path) -> Result<(String, String)> {
    let (name, read) = if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text).map(|_| text);
        ("<stdin>".to_owned(), read)
    } else {
        (file.display().to_string(), std::fs::read_to_string(file))
    };
    match read {
        Ok(text) => Ok((name, text)),
        Err(e) => Err(Usage(format!("{name} cannot be read: {e}")).into()),
    }
}
