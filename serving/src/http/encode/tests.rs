//! Values that an encoding easily loses.

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, DurationMicrosecondArray, Float32Array, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::datatypes::{Date32Type, Int32Type, IntervalMonthDayNano, TimeUnit};

use super::*;

fn encode(format: AnswerFormat, columns: Vec<(&str, ArrayRef)>) -> String {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap();
    let mut encoder = Encoder::new(format, batch.schema(), None).unwrap();
    let mut out = Vec::new();
    encoder.begin(&head(&batch.schema(), r#"{"s":{"0":3}}"#), &mut out).unwrap();
    encoder.batch(&batch, &mut out).unwrap();
    encoder.batch(&batch.slice(0, 0), &mut out).unwrap();
    encoder.batch(&batch.slice(0, 1), &mut out).unwrap();
    encoder.end(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn head(schema: &Schema, frontier: &str) -> SqlAnswer {
    let frontier = serde_json::from_str(frontier).unwrap();
    let (partial, certificate, rows) = (Default::default(), None, Vec::new());
    SqlAnswer { columns: columns(schema), frontier, stale: false, partial, certificate, rows }
}

/// Checks that `column` is written as these JSON values, and its first row once more.
#[track_caller]
fn check(column: ArrayRef, expect: &[&str]) {
    let text = encode(AnswerFormat::Json, vec![("x", column)]);
    let parsed: serde_json::Value = serde_json::from_str(&text).expect(&text);
    let rows = parsed["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expect.len() + 1, "{text}");
    for (row, expect) in rows.iter().zip(expect) {
        let expect: serde_json::Value = serde_json::from_str(expect).unwrap();
        assert_eq!(row[0], expect, "{text}");
    }
}

#[test]
fn json_keeps_every_value() {
    let floats = [0.1, -0.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324];
    check(
        Arc::new(Float64Array::from(floats.to_vec())),
        &["0.1", "-0.0", "1e300", "\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "5e-324"],
    );
    check(Arc::new(Float32Array::from(vec![0.1, 16_777_216.0])), &["0.1", "16777216.0"]);
    check(Arc::new(Int64Array::from(vec![Some(i64::MIN), None])), &["-9223372036854775808", "null"]);
    check(Arc::new(UInt64Array::from(vec![u64::MAX])), &["18446744073709551615"]);
    let decimals = Decimal128Array::from(vec![1_234_567_890_123_456_789, -5]).with_precision_and_scale(38, 2).unwrap();
    check(Arc::new(decimals), &["\"12345678901234567.89\"", "\"-0.05\""]);
    check(Arc::new(StringArray::from(vec!["a\"b\\c\nü\u{0}", ""])), &[r#""a\"b\\c\nü\u0000""#, "\"\""]);
    let times = TimestampMicrosecondArray::from(vec![1_767_225_600_000_001, 0]);
    check(Arc::new(times), &["\"2026-01-01T00:00:00.000001\"", "\"1970-01-01T00:00:00\""]);
    check(Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..]])), &["\"00ff\""]);
}

#[test]
fn times_that_no_calendar_has_are_numbers() {
    let far = [Some(i64::MAX), Some(i64::MIN), Some(253_402_300_799_999_999), None];
    let times = TimestampMicrosecondArray::from(far.to_vec());
    let zoned = times.clone().with_timezone("UTC");
    let numbers = ["\"9223372036854775807\"", "\"-9223372036854775808\""];
    let [largest, least] = numbers;
    check(Arc::new(times.clone()), &[largest, least, "\"9999-12-31T23:59:59.999999\"", "null"]);
    check(Arc::new(zoned.clone()), &[largest, least, "\"9999-12-31T23:59:59.999999Z\"", "null"]);
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(i32::MAX), Some(0), None]));
    check(Arc::clone(&days), &["\"2147483647\"", "\"1970-01-01\"", "null"]);
    let clocks = Time64MicrosecondArray::from(vec![i64::MAX, 1]);
    check(Arc::new(clocks), &["\"9223372036854775807\"", "\"00:00:00.000001\""]);
    let spans = DurationMicrosecondArray::from(vec![i64::MAX]);
    let intervals = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(i32::MAX, i32::MIN, i64::MIN)]);
    for column in [Arc::new(spans) as ArrayRef, Arc::new(intervals)] {
        let text = encode(AnswerFormat::Json, vec![("x", column)]);
        assert!(!text.contains("ERROR") && text.parse::<serde_json::Value>().is_ok(), "{text}");
    }
    let lists = ListArray::from_iter_primitive::<Date32Type, _, _>(vec![Some(vec![Some(i32::MIN)])]);
    check(Arc::new(lists), &["[\"-2147483648\"]"]);
    let zoned: ArrayRef = Arc::new(zoned);
    let csv = encode(AnswerFormat::Csv, vec![("t", zoned.slice(0, 1)), ("d", days.slice(0, 1))]);
    assert_eq!(csv, "t,d\n9223372036854775807,2147483647\n9223372036854775807,2147483647\n");
}

