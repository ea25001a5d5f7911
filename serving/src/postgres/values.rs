//! Values of a batch in the text and the binary format of PostgreSQL, and as parts of JSON.

mod value;

mod numbers;
mod texts;
pub(super) mod times;

mod keyed;
mod nested;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes as arrow_types;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use bytes::BytesMut;

use super::types;

pub(super) use self::nested::sized;
use self::value::EncodedValues;

/// A column of an answer.
pub(super) struct Column {
    nulls: Option<NullBuffer>,
    values: Box<dyn EncodedValues>,
}

impl Column {
    /// Errors: those of a cast into the type that is encoded.
    pub(super) fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let nulls = array.logical_nulls();
        if let Some((keys, shared)) = keyed::keyed(array) {
            let values = Self::new(&shared)?.values;
            return Ok(Self { values: Box::new(keyed::KeyedValues { keys, values }), nulls });
        }
        let encoded = match array.data_type() {
            // Items are encoded by themselves.
            DataType::List(_) => array.data_type().clone(),
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => DataType::List(Arc::clone(item)),
            other => types::encoded(other),
        };
        let array = match array.data_type() == &encoded {
            true => Arc::clone(array),
            false => cast_with_options(array, &encoded, &CastOptions { safe: false, ..CastOptions::default() })?,
        };
        Ok(Self { values: values(&array)?, nulls })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    pub(super) fn values(&self) -> &dyn EncodedValues {
        self.values.as_ref()
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        match self.is_null(row) {
            true => out.extend_from_slice(b"null"),
            false => self.values.json(row, out),
        }
    }
}

fn values(array: &ArrayRef) -> Result<Box<dyn EncodedValues>, ArrowError> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Boolean => Box::new(texts::BoolValues(array.as_boolean().clone())),
        T::Int16 => Box::new(numbers::Integers(array.as_primitive::<arrow_types::Int16Type>().clone())),
        T::Int32 => Box::new(numbers::Integers(array.as_primitive::<arrow_types::Int32Type>().clone())),
        T::Int64 => Box::new(numbers::Integers(array.as_primitive::<arrow_types::Int64Type>().clone())),
        T::Float32 => Box::new(numbers::Singles(array.as_primitive().clone())),
        T::Float64 => Box::new(numbers::Doubles(array.as_primitive().clone())),
        T::Decimal128(_, scale) => {
            Box::new(numbers::Decimals::<arrow_types::Decimal128Type>::new(array.as_primitive().clone(), *scale))
        }
        T::Decimal256(_, scale) => {
            Box::new(numbers::Decimals::<arrow_types::Decimal256Type>::new(array.as_primitive().clone(), *scale))
        }
        T::Date32 => Box::new(times::Dates(array.as_primitive().clone())),
        T::Time64(_) => Box::new(times::ClockTimes(array.as_primitive().clone())),
        T::Timestamp(_, zone) => {
            Box::new(times::Timestamps { values: array.as_primitive().clone(), has_zone: zone.is_some() })
        }
        T::Interval(_) => Box::new(times::Intervals(array.as_primitive().clone())),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Box::new(texts::TextValues(Arc::clone(array))),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
            Box::new(texts::ByteValues(Arc::clone(array)))
        }
        T::List(_) => Box::new(nested::Lists::new(array.as_list().clone())?),
        T::Struct(_) => Box::new(nested::Structs::new(array.as_struct())?),
        T::Map(_, _) => Box::new(nested::Maps::new(array.as_map())?),
        _ => Box::new(texts::OtherValues(Arc::clone(array))),
    })
}

#[cfg(test)]
mod tests;
