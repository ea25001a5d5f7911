//! Window functions whose values are those of other rows, such as `first_value`.
//!
//! Invariant: every method but the one that makes a value is the engine's.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::window::StandardWindowFunctionExpr;
use datafusion::physical_plan::PhysicalExpr;

use super::values::WindowValues;

/// A window function whose values are those of other rows.
#[derive(Debug)]
pub(super) struct CountedCopies {
    pub(super) engine: Arc<dyn StandardWindowFunctionExpr>,
    pub(super) values: Arc<WindowValues>,
}

impl StandardWindowFunctionExpr for CountedCopies {
    fn as_any(&self) -> &dyn Any {
        self.engine.as_any()
    }

    fn field(&self) -> Result<FieldRef> {
        self.engine.field()
    }

    fn expressions(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        self.engine.expressions()
    }

    fn name(&self) -> &str {
        self.engine.name()
    }

    fn evaluate_args(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.engine.evaluate_args(batch)
    }

    fn create_evaluator(&self) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(CountedEvaluator { engine: self.engine.create_evaluator()?, values: Arc::clone(&self.values) }))
    }

    fn get_result_ordering(&self, schema: &SchemaRef) -> Option<PhysicalSortExpr> {
        self.engine.get_result_ordering(schema)
    }

    fn limit_effect(&self) -> LimitEffect {
        self.engine.limit_effect()
    }
}

#[derive(Debug)]
struct CountedEvaluator {
    engine: Box<dyn PartitionEvaluator>,
    values: Arc<WindowValues>,
}

impl PartitionEvaluator for CountedEvaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.engine.memoize(state)
    }

    fn get_range(&self, idx: usize, n_rows: usize) -> Result<Range<usize>> {
        self.engine.get_range(idx, n_rows)
    }

    fn is_causal(&self) -> bool {
        self.engine.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        self.engine.evaluate_all(values, num_rows)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let value = self.engine.evaluate(values, range)?;
        self.values.made(&value, 1)?;
        Ok(value)
    }

    fn evaluate_all_with_rank(&self, num_rows: usize, ranks_in_partition: &[Range<usize>]) -> Result<ArrayRef> {
        self.engine.evaluate_all_with_rank(num_rows, ranks_in_partition)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.engine.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.engine.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.engine.include_rank()
    }
}
