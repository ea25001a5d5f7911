//! What the algebra's tests share: a stream, thirteen messages of it with nasty values, and one query over them.
//!
//! Invariant: what is expected comes from DataFusion alone; nothing of the algebra takes part in it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;

use crate::algebra::{ViewPlan, batches, collect};
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
        kafka: Default::default(),
        sql: String::new(),
    }
}

/// Twelve rows and a reject in two partitions: ties, nulls, NaN, both zeros, long and short strings.
pub(super) fn rows() -> RecordBatch {
    let f = |x: f64| Some(x);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])),
        Arc::new(Int64Array::from(vec![0, 1, 2, 5, 6, 7, 9, 0, 1, 2, 3, 8, 9])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(7); 13])),
        Arc::new(StringArray::from(vec![
            Some("a"),
            Some("b"),
            None,
            Some("a"),
            Some("a"),
            None,
            Some("c"),
            Some("a"),
            Some("b"),
            Some("b"),
            Some("c"),
            None,
            Some("a"),
        ])),
        Arc::new(Int64Array::from(vec![
            Some(3),
            None,
            Some(-4),
            Some(3),
            Some(1 << 40),
            None,
            Some(0),
            Some(3),
            Some(9),
            Some(-9),
            None,
            Some(2),
            Some(3),
        ])),
        Arc::new(Float64Array::from(vec![
            f(0.5),
            f(-0.0),
            f(0.0),
            None,
            f(1e300),
            None,
            f(f64::NAN),
            f(2.25),
            f(-7.0),
            f(1e-300),
            f(3.0),
            f(3.0),
            f(0.5),
        ])),
        Arc::new(
            Decimal128Array::from(vec![
                Some(100),
                Some(-25),
                None,
                Some(9_999_999_999),
                Some(1),
                None,
                Some(0),
                Some(7),
                Some(7),
                Some(8),
                None,
                Some(3),
                Some(100),
            ])
            .with_precision_and_scale(12, 2)
            .unwrap(),
        ),
        Arc::new(BooleanArray::from(vec![
            Some(true),
            Some(false),
            None,
            Some(true),
            Some(true),
            None,
            Some(true),
            None,
            Some(false),
            Some(true),
            Some(true),
            Some(false),
            Some(true),
        ])),
        Arc::new(StringArray::from(vec![
            Some("x"),
            Some(""),
            Some("a string longer than twelve bytes"),
            Some("x"),
            None,
            None,
            Some("ü"),
            Some("x"),
            Some("y"),
            Some("a string longer than twelve bytez"),
            Some("x"),
            Some("zz"),
            Some("x"),
        ])),
        Arc::new(TimestampMicrosecondArray::from(vec![
            Some(5),
            Some(5),
            None,
            Some(3),
            Some(5),
            None,
            Some(9),
            Some(5),
            Some(1),
            Some(5),
            Some(2),
            Some(5),
            Some(5),
        ])),
        Arc::new(StringArray::from((0..13).map(|i| (i == 5).then_some("broken")).collect::<Vec<_>>())),
        Arc::new(BinaryArray::from((0..13).map(|i| (i == 5).then_some(&b"{"[..])).collect::<Vec<_>>())),
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

/// Result rows as sorted text, floats rounded to nine digits.
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

/// One query over all rows, by DataFusion alone.
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

/// The states of `rows`, through storage and back if `stored`.
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
