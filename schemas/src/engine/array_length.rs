//! `array_length(list, dimension)` of lists that have an empty list in them: NULL.
//!
//! The engine looks into the first element of a list, and panics if there is none.
//!
//! Invariant: a list has a length in a dimension if every list on the way has a first element.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::delegate::as_the_engine;

/// The engine's function, with its lengths in other dimensions than the first replaced.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayLength {
    engine: Arc<ScalarUDF>,
}

impl ArrayLength {
    pub(super) fn of(engine: Arc<ScalarUDF>) -> Self {
        Self { engine }
    }
}

/// The list in a row of a column of lists; `None` if the value is no list.
fn list(lists: &ArrayRef, row: usize) -> Option<ArrayRef> {
    if lists.is_null(row) {
        return None;
    }
    Some(match lists.data_type() {
        DataType::List(_) => lists.as_list::<i32>().value(row),
        DataType::LargeList(_) => lists.as_list::<i64>().value(row),
        DataType::FixedSizeList(_, _) => lists.as_fixed_size_list().value(row),
        _ => return None,
    })
}

fn length(lists: &ArrayRef, row: usize, dimension: i64) -> Option<u64> {
    let mut inner = list(lists, row)?;
    for _ in 1..dimension {
        if inner.is_empty() {
            return None;
        }
        inner = list(&inner, 0)?;
    }
    (dimension > 0).then_some(inner.len() as u64)
}

impl ScalarUDFImpl for ArrayLength {
    as_the_engine! {
        name() -> &str;
        aliases() -> &[String];
        signature() -> &Signature;
        coerce_types(types: &[DataType]) -> Result<Vec<DataType>>;
        return_type(types: &[DataType]) -> Result<DataType>;
        return_field_from_args(args: ReturnFieldArgs<'_>) -> Result<FieldRef>;
        documentation() -> Option<&Documentation>;
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [lists, dimensions] = args.args.as_slice() else { return self.engine.invoke_with_args(args) };
        if dimensions.data_type() != DataType::Int64 {
            return self.engine.invoke_with_args(args);
        }
        let is_constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let (lists, dimensions) = (lists.to_array(rows)?, dimensions.to_array(rows)?);
        let dimensions = dimensions.as_primitive::<Int64Type>();
        let lengths: UInt64Array =
            dimensions.iter().enumerate().map(|(row, dimension)| length(&lists, row, dimension?)).collect();
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&lengths, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(lengths))
        })
    }
}
