//! Tables that are plans. A query's plan reads such a table by a scan until roll-ups have been looked for; then the
//! table's plan takes the place of the scan.
//!
//! Invariant: no scan of such a table is left in a plan that is optimised.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, internal_err};
use datafusion::datasource::{TableType, source_as_provider};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use thalweg_schemas::{StreamName, ViewId};

use crate::tables::Side;

/// What the rows of a table are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TableContent {
    Rows(StreamName),
    Rejects,
    View(StreamName, ViewId, Side),
}

/// A table that is a plan.
#[derive(Debug)]
pub(crate) struct PlannedTable {
    plan: LogicalPlan,
    schema: SchemaRef,
    definition: String,
    pub(crate) content: TableContent,
}

impl PlannedTable {
    pub(crate) fn new(plan: LogicalPlan, definition: String, content: TableContent) -> Self {
        Self { schema: Arc::clone(plan.schema().inner()), plan, definition, content }
    }
}

#[async_trait]
impl TableProvider for PlannedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        match self.content {
            TableContent::View(..) => TableType::View,
            TableContent::Rows(_) | TableContent::Rejects => TableType::Base,
        }
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.definition)
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        internal_err!("a table that is a plan is scanned")
    }
}

/// Calls `read` with the table that `scan` reads, if that is a plan.
pub(crate) fn with_table<T>(scan: &TableScan, read: impl FnOnce(&PlannedTable) -> T) -> Option<T> {
    let provider = source_as_provider(&scan.source).ok()?;
    provider.downcast_ref::<PlannedTable>().map(read)
}

/// Puts the plans of tables in the places of their scans, also in subqueries.
pub(crate) fn write_out(plan: LogicalPlan) -> EngineResult<LogicalPlan> {
    let written = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::TableScan(scan) => match with_table(scan, |table| table_plan(scan, table)) {
            Some(plan) => Ok(Transformed::yes(plan?)),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    });
    written.data()
}

fn table_plan(scan: &TableScan, table: &PlannedTable) -> EngineResult<LogicalPlan> {
    let mut plan = LogicalPlanBuilder::from(table.plan.clone());
    if let Some(columns) = &scan.projection {
        let schema = Arc::clone(plan.schema());
        let columns = columns.iter().map(|i| Expr::Column(Column::from(schema.qualified_field(*i))));
        plan = plan.project(columns.collect::<Vec<_>>())?;
    }
    for filter in &scan.filters {
        plan = plan.filter(filter.clone())?;
    }
    plan.alias(scan.table_name.clone())?.build()
}
