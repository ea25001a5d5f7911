//! Columns in the types in which they are sent: those that the clients for Go, Java, C++ and Python all read.
//!
//! | in the engine | sent |
//! |---|---|
//! | dictionaries, run-end encoded values | their values |
//! | `Utf8View`, `BinaryView` | `Utf8`, `Binary` |
//! | `Float16` | `Float32` |
//! | `Decimal32`, `Decimal64` | `Decimal128` |
//! | `ListView`, `LargeListView` | `List`, `LargeList` |
//!
//! Invariant: the sent type is a function of the engine's type. Every field is nullable, because what the planner knows
//! of NULLs changes between a described and a planned query; keys of maps are not, as Arrow demands.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch,
    RecordBatchOptions, StructArray, UnionArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, UnionFields};
use arrow::error::ArrowError;

use crate::widths::{WidthOf, Widths, widths};

type Converted<T> = Result<T, ArrowError>;

/// The schema in which answers with `schema` are sent.
pub(super) fn sent_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(sent_field);
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

fn sent_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), sent_type(field.data_type()), true))
}

fn sent_type(found: &DataType) -> DataType {
    match found {
        DataType::Dictionary(_, values) => sent_type(values),
        DataType::RunEndEncoded(_, values) => sent_type(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::List(item) | DataType::ListView(item) => DataType::List(sent_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(sent_field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(sent_field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(sent_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(sent_entries(entries), *sorted),
        DataType::Union(fields, mode) => {
            let sent = fields.iter().map(|(id, field)| (id, sent_field(field)));
            DataType::Union(sent.collect::<UnionFields>(), *mode)
        }
        other => other.clone(),
    }
}

/// The entries of a map: neither they nor their keys may be NULL.
fn sent_entries(entries: &FieldRef) -> FieldRef {
    let fields = match entries.data_type() {
        DataType::Struct(fields) => fields.iter().enumerate().map(|(at, field)| match at {
            0 => Arc::new(sent_field(field).as_ref().clone().with_nullable(false)),
            _ => sent_field(field),
        }),
        // A map of other entries does not exist.
        _ => return Arc::clone(entries),
    };
    Arc::new(Field::new(entries.name(), DataType::Struct(fields.collect()), false))
}

/// `batch` in `schema`, which is [`sent_schema`] of its own.
///
/// Errors: a column has not the type that `schema` is made from.
pub(super) fn sent(batch: &RecordBatch, schema: &SchemaRef) -> Converted<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| converted(column, field.data_type()));
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Converted<_>>()?, &rows)
}

fn converted(column: &ArrayRef, to: &DataType) -> Converted<ArrayRef> {
    Ok(match (column.data_type(), to) {
        (from, to) if from == to => Arc::clone(column),
        (DataType::Dictionary(_, values), _) => converted(&cast(column, values)?, to)?,
        (DataType::RunEndEncoded(_, values), _) => converted(&cast(column, values.data_type())?, to)?,
        (DataType::ListView(item), DataType::List(_)) => {
            converted(&cast(column, &DataType::List(Arc::clone(item)))?, to)?
        }
        (DataType::LargeListView(item), DataType::LargeList(_)) => {
            converted(&cast(column, &DataType::LargeList(Arc::clone(item)))?, to)?
        }
        (DataType::List(_), DataType::List(item)) => Arc::new(list::<i32>(column, item)?),
        (DataType::LargeList(_), DataType::LargeList(item)) => Arc::new(list::<i64>(column, item)?),
        (DataType::FixedSizeList(_, _), DataType::FixedSizeList(item, length)) => {
            let lists = column.as_fixed_size_list();
            let values = converted(lists.values(), item.data_type())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *length, values, lists.nulls().cloned())?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => Arc::new(structure(column.as_struct(), fields)?),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let (maps, DataType::Struct(fields)) = (column.as_map(), entries.data_type()) else {
                return cast(column, to);
            };
            let (offsets, from, length) = rebased(maps.offsets());
            let values = structure(&maps.entries().slice(from, length), fields)?;
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, values, maps.nulls().cloned(), *sorted)?)
        }
        (DataType::Union(_, _), DataType::Union(fields, _)) => {
            let (_, ids, offsets, children) = column.as_union().clone().into_parts();
            let children = children.iter().zip(fields.iter());
            let children = children.map(|(child, (_, field))| converted(child, field.data_type()));
            Arc::new(UnionArray::try_new(fields.clone(), ids, offsets, children.collect::<Converted<_>>()?)?)
        }
        _ => cast(column, to)?,
    })
}

