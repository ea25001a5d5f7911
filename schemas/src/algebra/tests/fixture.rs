//! Shared by the algebra's tests: a stream, thirteen of its messages with difficult values, and one query over them.
//!
//! Invariant: expected results come from DataFusion alone, without the algebra.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;

use crate::algebra::{ViewPlan, batches, collect};
use crate::definition::message::MessageOptions;
use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::definition::view::ViewDefinition;
use crate::engine::session;
use crate::{StreamName, ViewName};

pub(super) fn stream_definition() -> StreamDefinition {
    let columns = [
        ("k", DataType::Utf8),
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("d", DataType::Decimal128(12, 2)),
        ("b", DataType::Boolean),
        ("s", DataType::Utf8),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    StreamDefinition {
        name: StreamName::new("events").unwrap(),
        topic: "events".into(),
        columns: Arc::new(Schema::new(
            columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect::<Vec<_>>(),
        )),
        format: RecordFormat::Json,
        event_time: None,
        connection: None,
        messages: MessageOptions::default(),
        kafka: Default::default(),
        sql: String::new(),
    }
}

/// Partition and offset, then the columns of the stream.
type Row = (
    i32,
    i64,
    Option<&'static str>,
    Option<i64>,
    Option<f64>,
    Option<i128>,
    Option<bool>,
    Option<&'static str>,
    Option<i64>,
);

/// Twelve rows and one reject (the sixth) in two partitions: ties, nulls, NaN, both zeros, long and short strings.
const ROWS: [Row; 13] = [
    (0, 0, Some("a"), Some(3), Some(0.5), Some(100), Some(true), Some("x"), Some(5)),
    (0, 1, Some("b"), None, Some(-0.0), Some(-25), Some(false), Some(""), Some(5)),
    (0, 2, None, Some(-4), Some(0.0), None, None, Some("a string longer than twelve bytes"), None),
    (0, 5, Some("a"), Some(3), None, Some(9_999_999_999), Some(true), Some("x"), Some(3)),
    (0, 6, Some("a"), Some(1 << 40), Some(1e300), Some(1), Some(true), None, Some(5)),
    (0, 7, None, None, None, None, None, None, None),
    (0, 9, Some("c"), Some(0), Some(f64::NAN), Some(0), Some(true), Some("ü"), Some(9)),
    (1, 0, Some("a"), Some(3), Some(2.25), Some(7), None, Some("x"), Some(5)),
    (1, 1, Some("b"), Some(9), Some(-7.0), Some(7), Some(false), Some("y"), Some(1)),
    (1, 2, Some("b"), Some(-9), Some(1e-300), Some(8), Some(true), Some("a string longer than twelve bytez"), Some(5)),
    (1, 3, Some("c"), None, Some(3.0), None, Some(true), Some("x"), Some(2)),
    (1, 8, None, Some(2), Some(3.0), Some(3), Some(false), Some("zz"), Some(5)),
    (1, 9, Some("a"), Some(3), Some(0.5), Some(100), Some(true), Some("x"), Some(5)),
];

pub(super) fn rows() -> RecordBatch {
    let is_reject = |i: usize| i == 5;
    let amounts = Decimal128Array::from_iter(ROWS.map(|r| r.5));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(ROWS.map(|r| r.0))),
        Arc::new(Int64Array::from_iter_values(ROWS.map(|r| r.1))),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(7); 13])),
        Arc::new(StringArray::from_iter(ROWS.map(|r| r.2))),
        Arc::new(Int64Array::from_iter(ROWS.map(|r| r.3))),
        Arc::new(Float64Array::from_iter(ROWS.map(|r| r.4))),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(BooleanArray::from_iter(ROWS.map(|r| r.6))),
        Arc::new(StringArray::from_iter(ROWS.map(|r| r.7))),
        Arc::new(TimestampMicrosecondArray::from_iter(ROWS.map(|r| r.8))),
        Arc::new(StringArray::from_iter((0..13).map(|i| is_reject(i).then_some("broken")))),
        Arc::new(BinaryArray::from_iter((0..13).map(|i| is_reject(i).then_some(&b"{"[..])))),
        Arc::new(BinaryArray::from_iter(ROWS.map(|r| r.2.map(str::as_bytes)))),
        new_null_array(stream_definition().row_schema().field(13).data_type(), ROWS.len()),
        new_null_array(&DataType::Utf8, ROWS.len()),
        new_null_array(&DataType::Int32, ROWS.len()),
    ];
    RecordBatch::try_new(stream_definition().row_schema(), columns).unwrap()
}

pub(super) async fn compile(query: &str) -> crate::Result<ViewPlan> {
    let view = ViewDefinition {
        name: ViewName::new("v").unwrap(),
        stream: StreamName::new("events").unwrap(),
        query: query.to_owned(),
        sql: query.to_owned(),
    };
    ViewPlan::compile(&view, &stream_definition()).await
}

/// Returns result rows as sorted text, with floats rounded to nine digits.
pub(super) fn text(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| match ScalarValue::try_from_array(column, row).unwrap() {
                ScalarValue::Float64(Some(x)) if x != 0.0 && x.is_finite() => {
                    format!("{x:.9e}")
                }
                ScalarValue::Float64(Some(0.0)) => "0".into(),
                other => other.to_string(),
            });
            lines.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    lines.sort();
    lines
}

/// Runs one query over all rows by DataFusion alone.
pub(super) async fn direct(query: &str) -> Vec<String> {
    let stream = stream_definition();
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    let state = session.state();
    let plan = batches("all", stream.row_schema(), vec![rows()]).unwrap();
    let all = collect(&state, "reading", plan).await.unwrap();
    let all = concat_batches(&stream.row_schema(), &all).unwrap();
    let kept = arrow::compute::filter_record_batch(
        &all,
        &arrow::compute::is_null(all.column_by_name("_reject").unwrap()).unwrap(),
    )
    .unwrap();
    let names = stream.table_schema();
    let columns = names.fields().iter();
    let columns = columns.map(|f| Arc::clone(kept.column_by_name(f.name()).unwrap())).collect();
    let table = RecordBatch::try_new(names, columns).unwrap();
    session.register_batch("events", table).unwrap();
    text(&session.sql(query).await.unwrap().collect().await.unwrap())
}

/// Returns the states of `rows`; if `stored`, converted to storage types and back.
pub(super) async fn states_of(plan: &ViewPlan, rows: RecordBatch, stored: bool) -> Vec<RecordBatch> {
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let input = batches("rows", rows.schema(), vec![rows]).unwrap();
    let mut states = plan.update(input).unwrap();
    if stored {
        states = plan.to_stored(states).unwrap();
    }
    let out = collect(&state, "updating", states).await.unwrap();
    if !stored {
        return out;
    }
    let schema = Arc::clone(plan.stored_schema());
    let table = batches("stored", schema, out).unwrap();
    let restored = plan.from_stored(table).unwrap();
    collect(&state, "restoring", restored).await.unwrap()
}
