//! Random rows of a stream with every canonical type: difficult values, nulls, ties, gaps in the offsets, rejects.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use thalweg_kit::definitions;
use thalweg_schemas::definition::message::{MessageRows, ROW};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::{Frontier, Offset, Partition};

/// A stream whose messages have one row each, or `several`.
pub(crate) fn stream(several: bool) -> StreamDefinition {
    let columns = [
        ("k", DataType::Utf8),
        ("small", DataType::Int16),
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("g", DataType::Float64),
        ("h", DataType::Float64),
        ("r", DataType::Float32),
        ("d", DataType::Decimal128(20, 4)),
        ("b", DataType::Boolean),
        ("s", DataType::Utf8),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("day", DataType::Date32),
        ("bin", DataType::Binary),
        ("doc", DataType::Struct(doc_fields())),
        ("tags", DataType::List(Arc::new(tag()))),
    ];
    let mut stream = definitions::stream("events", &columns);
    if several {
        stream.messages.json.rows = MessageRows::Array;
    }
    stream
}

/// The stream before it got some of its columns, or none of them.
pub(crate) fn before_columns(rng: &mut StdRng, stream: &StreamDefinition) -> StreamDefinition {
    let columns = stream.columns.fields().iter();
    let early: Vec<_> = columns.filter(|_| rng.random_bool(0.7)).map(Arc::clone).collect();
    let mut before = stream.clone();
    if !early.is_empty() {
        before.columns = Arc::new(Schema::new(early));
    }
    before
}

