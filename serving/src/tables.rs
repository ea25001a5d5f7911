//! Tables at a pin: logical plans that unite archive and memory, or batch states and segments, in one table.
//!
//! ```text
//!  view:    finish( union( from_stored(batch files), segments ) )
//!  stream:  union( archive files below A, rows in memory from A to F )
//! ```
//!
//! Invariant: the plans are plain projections, filters, unions and the algebra's aggregates, inlined into the query,
//! so DataFusion's own rules push filters and columns into both sides.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::ident;
use thalweg_schemas::algebra::{batches, between, scan, still_rejected, stream_column};
use thalweg_schemas::definition::message::ROW;
use thalweg_schemas::definition::stream::REJECT;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::DataFile;
use thalweg_schemas::{Error as SharedError, Frontier, Partition, Result as SharedResult};

use crate::pin::{Pin, PinnedRows, PinnedView, RowsAbove, Tiles};
use crate::workers::scan::RemoteTable;

/// The part of a view that a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// Both layers, at the pin's frontier.
    Merged,
    /// Batch states alone, below the cut.
    Batch,
    /// Realtime segments alone, from the cut to the pin's frontier.
    Speed,
}

/// Returns a view's answer.
///
/// Errors: the errors of the algebra.
pub(crate) fn view(pin: &Pin, pinned: &PinnedView, side: Side) -> SharedResult<LogicalPlan> {
    pinned.view.plan.finish(side_states(pin, pinned, side)?)
}

/// The states of one side, or of both layers.
///
/// Errors: the errors of the algebra.
pub(crate) fn side_states(pin: &Pin, pinned: &PinnedView, side: Side) -> SharedResult<LogicalPlan> {
    match side {
        Side::Merged => view_states(pin, pinned),
        Side::Batch => batch_states(pinned),
        Side::Speed => segment_states(pin, pinned),
    }
}

/// The states of both layers at the pin's frontier.
///
/// Errors: the errors of the algebra.
pub(crate) fn view_states(pin: &Pin, pinned: &PinnedView) -> SharedResult<LogicalPlan> {
    union(batch_states(pinned)?, segment_states(pin, pinned)?)
}

/// The states of the batch version.
///
/// Errors: the errors of the algebra.
pub(crate) fn batch_states(pinned: &PinnedView) -> SharedResult<LogicalPlan> {
    let plan = &pinned.view.plan;
    let name = format!("{} batch below {}", pinned.view.definition.name, pinned.cut);
    if pinned.batch.files.is_empty() {
        return batches(&name, Arc::clone(plan.state_schema()), Vec::new());
    }
    let files = ParquetFiles::new(Arc::clone(plan.stored_schema()), pinned.batch.files.to_vec());
    plan.from_stored(scan(&name, Arc::new(files))?)
}

fn segment_states(pin: &Pin, pinned: &PinnedView) -> SharedResult<LogicalPlan> {
    let name = format!("{} speed from {} to {}", pinned.view.definition.name, pinned.cut, pin.frontier);
    let plan = &pinned.view.plan;
    let schema = Arc::clone(plan.state_schema());
    match &pinned.tiles {
        Tiles::Local(tiles) => {
            let states = tiles.iter().map(|tile| tile.states.clone());
            batches(&name, schema, states.filter(|s| s.num_rows() > 0).collect())
        }
        Tiles::Remote(shares) => {
            let (from, shares) = (pinned.cut.clone(), Arc::clone(shares));
            let groups = plan.group_count();
            let states = RemoteTable::states(plan.id().clone(), schema, groups, from, shares);
            scan(&name, Arc::new(states))
        }
    }
}

/// Returns a stream's rows below the pin's frontier, with the columns of `schema` and without rejects.
///
/// Errors: [`SharedError::RunPlan`].
pub(crate) fn rows(pin: &Pin, rows: &PinnedRows, schema: &Schema) -> SharedResult<LogicalPlan> {
    table(pin, rows, ident(REJECT).is_null(), schema)
}

