//! How many bytes a batch becomes in an answer, before it is encoded.
//!
//! A value of one bit becomes a word, and an object repeats the names of its fields, so the bytes of a batch say
//! little. Invariant: an encoded batch is never longer than said here, whatever its types.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Fields};

use super::super::format::AnswerFormat;
use super::is_time;
use crate::limits::slices;
use crate::widths::{WidthOf, Widths, widths};

/// The comma or the bracket behind a value, and the line's end that takes its place in the last column.
const SEPARATOR: usize = 2;

/// The brackets of a row, its comma and its line's end.
const ROW: usize = 4;

/// `null`, or an empty list with its brackets.
const SHORTEST: usize = 5;

/// The longest text of a float, with quotes around `-Infinity`.
const FLOAT: usize = 26;

/// The longest text of a point in time with its zone, or of an interval.
const TIME: usize = 128;

/// Bytes of a column in formats of their own head, beside its values.
const COLUMN: usize = 1024;

/// The bytes that `batch` becomes, at most, and what is needed on the way.
pub(in crate::http) fn encoded_bytes(batch: &RecordBatch, format: AnswerFormat) -> usize {
    match format {
        AnswerFormat::Arrow | AnswerFormat::Parquet => {
            // Offsets and bits of validity are counted as one more value.
            let around = batch.num_columns().saturating_mul(batch.num_rows().saturating_mul(8).saturating_add(COLUMN));
            slices::bytes(batch).saturating_add(around)
        }
        _ => row_bytes(batch, format).total(),
    }
}

/// The bytes that each row of `batch` becomes, at most. In formats of Arrow's columns this is the mean.
pub(in crate::http) fn row_bytes(batch: &RecordBatch, format: AnswerFormat) -> Widths {
    let rows = batch.num_rows();
    if matches!(format, AnswerFormat::Arrow | AnswerFormat::Parquet) {
        return Widths::Same { width: encoded_bytes(batch, format).div_ceil(rows.max(1)), rows };
    }
    let schema = batch.schema_ref();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let json = widths(column, &JsonValues);
        match format {
            // A row repeats the names.
            AnswerFormat::Ndjson => {
                let name = escaped(field.name()).saturating_add(4);
                json.map(|value| value.saturating_add(name))
            }
            // The column is there as a text, in a buffer that grows, and in the answer with its quotes doubled.
            AnswerFormat::Csv if column.data_type().is_nested() => json.map(|value| value.saturating_mul(5)),
            AnswerFormat::Csv if is_time(column.data_type()) => json.map(|value| value.saturating_mul(3)),
            _ => json,
        }
    });
    columns.fold(Widths::Same { width: ROW, rows }, |row, column| column.and(&row))
}

/// Values as JSON, with what separates them.
struct JsonValues;

impl WidthOf for JsonValues {
    fn plain(&self, values: &ArrayRef) -> Widths {
        let texts = |lengths: &mut dyn Iterator<Item = Option<usize>>| {
            Widths::of(lengths.map(|length| length.map_or(SHORTEST, |length| length + 2) + SEPARATOR))
        };
        let each = |width: usize| Widths::Same { width: width.max(SHORTEST) + SEPARATOR, rows: values.len() };
        let hex = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.len() * 2);
        match values.data_type() {
            DataType::Utf8 => texts(&mut values.as_string::<i32>().iter().map(|text| text.map(escaped))),
            DataType::LargeUtf8 => texts(&mut values.as_string::<i64>().iter().map(|text| text.map(escaped))),
            DataType::Utf8View => texts(&mut values.as_string_view().iter().map(|text| text.map(escaped))),
            DataType::Binary => texts(&mut values.as_binary::<i32>().iter().map(hex)),
            DataType::LargeBinary => texts(&mut values.as_binary::<i64>().iter().map(hex)),
            DataType::BinaryView => texts(&mut values.as_binary_view().iter().map(hex)),
            DataType::FixedSizeBinary(width) => each(usize::try_from(*width).unwrap_or(0).saturating_mul(2) + 2),
            other => each(widest_text(other).unwrap_or_else(|| {
                // Other types are not encoded.
                let bytes = values.to_data().get_slice_memory_size().unwrap_or(0);
                bytes.saturating_mul(12).div_ceil(values.len().max(1))
            })),
        }
    }

    fn around(&self) -> usize {
        SHORTEST + SEPARATOR
    }

    fn between(&self) -> usize {
        SEPARATOR
    }

    fn names(&self, fields: &Fields) -> usize {
        let names = fields.iter().map(|field| escaped(field.name()) + 3).fold(0, usize::saturating_add);
        names.saturating_add(SHORTEST).saturating_add(SEPARATOR)
    }
}

/// The longest text of a value of a type of fixed width.
fn widest_text(data_type: &DataType) -> Option<usize> {
    use DataType as T;
    Some(match data_type {
        T::Null | T::Boolean => SHORTEST,
        T::Int8 | T::UInt8 => 4,
        T::Int16 | T::UInt16 => 6,
        T::Int32 | T::UInt32 => 11,
        T::Int64 | T::UInt64 => 20,
        T::Float16 | T::Float32 | T::Float64 => FLOAT,
        T::Decimal32(digits, scale)
        | T::Decimal64(digits, scale)
        | T::Decimal128(digits, scale)
        | T::Decimal256(digits, scale) => usize::from(*digits) + usize::from(scale.unsigned_abs()) + 6,
        time if is_time(time) => TIME,
        _ => return None,
    })
}

/// The length of a text without its quotes, with what is escaped.
fn escaped(text: &str) -> usize {
    let width = |byte: u8| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(width).sum()
}

#[cfg(test)]
mod tests;
