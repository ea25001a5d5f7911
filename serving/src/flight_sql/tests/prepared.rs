//! Prepared statements: schemas, values of every type, several rows, and the ends of handles.

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, RunArray,
    StringArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};

use super::*;

fn one(column: impl arrow::array::Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("$1", Arc::new(column) as ArrayRef, true)]).unwrap()
}

/// The lines of a prepared query with bound values.
async fn bound(server: &FlightServer, sql: &str, values: RecordBatch) -> Result<Vec<String>, String> {
    let mut client = server.client().await;
    let mut prepared = client.prepare(sql.to_owned(), None).await.map_err(|e| e.to_string())?;
    prepared.set_parameters(values).unwrap();
    let info = prepared.execute().await.map_err(|e| e.to_string())?;
    let announced = info.clone().try_decode_schema().unwrap();
    let stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.map_err(|e| e.to_string())?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(|e| e.to_string())?;
    assert!(batches.iter().all(|batch| batch.schema().fields() == announced.fields()), "{sql}");
    prepared.close().await.unwrap();
    Ok(lines(&batches))
}

#[tokio::test]
async fn values_of_every_type_are_bound() {
    let server = FlightServer::start().await;
    let check = async |values: RecordBatch, expect: &str| {
        let got = bound(&server, "SELECT CAST($1 AS STRING) AS v, 1 AS n", values.clone()).await;
        let got = got.unwrap_or_else(|e| panic!("{expect}: {e}"));
        assert_eq!(got[1].split('|').next().unwrap().trim(), expect, "{values:?}");
    };
    check(one(Int64Array::from(vec![7])), "7").await;
    check(one(Int8Array::from(vec![-7])), "-7").await;
    check(one(Int16Array::from(vec![7])), "7").await;
    check(one(Int32Array::from(vec![7])), "7").await;
    check(one(UInt64Array::from(vec![u64::MAX])), "18446744073709551615").await;
    check(one(Float32Array::from(vec![1.5])), "1.5").await;
    check(one(Float64Array::from(vec![-0.25])), "-0.25").await;
    check(one(BooleanArray::from(vec![true])), "true").await;
    check(one(StringArray::from(vec!["it's ⛵"])), "it's ⛵").await;
    check(one(LargeStringArray::from(vec!["x"])), "x").await;
    check(one(StringViewArray::from(vec!["a longer text than fits"])), "a longer text than fits").await;
    check(one(DictionaryArray::<Int32Type>::from_iter(["d"])), "d").await;
    check(one(BinaryArray::from(vec![b"ab".as_ref()])), "ab").await;
    check(one(Date32Array::from(vec![1])), "1970-01-02").await;
    check(one(TimestampMicrosecondArray::from(vec![1_000_000])), "1970-01-01T00:00:01").await;
    check(one(TimestampMillisecondArray::from(vec![1_000]).with_timezone("+02:00")), "1970-01-01T00:00:01").await;
    check(one(Time64MicrosecondArray::from(vec![61_000_000])), "00:01:01").await;
    let decimal = Decimal128Array::from(vec![12_345]).with_precision_and_scale(10, 2).unwrap();
    check(one(decimal), "123.45").await;
    check(one(Int64Array::from(vec![None])), "").await;
    check(one(StringArray::from(vec![None::<&str>])), "").await;
    check(one(NullArray::new(1)), "").await;
}

#[tokio::test]
async fn a_statement_tells_what_it_takes_and_gives() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let sql = "SELECT device, readings FROM device_minutes WHERE minute >= $1 AND readings > $2 AND device = $3";
    let prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    let types = |schema: &arrow::datatypes::Schema| -> Vec<DataType> {
        schema.fields().iter().map(|field| field.data_type().clone()).collect()
    };
    assert_eq!(types(prepared.dataset_schema().unwrap()), [DataType::Utf8, DataType::Int64]);
    let parameters = prepared.parameter_schema().unwrap();
    assert_eq!(types(parameters)[1..], [DataType::Int64, DataType::Utf8]);
    assert_eq!(parameters.field(2).name(), "$3");
    prepared.close().await.unwrap();
}

#[tokio::test]
async fn a_query_runs_once_for_each_row_of_values() {
    let server = FlightServer::start().await;
    let sql = "SELECT value FROM generate_series(1, 3) WHERE value <= $1";
    let rows = bound(&server, sql, one(Int64Array::from(vec![1, 0, 2, 3]))).await.unwrap();
    assert_eq!(rows, ["value", "1", "1", "2", "1", "2", "3"]);
    // A row that fails ends the answer with its error.
    let failed = bound(&server, "SELECT 1 / $1 AS x", one(Int64Array::from(vec![1, 0]))).await.unwrap_err();
    assert!(failed.to_lowercase().contains("zero"), "{failed}");
}

