//! Functions of one value that keep its type. Rules of this crate put them around expressions; SQL cannot call them.
//!
//! Invariant: a column is named as if the function were not there.

use std::any::Any;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::time_functions::on_arrays;

/// What a function does with the values of a column.
pub(super) trait OneValue: Debug + Clone + Eq + Hash + Any + Send + Sync {
    const NAME: &'static str;

    /// Volatile for a function that operators must leave where it is.
    const VOLATILITY: Volatility = Volatility::Immutable;

    /// True if the results have the order of the values.
    const KEEPS_ORDER: bool = false;

    /// True if the result is never NULL.
    const NEVER_NULL: bool = false;

    /// True if the result may be NULL where the value is not.
    fn makes_nulls(&self) -> bool {
        false
    }

    fn of(&self, values: &ArrayRef) -> Result<ArrayRef>;

    /// The call of this function.
    fn call(self, value: Expr) -> Expr {
        let signature = Signature::any(1, Self::VOLATILITY);
        ScalarUDF::new_from_impl(OneValueFunction { of: self, signature }).call(vec![value])
    }

    /// The value within a call of this function.
    fn within(expr: &Expr) -> Option<&Expr> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) if func.inner().is::<OneValueFunction<Self>>() => {
                args.first()
            }
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OneValueFunction<F> {
    of: F,
    signature: Signature,
}

impl<F: OneValue> ScalarUDFImpl for OneValueFunction<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value] => Ok(value.clone()),
            _ => internal_err!("{} takes one value", F::NAME),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [value] = args.arg_fields else { return internal_err!("{} takes one value", F::NAME) };
        let nullable = !F::NEVER_NULL && (value.is_nullable() || self.of.makes_nulls());
        Ok(Arc::new(Field::new(F::NAME, value.data_type().clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [value] => on_arrays(value, |values| self.of.of(values)),
            _ => internal_err!("{} takes one value", F::NAME),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match inputs.first() {
            Some(value) if F::KEEPS_ORDER => value.sort_properties,
            _ => SortProperties::Unordered,
        })
    }
}
