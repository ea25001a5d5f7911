//! Update and merge, planned once for each view and run on every micro-batch, because planning costs more than the
//! work.
//!
//! ```text
//!  compile:  logical plan over an InputTable ─▶ optimise ─▶ physical plan whose leaf has no batches
//!  run:      copy of the plan, batches in the leaf, operators reset ─▶ batches
//! ```
//!
//! A run computes as many rows at a time as any other plan of the session, whatever the size of its batches: limits of
//! functions hold for the rows that are computed at a time (`crate::engine::lengths`).
//!
//! Invariant: a run leaves no trace in the plan that the next run copies. The plan's leaf stays empty, and every
//! operator above the leaf is created anew; otherwise its metrics would grow with every micro-batch.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, project_schema};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use crate::Error;
use crate::engine::leaf::{LeafExec, LeafInput};

/// A physical plan whose input batches are given when it runs. It has one input and one output partition.
#[derive(Debug, Clone)]
pub(super) struct PreparedPlan {
    plan: Arc<dyn ExecutionPlan>,
}

impl PreparedPlan {
    /// Wraps `plan`, which must read one [`InputTable`].
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { plan }
    }

    /// Runs the plan over `batches`, which must have the input table's schema.
    ///
    /// Errors: [`Error::RunPlan`] with `what`.
    pub(super) async fn run(
        &self,
        what: &'static str,
        task: Arc<TaskContext>,
        batches: Vec<RecordBatch>,
    ) -> crate::Result<Vec<RecordBatch>> {
        let running = |source| Error::RunPlan { what, source };
        let plan = self.fill(&batches, task.session_config().batch_size()).map_err(running)?;
        let stream = execute_stream(plan, task).map_err(running)?;
        stream.try_collect().await.map_err(running)
    }

    fn fill(&self, batches: &[RecordBatch], rows: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let fill = |node: Arc<dyn ExecutionPlan>| {
            Ok(Transformed::yes(match node.downcast_ref::<LeafExec<InputBatches>>() {
                Some(leaf) => Arc::new(leaf.over(leaf.input().filled(batches, rows)?)) as Arc<dyn ExecutionPlan>,
                None => node.reset_state()?,
            }))
        };
        Arc::clone(&self.plan).transform_up(fill).data()
    }
}

/// A table whose rows are given when a prepared plan runs.
#[derive(Debug)]
pub(super) struct InputTable {
    schema: SchemaRef,
}

impl InputTable {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

#[async_trait]
impl TableProvider for InputTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projected = project_schema(&self.schema, projection)?;
        let batches = InputBatches {
            schema: Arc::clone(&self.schema),
            projected: Arc::clone(&projected),
            projection: projection.cloned(),
            batches: Vec::new(),
        };
        Ok(Arc::new(LeafExec::new(batches, projected, 1)))
    }
}

/// The input of a prepared plan's leaf: no batches until the plan runs.
#[derive(Debug)]
struct InputBatches {
    /// The schema of the batches as they are given, before the projection.
    schema: SchemaRef,
    projected: SchemaRef,
    projection: Option<Vec<usize>>,
    batches: Vec<RecordBatch>,
}

impl InputBatches {
    /// The input with `batches`, in pieces of `rows` rows.
    fn filled(&self, batches: &[RecordBatch], rows: usize) -> Result<Self> {
        let rows = rows.max(1);
        let mut pieces = Vec::with_capacity(batches.len());
        for batch in batches {
            if !same_columns(&self.schema, batch.schema_ref()) {
                return Err(DataFusionError::Internal(format!(
                    "a plan prepared for {} is run over {}",
                    self.schema,
                    batch.schema_ref()
                )));
            }
            let batch = match &self.projection {
                Some(columns) => batch.project(columns)?,
                None => batch.clone(),
            };
            let starts = (0..batch.num_rows()).step_by(rows);
            pieces.extend(starts.map(|start| batch.slice(start, rows.min(batch.num_rows() - start))));
        }
        Ok(Self {
            batches: pieces,
            schema: Arc::clone(&self.schema),
            projected: Arc::clone(&self.projected),
            projection: self.projection.clone(),
        })
    }
}

/// Compares names and types. Metadata and nullability do not matter to a plan that runs.
fn same_columns(expected: &Schema, given: &Schema) -> bool {
    std::ptr::eq(expected, given)
        || (expected.fields().len() == given.fields().len()
            && expected
                .fields()
                .iter()
                .zip(given.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type()))
}

impl LeafInput for InputBatches {
    const NAME: &'static str = "InputExec";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "columns={}", self.projected.fields().len())
    }

    fn read(&self, _: usize) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.projected);
        Ok(Box::pin(MemoryStream::try_new(self.batches.clone(), schema, None)?))
    }
}
