//! The functions of PostgreSQL that the engine does not have.
//!
//! Most are asked of catalogs only, so they compute row by row, by one table of names and bodies. A query has the
//! functions that it calls, and a view has none: what they answer is not a function of a stream's rows.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, resources_err};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::bodies::{self, Body, Returns};
use super::snapshot::Snapshot;

/// Bytes of the arguments of one call, at most: nested calls of `quote_literal` double their text.
const CALL_BYTES: usize = 1 << 20;

/// Bytes of the values of one batch, at most.
const BATCH_BYTES: usize = 64 << 20;

/// The function `name` over `snapshot`, if there is one.
pub(super) fn find(name: &str, snapshot: &Arc<Snapshot>) -> Option<ScalarUDF> {
    let (name, returns, body) = bodies::FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
    let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
    Some(ScalarUDF::new_from_impl(Function {
        name,
        returns: *returns,
        body: *body,
        snapshot: Arc::clone(snapshot),
        signature: Signature::new(any, Volatility::Stable),
    }))
}

/// True if PostgreSQL has this function and the engine does not.
pub(super) fn is_known(name: &str) -> bool {
    bodies::FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

#[derive(Debug)]
struct Function {
    name: &'static str,
    returns: Returns,
    body: Body,
    snapshot: Arc<Snapshot>,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.snapshot, &other.snapshot)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.name.hash(hasher);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.returns.data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let wanted = self.returns.data_type();
        let call = |values: &[ScalarValue]| {
            if values.iter().map(ScalarValue::size).sum::<usize>() > CALL_BYTES {
                return resources_err!("{} takes at most {CALL_BYTES} bytes of arguments", self.name);
            }
            let value = (self.body)(&self.snapshot, values)?;
            if value.is_null() { ScalarValue::try_from(&wanted) } else { value.cast_to(&wanted) }
        };
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            let values = args.args.into_iter().filter_map(|arg| match arg {
                ColumnarValue::Scalar(value) => Some(value),
                ColumnarValue::Array(_) => None,
            });
            return Ok(ColumnarValue::Scalar(call(&values.collect::<Vec<_>>())?));
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (mut results, mut bytes) = (Vec::with_capacity(args.number_rows), 0);
        for row in 0..args.number_rows {
            let values = arrays.iter().map(|array| ScalarValue::try_from_array(array, row));
            let result = call(&values.collect::<EngineResult<Vec<_>>>()?)?;
            bytes += result.size();
            if bytes > BATCH_BYTES {
                return resources_err!("{} makes at most {BATCH_BYTES} bytes of values at a time", self.name);
            }
            results.push(result);
        }
        if results.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&wanted)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(results)?))
    }
}
