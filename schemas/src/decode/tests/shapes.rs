//! Tests of messages that are not one bare JSON object: envelopes, several objects, base64, tombstones.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};

use super::{show, with_options};
use crate::decode::{Decoded, Decoder, Messages};
use crate::{Offset, Partition};

fn decode(columns: &str, options: &str, payloads: &[Option<&str>]) -> Decoded {
    let mut messages = Messages::new();
    for (offset, payload) in (10..).zip(payloads) {
        messages.push(Partition(3), Offset(offset), Some(5), payload.map(str::as_bytes));
        messages.set_key(format!("k{offset}").as_bytes());
        messages.add_header("h", Some(format!("v{offset}").as_bytes()));
    }
    Decoder::new(&with_options(columns, options)).unwrap().decode(&messages).unwrap()
}

/// Checks the rows of one message.
#[track_caller]
fn check(columns: &str, options: &str, payload: &str, expect: &[&str]) {
    let decoded = decode(columns, options, &[Some(payload)]);
    assert_eq!(show(&decoded), expect, "{payload}");
    assert_eq!(decoded.rejects, expect.iter().filter(|row| row.starts_with("reject")).count());
    // The same among other messages.
    let three = decode(columns, options, &[Some(payload), Some(payload), Some(payload)]);
    assert_eq!(show(&three), [expect, expect, expect].concat());
}

#[track_caller]
fn rows(mode: &str, payload: &str, expect: &[&str]) {
    check("a INT", &format!("'json.rows' '{mode}'"), payload, expect);
}

#[test]
fn a_message_has_a_row_per_line() {
    rows("lines", "{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}", &["1", "2", "3"]);
    rows("lines", "\u{feff}{\"a\":1}", &["1"]);
    rows("lines", "", &[]);
    rows("lines", " \n", &[]);
    rows(
        "lines",
        "{\"a\":1}\n[]\n{\"a\":\"x\"}",
        &[
            "1",
            "reject: the message is not a JSON object",
            "reject: the value of `a` is not a valid INT: its text is not a number",
        ],
    );
}

#[test]
fn a_message_has_a_row_per_item() {
    rows("array", "[{\"a\":1},{\"a\":2}]", &["1", "2"]);
    rows("array", "[]", &[]);
    rows("array", "{\"a\":1}", &["1"]);
    rows("array", "[{\"a\":1},null,{}]", &["1", "reject: the message is not a JSON object", "null"]);
    rows("array", "[{\"a\":1},{\"a\":1", &["reject: the JSON array is not complete"]);
    rows("array", "[{\"a\":1}]]", &["reject: the message is not valid JSON: trailing characters at line 1 column 10"]);
    rows("array", "", &["reject: the message is empty"]);
    rows("one", "[{\"a\":1}]", &["reject: the message is not a JSON object"]);
}

#[test]
fn rows_keep_their_message_and_number() {
    let payloads = [Some("[{\"a\":1},7]"), None, Some("[]"), Some("x"), Some("[{\"a\":4}]")];
    for (keep, kept) in [("message", true), ("row", false)] {
        let options = format!("'json.rows' 'array', 'tombstones' 'skip', 'keep' '{keep}'");
        let Decoded { rows, rejects } = decode("a INT", &options, &payloads);
        assert_eq!((rows.num_rows(), rejects), (4, 2));
        assert_eq!(rows["_offset"].as_primitive::<Int64Type>().values(), &[10, 10, 13, 14]);
        let numbers: Vec<_> = rows["_row"].as_primitive::<Int32Type>().iter().collect();
        assert_eq!(numbers, [Some(0), Some(1), None, Some(0)]);
        let bytes = rows["_payload"].as_binary::<i32>();
        let bytes: Vec<_> = bytes.iter().map(|bytes| bytes.map(|b| std::str::from_utf8(b).unwrap())).collect();
        let row = |text| kept.then_some(text);
        assert_eq!(bytes, [row("{\"a\":1}"), Some("7"), Some("x"), row("{\"a\":4}")]);
        let keys: Vec<_> = rows["_key"].as_binary::<i32>().iter().flatten().collect();
        assert_eq!(keys, [b"k10", b"k10", b"k13", b"k14"]);
        assert_eq!(rows["_headers"].null_count(), 0);
    }
}

