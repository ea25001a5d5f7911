//! `thalweg sql`: one query or definition over HTTP, printed as a table, CSV or JSON.
//!
//! Invariant: stdout has the rows alone; the frontier at which they are exact goes to stderr.

use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::ServerFlags;
use crate::client::Client;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  thalweg sql \"SELECT device, max(peak) FROM device_minutes GROUP BY device\"
  thalweg sql \"SELECT * FROM rejects.sensor_data\" --format csv > rejects.csv
  thalweg sql - --format json < query.sql
  thalweg sql --stale \"SELECT * FROM device_minutes\"      while Kafka is away: what is archived
  thalweg sql \"SHOW TABLES\"

A stream, a view, batch.VIEW, speed.VIEW and rejects.STREAM are tables.";

const STALE: &str = "thalweg-stale";

/// Ask a running server, in SQL
///
/// The frontier at which the answer is exact (next offset per partition) is printed on stderr.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The statement; `-` reads it from stdin
    #[arg(value_name = "SQL")]
    sql: String,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    /// How rows are printed
    format: Format,
    /// Take an answer that may lie below earlier ones while a stream has not caught up, as when Kafka is away
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

#[derive(Deserialize)]
struct Answer {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut sql = arguments.sql;
    if sql == "-" {
        sql.clear();
        std::io::stdin()
            .read_to_string(&mut sql)
            .context("stdin cannot be read")?;
    }
    let client = Client::new(&arguments.server)?;
    let accept = match arguments.format {
        Format::Csv => "text/csv",
        Format::Table | Format::Json => "application/json",
    };
    let mut request = client
        .request(Method::POST, "/v1/sql")?
        .header(CONTENT_TYPE, "text/plain")
        .header(ACCEPT, accept)
        .body(sql);
    if arguments.stale {
        request = request.header(STALE, "allow");
    }
    let mut response = client.send(request).await?;
    let frontier = response
        .headers()
        .get("thalweg-frontier")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let stale = response.headers().contains_key(STALE);
    if arguments.format == Format::Table {
        print(&client.json(response).await?)?;
    } else {
        let mut stdout = std::io::stdout().lock();
        while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
            stdout.write_all(&chunk)?;
        }
        stdout.flush()?;
    }
    if let Some(frontier) = frontier.filter(|f| f != "{}") {
        let stale = if stale {
            " (stale: Kafka may hold later events)"
        } else {
            ""
        };
        terminal::err(&format!("exact at {frontier}{stale}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(answer: &Answer) -> Result<()> {
    let head: Vec<String> = answer.columns.iter().map(|c| c.name.clone()).collect();
    let right: Vec<bool> = answer.columns.iter().map(|c| is_number(&c.kind)).collect();
    let rows: Vec<Vec<String>> = answer
        .rows
        .iter()
        .map(|row| row.iter().map(cell).collect())
        .collect();
    terminal::out(&terminal::table(&head, &right, &rows))?;
    let plural = if rows.len() == 1 { "" } else { "s" };
    terminal::err(&format!(
        "({} row{plural})",
        terminal::grouped(rows.len() as u64)
    ));
    Ok(())
}

fn is_number(kind: &str) -> bool {
    ["Int", "UInt", "Float", "Decimal"]
        .iter()
        .any(|prefix| kind.starts_with(prefix))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
