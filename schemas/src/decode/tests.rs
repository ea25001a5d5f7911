//! Decoding, checked through the public door: messages in, rows and rejects out.

mod arbitrary;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::ddl::{self, Statement};

fn stream(columns: &str) -> StreamDefinition {
    let sql = format!("CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION 's'");
    match ddl::parse(&sql).unwrap().remove(0) {
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

/// One line per message: its columns, or why it is a reject.
fn show(decoded: &Decoded) -> Vec<String> {
    let rows = &decoded.rows;
    let options = FormatOptions::default().with_null("null");
    let columns = rows.num_columns() - 2;
    let reasons = rows.column(columns).as_string::<i32>();
    (0..rows.num_rows())
        .map(|row| {
            if reasons.is_valid(row) {
                assert!((3..columns).all(|c| rows.column(c).is_null(row)), "{row}");
                return format!("reject: {}", reasons.value(row));
            }
            assert!(rows.column(columns + 1).is_null(row));
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

/// The message alone, and between two good ones that it must leave alone.
#[track_caller]
fn check_bytes(columns: &str, payload: &[u8], expect: &str) {
    let mut decoder = Decoder::new(&stream(columns)).unwrap();
    let decoded = decoder.decode(&messages([payload])).unwrap();
    assert_eq!(show(&decoded), [expect]);
    let rejects = usize::from(expect.starts_with("reject"));
    assert_eq!(decoded.rejects, rejects);

    let three = messages([payload, payload, payload]);
    let shown = show(&decoder.decode(&three).unwrap());
    assert_eq!(shown, [expect, expect, expect]);
}

#[test]
fn values_of_every_type() {
    check("a INT", r#"{"a":1}"#, "1");
    check("a INT", " \n{ \"a\" : 1 }\r\n", "1");
    check("a INT", r#"{"a":null}"#, "null");
    check("a INT", r#"{"b":1}"#, "null");
    check("a INT", "{}", "null");
    check("a INT", r#"{"a":1,"a":2}"#, "2");
    check("a INT", r#"{"A":1}"#, "null");
    check("\"A\" INT", r#"{"A":1}"#, "1");
    check("a INT", r#"{"a":"12"}"#, "12");
    check("a INT", r#"{"a":1.5}"#, "1");
    check("a INT", r#"{"a":1,"x":{"y":[1,{"z":2}]}}"#, "1");
    check(
        "a BIGINT",
        r#"{"a":9223372036854775807}"#,
        "9223372036854775807",
    );
    check(
        "a BIGINT UNSIGNED",
        r#"{"a":18446744073709551615}"#,
        "18446744073709551615",
    );
    check("a DOUBLE", r#"{"a":1e-3}"#, "0.001");
    check("a DOUBLE", r#"{"a":"NaN"}"#, "NaN");
    check("a BOOLEAN", r#"{"a":true}"#, "true");
    check("a STRING", r#"{"a":"x\"\u00e9\n{"}"#, "x\"é\n{");
    check("a BYTEA", r#"{"a":"00ff"}"#, "00ff");
    check("a DATE", r#"{"a":"2024-05-01"}"#, "2024-05-01");
    check(
        "a TIMESTAMP",
        r#"{"a":"2024-05-01T12:00:00.123456Z"}"#,
        "2024-05-01T12:00:00.123456",
    );
    check(
        "a TIMESTAMP",
        r#"{"a":"2024-05-01 12:00:00"}"#,
        "2024-05-01T12:00:00",
    );
    check(
        "a TIMESTAMP",
        r#"{"a":"2024-05-01T12:00:00+02:00"}"#,
        "2024-05-01T10:00:00",
    );
    check(
        "a TIMESTAMP",
        r#"{"a":1000001}"#,
        "1970-01-01T00:00:01.000001",
    );
    check(
        "a TIMESTAMPTZ",
        r#"{"a":"2024-05-01T12:00:00+02:00"}"#,
        "2024-05-01T10:00:00Z",
    );
    check("a DECIMAL(10,2)", r#"{"a":1.239}"#, "1.23");
    check("a DECIMAL(10,2)", r#"{"a":"-12.5"}"#, "-12.50");
    check("a DECIMAL(10,2)", r#"{"a":1.5e3}"#, "1500.00");
    check("a INT[]", r#"{"a":[1,null,3]}"#, "[1, null, 3]");
    check(
        "a STRUCT<b INT, c STRING>",
        r#"{"a":{"c":"x"}}"#,
        "{b: null, c: x}",
    );
}

#[test]
fn messages_that_are_not_one_object() {
    check("a INT", "", "reject: the message is empty");
    check("a INT", " \n", "reject: the message is empty");
    check("a INT", "[]", "reject: the message is not a JSON object");
    check("a INT", "1", "reject: the message is not a JSON object");
    check("a INT", "null", "reject: the message is not a JSON object");
    check("a INT", "hello", "reject: the message is not a JSON object");
    check(
        "a INT",
        r#"{"a":1"#,
        "reject: the JSON object is not complete",
    );
    check(
        "a INT",
        r#"{"a":{"b":1}"#,
        "reject: the JSON object is not complete",
    );
    check(
        "a INT",
        r#"{"a":"}"#,
        "reject: the JSON object is not complete",
    );
    check("a INT", "{", "reject: the JSON object is not complete");
    check(
        "a INT",
        r#"{"a":1}{"a":2}"#,
        "reject: the message holds more than one JSON value",
    );
    check(
        "a INT",
        "{\"a\":1}\n{\"a\":2}",
        "reject: the message holds more than one JSON value",
    );
    check(
        "a INT",
        r#"{"a":1}}"#,
        "reject: something follows the JSON object",
    );
    check(
        "a INT",
        r#"{"a":1} x"#,
        "reject: something follows the JSON object",
    );
    check(
        "a INT",
        r#"{"a" 1}"#,
        "reject: the message is not valid JSON: expected `:` at line 1 column 6",
    );
    check(
        "a INT",
        r#"{"a":tru}"#,
        "reject: the message is not valid JSON: expected ident at line 1 column 9",
    );
    check_bytes(
        "a STRING",
        b"{\"a\":\"\xff\"}",
        "reject: the message is not UTF-8 text",
    );
    check(
        "a STRING",
        r#"{"a":"\ud800"}"#,
        "reject: the message is not valid JSON",
    );
}

#[test]
fn values_that_do_not_fit() {
    check(
        "a INT, b INT",
        r#"{"a":1,"b":"x"}"#,
        "reject: the value of `b` is not a valid INT",
    );
    check(
        "a INT",
        r#"{"a":2147483648}"#,
        "reject: the value of `a` is not a valid INT",
    );
    check(
        "a BIGINT",
        r#"{"a":9223372036854775808}"#,
        "reject: the value of `a` is not a valid BIGINT",
    );
    check(
        "a INT",
        r#"{"a":-}"#,
        "reject: the value of `a` is not a valid INT",
    );
    check(
        "a INT",
        r#"{"a":true}"#,
        "reject: the value of `a` is not a valid INT",
    );
    check(
        "a BOOLEAN",
        r#"{"a":1}"#,
        "reject: the value of `a` is not a valid BOOLEAN",
    );
    check(
        "a STRING",
        r#"{"a":1}"#,
        "reject: the value of `a` is not a valid STRING",
    );
    check(
        "a TIMESTAMP",
        r#"{"a":"soon"}"#,
        "reject: the value of `a` is not a valid TIMESTAMP",
    );
    check(
        "a DATE",
        r#"{"a":"2024-13-01"}"#,
        "reject: the value of `a` is not a valid DATE",
    );
    check(
        "a BYTEA",
        r#"{"a":"0g"}"#,
        "reject: the value of `a` is not a valid BYTEA",
    );
    check(
        "a DECIMAL(4,2)",
        r#"{"a":123.4}"#,
        "reject: the value of `a` is not a valid DECIMAL(4, 2)",
    );
    check(
        "a INT[]",
        r#"{"a":[1,"x"]}"#,
        "reject: the value of `a` is not a valid INT[]",
    );
    check(
        "a INT[]",
        r#"{"a":1}"#,
        "reject: the value of `a` is not a valid INT[]",
    );
    check(
        "a STRUCT<b INT>",
        r#"{"a":[]}"#,
        "reject: the value of `a` is not a valid STRUCT<b INT>",
    );
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
fn numbers_that_would_wrap_are_rejected() {
    let wide = "reject: a number has more digits or a larger exponent than a DECIMAL can hold";
    let nines = "9".repeat(300);
    let long = format!("1.{}e1", "5".repeat(40));
    for number in [
        "1e65537",
        "1e-40000",
        "\"1e65537\"",
        "\"1\\u0065999999\"",
        &nines,
        &long,
    ] {
        check("a DECIMAL(10,2)", &format!(r#"{{"a":{number}}}"#), wide);
        check(
            "b STRUCT<a DECIMAL(10,2)[]>",
            &format!(r#"{{"b":{{"a":[{number}]}}}}"#),
            wide,
        );
    }
    // In other columns they do no harm.
    check(
        "a DECIMAL(10,2), b DOUBLE",
        r#"{"a":1,"b":1e-40000}"#,
        "1.00|0.0",
    );
    check(
        "a DECIMAL(10,2), h STRING",
        r#"{"a":1,"h":"12e99999"}"#,
        "1.00|12e99999",
    );
    check("a DECIMAL(10,2)", r#"{"a":1,"h":"12e99999"}"#, "1.00");
    let fraction = format!("0.1{}", "0".repeat(60));
    check("a DECIMAL(10,2)", &format!(r#"{{"a":{fraction}}}"#), "0.10");
}

#[test]
fn deep_nesting_is_rejected_before_it_overflows_the_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = |n: usize| format!(r#"{{"a":{}1{}}}"#, open.repeat(n), close.repeat(n));
        check("b INT", &deep(100), "null");
        check(
            "b INT",
            &deep(200),
            "reject: objects and lists nest deeper than 128",
        );
        check(
            "a INT",
            &deep(200_000),
            "reject: objects and lists nest deeper than 128",
        );
    }
    let brackets_in_text = format!(r#"{{"a":"{}"}}"#, "[{".repeat(1000));
    check("b INT", &brackets_in_text, "null");
}

#[test]
fn leading_columns_and_payloads() {
    let mut messages = Messages::new();
    messages.push(
        Partition(0),
        Offset(7),
        Some(1_700_000_000_000),
        Some(b"{\"a\":1}"),
    );
    messages.push(Partition(1), Offset(9), None, None);
    messages.push(Partition(1), Offset(11), Some(i64::MAX), Some(b""));
    messages.push(Partition(1), Offset(12), Some(-1), Some(b"x"));
    let decoded = Decoder::new(&stream("a INT"))
        .unwrap()
        .decode(&messages)
        .unwrap();
    let rows = &decoded.rows;
    assert_eq!(decoded.rejects, 3);
    assert_eq!(rows.schema(), stream("a INT").row_schema());
    assert_eq!(
        rows.column(0).as_primitive::<Int32Type>().values(),
        &[0, 1, 1, 1]
    );
    assert_eq!(
        rows.column(1).as_primitive::<Int64Type>().values(),
        &[7, 9, 11, 12]
    );
    let times = rows.column(2).as_primitive::<TimestampMicrosecondType>();
    let times: Vec<_> = times.iter().collect();
    assert_eq!(
        times,
        [Some(1_700_000_000_000_000), None, None, Some(-1000)]
    );
    let payloads: Vec<_> = rows.column(5).as_binary::<i32>().iter().collect();
    assert_eq!(payloads, [None, None, Some(b"".as_slice()), Some(b"x")]);
}

#[test]
fn no_messages_are_no_rows() {
    let mut decoder = Decoder::new(&stream("a INT")).unwrap();
    let mut messages = messages([b"{".as_slice()]);
    messages.clear();
    assert!(messages.is_empty());
    assert_eq!(decoder.decode(&messages).unwrap().rows.num_rows(), 0);
}

/// A half object must never be completed by the next message.
#[test]
fn halves_do_not_meet() {
    let mut decoder = Decoder::new(&stream("a INT, b INT")).unwrap();
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

/// A batch with bad messages at any positions decodes the good ones as if these were alone: with only bad values among
/// them (which are sifted out), and with all kinds, in a row or far apart; nulls that are meant stay.
#[test]
fn bad_messages_leave_their_neighbours_alone() {
    let bad_values: [&[u8]; 3] = [
        b"{\"a\":\"x\"}",
        b"{\"a\":1,\"b\":2}",
        b"{\"a\":1e99,\"b\":\"x\"}",
    ];
    let bad: [&[u8]; 6] = [bad_values[0], b"{\"a\":}", b"{}{}", b"", b"{\"a\":1", b"{}"];
    check_among(&bad_values, 97, 0..0);
    check_among(&bad_values, 97, 2000..2100);
    check_among(&bad, 97, 2000..2100);
    check_among(&bad, 3, 0..0);
}

/// 5,000 messages; every `nth` and those in `run` are bad.
#[track_caller]
fn check_among(bad: &[&[u8]], nth: usize, run: std::ops::Range<usize>) {
    let mut payloads = Vec::new();
    let mut expect = Vec::new();
    for i in 0..5000usize {
        let (payload, shown) = match i {
            i if i % nth == 0 || run.contains(&i) => (bad[i % bad.len()].to_vec(), None),
            i if i % 31 == 0 => (
                format!("{{\"a\":{i}}}").into_bytes(),
                Some(format!("{i}|null")),
            ),
            i => (
                format!("{{\"b\":\"x\",\"a\":{i}}}").into_bytes(),
                Some(format!("{i}|x")),
            ),
        };
        payloads.push(payload);
        expect.push(shown);
    }
    let mut decoder = Decoder::new(&stream("a INT NOT NULL, b STRING")).unwrap();
    let decoded = decoder
        .decode(&messages(payloads.iter().map(Vec::as_slice)))
        .unwrap();
    for (row, (shown, expect)) in show(&decoded).iter().zip(&expect).enumerate() {
        match expect {
            Some(value) => assert_eq!(shown, value, "{row}"),
            None => assert!(shown.starts_with("reject"), "{row}: {shown}"),
        }
    }
}
