//! One NaN and one zero: floats in the form in which equal values have equal bits.
//!
//! A NaN that a processor computes has a sign, by which the engine sorts it below all numbers and groups it apart from
//! other NaNs. The engine's hash sets tell 0.0 and -0.0 apart, which `=` and GROUP BY do not.
//!
//! Invariant: the result is equal to the argument by SQL's `=`, where NaN is equal to NaN.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Expr};

use super::one_value::OneValue;
use super::time_functions::on_arrays;

/// Makes all NaNs one NaN, and both zeros one zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct InSet;

impl OneValue for InSet {
    const NAME: &'static str = "float_in_set";

    fn of(&self, floats: &ArrayRef) -> Result<ArrayRef> {
        Ok(canonical(floats))
    }
}

pub(super) fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// Calls `$map` with the type of the array's values and its constant NaN.
macro_rules! map_floats {
    ($floats:expr, $map:ident) => {
        match $floats.data_type() {
            DataType::Float32 => $map!(Float32Type, f32),
            DataType::Float64 => $map!(Float64Type, f64),
            _ => Arc::clone($floats),
        }
    };
}

/// Computed floats, with the one NaN.
pub(super) fn one_nan(computed: &ColumnarValue) -> Result<ColumnarValue> {
    on_arrays(computed, |floats| {
        macro_rules! one_nan {
            ($t:ty, $float:ty) => {
                Arc::new(floats.as_primitive::<$t>().unary::<_, $t>(|f| if f.is_nan() { <$float>::NAN } else { f }))
            };
        }
        Ok(map_floats!(floats, one_nan))
    })
}

fn canonical(floats: &ArrayRef) -> ArrayRef {
    // 0.0 is added for its effect on -0.0.
    macro_rules! canonical {
        ($t:ty, $float:ty) => {
            Arc::new(floats.as_primitive::<$t>().unary::<_, $t>(|f| if f.is_nan() { <$float>::NAN } else { f + 0.0 }))
        };
    }
    map_floats!(floats, canonical)
}

/// A float whose value is looked up in a set.
pub(super) fn in_set(float: Expr) -> Expr {
    InSet.call(float)
}

/// The float within the result of [`in_set`].
pub(super) fn in_set_value(expr: &Expr) -> Option<&Expr> {
    InSet::within(expr)
}

/// True for the result of [`in_set`].
pub(super) fn is_in_set(expr: &Expr) -> bool {
    in_set_value(expr).is_some()
}
