//! A join's filter that ends with the query: a join can compare rows for minutes without a batch to hand on. A join
//! that only asks whether rows exist hands on nothing before its end, so it gets a filter that is true if it has none.
//!
//! Invariant: the filter's value is that of the expression within.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::joins::utils::JoinFilter;

use crate::limits::allowance::Allowance;

/// An expression that is evaluated only while the query may run.
#[derive(Debug)]
struct CheckedFilter {
    inner: Arc<dyn PhysicalExpr>,
    allowance: Arc<Allowance>,
}

/// The filter of a join of type `join` with a check before each evaluation; `None` for a join that has no filter and
/// needs none, because each pair of rows that it finds becomes a row.
pub(super) fn checked_filter(
    filter: Option<&JoinFilter>,
    join: JoinType,
    allowance: &Arc<Allowance>,
) -> Option<JoinFilter> {
    match filter {
        Some(found) => Some(checked(found, allowance)),
        None if asks_for_existence(join) => {
            Some(checked(&JoinFilter::new(lit(true), Vec::new(), Arc::new(Schema::empty())), allowance))
        }
        None => None,
    }
}

/// True for a join whose rows are those of one side.
fn asks_for_existence(join: JoinType) -> bool {
    use JoinType as J;
    matches!(join, J::LeftSemi | J::RightSemi | J::LeftAnti | J::RightAnti | J::LeftMark | J::RightMark)
}

fn checked(filter: &JoinFilter, allowance: &Arc<Allowance>) -> JoinFilter {
    let inner = Arc::clone(filter.expression());
    let expression = Arc::new(CheckedFilter { inner, allowance: Arc::clone(allowance) });
    JoinFilter::new(expression, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

impl PartialEq for CheckedFilter {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for CheckedFilter {}

impl Hash for CheckedFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for CheckedFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl PhysicalExpr for CheckedFilter {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.allowance.check()?;
        self.inner.evaluate(batch)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, allowance: Arc::clone(&self.allowance) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
