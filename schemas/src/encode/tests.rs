//! What is encoded is decoded as it was, for every type and format.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Schema;
use proptest::prelude::*;

use super::*;
use crate::decode::{Decoder, Messages, SchemaKind, match_columns};
use crate::definition::{self, Statement};
use crate::{Offset, Partition};

fn stream(columns: &str, options: &str) -> StreamDefinition {
    let sql = format!("CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION 's' OPTIONS ({options})");
    match definition::parse(&sql).unwrap().remove(0) {
        Statement::CreateStream { definition, .. } => definition,
        other => panic!("{other:?}"),
    }
}

/// The rows that a stream reads from JSON objects.
fn rows(columns: &str, objects: &[&str]) -> RecordBatch {
    let of = stream(columns, "'format' 'json'");
    let mut messages = Messages::new();
    objects.iter().for_each(|object| messages.push(Partition(0), Offset(0), None, Some(object.as_bytes())));
    columns_of(&of, &Decoder::new(&of).unwrap(), &messages)
}

fn columns_of(of: &StreamDefinition, decoder: &Decoder, messages: &Messages) -> RecordBatch {
    let decoded = decoder.decode(messages).unwrap();
    let reasons: Vec<_> = decoded.rows.column_by_name("_reject").unwrap().as_string::<i32>().iter().flatten().collect();
    assert!(reasons.is_empty(), "{reasons:?}");
    decoded.rows.project(&(3..3 + of.columns.fields().len()).collect::<Vec<_>>()).unwrap()
}

/// What the stream reads from the messages of its encoder.
#[track_caller]
fn read_back(of: &StreamDefinition, encoded: &EncodedPayloads) -> RecordBatch {
    assert!(encoded.refused.is_empty(), "{:?}", encoded.refused);
    let mut messages = Messages::new();
    for row in 0..encoded.payloads.len() {
        messages.push(Partition(0), Offset(0), None, encoded.payloads.get(row));
    }
    columns_of(of, &Decoder::new(of).unwrap(), &messages)
}

/// Checks the text of one value in JSON, and that it is read back.
#[track_caller]
fn check(column: &str, options: &str, value: &str, expect: &str) {
    let of = stream(&format!("a {column}"), &format!("'format' 'json'{options}"));
    let rows = rows(&format!("a {column}"), &[&format!("{{\"a\":{value}}}")]);
    let encoded = MessageEncoder::new(&of).unwrap().encode(&rows);
    let text = std::str::from_utf8(encoded.payloads.get(0).unwrap()).unwrap();
    assert_eq!(text, format!("{{\"a\":{expect}}}"));
    assert_eq!(read_back(&of, &encoded), rows);
}

#[test]
fn values_in_json() {
    check("BIGINT", "", "9223372036854775807", "9223372036854775807");
    check("DECIMAL(38,2)", "", "-0.05", "-0.05");
    check("DECIMAL(38,0)", "", "99999999999999999999999999999999999999", "99999999999999999999999999999999999999");
    check("DECIMAL(3,3)", "", "0.5", "0.500");
    check("DOUBLE", "", "0.1", "0.1");
    check("DOUBLE", "", "-0.0", "-0.0");
    check("DOUBLE", "", "\"-Infinity\"", "\"-Infinity\"");
    check("REAL", "", "\"NaN\"", "\"NaN\"");
    check("REAL", "", "0.1", "0.1");
    check("STRING", "", "\"\\\"\\u0000é\\n\"", "\"\\\"\\u0000é\\n\"");
    check("STRING", "", "\"\"", "\"\"");
    check("BYTEA", "", "\"00FF\"", "\"00ff\"");
    check("BYTEA", ", 'json.bytes' 'base64'", "\"00FF\"", "\"AP8=\"");
    check("DATE", "", "\"0001-01-01\"", "\"0001-01-01\"");
    check("TIMESTAMP", "", "\"2024-05-01 12:00+02:00\"", "\"2024-05-01T10:00:00Z\"");
    check("TIMESTAMP", "", "\"9999-12-31T23:59:59.999999\"", "\"9999-12-31T23:59:59.999999Z\"");
    check("TIMESTAMP", "", "\"1969-12-31T23:59:59.5\"", "\"1969-12-31T23:59:59.500Z\"");
    check("INT[]", "", "[1,null,3]", "[1,null,3]");
    check("INT[]", "", "[]", "[]");
    check("STRUCT<x INT, y STRUCT<z STRING>>", "", "{\"y\":{\"z\":\"\"}}", "{\"y\":{\"z\":\"\"}}");
    check("STRUCT<x INT>", "", "{}", "{}");
    check("STRUCT<x INT[]>[]", "", "[{\"x\":[]},{},null]", "[{\"x\":[]},{},null]");
}

