//! `measure(column)`: the aggregate behind a column of a view, over coarser groups.
//!
//! Invariant: the function computes nothing. Whoever plans a query puts the aggregate's own function in its place
//! ([`crate::algebra::ViewPlan::measure`]); where that was not possible, the query is refused.

use arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

/// The name of the function.
pub const MEASURE: &str = "measure";

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MeasureCall {
    signature: Signature,
}

impl MeasureCall {
    pub(super) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for MeasureCall {
    fn name(&self) -> &'static str {
        MEASURE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [column] => Ok(column.clone()),
            _ => plan_err!("measure() takes one column of a view"),
        }
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        plan_err!(
            "measure() takes a column of a view: SELECT device, measure(mean) FROM device_minutes GROUP BY device"
        )
    }
}
