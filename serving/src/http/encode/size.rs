//! How many bytes a batch becomes in an answer, before it is encoded.
//!
//! A value of one bit becomes a word, and an object repeats the names of its fields, so the bytes of a batch say
//! little. Invariant: an encoded batch is never longer than said here, whatever its types.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

use super::super::format::AnswerFormat;
use super::is_time;
use crate::limits::slices;

/// The comma or the bracket behind a value, and the line's end that takes its place in the last column.
const SEPARATOR: usize = 2;

/// `null`, or an empty list with its brackets.
const SHORTEST: usize = 5;

/// The longest text of a float, with quotes around `-Infinity`.
const FLOAT: usize = 26;

/// The longest text of a point in time with its zone, or of an interval.
const TIME: usize = 128;

/// The bytes that `batch` becomes, at most, and what is needed on the way.
pub(in crate::http) fn encoded_bytes(batch: &RecordBatch, format: AnswerFormat) -> usize {
    if matches!(format, AnswerFormat::Arrow | AnswerFormat::Parquet) {
        // Offsets and bits of validity are counted as one more value.
        let around = batch.num_columns().saturating_mul(batch.num_rows().saturating_mul(8).saturating_add(1024));
        return slices::bytes(batch).saturating_add(around);
    }
    let schema = batch.schema_ref();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let json = value_bytes(column);
        match format {
            // A row repeats the names.
            AnswerFormat::Ndjson => {
                json.saturating_add(batch.num_rows().saturating_mul(escaped(field.name()).saturating_add(4)))
            }
            // The column is there as a text, in a buffer that grows, and in the answer with its quotes doubled.
            AnswerFormat::Csv if column.data_type().is_nested() => json.saturating_mul(5),
            AnswerFormat::Csv if is_time(column.data_type()) => json.saturating_mul(3),
            _ => json,
        }
    });
    columns.fold(batch.num_rows().saturating_mul(4), usize::saturating_add)
}

/// The bytes of all values of `values` as JSON, with what separates them.
fn value_bytes(values: &ArrayRef) -> usize {
    let each = |width: usize| values.len().saturating_mul(width.max(SHORTEST) + SEPARATOR);
    match values.data_type() {
        DataType::Utf8 => text_bytes(values.as_string::<i32>().iter()),
        DataType::LargeUtf8 => text_bytes(values.as_string::<i64>().iter()),
        DataType::Utf8View => text_bytes(values.as_string_view().iter()),
        DataType::Binary => hex_bytes(values.as_binary::<i32>().iter()),
        DataType::LargeBinary => hex_bytes(values.as_binary::<i64>().iter()),
        DataType::BinaryView => hex_bytes(values.as_binary_view().iter()),
        DataType::FixedSizeBinary(width) => each(usize::try_from(*width).unwrap_or(0).saturating_mul(2) + 2),
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            each(SHORTEST).saturating_add(value_bytes(&within(lists.offsets(), lists.values())))
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            each(SHORTEST).saturating_add(value_bytes(&within(lists.offsets(), lists.values())))
        }
        DataType::FixedSizeList(_, _) => {
            each(SHORTEST).saturating_add(value_bytes(values.as_fixed_size_list().values()))
        }
        DataType::Map(_, _) => {
            let maps = values.as_map();
            let entries = maps.keys().len().saturating_mul(SEPARATOR);
            let keys = value_bytes(&within(maps.offsets(), maps.keys()));
            let inner = value_bytes(&within(maps.offsets(), maps.values()));
            each(SHORTEST).saturating_add(entries).saturating_add(keys).saturating_add(inner)
        }
        DataType::Struct(fields) => {
            let names = fields.iter().map(|field| escaped(field.name()) + 3).fold(0, usize::saturating_add);
            let columns = values.as_struct().columns().iter();
            columns.map(value_bytes).fold(each(names.saturating_add(SHORTEST)), usize::saturating_add)
        }
        other => match widest_text(other) {
            Some(width) => each(width),
            None => shared_bytes(values),
        },
    }
}

/// The elements of lists with these ends.
fn within<O: OffsetSizeTrait>(ends: &OffsetBuffer<O>, elements: &ArrayRef) -> ArrayRef {
    let (from, to) = match (ends.first(), ends.last()) {
        (Some(from), Some(to)) => (from.as_usize(), to.as_usize()),
        _ => (0, 0),
    };
    elements.slice(from, to - from)
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

/// Bytes of values that rows may share, as in a dictionary: each row may show the longest.
fn shared_bytes(values: &ArrayRef) -> usize {
    let longest = |shared: &ArrayRef| {
        let lengths = (0..shared.len()).map(|row| value_bytes(&shared.slice(row, 1)));
        values.len().saturating_mul(lengths.max().unwrap_or(0).max(SHORTEST + SEPARATOR))
    };
    match values.data_type() {
        DataType::Dictionary(_, _) => longest(values.as_any_dictionary().values()),
        DataType::ListView(_) => {
            let lists = values.as_list_view::<i32>();
            (0..values.len()).map(|row| value_bytes(&lists.value(row)) + SHORTEST + SEPARATOR).sum()
        }
        DataType::LargeListView(_) => {
            let lists = values.as_list_view::<i64>();
            (0..values.len()).map(|row| value_bytes(&lists.value(row)) + SHORTEST + SEPARATOR).sum()
        }
        // Other types are not encoded.
        _ => values.to_data().get_slice_memory_size().unwrap_or(0).saturating_mul(12),
    }
}

fn text_bytes<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> usize {
    let lengths = texts.map(|text| text.map_or(SHORTEST, |text| escaped(text) + 2) + SEPARATOR);
    lengths.fold(0, usize::saturating_add)
}

fn hex_bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> usize {
    let lengths = values.map(|bytes| bytes.map_or(SHORTEST, |bytes| bytes.len() * 2 + 2) + SEPARATOR);
    lengths.fold(0, usize::saturating_add)
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