/// `all` without the values that `before` has no columns for, in the first `count` rows.
pub(crate) fn without_later_values(all: &RecordBatch, before: &StreamDefinition, count: usize) -> RecordBatch {
    let early = BooleanArray::from_iter((0..all.num_rows()).map(|row| Some(row < count)));
    let schema = all.schema();
    let known = before.row_schema();
    let columns = schema.fields().iter().zip(all.columns()).map(|(field, column)| match known.index_of(field.name()) {
        Ok(_) => Arc::clone(column),
        Err(_) => arrow::compute::nullif(column, &early).unwrap(),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

fn doc_fields() -> Fields {
    Fields::from(vec![Field::new("city", DataType::Utf8, true), Field::new("n", DataType::Int64, true)])
}

fn tag() -> Field {
    Field::new("element", DataType::Utf8, true)
}

/// The partition and offset of a message, and the number of one of its rows if it has several. Places are listed in
/// the order of reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    row: Option<i32>,
}

impl Place {
    /// True if both are rows of one message.
    pub(crate) fn shares_message(&self, other: &Self) -> bool {
        (self.partition, self.offset) == (other.partition, other.offset)
    }
}

/// Makes up to 240 messages in up to four partitions, read in a random order of partitions. Some partitions may be
/// those of amendments. The frontier covers trailing gaps, as transaction markers leave them, and partitions without
/// any message. With `several`, a message has up to four rows, or none.
pub(crate) fn places(rng: &mut StdRng, several: bool) -> (Vec<Place>, Frontier) {
    let partitions = rng.random_range(1..=4);
    let mut next: Vec<i64> = (0..partitions).map(|_| rng.random_range(0..3)).collect();
    let amended = rng.random_range(0..=2);
    let partition = |p: usize| Partition(p as i32 - amended);
    let count = *[0, 1, 7, 40, 240].choose(rng).unwrap();
    let mut places = Vec::new();
    while places.len() < count {
        let p = rng.random_range(0..partitions);
        if rng.random_bool(0.1) {
            next[p] += rng.random_range(1..5);
        }
        let (partition, offset) = (partition(p), Offset(next[p]));
        next[p] += 1;
        // An amendment is a row of its own.
        if several && !partition.is_amended() {
            let rows = rng.random_range(0..=4);
            places.extend((0..rows).map(|row| Place { partition, offset, row: Some(row) }));
        } else {
            places.push(Place { partition, offset, row: None });
        }
    }
    let frontier = next.iter().enumerate();
    let frontier = frontier.map(|(p, next)| (partition(p), Offset(next + rng.random_range(0..2)))).collect();
    (places, frontier)
}

fn maybe<T>(rng: &mut StdRng, value: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    (!rng.random_bool(0.12)).then(|| value(rng))
}

fn column<T>(rng: &mut StdRng, n: usize, mut value: impl FnMut(&mut StdRng) -> T) -> Vec<Option<T>> {
    (0..n).map(|_| maybe(rng, &mut value)).collect()
}

fn pick<T: Copy>(rng: &mut StdRng, pool: &[T]) -> T {
    *pool.choose(rng).unwrap()
}

/// A sum of two of the largest integers is out of range, but may come back into it.
const INTEGERS: &[i64] =
    &[0, 1, -1, 1 << 53, -(1 << 53), (1 << 53) + 1, i64::MAX, i64::MIN, i64::MAX / 1000, i64::MIN / 1000];

/// Floats, of which some cancel and leave only the rounding of the others. None is NaN, because NaN would hide the
/// rounding.
fn huge_and_tiny(rng: &mut StdRng) -> f64 {
    if rng.random_bool(0.005) {
        return pick(rng, &[1e100, -1e100]);
    }
    match rng.random_range(0..4) {
        0 => pick(rng, &[1e15, -1e15, 1e15 + 0.125, 9e15]),
        1 => pick(rng, &[1e-9, -1e-9, 1e-300, 0.0, -0.0, 0.1]),
        _ => rng.random_range(-1.0..1.0) * 10f64.powi(rng.random_range(-12..18)),
    }
}

/// Structs, of which some are null, and some have null fields. As after decoding, the fields of a null struct are null.
fn docs(rng: &mut StdRng, n: usize) -> ArrayRef {
    let present: Vec<bool> = (0..n).map(|_| rng.random_bool(0.8)).collect();
    let cities = column(rng, n, |r| pick(r, &["Oslo", "Rome", ""]));
    let numbers = column(rng, n, |r| pick(r, INTEGERS));
    let cities: ArrayRef =
        Arc::new(cities.into_iter().zip(&present).map(|(city, p)| city.filter(|_| *p)).collect::<StringArray>());
    let numbers: ArrayRef =
        Arc::new(numbers.into_iter().zip(&present).map(|(n, p)| n.filter(|_| *p)).collect::<Int64Array>());
    Arc::new(StructArray::new(doc_fields(), vec![cities, numbers], Some(NullBuffer::from(present))))
}

/// Lists, of which some are null, empty, or have null items.
fn tags(rng: &mut StdRng, n: usize) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(tag());
    for _ in 0..n {
        for _ in 0..rng.random_range(0..3) {
            let item = maybe(rng, |r| pick(r, &["red", "blue"]));
            lists.values().append_option(item);
        }
        lists.append(rng.random_bool(0.8));
    }
    Arc::new(lists.finish())
}

/// Makes rows of the row schema of `stream` at `places`. About one in fifteen is a reject.
pub(crate) fn rows(rng: &mut StdRng, stream: &StreamDefinition, places: &[Place]) -> RecordBatch {
    let n = places.len();
    let rejected: Vec<bool> = (0..n).map(|_| rng.random_bool(0.07)).collect();
    let long = "the same thirty-two bytes, then: ";
    let strings = ["", "a", "ä", "twelve bytes", "thirteen byte", "\u{0}", "Z"];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(column(rng, n, |r| pick(r, &["a", "b", "c", "", "key of more than twelve bytes"])))),
        Arc::new(Int16Array::from(column(rng, n, |r| pick(r, &[0, 1, -1, i16::MAX, i16::MIN])))),
        Arc::new(Int64Array::from(column(rng, n, |r| match r.random_range(0..12) {
            0 => pick(r, INTEGERS),
            _ => r.random_range(-1000..1000),
        }))),
        Arc::new(Float64Array::from(column(rng, n, |r| match r.random_range(0..4) {
            0 => pick(r, &[0.0, -0.0, f64::NAN, 1e15, -1e15, 1e300, 1e-300, f64::MIN_POSITIVE, 0.1]),
            1 if r.random_bool(0.05) => pick(r, &[f64::INFINITY, f64::NEG_INFINITY]),
            _ => r.random_range(-100.0..100.0),
        }))),
        Arc::new(Float64Array::from(column(rng, n, |r| r.random_range(-500.0..500.0)))),
        Arc::new(Float64Array::from(column(rng, n, huge_and_tiny))),
        Arc::new(Float32Array::from(column(rng, n, |r| {
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];
            if r.random_bool(0.2) { pick(r, &odd) } else { pick(r, &[0.5, -2.25, 3.0e38, -3.0e38, 1e-30, 3.0]) }
        }))),
        Arc::new(
            Decimal128Array::from(column(rng, n, |r| match r.random_range(0..5) {
                0 => pick(r, &[99_999_999_999_999_999_999, -99_999_999_999_999_999_999, 1, 0]),
                _ => r.random_range(-1_000_000..1_000_000),
            }))
            .with_precision_and_scale(20, 4)
            .unwrap(),
        ),
        Arc::new(BooleanArray::from(column(rng, n, |r| r.random_bool(0.5)))),
        Arc::new(StringArray::from(column(rng, n, |r| match r.random_range(0..3) {
            0 => format!("{long}{}", r.random_range(0..50)),
            1 => format!("v{}", r.random_range(0..50)),
            _ => pick(r, &strings).to_owned(),
        }))),
        Arc::new(TimestampMicrosecondArray::from(column(rng, n, |r| match r.random_range(0..8) {
            0 => pick(r, &[0, -1, 253_402_300_799_999_999, -62_135_596_800_000_000]),
            _ => 1_700_000_000_000_000 + r.random_range(0..20) * 1_000_001,
        }))),
        Arc::new(Date32Array::from(column(rng, n, |r| r.random_range(-5..20_000)))),
        Arc::new(BinaryArray::from_iter(column(rng, n, |r| vec![r.random::<u8>() % 3; r.random_range(0..3)]))),
        docs(rng, n),
        tags(rng, n),
    ];
    let kept = BooleanArray::from(rejected.iter().map(|r| !r).collect::<Vec<_>>());
    let mut all: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(places.iter().map(|p| p.partition.0))),
        Arc::new(Int64Array::from_iter_values(places.iter().map(|p| p.offset.0))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            places.iter().map(|p| 1_700_000_000_000_000 + p.offset.0),
        )),
    ];
    let nulled = arrow::compute::not(&kept).unwrap();
    all.extend(columns.iter().map(|c| arrow::compute::nullif(c, &nulled).unwrap()));
    all.push(Arc::new(StringArray::from_iter(rejected.iter().map(|r| r.then_some("not an object")))));
    all.push(Arc::new(BinaryArray::from_iter(rejected.iter().map(|r| r.then_some(&b"\xff{"[..])))));
    let keys: [&[u8]; 4] = [b"k1", b"", "\u{e4}".as_bytes(), b"\xff\x00"];
    all.push(Arc::new(BinaryArray::from_iter(column(rng, n, |r| pick(r, &keys)))));
    let schema = stream.row_schema();
    let numbers: ArrayRef = Arc::new(places.iter().map(|place| place.row).collect::<Int32Array>());
    // Headers and sources.
    let rest = schema.fields().iter().skip(all.len()).map(|field| match field.name().as_str() {
        ROW => Arc::clone(&numbers),
        _ => new_null_array(field.data_type(), n),
    });
    all.extend(rest.collect::<Vec<_>>());
    RecordBatch::try_new(schema, all).unwrap()
}
