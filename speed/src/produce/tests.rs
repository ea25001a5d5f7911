//! Rows of files, up to their payloads.

use std::time::Duration;

use thalweg_schemas::definition::stream::StreamDefinition;

use super::*;
use crate::connections::KafkaConnections;

/// The payloads of a text, with the numbers of their rows, and why reading ended.
fn payloads(format: FileFormat, text: &str, change: impl FnOnce(&mut ProducePlan)) -> (Vec<String>, Option<String>) {
    let mut plan = plan(format);
    change(&mut plan);
    let counts = ProduceCounts::default();
    let encoder = MessageEncoder::new(&plan.stream).unwrap();
    let mut found = Vec::new();
    let bad = BadRows { file: plan.from.to_string(), format, skip: plan.skip_bad, notes: Arc::clone(&counts.0.notes) };
    let read = RowEncoder::new(&plan, encoder, bad.clone()).and_then(|encoder| {
        let reader = RowReader::new(&plan.stream, bad, plan.limit)?;
        let bytes = OpenedRows::Bytes(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
        read_encoded(bytes, format, reader, &encoder, &mut |rows| {
            for row in rows.iter() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let key = row.key.map_or(String::new(), |key| text(key) + "=");
                found.push(format!("{}:{key}{}", row.number, row.payload.map_or("-".to_owned(), text)));
            }
            true
        })
    });
    found.extend(counts.skips());
    (found, read.err().map(|error| error.to_string()))
}

fn plan(format: FileFormat) -> ProducePlan {
    ProducePlan {
        stream: wide(),
        kafka: KafkaConnections::default(),
        from: RowsFrom::File("f".into()),
        format,
        key: None,
        rate: None,
        limit: None,
        skip_bad: false,
        transactional: false,
        dry_run: true,
        timeout: Duration::from_secs(1),
    }
}