#[test]
fn times_are_numbers_where_the_stream_says_so() {
    let moment = "\"2024-05-01T12:00:00.25\"";
    for (unit, expect) in [
        ("s", "1714564800.25"),
        ("ms", "1714564800250"),
        ("us", "\"2024-05-01T12:00:00.250Z\""),
        ("ns", "1714564800250000000"),
    ] {
        check("TIMESTAMP", &format!(", 'timestamp_unit' '{unit}'"), moment, expect);
    }
    // As a number it would be refused as a number of seconds.
    check("TIMESTAMP", ", 'timestamp_unit' 'ms'", "\"1970-01-20\"", "\"1970-01-20T00:00:00Z\"");
}

#[test]
fn columns_without_values_are_left_out() {
    let of = stream("a INT, b STRING, c INT", "'format' 'json'");
    let rows = rows("a INT, b STRING, c INT", &["{}", "{\"b\":\"x\"}"]);
    let encoded = MessageEncoder::new(&of).unwrap().encode(&rows);
    assert_eq!(encoded.payloads.get(0), Some(b"{}".as_slice()));
    assert_eq!(encoded.payloads.get(1), Some(b"{\"b\":\"x\"}".as_slice()));
}

#[test]
fn what_would_not_be_read_is_refused() {
    let of = stream("a INT NOT NULL, b TIMESTAMP, c DATE", "'format' 'json'");
    let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let b: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, None, Some(i64::MAX), None]));
    let c: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), None, None, Some(i32::MAX)]));
    let rows = RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true), ("c", c, true)]).unwrap();
    let encoded = MessageEncoder::new(&of).unwrap().encode(&rows);
    assert_eq!(encoded.payloads.get(0), Some(b"{\"a\":1,\"c\":\"1970-01-01\"}".as_slice()));
    let refused: Vec<(usize, &str)> = encoded.refused.iter().map(|(row, why)| (*row, why.as_str())).collect();
    assert_eq!(
        refused,
        [
            (1, "`a` is NOT NULL and has no value"),
            (2, "the value of `b` is not a valid TIMESTAMP: it is out of range"),
            (3, "the value of `c` is not a valid DATE: it is out of range"),
        ]
    );
}

#[test]
fn lines_have_a_value_for_each_column() {
    let columns = "a STRING, b DOUBLE, c INT[]";
    for (format, objects, expect) in [
        ("csv", "{\"a\":\"x, \\\"y\\\"\",\"b\":1.5,\"c\":[1,2]}", Ok("\"x, \"\"y\"\"\",1.5,\"[1,2]\"")),
        ("csv", "{\"a\":\"\"}", Ok("\"\",,")),
        ("csv", "{}", Ok(",,")),
        ("tsv", "{\"a\":\"say \\\"x\\\"\",\"b\":\"NaN\",\"c\":[]}", Ok("say \"x\"\tNaN\t[]")),
        ("tsv", "{\"a\":\"\"}", Err("between tabs, an empty text is NULL")),
        ("tsv", "{\"a\":\"x\\ty\"}", Err("it has a tab or a line break")),
    ] {
        let of = stream(columns, &format!("'format' '{format}'"));
        let rows = rows(columns, &[objects]);
        let encoded = MessageEncoder::new(&of).unwrap().encode(&rows);
        match expect {
            Ok(line) => {
                assert_eq!(encoded.payloads.get(0), Some(line.as_bytes()), "{format} {objects}");
                assert_eq!(read_back(&of, &encoded), rows);
            }
            Err(why) => assert!(encoded.refused[0].1.ends_with(why), "{}", encoded.refused[0].1),
        }
    }
    let of = stream("a INT", "'format' 'csv'");
    let rows = rows("a INT", &["{}"]);
    assert_eq!(read_back(&of, &MessageEncoder::new(&of).unwrap().encode(&rows)), rows);
}

#[test]
fn a_raw_message_is_its_column() {
    for (column, value, expect) in [
        ("STRING", "\"grün\"", Some("grün".as_bytes())),
        ("STRING", "\"\"", Some(b"".as_slice())),
        ("BYTEA", "\"ff00\"", Some([0xff, 0].as_slice())),
        ("BYTEA", "null", None),
    ] {
        let of = stream(&format!("a {column}"), "'format' 'raw'");
        let rows = rows(&format!("a {column}"), &[&format!("{{\"a\":{value}}}")]);
        let encoded = MessageEncoder::new(&of).unwrap().encode(&rows);
        assert_eq!(encoded.payloads.get(0), expect, "{value}");
        assert_eq!(read_back(&of, &encoded), rows);
    }
}

