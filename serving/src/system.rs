//! The schema `thalweg`: the state of this server as tables, for plain SQL.
//!
//! Invariant: the rows are read once for each query, when it is pinned, so a query that names a table twice reads the
//! same rows.

pub(crate) mod cancel;
mod columns;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;
use serde::Serialize;

use crate::activity::Activity;
use crate::sources::Sources;
use crate::{Error, Result, status};

/// The name of the schema.
pub(crate) const SCHEMA: &str = "thalweg";

/// A table of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SystemTable {
    Streams,
    Partitions,
    Views,
    Runs,
    Audits,
    Rejects,
    Queries,
    Sessions,
    Settings,
}

impl SystemTable {
    pub(crate) const ALL: [SystemTable; 9] = [
        SystemTable::Streams,
        SystemTable::Partitions,
        SystemTable::Views,
        SystemTable::Runs,
        SystemTable::Audits,
        SystemTable::Rejects,
        SystemTable::Queries,
        SystemTable::Sessions,
        SystemTable::Settings,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            SystemTable::Streams => "streams",
            SystemTable::Partitions => "partitions",
            SystemTable::Views => "views",
            SystemTable::Runs => "runs",
            SystemTable::Audits => "audits",
            SystemTable::Rejects => "rejects",
            SystemTable::Queries => "queries",
            SystemTable::Sessions => "sessions",
            SystemTable::Settings => "settings",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    pub(crate) fn schema(self) -> SchemaRef {
        columns::schema(self)
    }
}

/// The rows of the tables that a query names.
pub(crate) type SystemRows = BTreeMap<SystemTable, RecordBatch>;

/// Where the rows come from.
pub(crate) struct SystemSources<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) activity: &'a Activity,
}

/// Reads the rows of `tables`. Workers in other processes are asked for at most their time limit.
///
/// Errors: [`Error::Encode`].
pub(crate) async fn read(tables: &BTreeSet<SystemTable>, from: SystemSources<'_>) -> Result<SystemRows> {
    let SystemSources { sources, activity } = from;
    let wants = |table: &[SystemTable]| table.iter().any(|table| tables.contains(table));
    let streams = match wants(&[SystemTable::Streams, SystemTable::Partitions, SystemTable::Rejects]) {
        true => status::streams(sources).await.streams,
        false => Vec::new(),
    };
    let views = match wants(&[SystemTable::Views]) {
        true => status::views(sources).await.views,
        false => Vec::new(),
    };
    let read = |table: SystemTable| match table {
        SystemTable::Streams => batch(table, streams.iter().map(rows::StreamRow::of)),
        SystemTable::Partitions => batch(table, streams.iter().flat_map(rows::PartitionRow::of)),
        SystemTable::Rejects => batch(table, streams.iter().flat_map(rows::RejectRow::of)),
        SystemTable::Views => batch(table, views.iter().map(rows::ViewRow::of)),
        SystemTable::Runs => batch(table, sources.metrics.runs().iter().map(rows::RunRow::of)),
        SystemTable::Audits => batch(table, sources.metrics.audits().iter().map(rows::AuditRow::of)),
        SystemTable::Queries => {
            let ended = activity.ended();
            let running = activity.running();
            let ended = ended.iter().map(rows::QueryRow::of_ended);
            batch(table, ended.chain(running.iter().map(|query| rows::QueryRow::of_running(query))))
        }
        SystemTable::Sessions => batch(table, activity.sessions().iter().map(rows::SessionRow::of)),
        SystemTable::Settings => batch(table, sources.settings.iter()),
    };
    tables.iter().map(|table| Ok((*table, read(*table)?))).collect()
}

fn batch<Row: Serialize>(table: SystemTable, rows: impl Iterator<Item = Row>) -> Result<RecordBatch> {
    let rows: Vec<Row> = rows.collect();
    let schema = table.schema();
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).build_decoder().map_err(Error::Encode)?;
    decoder.serialize(&rows).map_err(Error::Encode)?;
    let batch = decoder.flush().map_err(Error::Encode)?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

#[cfg(test)]
mod tests;