fn wide() -> StreamDefinition {
    use thalweg_schemas::definition::{Statement, parse};
    let sql = "CREATE EXTERNAL TABLE s (a INT, b STRING, t TIMESTAMP, f DOUBLE, y BYTEA, o BOOLEAN, l INT[]) \
               STORED AS KAFKA LOCATION 's' OPTIONS ('format' 'json')";
    match parse(sql).unwrap().remove(0) {
        Statement::CreateStream { definition, .. } => definition,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(format: FileFormat, text: &str, expect: &[&str]) {
    let (found, error) = payloads(format, text, |_| {});
    assert_eq!(error, None);
    assert_eq!(found, expect);
}

#[track_caller]
fn refuse(format: FileFormat, text: &str, expect: &str) {
    let (_, error) = payloads(format, text, |_| {});
    assert_eq!(error.as_deref(), Some(expect));
}

#[test]
fn a_line_is_an_object() {
    use FileFormat::Ndjson;
    check(Ndjson, "", &[]);
    check(Ndjson, "\u{feff}{\"a\":1}\r\n\n {\"A\": 2.0, \"x\": 7}", &["1:{\"a\":1}", "3:{\"a\":2}"]);
    refuse(Ndjson, "{}\n[1]\n", "f, line 2: the message is not a JSON object");
    refuse(Ndjson, "{\"a\":1}{\"a\":2}", "f, line 1: the message holds more than one JSON value");
    refuse(Ndjson, "{\"a\":\"x\"}", "f, line 1: the value of `a` is not a valid INT: its text is not a number");
}

#[test]
fn objects_and_lists_of_objects() {
    use FileFormat::Json;
    check(Json, "", &[]);
    check(Json, " [ ] ", &[]);
    check(Json, "{\"b\":\"}{\\\"\"}\n{}{\"l\":[1]}", &["1:{\"b\":\"}{\\\"\"}", "2:{}", "3:{\"l\":[1]}"]);
    check(Json, "[{\"a\":1}, {\"a\":2,\"x\":{\"y\":{}}}]\n[{\"a\":3}]", &["1:{\"a\":1}", "2:{\"a\":2}", "3:{\"a\":3}"]);
    for (text, row) in [("[{},]", 2), ("{},{}", 2), ("[{}{}]", 2), ("7", 1), ("[[{}]]", 1), ("]", 1)] {
        refuse(Json, text, &format!("f, row {row}: something else than a JSON object is here"));
    }
    refuse(Json, "[{}", "f, row 2: the list is not complete");
    refuse(Json, "{} {\"a\":{}", "f, row 2: the JSON object is not complete");
    refuse(Json, "{\"a\":1 2}", "f, row 1: the message is not valid JSON: expected `,` or `}` at line 1 column 8");
}

#[test]
fn fields_of_csv_are_read_by_their_columns() {
    use FileFormat::{Csv, Tsv};
    check(Csv, "a,b\n", &[]);
    check(Csv, "A,x,b\n1,2,\"p,\"\"q\"\n3,,\n", &["1:{\"a\":1,\"b\":\"p,\\\"q\"}", "2:{\"a\":3}"]);
    check(Csv, "\u{feff}b\r\n\"one\ntwo\"", &["1:{\"b\":\"one\\ntwo\"}"]);
    check(Tsv, "a\tb\n1\tx,y\n", &["1:{\"a\":1,\"b\":\"x,y\"}"]);
    check(Csv, "b\n007\ntrue\n{}\n", &["1:{\"b\":\"007\"}", "2:{\"b\":\"true\"}", "3:{\"b\":\"{}\"}"]);
    check(Csv, "o\nTrue\nFALSE\n", &["1:{\"o\":true}", "2:{\"o\":false}"]);
    check(Csv, "f\nnan\n-inf\n1e3\n", &["1:{\"f\":\"NaN\"}", "2:{\"f\":\"-Infinity\"}", "3:{\"f\":1000.0}"]);
    check(Csv, "y\n\\x0aff\n00\n", &["1:{\"y\":\"0aff\"}", "2:{\"y\":\"00\"}"]);
    check(Csv, "l\n\"[1, null]\"\n", &["1:{\"l\":[1,null]}"]);
    let noon = "{\"t\":\"2024-05-01T12:00:00Z\"}";
    check(Csv, "t\n2024-05-01 12:00:00\n1714564800000000\n", &[&format!("1:{noon}"), &format!("2:{noon}")]);
    refuse(Csv, "a\n1\nx\n", "f, row 2: the value of `a` is not a valid INT: its text is not a number");
    refuse(Csv, "l\n\"1],\"\"a\"\":[2\"\n", "f, row 1: the value of `l` is not a valid INT[]: it is text");
    refuse(Csv, "", "f does not fit: it has no line with the names of columns");
    refuse(Csv, "A,A\n1,2\n", "f does not fit: `A` and `A` are both `a`");
    let short = "f does not fit: incorrect number of fields for line 2, expected 2 got 1";
    refuse(Csv, "a,b\n1\n", short);
    let none = "f does not fit: no column is one of the stream's: it has `x`, and the stream `a`, `b`, `t`, `f`, `y`, \
                `o`, `l`";
    refuse(Csv, "x\n1\n", none);
}

#[test]
fn bad_rows_end_the_file_or_are_skipped() {
    let text = "a\n1\nx\n3\n";
    let (found, error) = payloads(FileFormat::Csv, text, |_| {});
    assert_eq!((found.len(), error.is_some()), (0, true));
    let (found, error) = payloads(FileFormat::Csv, text, |plan| plan.skip_bad = true);
    let why = "row 2: the value of `a` is not a valid INT: its text is not a number";
    assert_eq!((found, error), (vec!["1:{\"a\":1}".into(), "3:{\"a\":3}".into(), why.into()], None));
}

#[test]
fn no_more_rows_are_read_than_wanted() {
    for (format, text) in [
        (FileFormat::Csv, "a\n1\n2\nx\n"),
        (FileFormat::Ndjson, "{\"a\":1}\n{\"a\":2}\nx\n"),
        (FileFormat::Json, "[{\"a\":1},{\"a\":2},x"),
    ] {
        let (found, error) = payloads(format, text, |plan| plan.limit = Some(2));
        assert_eq!((found, error), (vec!["1:{\"a\":1}".into(), "2:{\"a\":2}".into()], None), "{text}");
    }
}

#[test]
fn keys_are_texts_of_a_column() {
    let keyed = |key: &str| {
        let key = key.to_owned();
        payloads(FileFormat::Csv, "a,b\n1,x\n2,\n", |plan| plan.key = Some(key))
    };
    assert_eq!(keyed("B").0, ["1:x={\"a\":1,\"b\":\"x\"}", "2:{\"a\":2}"]);
    assert_eq!(keyed("a").0, ["1:1={\"a\":1,\"b\":\"x\"}", "2:2={\"a\":2}"]);
    assert!(keyed("c").1.unwrap().contains("has no column `c` for keys"));
    assert_eq!(keyed("l").1.unwrap(), "f does not fit: --key: `l` is INT[], which has no text");
}

#[test]
fn a_quote_that_is_never_closed_ends_in_an_error() {
    /// A field that does not end.
    struct Endless(bool);

    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let start: &[u8] = if std::mem::replace(&mut self.0, true) { b"" } else { b"b\n\"" };
            buffer[..start.len()].copy_from_slice(start);
            buffer[start.len()..].fill(b'x');
            Ok(buffer.len())
        }
    }
    let bad = BadRows { file: "f".to_owned(), format: FileFormat::Csv, skip: false, notes: Arc::default() };
    let reader = RowReader::new(&wide(), bad, None).unwrap();
    let endless = OpenedRows::Bytes(Box::new(Endless(false)));
    let error = read(endless, FileFormat::Csv, reader, &mut |_| true).unwrap_err().to_string();
    assert_eq!(error, "f, row 1: 512 rows from here are longer than 256 MiB; is a quote not closed?");
}
