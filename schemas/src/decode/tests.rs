//! Tests of the public decoder: messages become rows and rejects.

mod arbitrary;
mod avro;
mod avro_beside;
mod csv;
mod infer;
mod protobuf;
mod protobuf_beside;
mod protobuf_schemas;
mod raw;
mod shapes;
mod syntax;
mod values;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::definition::{self, Statement};
use crate::{Offset, Partition};

fn stream(columns: &str) -> StreamDefinition {
    with_options(columns, "'format' 'json'")
}

fn with_options(columns: &str, options: &str) -> StreamDefinition {
    let sql = format!("CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION 's' OPTIONS ({options})");
    match definition::parse(&sql).unwrap().remove(0) {
        Statement::CreateStream { definition, .. } => definition,
        other => panic!("{other:?}"),
    }
}

fn messages<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Messages {
    let mut messages = Messages::new();
    for (offset, payload) in (10..).zip(payloads) {
        messages.push(Partition(3), Offset(offset), Some(5), Some(payload));
    }
    messages
}

/// One line per message: its columns, or the reason of a reject.
fn show(decoded: &Decoded) -> Vec<String> {
    let rows = &decoded.rows;
    let options = FormatOptions::default().with_null("null");
    let columns = rows.num_columns() - 6;
    let reasons = rows.column(columns).as_string::<i32>();
    (0..rows.num_rows())
        .map(|row| {
            if reasons.is_valid(row) {
                assert!((3..columns).all(|c| rows.column(c).is_null(row)), "{row}");
                return format!("reject: {}", reasons.value(row));
            }
            assert!(rows.column(columns + 1).is_valid(row));
            let values: Vec<String> = (3..columns)
                .map(|c| {
                    let array = rows.column(c);
                    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
                    formatter.value(row).to_string()
                })
                .collect();
            values.join("|")
        })
        .collect()
}

#[track_caller]
fn check(columns: &str, payload: &str, expect: &str) {
    check_bytes(columns, payload.as_bytes(), expect);
}

/// Checks the message alone, and three copies of it in one batch.
#[track_caller]
fn check_bytes(columns: &str, payload: &[u8], expect: &str) {
    let decoder = Decoder::new(&stream(columns)).unwrap();
    let decoded = decoder.decode(&messages([payload])).unwrap();
    assert_eq!(show(&decoded), [expect]);
    let rejects = usize::from(expect.starts_with("reject"));
    assert_eq!(decoded.rejects, rejects);

    let three = messages([payload, payload, payload]);
    let shown = show(&decoder.decode(&three).unwrap());
    assert_eq!(shown, [expect, expect, expect]);
}

