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
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::time_functions::on_arrays;

/// Makes all NaNs one NaN, and perhaps both zeros one zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CanonicalFloat {
    zeros: bool,
    signature: Signature,
}

impl CanonicalFloat {
    fn new(zeros: bool) -> Self {
        Self { zeros, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// True if the function does something for values of this type.
    pub(super) fn changes(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Float32 | DataType::Float64)
    }

    fn convert(&self, floats: &ArrayRef) -> ArrayRef {
        // 0.0 is added for its effect on -0.0.
        macro_rules! canonical {
            ($t:ty, $float:ty) => {
                Arc::new(floats.as_primitive::<$t>().unary::<_, $t>(|float| {
                    if float.is_nan() {
                        <$float>::NAN
                    } else if self.zeros {
                        float + 0.0
                    } else {
                        float
                    }
                }))
            };
        }
        match floats.data_type() {
            DataType::Float32 => canonical!(Float32Type, f32),
            DataType::Float64 => canonical!(Float64Type, f64),
            _ => Arc::clone(floats),
        }
    }
}

/// A computed float, with the one NaN.
pub(super) fn one_nan(computed: Expr) -> Expr {
    ScalarUDF::new_from_impl(CanonicalFloat::new(false)).call(vec![computed])
}

/// A float whose value is looked up in a set.
pub(super) fn in_set(float: Expr) -> Expr {
    ScalarUDF::new_from_impl(CanonicalFloat::new(true)).call(vec![float])
}

/// True for the result of [`in_set`].
pub(super) fn is_in_set(expr: &Expr) -> bool {
    canonical(expr).is_some_and(|function| function.zeros)
}

/// The call inside two calls of which one is enough: an analysis that is repeated has added the other.
pub(super) fn once(call: &ScalarFunction) -> Option<Expr> {
    let outer = call.func.inner().downcast_ref::<CanonicalFloat>()?;
    let [inner] = call.args.as_slice() else { return None };
    let repeated = canonical(inner).is_some_and(|inner| inner.zeros || !outer.zeros);
    repeated.then(|| inner.clone())
}

fn canonical(expr: &Expr) -> Option<&CanonicalFloat> {
    match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref(),
        _ => None,
    }
}

impl ScalarUDFImpl for CanonicalFloat {
    fn name(&self) -> &'static str {
        if self.zeros { "float_in_set" } else { "one_nan" }
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
            [floats] => on_arrays(floats, |floats| Ok(self.convert(floats))),
            _ => internal_err!("{} takes one float", self.name()),
        }
    }
}
