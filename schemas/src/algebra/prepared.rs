//! Update and merge, planned once for each view and run on every micro-batch: planning costs more than the work.
//!
//! ```text
//!  compile:  logical plan over a Slot ─▶ optimise ─▶ physical plan with an empty slot as its leaf
//!  run:      copy of the plan, slot filled, operators reset ─▶ batches
//! ```
//!
//! Invariant: nothing of one run is left in the plan that the next run copies: the slot stays empty, and every
//! operator above it is made anew (or its metrics would grow with every micro-batch).

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, project_schema};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, execute_stream,
};
use futures::TryStreamExt;

use crate::Error;

/// A physical plan over batches that are given when it runs. One partition in, one out.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    plan: Arc<dyn ExecutionPlan>,
}

impl Prepared {
    /// `plan` must read one [`Slot`].
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { plan }
    }

    /// Runs over `batches`, which must have the slot's schema.
    ///
    /// Errors: [`Error::RunPlan`] with `what`.
    pub(super) async fn run(
        &self,
        what: &'static str,
        task: Arc<TaskContext>,
        batches: Vec<RecordBatch>,
    ) -> crate::Result<Vec<RecordBatch>> {
        let running = |source| Error::RunPlan { what, source };
        let plan = self.fill(&batches).map_err(running)?;
        let stream = execute_stream(plan, task).map_err(running)?;
        stream.try_collect().await.map_err(running)
    }

    fn fill(&self, batches: &[RecordBatch]) -> Result<Arc<dyn ExecutionPlan>> {
        let fill = |node: Arc<dyn ExecutionPlan>| {
            Ok(Transformed::yes(match node.downcast_ref::<SlotExec>() {
                Some(slot) => Arc::new(slot.filled(batches)?) as Arc<dyn ExecutionPlan>,
                None => node.reset_state()?,
            }))
        };
        Arc::clone(&self.plan).transform_up(fill).data()
    }
}

/// A table whose rows are not known yet.
#[derive(Debug)]
pub(super) struct Slot {
    schema: SchemaRef,
}

impl Slot {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

#[async_trait]
impl TableProvider for Slot {
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
        Ok(Arc::new(SlotExec {
            properties: Arc::new(PlanProperties::new(
                EquivalenceProperties::new(Arc::clone(&projected)),
                Partitioning::UnknownPartitioning(1),
                EmissionType::Incremental,
                Boundedness::Bounded,
            )),
            schema: Arc::clone(&self.schema),
            projected,
            projection: projection.cloned(),
            batches: Vec::new(),
        }))
    }
}

/// The leaf of a prepared plan.
#[derive(Debug)]
struct SlotExec {
    /// Of the batches that it is filled with.
    schema: SchemaRef,
    projected: SchemaRef,
    projection: Option<Vec<usize>>,
    batches: Vec<RecordBatch>,
    properties: Arc<PlanProperties>,
}

impl SlotExec {
    fn filled(&self, batches: &[RecordBatch]) -> Result<Self> {
        let batches = batches.iter().map(|batch| {
            if !same_columns(&self.schema, batch.schema_ref()) {
                return Err(DataFusionError::Internal(format!(
                    "a plan prepared for {} is run over {}",
                    self.schema,
                    batch.schema_ref()
                )));
            }
            match &self.projection {
                Some(columns) => Ok(batch.project(columns)?),
                None => Ok(batch.clone()),
            }
        });
        Ok(Self {
            batches: batches.collect::<Result<_>>()?,
            schema: Arc::clone(&self.schema),
            projected: Arc::clone(&self.projected),
            projection: self.projection.clone(),
            properties: Arc::clone(&self.properties),
        })
    }
}

/// Names and types; metadata and nullability do not matter to a plan that runs.
fn same_columns(expected: &Schema, given: &Schema) -> bool {
    std::ptr::eq(expected, given)
        || (expected.fields().len() == given.fields().len()
            && expected
                .fields()
                .iter()
                .zip(given.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type()))
}

impl DisplayAs for SlotExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotExec: columns={}", self.projected.fields().len())
    }
}

impl ExecutionPlan for SlotExec {
    fn name(&self) -> &'static str {
        "SlotExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.projected);
        Ok(Box::pin(MemoryStream::try_new(self.batches.clone(), schema, None)?))
    }
}