#[test]
fn not_null_columns_need_a_value() {
    let lacks = "reject: `a` is NOT NULL and has no value";
    check("a INT NOT NULL", r#"{"a":1}"#, "1");
    check("a INT NOT NULL", r#"{"a":null}"#, lacks);
    check("a INT NOT NULL", "{}", lacks);
    check("b INT, a STRUCT<c INT> NOT NULL", r#"{"b":1}"#, lacks);
}

#[test]
fn leading_columns_and_payloads() {
    let mut messages = Messages::new();
    messages.push(Partition(0), Offset(7), Some(1_700_000_000_000), Some(b"{\"a\":1}"));
    messages.push(Partition(1), Offset(9), None, None);
    messages.push(Partition(1), Offset(11), Some(9_000_000_000_000_000), Some(b""));
    messages.push(Partition(1), Offset(12), Some(-1), Some(b"x"));
    let decoded = Decoder::new(&stream("a INT")).unwrap().decode(&messages).unwrap();
    let rows = &decoded.rows;
    assert_eq!(decoded.rejects, 3);
    assert_eq!(rows.schema(), stream("a INT").row_schema());
    assert_eq!(rows.column(0).as_primitive::<Int32Type>().values(), &[0, 1, 1, 1]);
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[7, 9, 11, 12]);
    let times = rows.column(2).as_primitive::<TimestampMicrosecondType>();
    let times: Vec<_> = times.iter().collect();
    assert_eq!(times, [Some(1_700_000_000_000_000), None, None, Some(-1000)]);
    let payloads: Vec<_> = rows.column(5).as_binary::<i32>().iter().collect();
    assert_eq!(payloads, [Some(b"{\"a\":1}".as_slice()), None, Some(b""), Some(b"x")]);
    assert_eq!([6, 7].map(|column| rows.column(column).null_count()), [4, 4]);
}

#[test]
fn keys_headers_and_payloads_are_kept() {
    let mut messages = Messages::new();
    let mut push = |key: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)], payload: &str| {
        messages.push(Partition(0), Offset(0), None, Some(payload.as_bytes()));
        if let Some(key) = key {
            messages.set_key(key);
        }
        for (name, value) in headers {
            messages.add_header(name, *value);
        }
    };
    push(Some(b"oslo".as_slice()), &[("trace", Some(b"\xff".as_slice())), ("trace", None)], "{}");
    push(None, &[], r#"{"a":1}"#);
    push(Some(b"".as_slice()), &[("", Some(b"".as_slice()))], "{");
    push(Some(b"\xff".as_slice()), &[], "");
    let bytes = |key: usize, value: usize| {
        let mut messages = Messages::new();
        messages.push(Partition(0), Offset(0), None, Some(b""));
        messages.set_key(&vec![0; key]);
        messages.add_header("h", Some(&vec![0; value]));
        messages.memory()
    };
    assert!(bytes(1000, 0) >= bytes(0, 0) + 990 && bytes(0, 1000) >= bytes(0, 0) + 990, "the budget counts them");
    let columns = |options: &str| {
        let mut stream = stream("a INT");
        stream.messages = with_options("a INT", options).messages;
        Decoder::new(&stream).unwrap().decode(&messages).unwrap().rows
    };
    let rows = columns("'keep' 'message'");
    let keys: Vec<_> = rows["_key"].as_binary::<i32>().iter().collect();
    assert_eq!(keys, [Some(b"oslo".as_slice()), None, Some(b""), Some(b"\xff")]);
    let options = FormatOptions::default().with_null("null");
    let headers = ArrayFormatter::try_new(&rows["_headers"], &options).unwrap();
    let headers: Vec<String> = (0..4).map(|row| headers.value(row).to_string()).collect();
    let trace = "[{name: trace, value: ff}, {name: trace, value: null}]";
    assert_eq!(headers, [trace, "null", "[{name: , value: }]", "null"]);
    let payloads = |rows: &RecordBatch| {
        let payloads = rows["_payload"].as_binary::<i32>().iter();
        payloads.map(|p| p.map(|p| String::from_utf8(p.to_vec()).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(payloads(&rows).iter().flatten().collect::<Vec<_>>(), ["{}", r#"{"a":1}"#, "{", ""]);
    let rows = columns("'keep' 'row'");
    assert_eq!(payloads(&rows), [None, None, Some("{".into()), Some(String::new())]);
    assert_eq!(rows["_key"].null_count(), 1);
}

#[test]
fn no_messages_are_no_rows() {
    let decoder = Decoder::new(&stream("a INT")).unwrap();
    let mut messages = messages([b"{".as_slice()]);
    messages.clear();
    assert!(messages.is_empty());
    assert_eq!(decoder.decode(&messages).unwrap().rows.num_rows(), 0);
}

/// The next message must never complete half an object.
#[test]
fn half_objects_are_not_joined() {
    let decoder = Decoder::new(&stream("a INT, b INT")).unwrap();
    let all = messages([
        br#"{"a":1,"b":{"x":1}"#.as_slice(),
        br#","b":2}"#,
        br#"{"a":3}"#,
        br#"{"a":4,"b":"}"#,
        br#"","a":5}"#,
    ]);
    let decoded = decoder.decode(&all).unwrap();
    assert_eq!(decoded.rejects, 4);
    assert_eq!(show(&decoded)[2], "3|null");
}

/// Bad messages at any position do not change the rows of good messages. The bad messages have only bad values or
/// errors of all kinds, and are in a row or far apart. Nulls in good messages stay null.
#[test]
fn bad_messages_leave_their_neighbours_alone() {
    let bad_values: [&[u8]; 3] = [b"{\"a\":\"x\"}", b"{\"a\":1,\"b\":2}", b"{\"a\":1e99,\"b\":\"x\"}"];
    let bad: [&[u8]; 6] = [bad_values[0], b"{\"a\":}", b"{}{}", b"", b"{\"a\":1", b"{}"];
    check_among(&bad_values, 97, 0..0);
    check_among(&bad_values, 97, 2000..2100);
    check_among(&bad, 97, 2000..2100);
    check_among(&bad, 3, 0..0);
}

/// Decodes 5,000 messages. Every `nth` message and all messages in `run` are bad.
#[track_caller]
fn check_among(bad: &[&[u8]], nth: usize, run: std::ops::Range<usize>) {
    let mut payloads = Vec::new();
    let mut expect = Vec::new();
    for i in 0..5000usize {
        let (payload, shown) = match i {
            i if i % nth == 0 || run.contains(&i) => (bad[i % bad.len()].to_vec(), None),
            i if i % 31 == 0 => (format!("{{\"a\":{i}}}").into_bytes(), Some(format!("{i}|null"))),
            i => (format!("{{\"b\":\"x\",\"a\":{i}}}").into_bytes(), Some(format!("{i}|x"))),
        };
        payloads.push(payload);
        expect.push(shown);
    }
    let decoder = Decoder::new(&stream("a INT NOT NULL, b STRING")).unwrap();
    let decoded = decoder.decode(&messages(payloads.iter().map(Vec::as_slice))).unwrap();
    for (row, (shown, expect)) in show(&decoded).iter().zip(&expect).enumerate() {
        match expect {
            Some(value) => assert_eq!(shown, value, "{row}"),
            None => assert!(shown.starts_with("reject"), "{row}: {shown}"),
        }
    }
}
