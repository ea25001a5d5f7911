//! One NaN and one zero: floats in the form in which equal values have equal bits.
//!
//! A NaN that a processor computes has a sign, by which the engine sorts it below all numbers and groups it apart from
//! other NaNs. The engine's hash sets tell 0.0 and -0.0 apart, which `=` and GROUP BY do not.
//!
//! Invariant: the result is equal to the argument by SQL's `=`, where NaN is equal to NaN.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::time_functions::on_arrays;

/// Makes all NaNs one NaN, and both zeros one zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct InSet {
    signature: Signature,
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
    ScalarUDF::new_from_impl(InSet { signature: Signature::any(1, Volatility::Immutable) }).call(vec![float])
}

/// True for the result of [`in_set`].
pub(super) fn is_in_set(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().is::<InSet>())
}

impl ScalarUDFImpl for InSet {
    fn name(&self) -> &'static str {
        "float_in_set"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [float] => Ok(float.clone()),
            _ => internal_err!("{} takes one float", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [float] = args.arg_fields else { return internal_err!("{} takes one float", self.name()) };
        Ok(Arc::new(Field::new(self.name(), float.data_type().clone(), float.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [floats] => on_arrays(floats, |floats| Ok(canonical(floats))),
            _ => internal_err!("{} takes one float", self.name()),
        }
    }
}
