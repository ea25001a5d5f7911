//! Raw messages: values, tombstones, rejects, and the columns that a definition may have.

use super::*;

/// The rows or rejects of payloads, `None` for a tombstone.
fn decoded(columns: &str, payloads: &[Option<&[u8]>]) -> Decoded {
    let mut messages = Messages::new();
    for (offset, payload) in (0..).zip(payloads) {
        messages.push(Partition(1), Offset(offset), Some(7), *payload);
        messages.set_key(b"key");
    }
    Decoder::new(&with_options(columns, "'format' 'raw'")).unwrap().decode(&messages).unwrap()
}

#[track_caller]
fn check(columns: &str, payload: Option<&[u8]>, expect: &str) {
    let decoded = decoded(columns, &[Some(b"before"), payload, Some(b"after")]);
    let rows = &decoded.rows;
    let reason = rows.column_by_name("_reject").unwrap().as_string::<i32>();
    let value = rows.column(3);
    let shown = match (reason.is_valid(1), value.is_valid(1)) {
        (true, _) => format!("reject: {}", reason.value(1)),
        (false, false) => "null".to_owned(),
        (false, true) => ArrayFormatter::try_new(value, &FormatOptions::default()).unwrap().value(1).to_string(),
    };
    assert_eq!(shown, expect, "{columns} {payload:?}");
    assert!(value.is_valid(0) && value.is_valid(2));
    // The bytes of a row are in its column, and those of a reject stay.
    let kept = rows.column_by_name("_payload").unwrap().as_binary::<i32>();
    assert_eq!(kept.is_valid(1), reason.is_valid(1) && payload.is_some());
    assert!(kept.is_null(0) && rows.column_by_name("_key").unwrap().is_valid(1));
}

#[test]
fn a_payload_is_a_value() {
    check("line STRING", Some(b"a line"), "a line");
    check("line STRING", Some("\u{feff}{\"a\": 1}\nüber".as_bytes()), "\u{feff}{\"a\": 1}\nüber");
    check("line STRING", Some(b""), "");
    check("line STRING", Some(b"\0"), "\0");
    check("line STRING", None, "null");
    check("line STRING", Some(b"\xff\xfe"), "reject: the message is not UTF-8 text");
    check("line STRING NOT NULL", None, "reject: `line` is NOT NULL and has no value");
    check("line STRING NOT NULL", Some(b""), "");
    check("bytes BYTEA", Some(b"\xff\x00"), "ff00");
    check("bytes BYTEA", Some(b""), "");
    check("bytes BYTEA", None, "null");
    check("bytes BYTEA NOT NULL", None, "reject: `bytes` is NOT NULL and has no value");
}

#[test]
fn a_stream_of_raw_messages_has_one_column() {
    for columns in ["a STRING, b STRING", "a INT", "a STRING[]", "a TIMESTAMP"] {
        let sql = format!("CREATE EXTERNAL TABLE s ({columns}) STORED AS KAFKA LOCATION 's' OPTIONS ('format' 'raw')");
        let refused = definition::parse(&sql).unwrap_err().to_string();
        assert!(refused.contains("has one column") && refused.contains("_key"), "{columns}: {refused}");
    }
    let unknown = "CREATE EXTERNAL TABLE s (a STRING) STORED AS KAFKA LOCATION 's' OPTIONS ('format' 'xml')";
    let refused = definition::parse(unknown).unwrap_err().to_string();
    assert!(refused.contains("`xml` cannot be decoded") && refused.contains("'raw'"), "{refused}");
    let keep = with_options("line STRING", "'format' 'RAW', 'keep' 'message'").messages.keep;
    assert_eq!(keep, KeptPart::Message);
}