#[test]
fn large_headers_are_not_repeated_without_end() {
    let decoder = Decoder::new(&with_options("a INT", "'json.rows' 'lines'")).unwrap();
    let rows_with = |header: usize, objects: usize| {
        let mut messages = Messages::new();
        messages.push(Partition(0), Offset(7), None, Some("{}\n".repeat(objects).as_bytes()));
        messages.add_header("h", Some(&vec![b'x'; header]));
        show(&decoder.decode(&messages).unwrap())
    };
    assert_eq!(rows_with(150, 1000).len(), 1000);
    assert_eq!(rows_with(500_000, 1), ["null"]);
    assert_eq!(rows_with(500_000, 100_000), ["reject: its key and headers would be repeated for 100000 objects"]);
}

#[test]
fn a_row_that_was_split_before_is_one_row() {
    let mut messages = Messages::new();
    messages.push(Partition(0), Offset(7), None, Some(b"{\"a\":1}"));
    messages.set_row(4);
    messages.push(Partition(0), Offset(8), None, Some(b"{\"a\":1}\n{\"a\":2}"));
    let decoder = Decoder::new(&with_options("a INT", "'json.rows' 'lines'")).unwrap();
    let numbers = |decoded: &Decoded| -> Vec<_> { decoded.rows["_row"].as_primitive::<Int32Type>().iter().collect() };
    let decoded = decoder.decode(&messages).unwrap();
    assert_eq!(numbers(&decoded), [Some(4), Some(0), Some(1)]);
    let below = messages.below(&[(Partition(0), Offset(8))].into());
    assert_eq!(numbers(&decoder.decode(&below).unwrap()), [Some(4)]);
}

#[test]
fn tombstones_are_rejects_or_nothing() {
    let payloads = [Some("{\"a\":1}"), None, Some(""), None];
    let empty = "reject: the message is empty";
    assert_eq!(show(&decode_of("'tombstones' 'reject'", &payloads)), ["1", empty, empty, empty]);
    assert_eq!(show(&decode_of("'tombstones' 'skip'", &payloads)), ["1", empty]);
    assert_eq!(show(&decode_of("'format' 'csv', 'tombstones' 'skip'", &[Some("5"), None])), ["5"]);
    let skipped = decode_of("'tombstones' 'skip'", &[None, None]);
    assert_eq!((skipped.rows.num_rows(), skipped.rejects), (0, 0));
}

/// Decodes without the asserted payload of each row, which tombstones do not have.
fn decode_of(options: &str, payloads: &[Option<&str>]) -> Decoded {
    decode("a INT", options, payloads)
}

const CONNECT: &str = "'envelope' 'connect'";