/// Returns the messages of a stream that could not be decoded and did not enter later, with the columns of `schema`.
///
/// Errors: [`SharedError::RunPlan`].
pub(crate) fn rejects(pin: &Pin, rows: &PinnedRows, schema: &Schema) -> SharedResult<LogicalPlan> {
    let is_reject = || ident(REJECT).is_not_null();
    let retried = pin.frontier.within([Partition::RETRIED]);
    let none = Frontier::new();
    if retried.stands_at(&none) {
        return table(pin, rows, is_reject(), schema);
    }
    let definition = &pin.stream.definition;
    let files = rows.master.files.iter().filter(|file| file.touches(&none, &retried)).cloned().collect();
    let name = format!("{} amendments below {retried}", definition.name);
    let files = Arc::new(ParquetFiles::new(definition.row_schema(), files));
    let amendments = between(scan(&name, files)?, &none, &retried)?;
    if !definition.messages.has_several_rows() || schema.field_with_name(ROW).is_ok() {
        return still_rejected(table(pin, rows, is_reject(), schema)?, amendments);
    }
    // A reject is a part of its message, so its number is needed although the query does not ask for it.
    let row = definition.reject_schema_with(&BTreeSet::from([ROW]));
    let row = row.field_with_name(ROW).map_err(|e| planning(e.into()))?.clone();
    let numbered = Schema::new(schema.fields().iter().map(|f| f.as_ref().clone()).chain([row]).collect::<Vec<_>>());
    let rejects = still_rejected(table(pin, rows, is_reject(), &numbered)?, amendments)?;
    let columns = schema.fields().iter().map(|field| ident(field.name()));
    LogicalPlanBuilder::from(rejects).project(columns).and_then(LogicalPlanBuilder::build).map_err(planning)
}

fn table(pin: &Pin, rows: &PinnedRows, keep: Expr, schema: &Schema) -> SharedResult<LogicalPlan> {
    let select = |plan: LogicalPlan| {
        let columns = schema.fields().iter().map(|f| Ok(stream_column(&plan, f.name())?.alias(f.name())));
        let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
        LogicalPlanBuilder::from(plan).filter(keep.clone())?.project(columns)?.build()
    };
    let archive = select(archive_rows(pin, rows)?).map_err(planning)?;
    let memory = select(memory_rows(pin, rows)?).map_err(planning)?;
    union(archive, memory)
}

/// Returns the rows and rejects of a stream below the pin's frontier, with the stream's row schema; rows below `from`
/// may be missing.
///
/// Errors: [`SharedError::RunPlan`].
pub(crate) fn rows_from(pin: &Pin, rows: &PinnedRows, from: &Frontier) -> SharedResult<LogicalPlan> {
    let memory = memory_rows(pin, rows)?;
    if from.covers(&rows.archived) {
        return Ok(memory);
    }
    union(archive_rows(pin, rows)?, memory)
}

fn archive_rows(pin: &Pin, rows: &PinnedRows) -> SharedResult<LogicalPlan> {
    let definition = &pin.stream.definition;
    let master = &rows.master;
    let name = format!("{} archive below {}", definition.name, master.frontier);
    let schema = definition.row_schema();
    if master.files.is_empty() {
        return batches(&name, schema, Vec::new());
    }
    let files: Vec<DataFile> = master.files.to_vec();
    let all = scan(&name, Arc::new(ParquetFiles::new(schema, files)))?;
    // Files have amendments that the speed layer has not taken yet.
    match rows.archived.covers(&master.frontier) {
        true => Ok(all),
        false => between(all, &Frontier::new(), &rows.archived),
    }
}

fn memory_rows(pin: &Pin, rows: &PinnedRows) -> SharedResult<LogicalPlan> {
    let definition = &pin.stream.definition;
    let archived = &rows.archived;
    let name = format!("{} memory from {archived} to {}", definition.name, pin.frontier);
    let schema = definition.row_schema();
    let chunks = match &rows.above {
        RowsAbove::Local(chunks) => chunks,
        RowsAbove::Remote(shares) => {
            let rows = RemoteTable::rows(schema, archived.clone(), Arc::clone(shares));
            return scan(&name, Arc::new(rows));
        }
    };
    let held = chunks.iter().flat_map(|chunk| chunk.batches.clone());
    let plan = batches(&name, schema, held.collect())?;
    // Chunks end where epochs end, so a chunk rarely spans the archive's frontier.
    if chunks.iter().all(|chunk| chunk.from.covers(archived)) {
        return Ok(plan);
    }
    between(plan, archived, &pin.frontier)
}

/// Errors: [`SharedError::RunPlan`] for plans of different columns.
pub(crate) fn union(left: LogicalPlan, right: LogicalPlan) -> SharedResult<LogicalPlan> {
    LogicalPlanBuilder::from(left).union(right).and_then(LogicalPlanBuilder::build).map_err(planning)
}

fn planning(source: DataFusionError) -> SharedError {
    SharedError::RunPlan { what: "putting a table together", source }
}
