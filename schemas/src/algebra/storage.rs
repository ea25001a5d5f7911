//! The storage mapping of states: the type of a state in Delta, and the conversions to it and back.
//!
//! Invariant: `from_stored(to_stored(x)) == x` bit for bit for every type that [`stored_type`] accepts. Positions
//! replace the field names of nested types (`f0`, `f1`, …; the element of a list is `element`), because state names
//! hold characters that Delta refuses.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Decimal256Array, ListArray, StructArray, make_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal256Type, Field, FieldRef, TimeUnit, i256};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Returns the type in which `state` is stored, or the reason why it cannot be stored.
pub fn stored_type(state: &DataType) -> std::result::Result<DataType, String> {
    use DataType as T;
    Ok(match state {
        T::Boolean
        | T::Int8
        | T::Int16
        | T::Int32
        | T::Int64
        | T::Float32
        | T::Float64
        | T::Utf8
        | T::Binary
        | T::Date32
        | T::Decimal128(_, _)
        | T::Timestamp(TimeUnit::Microsecond, None) => state.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        // Int64 holds the bits of the unsigned number. The full range would need a decimal, and users do not read
        // states.
        T::UInt64 => T::Int64,
        T::Timestamp(_, _) | T::Date64 | T::Time64(_) | T::Duration(_) => T::Int64,
        T::Time32(_) => T::Int32,
        T::Utf8View | T::LargeUtf8 => T::Utf8,
        T::BinaryView | T::LargeBinary | T::FixedSizeBinary(_) => T::Binary,
        // Delta's decimals have 38 digits. Binary holds the 32 bytes of the number, the lowest first.
        T::Decimal256(_, _) => T::Binary,
        T::Dictionary(_, value) => stored_type(value)?,
        T::List(item) => T::List(element(item)?),
        T::Struct(fields) => T::Struct(
            fields
                .iter()
                .enumerate()
                .map(|(i, f)| Ok(Field::new(format!("f{i}"), stored_type(f.data_type())?, true)))
                .collect::<std::result::Result<_, String>>()?,
        ),
        other => return Err(format!("a state of type {other} cannot be stored")),
    })
}

fn element(item: &Field) -> std::result::Result<FieldRef, String> {
    let stored = stored_type(item.data_type())?;
    Ok(Arc::new(Field::new("element", stored, true)))
}

/// Converts `array` to the type that [`stored_type`] gives for it.
pub fn to_stored(array: &ArrayRef) -> Result<ArrayRef> {
    match stored_type(array.data_type()) {
        Ok(to) => convert(array, &to),
        Err(reason) => exec_err!("{reason}"),
    }
}

/// Converts `array`, read from storage, back to its state type `state`.
pub fn from_stored(array: &ArrayRef, state: &DataType) -> Result<ArrayRef> {
    convert(array, state)
}

/// Converts in both directions: reinterprets numbers of the same width, rebuilds nested types, casts all others.
fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    use DataType as T;
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    match (from, to) {
        (T::Int64, wide) | (wide, T::Int64) if is_64_bits(wide) => reinterpret(array, to),
        (T::Int32, T::Time32(_)) | (T::Time32(_), T::Int32) => reinterpret(array, to),
        (T::Decimal256(_, _), T::Binary) => {
            let numbers = array.as_primitive::<Decimal256Type>().iter();
            Ok(Arc::new(BinaryArray::from_iter(numbers.map(|number| number.map(i256::to_le_bytes)))))
        }
        (T::Binary, T::Decimal256(_, _)) => {
            let numbers = array.as_binary::<i32>().iter().map(|bytes| bytes.map(wide_number).transpose());
            let numbers: Decimal256Array = numbers.collect::<Result<_>>()?;
            Ok(Arc::new(numbers.with_data_type(to.clone())))
        }
        (T::List(_), T::List(item)) => {
            let list: &ListArray = array.as_list();
            let values = convert(list.values(), item.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (T::Struct(_), T::Struct(fields)) => {
            let structs: &StructArray = array.as_struct();
            if structs.num_columns() != fields.len() {
                return exec_err!("a struct of {} fields is stored", structs.num_columns());
            }
            let columns = structs
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| convert(column, field.data_type()))
                .collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                structs.nulls().cloned(),
                structs.len(),
            )?))
        }
        _ => {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            Ok(cast_with_options(array, to, &strict)?)
        }
    }
}

fn wide_number(bytes: &[u8]) -> Result<i256> {
    match bytes.try_into() {
        Ok(bytes) => Ok(i256::from_le_bytes(bytes)),
        Err(_) => exec_err!("a number of {} bytes is stored", bytes.len()),
    }
}

fn is_64_bits(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(data_type, T::UInt64 | T::Timestamp(_, _) | T::Date64 | T::Time64(_) | T::Duration(_))
}

/// Returns the same bits as another type of the same width.
fn reinterpret(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let data = array.to_data().into_builder().data_type(to.clone()).build()?;
    Ok(make_array(data))
}

/// [`to_stored`] or [`from_stored`] as a function that plans can call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StorageFunction {
    signature: Signature,
    to: DataType,
}

impl StorageFunction {
    pub(super) fn new(from: DataType, to: DataType) -> Self {
        Self { signature: Signature::exact(vec![from], Volatility::Immutable), to }
    }
}

impl ScalarUDFImpl for StorageFunction {
    fn name(&self) -> &str {
        "convert_state"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [column] = &ColumnarValue::values_to_arrays(&args.args)?[..] else {
            return exec_err!("convert_state takes one column");
        };
        Ok(ColumnarValue::Array(convert(column, &self.to)?))
    }
}

#[cfg(test)]
mod tests;
