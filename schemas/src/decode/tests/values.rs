//! The values that each column type takes and refuses, and the messages of the refusals.

use super::{check, messages, show, with_options};
use crate::decode::Decoder;

/// Checks that `value` in a column `a` of type `data_type` is shown as `expect`.
#[track_caller]
fn takes(data_type: &str, value: &str, expect: &str) {
    check(&format!("a {data_type}"), &format!(r#"{{"a":{value}}}"#), expect);
}

/// Checks that `value` in a column `a` of type `data_type` is refused with the reason `why`. SQL shows the type as
/// `named`.
#[track_caller]
fn refuses(data_type: &str, named: &str, value: &str, why: &str) {
    let expect = format!("reject: the value of `a` is not a valid {named}: {why}");
    takes(data_type, value, &expect);
    // The reason names the same column among other columns.
    check(&format!("z STRING, a {data_type}, b INT"), &format!(r#"{{"b":1,"a":{value},"z":""}}"#), &expect);
}

#[test]
fn keys_find_their_columns() {
    check("a INT", r#"{"a":1}"#, "1");
    check("a INT", " \n{ \"a\" : 1 }\r\n", "1");
    check("a INT", r#"{"a":null}"#, "null");
    check("a INT", r#"{"b":1}"#, "null");
    check("a INT", "{}", "null");
    check("\"A\" INT", r#"{"A":1}"#, "1");
    check("a INT", r#"{"\u0061":1}"#, "1");
    check("a INT, b INT", r#"{"b":1,"a":2}"#, "2|1");
    check("a INT", r#"{"a":1,"x":{"y":[1,{"z":2}]}}"#, "1");
    check("a INT", r#"{"a":1,"x":1e999,"x":"\ud800"}"#, "1");
    for twice in [r#"{"a":1,"a":2}"#, r#"{"a":1,"a":1}"#, r#"{"a":null,"b":0,"\u0061":1}"#] {
        check("a INT", twice, "reject: `a` occurs twice");
    }
}

#[test]
fn unquoted_names_take_keys_in_any_case() {
    check("orderId INT", r#"{"orderId":1}"#, "1");
    check("orderId INT", r#"{"orderid":1}"#, "1");
    check("orderid INT, customerName STRING", r#"{"ORDERID":1,"CustomerName":"Ada"}"#, "1|Ada");
    check("orderid INT, customerName STRING", r#"{"CustomerName":"Ada","ORDERID":1}"#, "1|Ada");
    check("a INT", r#"{"\u0041":1}"#, "1");
    check("größe INT", r#"{"GRÖSSE":1,"GRÖßE":2}"#, "2");
    // The key that is written like the name wins, wherever it stands.
    check("a INT", r#"{"A":1,"a":2}"#, "2");
    check("a INT", r#"{"a":2,"A":1}"#, "2");
    check("ab INT", r#"{"AB":1,"Ab":"x","ab":2,"aB":{}}"#, "2");
    // Nothing says which of two other keys is meant.
    check("ab INT", r#"{"AB":1,"Ab":2}"#, "reject: `ab` occurs twice");
    check("a INT", r#"{"A":1,"A":1}"#, "reject: `a` occurs twice");
    check("a INT", r#"{"A":1,"a":2,"a":2}"#, "reject: `a` occurs twice");
    check("a INT", r#"{"A":"x"}"#, "reject: the value of `a` is not a valid INT: its text is not a number");
    // A name with an upper-case letter was quoted.
    check("\"orderId\" INT", r#"{"orderid":1,"ORDERID":2}"#, "null");
    check("\"orderId\" INT", r#"{"orderid":1,"orderId":2}"#, "2");
    // Fields are columns of an object.
    check(
        "a STRUCT<firstName STRING, b STRUCT<c INT>>",
        r#"{"A":{"firstName":"x","B":{"C":1}}}"#,
        "{firstname: x, b: {c: 1}}",
    );
    check("a STRUCT<b INT>[]", r#"{"a":[{"B":1},{"b":2,"B":3},{}]}"#, "[{b: 1}, {b: 2}, {b: null}]");
    refuses("STRUCT<ab INT>", "STRUCT<ab INT>", r#"{"AB":1,"Ab":2}"#, "`ab` occurs twice");
}

#[test]
fn whole_numbers() {
    takes("INT", "1", "1");
    takes("INT", "-0", "0");
    takes("INT", "1.0", "1");
    takes("INT", "1e3", "1000");
    takes("INT", "1.5e1", "15");
    takes("INT", r#""12""#, "12");
    takes("INT", r#""-12.0""#, "-12");
    takes("BIGINT", "9223372036854775807", "9223372036854775807");
    takes("BIGINT", "-9223372036854775808", "-9223372036854775808");
    takes("BIGINT", "9007199254740993.0", "9007199254740993");
    takes("BIGINT", "9007199254740993e0", "9007199254740993");
    takes("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615");
    takes("TINYINT", "-128", "-128");

    let places = "it has more decimal places";
    let range = "it is out of range";
    refuses("INT", "INT", "1.5", places);
    refuses("INT", "INT", "15e-1", places);
    refuses("INT", "INT", "1e-400", places);
    refuses("BIGINT", "BIGINT", r#""1.5""#, places);
    refuses("BIGINT", "BIGINT", "0.99999999999999999999", places);
    refuses("TINYINT", "TINYINT", "128", range);
    refuses("INT", "INT", "2147483648", range);
    refuses("BIGINT", "BIGINT", "9223372036854775808", range);
    refuses("BIGINT", "BIGINT", "-9223372036854775809", range);
    refuses("BIGINT", "BIGINT", "9.3e18", range);
    refuses("BIGINT", "BIGINT", "1e999", range);
    refuses("BIGINT", "BIGINT", "1e65537", range);
    for text in ["", "x", " 1", "1 ", "01", "+1", "1.", "0x1", "1e", "NaN", "1,2", "١"] {
        refuses("INT", "INT", &format!("\"{text}\""), "its text is not a number");
    }
    refuses("INT", "INT", "true", "it is a boolean");
    refuses("INT", "INT", "{}", "it is an object");
    refuses("INT", "INT", "[1]", "it is a list");
}

#[test]
fn decimals() {
    takes("DECIMAL(10,2)", "1", "1.00");
    takes("DECIMAL(10,2)", "1.5e3", "1500.00");
    takes("DECIMAL(10,2)", r#""-12.5""#, "-12.50");
    takes("DECIMAL(10,2)", "1.2300000", "1.23");
    takes("DECIMAL(10,2)", "0.001e1", "0.01");
    takes("DECIMAL(10,2)", "-0.0", "0.00");
    takes("DECIMAL(10,2)", "0e99999", "0.00");
    takes("DECIMAL(10,2)", &format!("0.1{}", "0".repeat(300)), "0.10");
    takes("DECIMAL(38,0)", &"9".repeat(38), &"9".repeat(38));
    takes("DECIMAL(4,2)", "99.99", "99.99");

    let places = "it has more decimal places";
    let range = "it is out of range";
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", "1.239", places);
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", "1e-3", places);
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", r#""1e-40000""#, places);
    refuses("DECIMAL(4,2)", "DECIMAL(4, 2)", "100", range);
    refuses("DECIMAL(4,2)", "DECIMAL(4, 2)", "-99.995e1", range);
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", "1e65537", range);
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", r#""1\u0065999999""#, range);
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", &"9".repeat(300), range);
    refuses("DECIMAL(10,2)", "DECIMAL(10, 2)", r#""cheap""#, "its text is not a number");
    // A number out of range is harmless in a string column or under a key without a column.
    check("a DECIMAL(10,2), h STRING", r#"{"a":1,"h":"12e99999","x":1e99999}"#, "1.00|12e99999");
}

#[test]
fn floats() {
    takes("DOUBLE", "1e-3", "0.001");
    takes("DOUBLE", "0.30000000000000004", "0.30000000000000004");
    takes("DOUBLE", "9007199254740993", "9007199254740992.0");
    takes("DOUBLE", "1.7976931348623157e308", "1.7976931348623157e308");
    takes("DOUBLE", "1e-400", "0.0");
    takes("DOUBLE", "-0.0", "-0.0");
    takes("DOUBLE", r#""2.5""#, "2.5");
    takes("DOUBLE", r#""NaN""#, "NaN");
    takes("DOUBLE", r#""Infinity""#, "inf");
    takes("DOUBLE", r#""-Infinity""#, "-inf");
    takes("REAL", "16777217", "16777216.0");
    refuses("DOUBLE", "DOUBLE", "1e999", "it is out of range");
    refuses("DOUBLE", "DOUBLE", r#""-1e999""#, "it is out of range");
    refuses("REAL", "REAL", "3.5e38", "it is out of range");
    for text in ["nan", "inf", "+Infinity", "warm", "1_000", ""] {
        refuses("DOUBLE", "DOUBLE", &format!("\"{text}\""), "its text is not a number");
    }
    refuses("DOUBLE", "DOUBLE", "false", "it is a boolean");
}

#[test]
fn booleans_and_texts() {
    takes("BOOLEAN", "true", "true");
    takes("BOOLEAN", "null", "null");
    refuses("BOOLEAN", "BOOLEAN", r#""true""#, "it is text");
    refuses("BOOLEAN", "BOOLEAN", "1", "it is a number");
    takes("STRING", r#""x\"\u00e9\n{""#, "x\"é\n{");
    takes("STRING", r#""\ud83c\udf21""#, "🌡");
    takes("STRING", r#""\u0000""#, "\0");
    takes("STRING", r#""null""#, "null");
    refuses("STRING", "STRING", "1", "it is a number");
    refuses("STRING", "STRING", "true", "it is a boolean");
    refuses("STRING", "STRING", r#""\ud800""#, "half of a surrogate pair is missing");
    takes("BYTEA", r#""00fF""#, "00ff");
    takes("BYTEA", r#""""#, "");
    let pairs = "it is not pairs of hexadecimal digits";
    refuses("BYTEA", "BYTEA", r#""0g""#, pairs);
    refuses("BYTEA", "BYTEA", r#""00f""#, pairs);
    refuses("BYTEA", "BYTEA", "12", "it is a number");
}

#[test]
fn times() {
    takes("DATE", r#""2024-05-01""#, "2024-05-01");
    takes("DATE", "19844", "2024-05-01");
    let form = "it is not written as YYYY-MM-DD";
    refuses("DATE", "DATE", r#""2024-13-01""#, form);
    refuses("DATE", "DATE", r#""2024-05-01T23:00:00Z""#, form);
    refuses("DATE", "DATE", "1.5", "it has more decimal places");
    refuses("DATE", "DATE", "2147483648", "it is out of range");
    refuses("DATE", "DATE", "2147483647", "it is out of range");
    refuses("DATE", "DATE", r#""0000-01-01""#, "it is out of range");

    let noon = "2024-05-01T12:00:00";
    takes("TIMESTAMP", r#""2024-05-01T12:00:00.123456Z""#, "2024-05-01T12:00:00.123456");
    takes("TIMESTAMP", r#""2024-05-01T12:00:00.123456789Z""#, "2024-05-01T12:00:00.123456");
    takes("TIMESTAMP", r#""2024-05-01 12:00:00""#, noon);
    takes("TIMESTAMP", r#""2024-05-01T14:00:00\u002b02:00""#, noon);
    takes("TIMESTAMP", "1000001", "1970-01-01T00:00:01.000001");
    takes("TIMESTAMP", "1e6", "1970-01-01T00:00:01");
    takes("TIMESTAMPTZ", r#""2024-05-01T14:00:00+02:00""#, "2024-05-01T12:00:00Z");
    let form = "it is not a time as in ISO 8601";
    refuses("TIMESTAMP", "TIMESTAMP", r#""soon""#, form);
    refuses("TIMESTAMP", "TIMESTAMP", r#""2016-12-31T23:59:60Z""#, form);
    refuses("TIMESTAMP", "TIMESTAMP", r#""1714564800000000""#, form);
    refuses("TIMESTAMP", "TIMESTAMP", "1.5", "it has more decimal places");
    refuses("TIMESTAMP", "TIMESTAMP", "1e19", "it is out of range");
    refuses("TIMESTAMP", "TIMESTAMP", "9223372036854775807", "it is out of range");
    refuses("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "9223372036854775807", "it is out of range");
    takes("TIMESTAMP", r#""2024-05-01T12:00""#, noon);
    takes("TIMESTAMP[]", r#"["2024-W18-3T12Z"]"#, "[2024-05-01T12:00:00]");
    refuses("TIMESTAMP", "TIMESTAMP", "true", "it is a boolean");
}

#[test]
fn numbers_become_times_in_their_unit() {
    let rows = |columns: &str, options: &str, payload: &str| {
        let decoder = Decoder::new(&with_options(columns, options)).unwrap();
        show(&decoder.decode(&messages([payload.as_bytes()])).unwrap()).remove(0)
    };
    let noon = "2024-05-01T12:00:00";
    let one = |options: &str, number: &str| rows("a TIMESTAMP", options, &format!(r#"{{"a":{number}}}"#));
    assert_eq!(one("'timestamp_unit' 's'", "1714564800"), noon);
    assert_eq!(one("'timestamp_unit' 'MS'", "1714564800000"), noon);
    assert_eq!(one("'timestamp_unit' 'us'", "1714564800000000"), noon);
    assert_eq!(one("'timestamp_unit' 'ns'", "1714564800000000000"), noon);
    assert_eq!(one("'timestamp_unit.A' 'ms'", "1714564800000"), noon);
    assert_eq!(one("'timestamp_unit' 'ms'", "\"2024-05-01T12:00:00Z\""), noon);
    assert_eq!(
        one("'format' 'json'", "1714564800000"),
        "reject: the value of `a` is not a valid TIMESTAMP: in microseconds it would be a time of early 1970, and it \
         looks like milliseconds: see the option 'timestamp_unit'"
    );
    let nested = rows(
        "a STRUCT<b TIMESTAMP[]>, c TIMESTAMP",
        "'timestamp_unit' 's', 'timestamp_unit.a' 'ms'",
        r#"{"a":{"b":[1714564800000,null]},"c":1714564800}"#,
    );
    assert_eq!(nested, format!("{{b: [{noon}, null]}}|{noon}"));
}

#[test]
fn nested_values() {
    takes("INT[]", "[1,null,3]", "[1, null, 3]");
    takes("INT[]", "[]", "[]");
    takes("INT[]", "null", "null");
    takes("INT[][]", "[[1],null,[]]", "[[1], null, []]");
    takes("STRUCT<b INT, c STRING>", r#"{"c":"x","d":1.5}"#, "{b: null, c: x}");
    takes("STRUCT<b INT>", "null", "null");
    takes("STRUCT<b STRUCT<c INT[]>>", r#"{"b":{"c":[7]}}"#, "{b: {c: [7]}}");
    refuses("INT[]", "INT[]", r#"[1,"x",1.5]"#, "item 2 is not a valid INT: its text is not a number");
    refuses("INT[]", "INT[]", "1", "it is a number");
    refuses("INT[]", "INT[]", "{}", "it is an object");
    refuses("STRUCT<b INT>", "STRUCT<b INT>", "[]", "it is a list");
    refuses("STRUCT<b INT>", "STRUCT<b INT>", r#"{"b":1,"b":2}"#, "`b` occurs twice");
    refuses(
        "STRUCT<b INT, c DECIMAL(4,2)[]>",
        "STRUCT<b INT, c DECIMAL(4, 2)[]>",
        r#"{"b":1,"c":[1,2.345]}"#,
        "`c` is not a valid DECIMAL(4, 2)[]: item 2 is not a valid DECIMAL(4, 2): it has more decimal places",
    );
}
