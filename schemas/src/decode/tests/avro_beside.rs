//! Our reader of Avro beside arrow-avro: random rows that arrow-avro writes are read back, and bytes that were changed
//! are refused, or read as arrow-avro reads them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, FingerprintStrategy, SchemaStore};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use proptest::prelude::*;

use super::{messages, with_options};
use crate::decode::{Decoded, Decoder, RegisteredSchema, SchemaId, SchemaKind};

/// The columns that are read, in another order than they are written, and without one.
const COLUMNS: &str = "t TIMESTAMP, s STRING, b BOOLEAN, i INT, l BIGINT, f DOUBLE, y BYTEA, d DATE, m DECIMAL(20,3), \
                       a BIGINT[], p STRUCT<x DOUBLE, n STRING>";

#[derive(Debug, Clone)]
struct Row {
    b: Option<bool>,
    i: i32,
    l: Option<i64>,
    f: Option<f64>,
    s: Option<String>,
    y: Vec<u8>,
    d: Option<i32>,
    t: Option<i64>,
    m: Option<i64>,
    a: Option<Vec<Option<i64>>>,
    p: (f64, Option<String>),
}

fn row() -> impl Strategy<Value = Row> {
    let first =
        (any::<Option<bool>>(), any::<i32>(), any::<Option<i64>>(), any::<Option<f64>>(), any::<Option<String>>());
    let times = (-700_000..2_900_000i32, -62_000_000_000_000_000..250_000_000_000_000_000i64);
    let items = proptest::option::of(proptest::collection::vec(any::<Option<i64>>(), 0..5));
    let second = (any::<Vec<u8>>(), proptest::option::of(times), any::<Option<i64>>(), items);
    (first, second, (any::<f64>(), any::<Option<String>>())).prop_map(|(first, second, p)| {
        let ((b, i, l, f, s), (y, times, m, a)) = (first, second);
        Row { b, i, l, f, s, y, d: times.map(|t| t.0), t: times.map(|t| t.1), m, a, p }
    })
}

/// The rows as arrow-avro takes them, with a column that nobody reads.
fn batch(rows: &[Row]) -> RecordBatch {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(|row| row.a.clone()));
    let decimals = Decimal128Array::from_iter(rows.iter().map(|row| row.m.map(i128::from)));
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.p.0)));
    let n: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.p.1.clone())));
    let place = vec![
        (Arc::new(Field::new("x", DataType::Float64, false)), x),
        (Arc::new(Field::new("n", DataType::Utf8, true)), n),
    ];
    let times = TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.t)).with_timezone("+00:00");
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("b", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.b))), true),
        ("i", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.i))), false),
        ("l", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.l))), true),
        ("unread", Arc::new(lists.clone()), true),
        ("f", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.f))), true),
        ("s", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.s.clone()))), true),
        ("y", Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.y))), false),
        ("d", Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.d))), true),
        ("t", Arc::new(times), true),
        ("m", Arc::new(decimals.with_precision_and_scale(20, 3).unwrap()), true),
        ("a", Arc::new(lists), true),
        ("p", Arc::new(StructArray::from(place)), false),
    ];
    let fields = columns.iter().map(|(name, array, null)| Field::new(*name, array.data_type().clone(), *null));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, array, _)| array).collect()).unwrap()
}

/// The messages of a batch, and the schema that wrote them.
fn encoded(batch: &RecordBatch) -> (Vec<Vec<u8>>, String) {
    let schema = batch.schema();
    let text = AvroSchema::try_from(schema.as_ref()).unwrap().json_string;
    let mut encoder = WriterBuilder::new(schema.as_ref().clone())
        .with_fingerprint_strategy(FingerprintStrategy::Id(7))
        .build_encoder::<AvroSoeFormat>()
        .unwrap();
    encoder.encode(batch).unwrap();
    (encoder.flush().iter().map(|row| row.to_vec()).collect(), text)
}

fn decoded(payloads: &[Vec<u8>], schema: &str) -> Decoded {
    let decoder = Decoder::new(&with_options(COLUMNS, "'format' 'avro'")).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(RegisteredSchema::alone(SchemaKind::Avro, schema)));
    decoder.decode(&messages(payloads.iter().map(Vec::as_slice))).unwrap()
}

/// What arrow-avro reads of one message; `None` if it refuses the message.
fn theirs(payload: &[u8], schema: &str) -> Option<RecordBatch> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(7), AvroSchema::new(schema.to_owned())).unwrap();
    let mut decoder = ReaderBuilder::new().with_writer_schema_store(store).build_decoder().unwrap();
    let consumed = decoder.decode(payload).ok()?;
    (consumed == payload.len()).then(|| decoder.flush().ok().flatten())?
}

/// Compares a row that we have read with a row of a batch, column by column.
fn compare(ours: &RecordBatch, row: usize, other: &RecordBatch, other_row: usize) {
    for name in COLUMNS.split(", ").filter_map(|column| column.trim().split(' ').next()).filter(|name| name.len() == 1)
    {
        let (ours, other) = (ours.column_by_name(name), other.column_by_name(name));
        let (Some(ours), Some(other)) = (ours, other) else { continue };
        let other = arrow::compute::cast(&other.slice(other_row, 1), ours.data_type()).unwrap();
        assert_eq!(ours.slice(row, 1).as_ref(), other.as_ref(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_arrow_avro_writes_is_read(rows in proptest::collection::vec(row(), 1..20)) {
        let batch = batch(&rows);
        let (payloads, schema) = encoded(&batch);
        let found = decoded(&payloads, &schema);
        prop_assert_eq!(found.rejects, 0);
        for row in 0..rows.len() {
            compare(&found.rows, row, &batch, row);
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_read_as_others_read_them(
        rows in proptest::collection::vec(row(), 3..4),
        at in any::<proptest::sample::Index>(),
        to in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (mut payloads, schema) = encoded(&batch(&rows));
        let changed = &mut payloads[1];
        let at = 5 + at.index(changed.len() - 5);
        if cut { changed.truncate(at) } else { changed[at] = to }
        let found = decoded(&payloads, &schema);
        let reasons = found.rows.column_by_name("_reject").unwrap();
        prop_assert!(reasons.is_null(0) && reasons.is_null(2));
        if reasons.is_null(1) {
            let theirs = theirs(&payloads[1], &schema);
            prop_assert!(theirs.is_some(), "only we read {:?}", payloads[1]);
            compare(&found.rows, 1, &theirs.unwrap(), 0);
        }
    }
}