#[test]
fn keys_are_texts() {
    for (column, value, expect) in [
        ("STRING", "\"a\\\"b\"", Some("a\"b")),
        ("STRING", "null", None),
        ("BIGINT", "-7", Some("-7")),
        ("DECIMAL(4,2)", "1.5", Some("1.50")),
        ("DOUBLE", "\"NaN\"", Some("NaN")),
        ("BOOLEAN", "true", Some("true")),
        ("BYTEA", "\"6b\"", Some("k")),
        ("TIMESTAMP", "\"2024-05-01\"", Some("2024-05-01T00:00:00Z")),
    ] {
        let columns = format!("a {column}");
        let rows = rows(&columns, &[&format!("{{\"a\":{value}}}")]);
        let encoder = MessageEncoder::new(&stream(&columns, "'format' 'json'")).unwrap();
        assert_eq!(encoder.texts(&rows, 0).unwrap().get(0), expect.map(str::as_bytes), "{value}");
    }
    let rows = rows("a INT[]", &["{}"]);
    let encoder = MessageEncoder::new(&stream("a INT[]", "'format' 'json'")).unwrap();
    assert_eq!(encoder.texts(&rows, 0).unwrap_err(), "`a` is INT[], which has no text");
}

#[test]
fn names_of_a_file_meet_columns_in_any_case() {
    let columns = stream("a INT, \"B\" INT, c INT", "'format' 'json'").columns;
    let check = |names: &[&str], expect: Result<&[Option<usize>], [&str; 3]>| {
        let expect = expect.map(<[_]>::to_vec).map_err(|names| names.map(str::to_owned));
        assert_eq!(match_columns(&columns, names), expect, "{names:?}");
    };
    check(&["C", "x", "a"], Ok(&[Some(2), None, Some(0)]));
    check(&["b", "B"], Ok(&[None, Some(1)]));
    check(&["A", "a"], Ok(&[None, Some(0)]));
    check(&["a", "A"], Ok(&[Some(0), None]));
    check(&["A", "A", "a"], Ok(&[None, None, Some(0)]));
    check(&["A", "A"], Err(["A", "A", "a"]));
    check(&["c", "c"], Err(["c", "c", "c"]));
}

const SCHEMA: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"b","type":["null","boolean"]}, {"name":"i1","type":["int","null"]}, {"name":"i2","type":["null","long"]},
    {"name":"i4","type":["null","int"]}, {"name":"i8","type":["null","long"]}, {"name":"f4","type":["null","float"]},
    {"name":"f8","type":["null","float","double"]}, {"name":"extra","type":["string","null"]},
    {"name":"m","type":["null",{"type":"bytes","logicalType":"decimal","precision":38,"scale":12}]},
    {"name":"s","type":["null","string"]}, {"name":"y","type":["null","bytes"]},
    {"name":"d","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"t","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"l","type":["null",{"type":"array","items":["null","int"]}]},
    {"name":"p","type":["null",{"type":"record","name":"P","fields":[
        {"name":"n","type":["null","string"]}, {"name":"x","type":["null","double"]}]}]}]}"#;

const COLUMNS: &str = "b BOOLEAN, i1 TINYINT, i2 SMALLINT, i4 INT, i8 BIGINT, f4 REAL, f8 DOUBLE, m DECIMAL(38,10), \
                       s STRING, y BYTEA, d DATE, t TIMESTAMP, l INT[], p STRUCT<x DOUBLE, n STRING>";

type Whole = (Option<bool>, Option<i8>, Option<i16>, Option<i32>, Option<i64>);
type Other = (Option<f32>, Option<f64>, Option<i64>, Option<String>, Option<Vec<u8>>);
type Nested = (Option<i32>, Option<i64>, Option<Vec<Option<i32>>>, Option<(Option<f64>, Option<String>)>);

fn some_row() -> impl Strategy<Value = (Whole, Other, Nested)> {
    let float = || prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1.5)];
    let single = prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::NEG_INFINITY)];
    let other = (
        proptest::option::of(single),
        proptest::option::of(float()),
        any::<Option<i64>>(),
        any::<Option<String>>(),
        any::<Option<Vec<u8>>>(),
    );
    let object = (proptest::option::of(float()), any::<Option<String>>());
    let nested = (
        proptest::option::of(-719_162..=2_932_896i32),
        proptest::option::of(-62_135_596_800_000_000..=253_402_300_799_999_999i64),
        proptest::option::of(proptest::collection::vec(any::<Option<i32>>(), 0..4)),
        proptest::option::of(object),
    );
    (any::<Whole>(), other, nested)
}

