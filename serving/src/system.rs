//! The schema `thalweg`: the state of this server as tables, for plain SQL.
//!
//! The documents of the HTTP API and the tables are made from the same values ([`crate::status`]); a test holds them
//! against each other, field by field.
//!
//! Invariant: the state is read once for each query, when it is pinned, so a query that names a table twice reads the
//! same rows. The rows are made on the query's lane, and count in its memory.

pub(crate) mod cancel;
mod columns;
mod rows;
mod worker_rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use serde::Serialize;
use thalweg_schemas::api::process::ProcessStatus;
use thalweg_schemas::api::streams::{StreamList, StreamStatus, WorkerEntry};
use thalweg_schemas::api::views::{ViewList, ViewStatus};

use crate::activity::{Activity, ClientSession, EndedQuery, RunningQuery};
use crate::metrics::{EndedAudit, EndedRun};
use crate::sources::{ShownSetting, Sources};
use crate::{Error, Result, status};

/// The name of the schema.
pub(crate) const SCHEMA: &str = "thalweg";

/// A table of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StateTable {
    Streams,
    Partitions,
    Views,
    Workers,
    NotUnderstood,
    Process,
    Runs,
    Audits,
    Rejects,
    Queries,
    Sessions,
    Settings,
}

impl StateTable {
    pub(crate) const ALL: [StateTable; 12] = [
        StateTable::Streams,
        StateTable::Partitions,
        StateTable::Views,
        StateTable::Workers,
        StateTable::NotUnderstood,
        StateTable::Process,
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
            StateTable::Workers => "workers",
            StateTable::NotUnderstood => "not_understood",
            StateTable::Process => "process",
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

/// Where the state is read.
pub(crate) struct SystemSources<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) activity: &'a Activity,
}

/// The state that rows are made from.
#[derive(Default)]
pub(crate) struct SystemState {
    tables: BTreeSet<StateTable>,
    streams: Option<StreamList>,
    views: Option<ViewList>,
    process: Option<ProcessStatus>,
    runs: Vec<EndedRun>,
    audits: Vec<EndedAudit>,
    ended: Vec<EndedQuery>,
    running: Vec<Arc<RunningQuery>>,
    sessions: Vec<ClientSession>,
    settings: Arc<[ShownSetting]>,
}

/// The tables that `/v1/streams` fills.
const OF_STREAMS: [StateTable; 5] =
    [StateTable::Streams, StateTable::Partitions, StateTable::Rejects, StateTable::Workers, StateTable::NotUnderstood];

/// The tables that `/v1/views` fills.
const OF_VIEWS: [StateTable; 2] = [StateTable::Views, StateTable::NotUnderstood];

/// Reads the state behind `tables`. Workers in other processes are asked for at most their time limit.
pub(crate) async fn read(tables: BTreeSet<StateTable>, from: SystemSources<'_>) -> SystemState {
    let SystemSources { sources, activity } = from;
    let wants = |table: StateTable| tables.contains(&table);
    let mut state = SystemState::default();
    if OF_STREAMS.into_iter().any(wants) {
        state.streams = Some(status::streams(sources).await);
    }
    if OF_VIEWS.into_iter().any(wants) {
        state.views = Some(status::views(sources).await);
    }
    if wants(StateTable::Process) {
        state.process = Some(status::process(sources));
    }
    if wants(StateTable::Runs) {
        state.runs = sources.metrics.runs();
    }
    if wants(StateTable::Audits) {
        state.audits = sources.metrics.audits();
    }
    if wants(StateTable::Queries) {
        (state.ended, state.running) = (activity.ended(), activity.running());
    }
    if wants(StateTable::Sessions) {
        state.sessions = activity.sessions();
    }
    if wants(StateTable::Settings) {
        state.settings = Arc::clone(&sources.settings);
    }
    SystemState { tables, ..state }
}

impl SystemState {
    /// The rows of all tables, and their part of the query's memory; `None` without a table.
    ///
    /// Errors: [`Error::Encode`], [`Error::RunQuery`] if the rows exceed the memory.
    pub(crate) fn rows(self, memory: &Arc<dyn MemoryPool>) -> Result<(SystemRows, Option<MemoryReservation>)> {
        if self.tables.is_empty() {
            return Ok((SystemRows::new(), None));
        }
        let held = MemoryConsumer::new("rows of system tables").register(memory);
        let mut rows = SystemRows::new();
        for table in &self.tables {
            let batch = self.batch(*table)?;
            held.try_grow(batch.get_array_memory_size()).map_err(|source| Error::of_engine(source, false))?;
            rows.insert(*table, batch);
        }
        Ok((rows, Some(held)))
    }

    fn streams(&self) -> impl Iterator<Item = &StreamStatus> {
        self.streams.iter().flat_map(|list| &list.streams)
    }

    fn workers(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.streams.iter().filter_map(|list| list.workers.as_ref()).flatten()
    }

    fn views(&self) -> impl Iterator<Item = &ViewStatus> {
        self.views.iter().flat_map(|list| &list.views)
    }

    fn batch(&self, table: StateTable) -> Result<RecordBatch> {
        match table {
            StateTable::Streams => batch(table, self.streams().map(rows::StreamRow::of)),
            StateTable::Partitions => batch(table, self.streams().flat_map(rows::PartitionRow::of)),
            StateTable::Rejects => batch(table, self.streams().flat_map(rows::RejectRow::of)),
            StateTable::Views => batch(table, self.views().map(rows::ViewRow::of)),
            StateTable::Workers => batch(table, self.workers().flat_map(worker_rows::WorkerRow::of)),
            StateTable::NotUnderstood => {
                let streams = self.streams.iter().flat_map(|list| &list.not_understood);
                let views = self.views.iter().flat_map(|list| &list.not_understood);
                let streams = streams.map(|kept| rows::NotUnderstoodRow::of("stream", kept));
                batch(table, streams.chain(views.map(|kept| rows::NotUnderstoodRow::of("view", kept))))
            }
            StateTable::Process => batch(table, self.process.iter()),
            StateTable::Runs => batch(table, self.runs.iter().map(rows::RunRow::of)),
            StateTable::Audits => batch(table, self.audits.iter().map(rows::AuditRow::of)),
            StateTable::Queries => {
                let ended = self.ended.iter().map(rows::QueryRow::of_ended);
                batch(table, ended.chain(self.running.iter().map(|query| rows::QueryRow::of_running(query))))
            }
            StateTable::Sessions => batch(table, self.sessions.iter().map(rows::SessionRow::of)),
            StateTable::Settings => batch(table, self.settings.iter()),
        }
    }
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
