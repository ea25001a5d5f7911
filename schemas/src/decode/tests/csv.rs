//! Lines of values: CSV with its quotes, and values with tabs between.

use super::{messages, show, with_options};
use crate::decode::Decoder;

#[track_caller]
fn check_line(format: &str, columns: &str, line: &[u8], expect: &str) {
    let decoder = Decoder::new(&with_options(columns, &format!("'format' '{format}'"))).unwrap();
    let shown = show(&decoder.decode(&messages([line, b"\"", line])).unwrap());
    assert_eq!([&shown[0], &shown[2]], [expect, expect], "{}", String::from_utf8_lossy(line));
}

#[track_caller]
fn csv(columns: &str, line: &str, expect: &str) {
    check_line("csv", columns, line.as_bytes(), expect);
}

#[track_caller]
fn tsv(columns: &str, line: &str, expect: &str) {
    check_line("tsv", columns, line.as_bytes(), expect);
}

#[test]
fn a_line_is_a_row() {
    csv("a INT, b STRING, c DOUBLE", "1,x,2.5", "1|x|2.5");
    for end in ["\n", "\r\n"] {
        csv("a INT, b STRING", &format!("1,x{end}"), "1|x");
        csv("a INT, b STRING", &format!("1,\"x\"{end}"), "1|x");
        tsv("a INT, b STRING", &format!("1\tx{end}"), "1|x");
    }
    csv("a INT, b STRING, c STRING", ",,", "null|null|null");
    csv("a STRING, b STRING", "\"\",", "|null");
    csv("a STRING", " x y ", " x y ");
    csv("a STRING", "\"a,\"\"b\"\"\r\nc\"", "a,\"b\"\r\nc");
    csv("a STRING", "\"\"\"\"", "\"");
    csv("a STRING", "null", "null");
    tsv("a STRING, b STRING", "say \"x\", y\t\\N", "say \"x\", y|\\N");
    tsv("a STRING, b STRING", "\t", "null|null");
}

#[test]
fn values_are_of_their_columns() {
    for (value, expect) in [("true", "true"), ("F", "false"), ("t", "true")] {
        csv("a BOOLEAN", value, expect);
    }
    csv("a BOOLEAN", "1", "reject: the value of `a` is not a valid BOOLEAN: it is text");
    csv("a DECIMAL(5,2)", "1.50", "1.50");
    csv(
        "a DECIMAL(5, 2)",
        "1.505",
        "reject: the value of `a` is not a valid DECIMAL(5, 2): it has more decimal places",
    );
    csv("a INT", "x", "reject: the value of `a` is not a valid INT: its text is not a number");
    csv("a INT", " 1", "reject: the value of `a` is not a valid INT: its text is not a number");
    csv("a TINYINT, b INT", "128,1", "reject: the value of `a` is not a valid TINYINT: it is out of range");
    csv("a DOUBLE, b DOUBLE", "NaN,-Infinity", "NaN|-inf");
    csv("a DATE, b TIMESTAMP", "2026-01-02,2026-01-02 03:04:05", "2026-01-02|2026-01-02T03:04:05");
    csv("a TIMESTAMP", "1767225600000000", "2026-01-01T00:00:00");
    csv("a BYTEA", "ff00", "ff00");
    csv("a BYTEA", "xyz", "reject: the value of `a` is not a valid BYTEA: it is not pairs of hexadecimal digits");
    csv("a INT[], b STRUCT<x INT>", "\"[1,2]\",\"{\"\"x\"\":3}\"", "[1, 2]|{x: 3}");
    csv("a INT[]", "\"[1,\"", "reject: the value of `a` is not a valid INT[]: it is a list");
    tsv("a STRUCT<x INT>", "{\"x\":3}", "{x: 3}");
    csv("a INT NOT NULL, b INT", ",1", "reject: `a` is NOT NULL and has no value");
    csv("a STRING", "\u{7}", "\u{7}");
}

#[test]
fn what_is_no_line_of_the_stream() {
    let columns = "a STRING, b STRING";
    csv(columns, "1", "reject: the message has 1 values, and the stream 2 columns");
    csv(columns, "1,2,3", "reject: the message has 3 values, and the stream 2 columns");
    csv(columns, "1,2\n3,4", "reject: the message holds more than one line");
    csv(columns, "1,\"2\"\n3,4\n", "reject: the message holds more than one line");
    csv(columns, "1,2\n\n", "reject: the message holds more than one line");
    csv(columns, "", "reject: the message is empty");
    csv(columns, "\n", "reject: the message has 1 values, and the stream 2 columns");
    csv(columns, "\"1,2", "reject: quotes are not closed");
    csv(columns, "\"1\"x,2", "reject: something follows the quotes of value 1");
    csv(columns, "1,2\"3", "reject: value 2 has a quote within; put all of it into quotes");
    tsv(columns, "1", "reject: the message has 1 values, and the stream 2 columns");
    tsv(columns, "1\t2\n3\t4", "reject: the message holds more than one line");
    for format in ["csv", "tsv"] {
        check_line(format, columns, b"\xff,\xff", "reject: the message is not UTF-8 text");
    }
}
