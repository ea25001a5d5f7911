//! Shared by this crate's tests: a stream with a column of every kind, its epochs, and readers of its files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, SchemaRef, TimeUnit};
use datafusion::prelude::col;
use thalweg_kit::definitions;
use thalweg_kit::positions::at;
use thalweg_schemas::Offset;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::definition::stream::{OFFSET, PARTITION, StreamDefinition};
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::Epoch;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::{DataFile, LastMessage};

/// A stream with one column of every kind that rows can have.
pub(crate) fn stream() -> StreamDefinition {
    let info = Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Float32, true)]);
    let columns = [
        ("device", DataType::Utf8),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("temperature", DataType::Float64),
        ("count", DataType::Int64),
        ("amount", DataType::Decimal128(20, 4)),
        ("day", DataType::Date32),
        ("fine", DataType::Boolean),
        ("raw", DataType::Binary),
        ("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))),
        ("info", DataType::Struct(info)),
    ];
    let mut stream = definitions::stream("sensor_data", &columns);
    stream.event_time = Some("ts".into());
    stream
}

/// Rows of `schema` at these positions. Columns that are not in `columns` are null.
pub(crate) fn rows_at(schema: &SchemaRef, positions: &[(i32, i64)], columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let arrays = schema.fields().iter().map(|field| -> ArrayRef {
        if let Some((_, array)) = columns.iter().find(|(name, _)| name == field.name()) {
            return Arc::clone(array);
        }
        match field.name().as_str() {
            PARTITION => Arc::new(arrow::array::Int32Array::from_iter_values(positions.iter().map(|(p, _)| *p))),
            OFFSET => Arc::new(arrow::array::Int64Array::from_iter_values(positions.iter().map(|(_, o)| *o))),
            _ => new_null_array(field.data_type(), positions.len()),
        }
    });
    RecordBatch::try_new(Arc::clone(schema), arrays.collect()).unwrap()
}

/// An epoch with a row at every offset, in two batches. The second batch holds the lower partitions.
pub(crate) fn epoch(from: &[(i32, i64)], to: &[(i32, i64)], mark: bool) -> Epoch {
    let stream = stream();
    let schema = stream.row_schema();
    let (from, to) = (at(from), at(to));
    let mut positions: Vec<(i32, i64)> =
        to.iter().flat_map(|(p, end)| (from.get(p).0..end.0).map(move |o| (p.0, o))).collect();
    positions.sort_by_key(|(p, o)| (-p, *o));
    let half = positions.len() / 2;
    let rows = [&positions[..half], &positions[half..]]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| rows_at(&schema, part, &[]))
        .collect();
    let advanced = to.advanced_since(&from);
    let last: HashMap<_, _> = advanced.iter().map(|(p, o)| (p, last(o.0 - 1))).collect();
    Epoch { stream: stream.name, from, to, rows, mark, last }
}

pub(crate) fn last(offset: i64) -> LastMessage {
    LastMessage { offset: Offset(offset), timestamp_ms: 1_000 + offset, hash: format!("{offset:016x}") }
}

/// All rows of `files` as one batch, sorted by `keys`.
pub(crate) async fn read(warehouse: &Warehouse, schema: &SchemaRef, files: &[DataFile], keys: &[&str]) -> RecordBatch {
    let context = session::context(session::runtime(Some(warehouse), None, None).unwrap(), 1);
    let table = Arc::new(ParquetFiles::new(Arc::clone(schema), files.to_vec()));
    let rows = context.read_table(table).unwrap();
    let keys = keys.iter().map(|key| col(*key).sort(true, true)).collect();
    let rows = rows.sort(keys).unwrap().collect().await.unwrap();
    concat_batches(schema, &rows).unwrap()
}

/// The positions of all rows in `files`, sorted and with duplicates.
pub(crate) async fn positions(warehouse: &Warehouse, files: &[DataFile]) -> Vec<(i32, i64)> {
    let rows = read(warehouse, &stream().row_schema(), files, &[PARTITION, OFFSET]).await;
    let partitions = rows[PARTITION].as_primitive::<Int32Type>();
    let offsets = rows[OFFSET].as_primitive::<Int64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}

/// A catalog of [`stream`] and these views. All views are building.
pub(crate) async fn catalog(origin: &[(i32, i64)], views: &[(&str, &str)]) -> Catalog {
    definitions::catalog(stream(), at(origin), views).await
}

/// Like [`epoch`], with a device (one of four), a count (the offset) and a temperature in every row.
pub(crate) fn measured(from: &[(i32, i64)], to: &[(i32, i64)], mark: bool) -> Epoch {
    let mut epoch = epoch(from, to, mark);
    for batch in &mut epoch.rows {
        let offsets = batch[OFFSET].as_primitive::<Int64Type>().clone();
        let partitions = batch[PARTITION].as_primitive::<Int32Type>().clone();
        let places: Vec<(i32, i64)> =
            partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect();
        let devices = places.iter().map(|(p, o)| format!("d{}", (o + i64::from(*p)) % 4));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("device", Arc::new(StringArray::from_iter_values(devices))),
            ("count", Arc::new(offsets)),
            ("temperature", Arc::new(Float64Array::from_iter_values(places.iter().map(|(_, o)| *o as f64)))),
        ];
        *batch = rows_at(&batch.schema(), &places, &columns);
    }
    epoch
}