/// The rows as a batch with the columns of the stream.
fn batch(of: &StreamDefinition, rows: &[(Whole, Other, Nested)]) -> RecordBatch {
    let decimals = rows.iter().map(|row| row.1.2.map(|m| i128::from(m) * 1_000_000_007));
    let lists: Vec<&Option<Vec<Option<i32>>>> = rows.iter().map(|row| &row.2.2).collect();
    let objects: Vec<&Option<(Option<f64>, Option<String>)>> = rows.iter().map(|row| &row.2.3).collect();
    let (DataType::List(item), DataType::Struct(fields)) =
        (of.columns.field(12).data_type(), of.columns.field(13).data_type())
    else {
        panic!("other columns")
    };
    let items = Int32Array::from_iter(lists.iter().flat_map(|list| list.iter().flatten().copied()));
    let lengths = OffsetBuffer::from_lengths(lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)));
    let present: NullBuffer = lists.iter().map(|list| list.is_some()).collect();
    let list = arrow::array::ListArray::new(Arc::clone(item), lengths, Arc::new(items), Some(present));
    let x = Float64Array::from_iter(objects.iter().map(|p| p.as_ref().and_then(|p| p.0)));
    let n = StringArray::from_iter(objects.iter().map(|p| p.as_ref().and_then(|p| p.1.clone())));
    let present: NullBuffer = objects.iter().map(|object| object.is_some()).collect();
    let object = StructArray::new(fields.clone(), vec![Arc::new(x), Arc::new(n)], Some(present));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.0.0))),
        Arc::new(Int8Array::from_iter(rows.iter().map(|row| row.0.1))),
        Arc::new(Int16Array::from_iter(rows.iter().map(|row| row.0.2))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.0.3))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0.4))),
        Arc::new(Float32Array::from_iter(rows.iter().map(|row| row.1.0))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1.1))),
        Arc::new(Decimal128Array::from_iter(decimals).with_precision_and_scale(38, 10).unwrap()),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1.3.clone()))),
        Arc::new(BinaryArray::from_iter(rows.iter().map(|row| row.1.4.clone()))),
        Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.2.0))),
        Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.2.1))),
        Arc::new(list),
        Arc::new(object),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(of.columns.fields().clone())), columns).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_row_comes_back(rows in proptest::collection::vec(some_row(), 1..8)) {
        for options in [
            "'format' 'json'".to_owned(),
            "'format' 'json', 'timestamp_unit' 's'".to_owned(),
            "'format' 'json', 'timestamp_unit' 'ms'".to_owned(),
            "'format' 'csv'".to_owned(),
            "'format' 'csv', 'timestamp_unit' 'ms'".to_owned(),
            format!("'format' 'avro', 'avro.framing' 'none', 'avro.schema' '{SCHEMA}'"),
            format!("'format' 'avro', 'avro.framing' 'single_object', 'avro.schema' '{SCHEMA}'"),
        ] {
            let of = stream(COLUMNS, &options);
            let rows = batch(&of, &rows);
            let back = read_back(&of, &MessageEncoder::new(&of).unwrap().encode(&rows));
            prop_assert_eq!(back, rows);
        }
    }
}

/// Checks what a field of Avro takes: the bytes, or why it takes none.
#[track_caller]
fn check_avro(column: &str, schema: &str, value: &str, expect: Result<&[u8], &str>) {
    let record = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"A","type":{schema}}}]}}"#);
    let options = format!("'format' 'avro', 'avro.framing' 'none', 'avro.schema' '{record}'");
    let of = stream(&format!("a {column}"), &options);
    let rows = rows(&format!("a {column}"), &[&format!("{{\"a\":{value}}}")]);
    let encoded = match MessageEncoder::new(&of) {
        Ok(encoder) => encoder.encode(&rows),
        Err(error) => {
            assert!(error.to_string().ends_with(expect.unwrap_err()), "{error}");
            return;
        }
    };
    match expect {
        Ok(bytes) => {
            assert_eq!(encoded.payloads.get(0), Some(bytes));
            assert_eq!(read_back(&of, &encoded), rows);
        }
        Err(why) => assert_eq!(encoded.refused, [(0, format!("the value of `a` cannot be written: {why}"))]),
    }
}

