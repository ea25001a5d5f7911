//! The events and definitions that the benches share.
//!
//! Invariant: event `i` is a pure function of `i`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use thalweg_schemas::algebra::ViewPlan;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::definition::view::ViewDefinition;
use thalweg_schemas::definition::{self, Statement};

/// Rows of a micro-batch.
pub(crate) const MICRO_BATCH: usize = 65_536;

const STREAM: &str = "CREATE EXTERNAL TABLE readings
    (device STRING, room INT, ts TIMESTAMP, temperature DOUBLE, load BIGINT)
    STORED AS KAFKA LOCATION 'readings' OPTIONS ('format' 'json', 'event_time' 'ts')";

/// Two keys, five aggregates.
const VIEW: &str = "CREATE MATERIALIZED VIEW device_rooms AS
    SELECT device, room, count(*) AS n, sum(load) AS total, avg(temperature) AS mean, max(temperature) AS peak,
           count(*) FILTER (WHERE temperature > 30) AS alarms
    FROM readings GROUP BY device, room";

/// The stream of the benches.
pub(crate) fn stream() -> StreamDefinition {
    match definition::parse(STREAM).expect("valid SQL").remove(0) {
        Statement::CreateStream { definition, .. } => definition,
        other => panic!("not a stream: {other:?}"),
    }
}

/// The view of the benches.
pub(crate) fn view() -> ViewDefinition {
    match definition::parse(VIEW).expect("valid SQL").remove(0) {
        Statement::CreateView { definition, .. } => definition,
        other => panic!("not a view: {other:?}"),
    }
}

/// The view, compiled.
pub(crate) async fn plan() -> ViewPlan {
    ViewPlan::compile(&view(), &stream()).await.expect("a view that can be maintained")
}

/// A number that looks random: the finaliser of SplitMix64.
fn scatter(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) fn device(i: u64, devices: u64) -> String {
    format!("device-{:06}", scatter(i) % devices)
}

fn temperature(i: u64) -> f64 {
    (scatter(i ^ 0xf00d) % 6000) as f64 / 100.0 - 10.0
}

fn time_us(i: u64) -> i64 {
    1_700_000_000_000_000 + i64::try_from(i).expect("few events") * 1_000
}

/// Events `[from, from + rows)` as rows of the stream's row schema, all of partition 0.
pub(crate) fn rows(from: u64, rows: usize, devices: u64) -> RecordBatch {
    let range = from..from + rows as u64;
    let offset = |i: u64| i64::try_from(i).expect("few events");
    let times = || TimestampMicrosecondArray::from_iter_values(range.clone().map(time_us));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![0; rows])),
        Arc::new(Int64Array::from_iter_values(range.clone().map(offset))),
        Arc::new(times()),
        Arc::new(StringArray::from_iter_values(range.clone().map(|i| device(i, devices)))),
        Arc::new(Int32Array::from_iter_values(range.clone().map(|i| (scatter(i) >> 40) as i32 % 4))),
        Arc::new(times()),
        Arc::new(Float64Array::from_iter_values(range.clone().map(temperature))),
        Arc::new(Int64Array::from_iter_values(range.clone().map(|i| offset(i % 1000)))),
        new_null_array(&DataType::Utf8, rows),
        Arc::new(BinaryArray::from(vec![None::<&[u8]>; rows])),
        Arc::new(BinaryArray::from(vec![None::<&[u8]>; rows])),
        new_null_array(stream().row_schema().field(11).data_type(), rows),
    ];
    RecordBatch::try_new(stream().row_schema(), columns).expect("the stream's row schema")
}

/// Event `i` as a message of about 110 bytes.
pub(crate) fn message(i: u64) -> String {
    format!(
        r#"{{"device":"{}","room":{},"ts":"2026-01-01T00:{:02}:{:02}.{:06}Z","temperature":{:.6},"load":{}}}"#,
        device(i, 100_000),
        (scatter(i) >> 40) % 4,
        i / 60_000 % 60,
        i / 1000 % 60,
        i % 1000 * 1000,
        temperature(i),
        i % 1000 * 1_000_001
    )
}
