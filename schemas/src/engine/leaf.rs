//! A leaf of a physical plan: one implementation of DataFusion's operator trait for all operators without children.
//!
//! Leaves read inputs for which DataFusion has no operator, and EXPLAIN shows each under its own name. Invariant: a
//! leaf has no children and no expressions, so rewriting a plan does not change a leaf.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

/// The source of a leaf's batches.
pub trait LeafInput: fmt::Debug + Send + Sync + 'static {
    /// The name of the operator.
    const NAME: &'static str;

    /// Writes the text that EXPLAIN shows behind the name.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// The batches of one partition, with the leaf's schema.
    ///
    /// Errors: the partition cannot be read.
    fn read(&self, partition: usize) -> Result<SendableRecordBatchStream>;
}

/// The operator that reads a [`LeafInput`] to its end.
#[derive(Debug)]
pub struct LeafExec<I> {
    input: I,
    properties: Arc<PlanProperties>,
}

impl<I: LeafInput> LeafExec<I> {
    /// `schema` is the schema of every batch.
    pub fn new(input: I, schema: SchemaRef, partitions: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, properties: Arc::new(properties) }
    }

    pub fn input(&self) -> &I {
        &self.input
    }

    /// A leaf with the same schema and partitions over another input.
    pub fn over(&self, input: I) -> Self {
        Self { input, properties: Arc::clone(&self.properties) }
    }
}

impl<I: LeafInput> DisplayAs for LeafExec<I> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", I::NAME)?;
        self.input.describe(f)
    }
}

impl<I: LeafInput> ExecutionPlan for LeafExec<I> {
    fn name(&self) -> &'static str {
        I::NAME
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

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.read(partition)
    }
}