#[test]
fn fields_of_avro_hold_all_of_a_value_or_none() {
    let fixed = |size: usize| format!(r#"{{"type":"fixed","name":"F","size":{size}}}"#);
    let decimal = |shape: &str| format!(r#"{{{shape},"logicalType":"decimal","precision":9,"scale":2}}"#);
    let letters = r#"{"type":"enum","name":"E","symbols":["x","y"]}"#;
    check_avro("BIGINT", "\"int\"", "-65", Ok(&[0x81, 0x01]));
    check_avro("BIGINT", "\"int\"", "2147483648", Err("it is out of range"));
    check_avro("BIGINT", "\"int\"", "null", Err("there is none, and the schema allows no null"));
    check_avro("DOUBLE", "\"float\"", "0.1", Err("a float does not hold all of its digits"));
    check_avro("DOUBLE", "\"float\"", "0.5", Ok(&0.5f32.to_le_bytes()));
    check_avro("STRING", letters, "\"y\"", Ok(&[2]));
    check_avro("STRING", letters, "\"z\"", Err("it is no symbol of the enum"));
    check_avro("STRING", &format!("[\"null\",{letters},\"string\"]"), "\"z\"", Ok(&[4, 2, b'z']));
    check_avro("STRING", "\"bytes\"", "\"z\"", Ok(&[2, b'z']));
    check_avro("BYTEA", &fixed(2), "\"0102\"", Ok(&[1, 2]));
    check_avro("BYTEA", &fixed(2), "\"01\"", Err("it has 1 bytes, and the schema says 2"));
    check_avro("BYTEA", "\"string\"", "\"ff\"", Err("it is not UTF-8 text"));
    check_avro("DECIMAL(9,3)", &decimal("\"type\":\"bytes\""), "-1.28", Ok(&[2, 0x80]));
    check_avro("DECIMAL(9,3)", &decimal("\"type\":\"bytes\""), "1.28", Ok(&[4, 0x00, 0x80]));
    check_avro("DECIMAL(9,3)", &decimal("\"type\":\"bytes\""), "1.285", Err("the schema has fewer decimal places"));
    let two = decimal(r#""type":"fixed","name":"F","size":2"#);
    check_avro("DECIMAL(9,3)", &two, "-0.01", Ok(&[0xff, 0xff]));
    check_avro("DECIMAL(9,3)", &two, "400", Err("it is out of range"));
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    check_avro("TIMESTAMP", millis, "\"1970-01-01T00:00:00.001\"", Ok(&[2]));
    check_avro("TIMESTAMP", millis, "\"1970-01-01T00:00:00.0001\"", Err("milliseconds do not hold all of its digits"));
    let early = "as a number of microseconds it would be read as another time";
    check_avro("TIMESTAMP", "\"long\"", "\"1970-01-01T01:00:00\"", Err(early));
    check_avro("INT[]", r#"{"type":"array","items":"int"}"#, "[1,2]", Ok(&[4, 2, 4, 0]));
    check_avro("INT[]", r#"{"type":"array","items":"int"}"#, "[]", Ok(&[0]));
    check_avro("DECIMAL(9,3)", "\"long\"", "1", Err("DECIMAL(9, 3) is read from long, and is not written as it"));
}

#[test]
fn columns_and_fields_of_avro_need_each_other() {
    let avro = |columns: &str, fields: &str| {
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        stream(columns, &format!("'format' 'avro', 'avro.framing' 'none', 'avro.schema' '{schema}'"))
    };
    let of = avro("a INT, z INT", r#"{"name":"a","type":"int"}"#);
    let objects = ["{\"a\":1}", "{\"a\":1,\"z\":2}"];
    let encoded = MessageEncoder::new(&of).unwrap().encode(&rows("a INT, z INT", &objects));
    assert_eq!(encoded.payloads.get(0), Some([2].as_slice()));
    assert_eq!(encoded.refused, [(1, "`z` has a value, and the schema has no field for it".to_owned())]);
    let of = avro("a INT", r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#);
    let error = MessageEncoder::new(&of).unwrap_err().to_string();
    assert!(error.ends_with("its field `b` needs a value, and the stream has no such column"), "{error}");
}

#[test]
fn a_registered_schema_frames_each_message() {
    let of = stream("a STRING", "'format' 'avro'");
    let error = MessageEncoder::new(&of).unwrap_err();
    assert!(error.to_string().ends_with("the schema of its messages is in a registry"), "{error}");
    let encoder =
        MessageEncoder::registered(&of, 258, &RegisteredSchema::alone(SchemaKind::Avro, "\"string\"")).unwrap();
    let encoded = encoder.encode(&rows("a STRING", &["{\"a\":\"x\"}"]));
    assert_eq!(encoded.payloads.get(0), Some([0, 0, 0, 1, 2, 2, b'x'].as_slice()));
}