#[test]
fn nested_values_are_lists_and_objects() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    check(Arc::new(lists), &["[1,null]", "null"]);
    let field = Arc::new(Field::new("f", DataType::Float64, true));
    let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None]));
    let structs: ArrayRef = Arc::new(StructArray::from(vec![(field, values)]));
    check(Arc::clone(&structs), &["{\"f\":\"NaN\"}", "{\"f\":null}"]);
    let csv = encode(AnswerFormat::Csv, vec![("s", structs)]);
    assert_eq!(csv, "s\n\"{\"\"f\"\":\"\"NaN\"\"}\"\n\"{\"\"f\"\":null}\"\n\"{\"\"f\"\":\"\"NaN\"\"}\"\n");
}

#[test]
fn json_names_columns_types_and_frontier_before_the_rows() {
    let text = encode(
        AnswerFormat::Json,
        vec![("n", Arc::new(Int64Array::from(vec![1]))), ("n", Arc::new(StringArray::from(vec!["a"])))],
    );
    assert_eq!(
        text,
        "{\"columns\":[{\"name\":\"n\",\"type\":\"Int64\"},{\"name\":\"n\",\"type\":\"Utf8\"}],\"frontier\":{\"s\":{\"0\":3}},\"rows\":[\n[1,\"a\"],\n[1,\"a\"]]}\n"
    );
    assert_eq!(DataType::Timestamp(TimeUnit::Microsecond, None).to_string(), "Timestamp(µs)");
}

#[test]
fn csv_has_a_head_even_without_rows() {
    let schema =
        Arc::new(Schema::new(vec![Field::new("a,b", DataType::Int64, true), Field::new("c", DataType::Utf8, true)]));
    let mut encoder = Encoder::new(AnswerFormat::Csv, Arc::clone(&schema), None).unwrap();
    let mut out = Vec::new();
    encoder.begin(&head(&schema, "{}"), &mut out).unwrap();
    encoder.end(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "\"a,b\",c\n");
}

#[test]
fn ndjson_has_an_object_per_row_and_takes_each_name_once() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a\nb", ""]));
    let text = encode(AnswerFormat::Ndjson, vec![("n", Arc::clone(&numbers)), ("a \"t\"", texts)]);
    let row = r#"{"n":1,"a \"t\"":"a\nb"}"#;
    assert_eq!(text, format!("{row}\n{}\n{row}\n", r#"{"n":null,"a \"t\"":""}"#));
    let field = || Field::new("n", DataType::Int64, true);
    let twice = Arc::new(Schema::new(vec![field(), field()]));
    for (format, expect) in [
        (AnswerFormat::Json, true),
        (AnswerFormat::Csv, true),
        (AnswerFormat::Arrow, true),
        (AnswerFormat::Ndjson, false),
        (AnswerFormat::Parquet, false),
    ] {
        assert_eq!(Encoder::new(format, Arc::clone(&twice), None).is_ok(), expect, "{format:?}");
    }
}