#[test]
fn the_payload_of_connect_is_the_row() {
    check("a INT", CONNECT, r#"{"schema":null,"payload":{"a":1}}"#, &["1"]);
    check("a INT", CONNECT, r#"{"payload":{"a":1}}"#, &["1"]);
    check("a INT, payload INT", CONNECT, r#"{"payload":{"a":1,"payload":2}}"#, &["1|2"]);
    let none = "reject: the message is not in the envelope of Connect: it has no `payload`";
    check("a INT", CONNECT, r#"{"a":1}"#, &[none]);
    check("a INT", CONNECT, r#"{"payload":[]}"#, &["reject: `payload` is not an object"]);
    check("a INT", CONNECT, r#"{"payload":{"a":1},"payload":{}}"#, &["reject: `payload` occurs twice"]);
    check("a INT", CONNECT, r#"{"payload":{"a":1,"a":1}}"#, &["reject: `a` occurs twice"]);
    check("a INT", CONNECT, r#"{"payload":{"a":1}"#, &["reject: the JSON object is not complete"]);
    let tombstone = r#"{"schema":null,"payload":null}"#;
    check("a INT", CONNECT, tombstone, &["reject: the message is an envelope without a payload"]);
    check("a INT", &format!("{CONNECT}, 'tombstones' 'skip'"), tombstone, &[]);
    check(
        "a INT",
        &format!("{CONNECT}, 'json.rows' 'lines'"),
        "{\"payload\":{\"a\":1}}\n{\"payload\":{\"a\":2}}",
        &["1", "2"],
    );
}

const DEBEZIUM: &str = "'envelope' 'debezium'";

#[track_caller]
fn change(columns: &str, payload: &str, expect: &[&str]) {
    check(columns, DEBEZIUM, payload, expect);
    // The same event in the envelope of Connect.
    let wrapped = format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{payload}}}"#);
    check(columns, DEBEZIUM, &wrapped, expect);
}

#[test]
fn a_change_gives_the_row_and_the_envelope() {
    let all = "id INT, name TEXT, op TEXT, ts_ms BIGINT";
    change(all, r#"{"before":null,"after":{"id":1,"name":"x"},"op":"c","ts_ms":5}"#, &["1|x|c|5"]);
    change(all, r#"{"before":{"id":1,"name":"x"},"after":{"id":1,"name":"y"},"op":"u","ts_ms":6}"#, &["1|y|u|6"]);
    change(all, r#"{"before":{"id":1,"name":"y"},"after":null,"op":"d","ts_ms":7}"#, &["1|y|d|7"]);
    change(all, r#"{"before":null,"op":"d"}"#, &["null|null|d|null"]);
    change(all, r#"{"op":"t","ts_ms":8}"#, &["null|null|t|8"]);
    change("id INT NOT NULL", r#"{"op":"t"}"#, &["reject: `id` is NOT NULL and has no value"]);
    change(
        "after STRUCT<id INT>, before STRUCT<id INT>, id INT",
        r#"{"before":{"id":1},"after":{"id":2},"op":"u"}"#,
        &["{id: 2}|{id: 1}|2"],
    );
    change("ts_ms TIMESTAMP", r#"{"op":"r","ts_ms":1700000000000}"#, &["2023-11-14T22:13:20"]);
    change("source STRUCT<table TEXT>", r#"{"op":"r","source":{"table":"t","lsn":1}}"#, &["{table: t}"]);
    let nothing = "reject: the message is not a change event of Debezium: it has no `op`";
    change("id INT", r#"{"after":{"id":1}}"#, &[nothing]);
    change("id INT", r#"{"op":null}"#, &[nothing]);
    change("id INT", r#"{"op":"c","after":[1]}"#, &["reject: `after` is not an object"]);
    change("id INT", r#"{"op":"c","after":{"id":1,"id":1}}"#, &["reject: `id` occurs twice"]);
}

#[test]
fn values_of_one_change_do_not_reach_the_next() {
    let (some, none) = (r#"{"after":{"id":1},"op":"c"}"#, r#"{"op":"t"}"#);
    let decoded = decode("id INT, op TEXT", DEBEZIUM, &[Some(some), Some(none), None, Some("x"), Some(some)]);
    let shown = show(&decoded);
    assert_eq!(shown, ["1|c", "null|t", "reject: the message is not a JSON object", "1|c"]);
    check("id INT", DEBEZIUM, r#"{"schema":null,"payload":null}"#, &[]);
}

#[test]
fn bytes_and_decimals_are_in_base64() {
    let (bytes, decimals) = ("'json.bytes' 'base64'", "'json.decimals' 'base64'");
    check("b BYTEA", bytes, r#"{"b":"AP8="}"#, &["00ff"]);
    check("b BYTEA[]", bytes, r#"{"b":["AA==",""]}"#, &["[00, ]"]);
    check("b BYTEA", bytes, r#"{"b":"zz"}"#, &["reject: the value of `b` is not a valid BYTEA: it is not base64"]);
    check("d DECIMAL(8,2)", decimals, r#"{"d":"BNI="}"#, &["12.34"]);
    check("d DECIMAL(8,2)", decimals, r#"{"d":12.34}"#, &["12.34"]);
    check("d DECIMAL(8,2)", decimals, r#"{"d":{"scale":1,"value":"BNI="}}"#, &["123.40"]);
    check("d STRUCT<d DECIMAL(8,2)>", decimals, r#"{"d":{"d":"/w=="}}"#, &["{d: -0.01}"]);
    check(
        "d DECIMAL(2,2)",
        decimals,
        r#"{"d":"BNI="}"#,
        &["reject: the value of `d` is not a valid DECIMAL(2, 2): it is out of range"],
    );
    check(
        "d DECIMAL(8,2)",
        decimals,
        r#"{"d":[]}"#,
        &["reject: the value of `d` is not a valid DECIMAL(8, 2): it is a list"],
    );
}

/// A message of Connect whose column `v` has a schema with these keys, and a value.
fn of(keys: &str, value: &str) -> String {
    let field = format!(r#"{{"field":"v",{keys}}}"#);
    format!(r#"{{"schema":{{"type":"struct","fields":[{field}]}},"payload":{{"v":{value}}}}}"#)
}

#[test]
fn a_schema_that_contradicts_the_stream_is_told() {
    let decimal = r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal""#;
    let scale = |scale: u8| format!(r#"{decimal},"parameters":{{"scale":"{scale}"}}"#);
    let with = |options: &str| format!("{CONNECT}, {options}");
    let decimals = with("'json.decimals' 'base64'");
    let wrong = "reject: `v` is a DECIMAL(8, 2), and in the message's schema it";
    let digits = format!("{wrong} has 4 decimal places: declare that many");
    let add = format!("{wrong} is in base64: add 'json.decimals' 'base64'");
    check("v DECIMAL(8,2)", &decimals, &of(&scale(2), "\"BNI=\""), &["12.34"]);
    check("v DECIMAL(8,2)", &decimals, &of(&scale(4), "\"BNI=\""), &[&digits]);
    check("v DECIMAL(8,2)", &decimals, &of(&scale(4), "12.34"), &["12.34"]);
    check("v DECIMAL(8,2)", CONNECT, &of(&scale(2), "\"1234\""), &[&add]);
    check("v DECIMAL(8,2)", CONNECT, &of(&scale(2), "12.34"), &["12.34"]);
    check("v DECIMAL(8,2)", CONNECT, &of(&scale(2), "null"), &["null"]);
    check(
        "v BYTEA",
        CONNECT,
        &of(r#""type":"bytes""#, "\"abcd\""),
        &["reject: `v` is a BYTEA, and in the message's schema it is in base64: add 'json.bytes' 'base64'"],
    );
    let millis = r#""type":"int64","name":"io.debezium.time.Timestamp""#;
    check(
        "v TIMESTAMP",
        CONNECT,
        &of(millis, "1700000000000"),
        &[
            "reject: `v` is a TIMESTAMP, and in the message's schema it counts milliseconds: add 'timestamp_unit.v' 'ms'",
        ],
    );
    check("v TIMESTAMP", &with("'timestamp_unit.v' 'ms'"), &of(millis, "1700000000000"), &["2023-11-14T22:13:20"]);
    check("v DATE", CONNECT, &of(r#""type":"int32","name":"io.debezium.time.Date""#, "1"), &["1970-01-02"]);
}

#[test]
fn the_schema_of_a_change_is_found_in_its_image() {
    let schema = r#"{"type":"struct","fields":[{"field":"before","type":"struct","fields":[{"field":"b","type":"bytes"}]},
        {"field":"after","type":"struct","fields":[{"field":"b","type":"bytes"}]},{"field":"op","type":"string"}]}"#;
    let event = format!(r#"{{"schema":{schema},"payload":{{"after":{{"b":"AP8="}},"op":"c"}}}}"#);
    let add = "in base64: add 'json.bytes' 'base64'";
    check("b BYTEA", DEBEZIUM, &event, &[&format!("reject: `b` is a BYTEA, and in the message's schema it is {add}")]);
    let of_after = "after STRUCT<b BYTEA>";
    let why = format!("reject: `after` is a STRUCT<b BYTEA>, and in the message's schema of its `b` it is {add}");
    check(of_after, DEBEZIUM, &event, &[&why]);
    check("b BYTEA", &format!("{DEBEZIUM}, 'json.bytes' 'base64'"), &event, &["00ff"]);
}
