//! `thalweg apply`: applies the statements of files to the warehouse's catalog, without a server.
//!
//! Invariant: all statements of all files become one new version of the catalog, or none is applied.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use thalweg_client::terminal;
use thalweg_schemas::catalog::{Applied, CatalogStore, is_open, with_columns};
use thalweg_schemas::definition::{self, Statement};
use thalweg_schemas::error::{Diagnostic, TextSpan};
use thalweg_schemas::{Error, Fault, warehouse::Warehouse};
use thalweg_speed::{Assignment, SpeedConfig};

use crate::flags::{self, Usage, WarehouseFlags};
use crate::proposal;

const EXAMPLES: &str = "\
Examples:
  thalweg apply definitions.sql
  thalweg apply streams.sql views.sql --warehouse s3://bucket/thalweg --storage aws_region=eu-central-1

definitions.sql:
  CREATE EXTERNAL TABLE IF NOT EXISTS sensor_data (device STRING, ts TIMESTAMP, temperature DOUBLE)
    STORED AS KAFKA LOCATION 'sensor_data'
    OPTIONS ('format' 'json', 'event_time' 'ts');
  CREATE OR REPLACE MATERIALIZED VIEW device_minutes AS
    SELECT device, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS readings, max(temperature) AS peak
    FROM sensor_data GROUP BY 1, 2;";

/// Create, replace and drop streams and views as files say
///
/// Works on the warehouse directly; a running `thalweg up` sees it within a second.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// SQL files: CREATE EXTERNAL TABLE, CREATE MATERIALIZED VIEW, DROP
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    warehouse: WarehouseFlags,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let statements = read(&arguments.files)?;
    let settings = flags::settings(&arguments.warehouse, &[])?;
    let config = settings.speed(Assignment::All);
    for applied in apply(&settings.open_warehouse()?, &config, statements).await? {
        terminal::out(&terminal::plain(&applied.action))?;
        for warning in applied.warnings {
            terminal::err(&format!("warning: {warning}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the definitions of all files, in order.
///
/// Errors: [`Usage`] for an unreadable file; an error in the SQL names the file, line and column.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for file in files {
        statements.extend(read_one(file)?);
    }
    Ok(statements)
}

fn read_one(file: &Path) -> Result<Vec<Statement>> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|e| Usage(format!("{name} cannot be read: {e}")))?;
    let statements = definition::parse(&text).map_err(|e| {
        let place = match &e {
            Error::ParseSql(Diagnostic { span: Some(TextSpan { start, .. }), .. }) => {
                format!("{name}:{}:{}", start.line, start.column)
            }
            _ => name.to_string(),
        };
        anyhow::Error::from(e).context(place)
    })?;
    if let Some(Statement::Query(query)) = statements.iter().find(|s| matches!(s, Statement::Query(_))) {
        let first = query.lines().next().unwrap_or_default();
        anyhow::bail!("{name}: `{first}` is a query, not a definition; ask it with `thalweg sql`");
    }
    Ok(statements)
}

/// Writes the definitions into the catalog. A definition that stands as it is written changes nothing, so a file can be
/// applied at every start.
pub(crate) async fn apply(
    warehouse: &Warehouse,
    kafka: &SpeedConfig,
    statements: Vec<Statement>,
) -> Result<Vec<Applied>> {
    let catalogs = CatalogStore::new(warehouse.clone());
    let find = |open| proposal::columns_of(kafka.clone(), open);
    let (statements, mut notes) = match statements.iter().any(is_open) {
        true => with_columns(statements, &*catalogs.load().await?, &find).await?,
        false => (statements, Vec::new()),
    };
    let applied = catalogs.apply_again(statements).await.map(|mut applied| {
        applied.iter_mut().zip(&mut notes).for_each(|(applied, notes)| applied.warnings.append(notes));
        applied
    });
    applied.map_err(|e| {
        let advice = match e.fault() {
            Fault::User => "nothing was applied (`thalweg check FILE` shows the place)",
            _ => "nothing was applied",
        };
        anyhow::Error::from(e).context(advice)
    })
}
