//! Counts the rows of a run: those of its range, among all rows that are read because files hold them.
//!
//! Invariant: rows pass as they are. What is counted has no influence on what is computed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::ParquetSource;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;
use thalweg_schemas::definition::stream::{OFFSET, PARTITION};
use thalweg_schemas::{Frontier, Offset, Partition};

/// The rows of a range that scans have returned so far.
#[derive(Debug, Clone, Default)]
pub(super) struct RangeCount {
    from: Frontier,
    to: Frontier,
    rows: Arc<AtomicU64>,
}

impl RangeCount {
    pub(super) fn new(from: &Frontier, to: &Frontier) -> Self {
        Self { from: from.clone(), to: to.clone(), rows: Arc::default() }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// The same plan, whose scans of the master dataset are counted. Only its files have an offset column.
    ///
    /// Errors: those of the engine.
    pub(super) fn over(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let counted = plan.transform_up(|node| {
            let scan = node
                .downcast_ref::<DataSourceExec>()
                .and_then(DataSourceExec::downcast_to_file_source::<ParquetSource>);
            let of_master = scan.is_some_and(|(files, _)| files.file_schema().column_with_name(OFFSET).is_some());
            Ok(match of_master {
                true => Transformed::yes(Arc::new(CountedExec { input: node, count: self.clone() })),
                false => Transformed::no(node),
            })
        });
        counted.map(|counted| counted.data)
    }

    fn add(&self, batch: &RecordBatch) {
        let partitions = batch.column_by_name(PARTITION).and_then(|column| column.as_primitive_opt::<Int32Type>());
        let offsets = batch.column_by_name(OFFSET).and_then(|column| column.as_primitive_opt::<Int64Type>());
        // A plan that reads neither column needs every row.
        let rows = match (partitions, offsets) {
            (Some(partitions), Some(offsets)) => {
                let places = partitions.values().iter().zip(offsets.values());
                places.filter(|(partition, offset)| self.has(Partition(**partition), Offset(**offset))).count()
            }
            _ => batch.num_rows(),
        };
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    fn has(&self, partition: Partition, offset: Offset) -> bool {
        self.from.get(partition) <= offset && offset < self.to.get(partition)
    }
}

/// Counts the rows that pass.
#[derive(Debug)]
struct CountedExec {
    input: Arc<dyn ExecutionPlan>,
    count: RangeCount,
}

impl DisplayAs for CountedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountedExec")
    }
}

impl ExecutionPlan for CountedExec {
    fn name(&self) -> &'static str {
        "CountedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self { input, count: self.count.clone() }))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, count) = (input.schema(), self.count.clone());
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, input.inspect_ok(move |batch| count.add(batch)))))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array, Int64Array};

    use super::*;

    #[test]
    fn rows_of_the_range_count() {
        let count = RangeCount::new(&Frontier::from([(0, 5), (1, 2)]), &Frontier::from([(0, 8), (1, 2), (2, 1)]));
        let places = [(0, 4), (0, 5), (0, 7), (0, 8), (1, 2), (2, 0), (2, 1), (3, 0)];
        let partitions: ArrayRef = Arc::new(Int32Array::from_iter_values(places.map(|(partition, _)| partition)));
        let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(places.map(|(_, offset)| offset)));
        let batch = RecordBatch::try_from_iter([(OFFSET, offsets), (PARTITION, partitions)]).unwrap();
        count.add(&batch);
        assert_eq!(count.rows(), 3);
        count.clone().add(&batch.slice(0, 2));
        assert_eq!(count.rows(), 4);
    }
}