#[tokio::test]
async fn a_statement_is_run_again_and_bound_anew() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let mut prepared = client.prepare("SELECT $1 + 1 AS n".to_owned(), None).await.unwrap();
    for value in [1, 5, 9] {
        prepared.set_parameters(one(Int64Array::from(vec![value]))).unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(lines(&super::rows(&mut client, info).await), ["n".to_owned(), (value + 1).to_string()]);
    }
    // What is asked for keeps its values when others are bound.
    let first = prepared.execute().await.unwrap();
    prepared.set_parameters(one(Int64Array::from(vec![100]))).unwrap();
    prepared.execute().await.unwrap();
    assert_eq!(lines(&super::rows(&mut client, first).await), ["n", "10"]);
}

#[tokio::test]
async fn wrong_values_are_refused() {
    let server = FlightServer::start().await;
    let two = RecordBatch::try_from_iter([
        ("$1", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("$2", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
    ]);
    let many = one(Int64Array::from(vec![1; 1_001]));
    let long = one(StringArray::from(vec!["x".repeat(2 << 20)]));
    let text = one(StringArray::from(vec!["x"]));
    for (sql, values, expect) in [
        ("SELECT $1 + 1", two.unwrap(), "2 values are bound for 1"),
        ("SELECT $1 + 1", many, "more than 1000 rows"),
        ("SELECT CAST($1 AS STRING)", long, "longer than 1 MiB"),
        ("SELECT readings FROM totals WHERE readings > $1", text, "$1"),
    ] {
        let refused = bound(&server, sql, values).await.unwrap_err();
        assert!(refused.contains(expect), "{sql}: {refused}");
    }
    let mut client = server.client().await;
    let mut unbound = client.prepare("SELECT $1 + 1".to_owned(), None).await.unwrap();
    let info = unbound.execute().await.unwrap();
    let refused = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("placeholders up to $1"), "{refused}");
}

/// Decodes one batch as a client sends it that keeps what its rows share.
async fn decoded(batch: RecordBatch) -> crate::Result<Option<RecordBatch>> {
    let builder = FlightDataEncoderBuilder::new().with_dictionary_handling(DictionaryHandling::Resend);
    let mut sent = builder.build(futures::stream::iter([Ok(batch)]));
    let mut received = parameters::BoundMessages::default();
    while let Some(message) = sent.try_next().await.unwrap() {
        received.push(message)?;
    }
    received.decode().await
}

#[tokio::test]
async fn what_rows_share_is_counted_before_it_is_written_out() {
    let check = async |columns: &dyn Fn(usize) -> ArrayRef| {
        let batch = |length| RecordBatch::try_from_iter_with_nullable([("$1", columns(length), true)]).unwrap();
        let read = decoded(batch(100)).await.unwrap().unwrap();
        assert_eq!((read.num_rows(), read.column(0).data_type()), (1_000, &DataType::Utf8));
        let refused = decoded(batch(100_000)).await.unwrap_err();
        assert_eq!(refused.status(), 413);
        assert!(refused.to_string().contains("2 MiB once each row has values of its own"), "{refused}");
    };
    let text = |length: usize| StringArray::from(vec!["x".repeat(length)]);
    let keys = || Int32Array::from(vec![0; 1_000]);
    check(&|length| Arc::new(DictionaryArray::<Int32Type>::new(keys(), Arc::new(text(length))))).await;
    check(&|length| {
        let view = arrow::compute::cast(&text(length), &DataType::Utf8View).unwrap();
        arrow::compute::take(&view, &keys(), None).unwrap()
    })
    .await;
    let ends = Int32Array::from(vec![1_000]);
    check(&|length| Arc::new(RunArray::<Int32Type>::try_new(&ends, &text(length)).unwrap())).await;
    // Within a list as well, which the engine would write out.
    let lists = |length: usize| -> ArrayRef {
        let items: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys(), Arc::new(text(length))));
        let item = Arc::new(Field::new("item", items.data_type().clone(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1_000]), items, None))
    };
    let batch = RecordBatch::try_from_iter_with_nullable([("$1", lists(100_000), true)]).unwrap();
    assert_eq!(decoded(batch).await.unwrap_err().status(), 413);
}

#[tokio::test]
async fn a_statement_follows_the_catalog() {
    let server = FlightServer::start().await;
    let mut client = server.client().await;
    let mut prepared = client.prepare("SELECT * FROM totals".to_owned(), None).await.unwrap();
    let info = prepared.execute().await.unwrap();
    let before = super::rows(&mut client, info).await;
    let other = "CREATE MATERIALIZED VIEW other AS SELECT count(*) AS n FROM sensor_data";
    client.execute_update(other.to_owned(), None).await.unwrap();
    let newer = server.world.sources.shared.catalogs.load().await.unwrap();
    server.world.catalog.send_replace(newer);
    let info = prepared.execute().await.unwrap();
    assert_eq!(lines(&super::rows(&mut client, info).await), lines(&before));
    prepared.close().await.unwrap();
}
