//! `doc['city']` of a STRUCT: null if the STRUCT is null.
//!
//! The engine returns the field's array without the nulls of the STRUCT around it, so `nullif(doc, other)['city']` has
//! a city.
//!
//! Invariant: a field has a value only where every STRUCT around it has one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::delegate::as_the_engine;

const NAME: &str = "get_field";

/// The engine's function, with the nulls of the STRUCT around a field.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GetField {
    engine: Arc<ScalarUDF>,
}

impl GetField {
    /// True for the engine's function.
    pub(super) fn replaces(call: &ScalarFunction) -> bool {
        call.func.name() == NAME && !call.func.inner().is::<GetField>()
    }

    /// The call to put in the place of `call`.
    pub(super) fn of(call: ScalarFunction) -> Expr {
        ScalarUDF::new_from_impl(GetField { engine: call.func }).call(call.args)
    }
}

/// Where every STRUCT on the way to a field has a value.
fn around(base: &ArrayRef, names: &[ColumnarValue]) -> Option<NullBuffer> {
    let mut nulls = None;
    let mut at = Arc::clone(base);
    for name in names {
        let (Some(parent), ColumnarValue::Scalar(name)) = (at.as_struct_opt(), name) else { break };
        nulls = NullBuffer::union(nulls.as_ref(), parent.nulls());
        let child = name.try_as_str().flatten().and_then(|name| parent.column_by_name(name)).cloned();
        let Some(child) = child else { break };
        at = child;
    }
    nulls
}

impl ScalarUDFImpl for GetField {
    fn name(&self) -> &'static str {
        NAME
    }

    as_the_engine! {
        schema_name(args: &[Expr]) -> Result<String>;
        signature() -> &Signature;
        coerce_types(types: &[DataType]) -> Result<Vec<DataType>>;
        return_type(types: &[DataType]) -> Result<DataType>;
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.engine.return_field_from_args(args)?;
        Ok(Arc::new(field.as_ref().clone().with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let nulls = match args.args.split_first() {
            Some((base, names)) => around(&base.to_array(rows)?, names),
            None => None,
        };
        let field = self.engine.invoke_with_args(args)?;
        let Some(nulls) = nulls else { return Ok(field) };
        let outside = BooleanArray::new(!nulls.inner(), None);
        let field = nullif(&field.to_array(rows)?, &outside)?;
        Ok(if scalars {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&field, 0)?)
        } else {
            ColumnarValue::Array(field)
        })
    }
}
