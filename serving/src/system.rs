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
pub(crate) enum StateTable {
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

impl StateTable {
    pub(crate) const ALL: [StateTable; 9] = [
        StateTable::Streams,
        StateTable::Partitions,
        StateTable::Views,
        StateTable::Runs,
        StateTable::Audits,
        StateTable::Rejects,
        StateTable::Queries,
        StateTable::Sessions,
        StateTable::Settings,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            StateTable::Streams => "streams",
            StateTable::Partitions => "partitions",
            StateTable::Views => "views",
            StateTable::Runs => "runs",
            StateTable::Audits => "audits",
            StateTable::Rejects => "rejects",
            StateTable::Queries => "queries",
            StateTable::Sessions => "sessions",
            StateTable::Settings => "settings",
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
pub(crate) type SystemRows = BTreeMap<StateTable, RecordBatch>;

/// Where the rows come from.
pub(crate) struct SystemSources<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) activity: &'a Activity,
}

/// Reads the rows of `tables`. Workers in other processes are asked for at most their time limit.
///
/// Errors: [`Error::Encode`].
pub(crate) async fn read(tables: &BTreeSet<StateTable>, from: SystemSources<'_>) -> Result<SystemRows> {
    let SystemSources { sources, activity } = from;
    let wants = |table: &[StateTable]| table.iter().any(|table| tables.contains(table));
    let streams = match wants(&[StateTable::Streams, StateTable::Partitions, StateTable::Rejects]) {
        true => status::streams(sources).await.streams,
        false => Vec::new(),
    };
    let views = match wants(&[StateTable::Views]) {
        true => status::views(sources).await.views,
        false => Vec::new(),
    };
    let read = |table: StateTable| match table {
        StateTable::Streams => batch(table, streams.iter().map(rows::StreamRow::of)),
        StateTable::Partitions => batch(table, streams.iter().flat_map(rows::PartitionRow::of)),
        StateTable::Rejects => batch(table, streams.iter().flat_map(rows::RejectRow::of)),
        StateTable::Views => batch(table, views.iter().map(rows::ViewRow::of)),
        StateTable::Runs => batch(table, sources.metrics.runs().iter().map(rows::RunRow::of)),
        StateTable::Audits => batch(table, sources.metrics.audits().iter().map(rows::AuditRow::of)),
        StateTable::Queries => {
            let ended = activity.ended();
            let running = activity.running();
            let ended = ended.iter().map(rows::QueryRow::of_ended);
            batch(table, ended.chain(running.iter().map(|query| rows::QueryRow::of_running(query))))
        }
        StateTable::Sessions => batch(table, activity.sessions().iter().map(rows::SessionRow::of)),
        StateTable::Settings => batch(table, sources.settings.iter()),
    };
    tables.iter().map(|table| Ok((*table, read(*table)?))).collect()
}

fn batch<Row: Serialize>(table: StateTable, rows: impl Iterator<Item = Row>) -> Result<RecordBatch> {
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
