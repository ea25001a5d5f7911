//! Small parts of plans that every layer uses, and functions that run plans.
//!
//! Invariant: [`between`] cuts every range of rows: per partition, by offset, never by time or file.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr, cast, lit};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{coalesce, ident};
use futures::TryStreamExt;

use crate::definition::message::{ROW, SOURCE};
use crate::definition::stream::{OFFSET, PARTITION};
use crate::{Error, Frontier, Result};

fn planning(source: DataFusionError) -> Error {
    Error::RunPlan { what: "putting a plan together", source }
}

/// Scans all of `table`. EXPLAIN shows the table as `name`.
///
/// Errors: [`Error::RunPlan`].
pub fn scan(name: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let name = datafusion::common::TableReference::bare(name);
    LogicalPlanBuilder::scan(name, provider_as_source(table), None)
        .and_then(LogicalPlanBuilder::build)
        .map_err(planning)
}

/// Scans rows in memory. EXPLAIN shows them as `name`. All batches must have `schema`.
///
/// Errors: [`Error::RunPlan`].
pub fn batches(name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<LogicalPlan> {
    let table = MemTable::try_new(schema, vec![batches]).map_err(planning)?;
    scan(name, Arc::new(table))
}

/// Filters `rows` to the range `[from, to)`.
///
/// Errors: [`Error::RunPlan`].
pub fn between(rows: LogicalPlan, from: &Frontier, to: &Frontier) -> Result<LogicalPlan> {
    let range = to
        .iter()
        .filter(|(p, end)| from.get(*p) < *end)
        .map(|(p, end)| {
            ident(PARTITION).eq(lit(p.0)).and(ident(OFFSET).gt_eq(lit(from.get(p).0))).and(ident(OFFSET).lt(lit(end.0)))
        })
        .reduce(Expr::or)
        .unwrap_or_else(|| lit(false));
    LogicalPlanBuilder::from(rows).filter(range).and_then(LogicalPlanBuilder::build).map_err(planning)
}

/// The `rejects` that were not read again with success. `amendments` are the rows of [`Partition::RETRIED`], each of
/// which names its reject in its column `_source`. Rejects with a column `_row` can be a part of their message.
///
/// Errors: [`Error::RunPlan`].
pub fn still_rejected(rejects: LogicalPlan, amendments: LogicalPlan) -> Result<LogicalPlan> {
    let text = |column: Expr| cast(column, DataType::Utf8);
    let joined = |left: Expr, right: Expr| binary_expr(left, Operator::StringConcat, right);
    let mut place = joined(joined(text(ident(PARTITION)), lit(":")), text(ident(OFFSET)));
    if rejects.schema().has_column_with_unqualified_name(ROW) {
        place = joined(place, coalesce(vec![joined(lit(":"), text(ident(ROW))), lit("")]));
    }
    let named = || {
        let right = LogicalPlanBuilder::from(amendments).project([ident(SOURCE).alias(AMENDED)])?.build()?;
        let keys = (vec![place], vec![ident(AMENDED)]);
        LogicalPlanBuilder::from(rejects).join_with_expr_keys(right, JoinType::LeftAnti, keys, None)?.build()
    };
    named().map_err(planning)
}

/// The reject that an amendment names, in a plan beside rejects.
const AMENDED: &str = "_amended";

/// Plans and starts `plan`.
///
/// Errors: [`Error::RunPlan`] with `what`.
pub async fn stream(state: &SessionState, what: &'static str, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
    let running = |source| Error::RunPlan { what, source };
    let physical = state.create_physical_plan(&plan).await.map_err(running)?;
    execute_stream(physical, state.task_ctx()).map_err(running)
}

/// Runs `plan` to its end.
///
/// Errors: [`Error::RunPlan`] with `what`.
pub async fn collect(state: &SessionState, what: &'static str, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    stream(state, what, plan).await?.try_collect().await.map_err(|source| Error::RunPlan { what, source })
}