fn list<O: OffsetSizeTrait>(column: &ArrayRef, item: &FieldRef) -> Converted<GenericListArray<O>> {
    let lists = column.as_list::<O>();
    let (offsets, from, length) = rebased(lists.offsets());
    let values = converted(&lists.values().slice(from, length), item.data_type())?;
    GenericListArray::try_new(Arc::clone(item), offsets, values, lists.nulls().cloned())
}

/// Offsets from zero, and the part of the values that they are of: a slice of lists holds the values of all.
fn rebased<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (OffsetBuffer<O>, usize, usize) {
    let from = offsets.first().map_or(0, |first| first.as_usize());
    let length = offsets.last().map_or(0, |last| last.as_usize()) - from;
    (OffsetBuffer::from_lengths(offsets.lengths()), from, length)
}

fn structure(values: &StructArray, fields: &Fields) -> Converted<StructArray> {
    let columns = values.columns().iter().zip(fields);
    let columns = columns.map(|(column, field)| converted(column, field.data_type())).collect::<Converted<_>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, values.nulls().cloned(), values.len())
}

/// The bytes of each row of a batch once it is sent.
pub(super) fn row_bytes(batch: &RecordBatch) -> Widths {
    let none = Widths::Same { width: 0, rows: batch.num_rows() };
    batch.columns().iter().fold(none, |rows, column| widths(column, &SentValues).and(&rows))
}

/// Values in the sent types. What is said here is the most.
struct SentValues;

/// Bytes of the place of a value: its offset and what says that there is one.
const PLACE: usize = 8;

impl WidthOf for SentValues {
    fn plain(&self, values: &ArrayRef) -> Widths {
        let texts = |lengths: &mut dyn Iterator<Item = usize>| Widths::of(lengths.map(|length| length + PLACE));
        let shown = |views: &[u128]| texts(&mut views.iter().map(|view| *view as u32 as usize));
        match values.data_type() {
            DataType::Utf8 => texts(&mut values.as_string::<i32>().offsets().lengths()),
            DataType::LargeUtf8 => texts(&mut values.as_string::<i64>().offsets().lengths()),
            DataType::Binary => texts(&mut values.as_binary::<i32>().offsets().lengths()),
            DataType::LargeBinary => texts(&mut values.as_binary::<i64>().offsets().lengths()),
            DataType::Utf8View => shown(values.as_string_view().views()),
            DataType::BinaryView => shown(values.as_binary_view().views()),
            DataType::Union(_, _) => {
                let (_, _, _, children) = values.as_union().clone().into_parts();
                let bytes = children.iter().map(|child| widths(child, self).total()).fold(0, usize::saturating_add);
                Widths::Same { width: bytes.div_ceil(values.len().max(1)) + PLACE, rows: values.len() }
            }
            other => {
                let width = sent_type(other).primitive_width().unwrap_or(width(other));
                Widths::Same { width, rows: values.len() }
            }
        }
    }

    fn around(&self) -> usize {
        PLACE
    }

    fn between(&self) -> usize {
        0
    }

    fn names(&self, _: &Fields) -> usize {
        1
    }
}

/// Bytes of a value that is no number.
fn width(of: &DataType) -> usize {
    match of {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(0),
        DataType::Boolean => 1,
        _ => PLACE,
    }
}

#[cfg(test)]
mod tests;
