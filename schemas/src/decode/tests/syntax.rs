//! Messages that are not exactly one JSON object by RFC 8259.

use super::{check, check_bytes};

#[track_caller]
fn rejects(payload: &str, why: &str) {
    check("a INT", payload, &format!("reject: {why}"));
}

#[test]
fn what_is_not_one_object() {
    rejects("", "the message is empty");
    rejects(" \n", "the message is empty");
    for other in ["[]", "1", "null", "hello", "\"{}\"", "[{\"a\":1}]", "\u{feff}[]", "\u{feff}\u{feff}{}", "\u{a0}{}"] {
        rejects(other, "the message is not a JSON object");
    }
    for half in ["{", "{\"a\":1", "{\"a\":{\"b\":1}", "{\"a\":\"}", "{\"a\"", "{\"a\":1,", "{\"x\":[1,"] {
        rejects(half, "the JSON object is not complete");
    }
    rejects("{\"a\":1}{\"a\":2}", "the message holds more than one JSON value");
    rejects("{\"a\":1}\n{\"a\":2}", "the message holds more than one JSON value");
    for more in ["{\"a\":1}}", "{\"a\":1} x", "{\"a\":1},", "{\"a\":1}\0"] {
        rejects(more, "something follows the JSON object");
    }
}

#[test]
fn what_is_not_json() {
    let invalid = |payload: &str, why: &str| {
        rejects(payload, &format!("the message is not valid JSON: {why}"));
        // The reason is the same for a key without a column.
        let unknown = payload.replace("\"a\"", "\"b\"");
        rejects(&unknown, &format!("the message is not valid JSON: {why}"));
    };
    invalid(r#"{"a" 1}"#, "expected `:` at line 1 column 6");
    invalid(r#"{"a":tru}"#, "expected ident at line 1 column 9");
    invalid(r#"{"a":1,}"#, "trailing comma at line 1 column 8");
    invalid(r#"{"a":1,,"c":2}"#, "key must be a string at line 1 column 8");
    invalid(r#"{,"a":1}"#, "key must be a string at line 1 column 2");
    invalid(r#"{"a":1 "c":2}"#, "expected `,` or `}` at line 1 column 8");
    invalid(r#"{"a":01}"#, "invalid number at line 1 column 7");
    invalid(r#"{"a":-}"#, "invalid number at line 1 column 7");
    invalid(r#"{"a":-01}"#, "invalid number at line 1 column 8");
    invalid(r#"{"a":+1}"#, "expected value at line 1 column 6");
    invalid(r#"{"a":.5}"#, "expected value at line 1 column 6");
    invalid(r#"{"a":1.}"#, "invalid number at line 1 column 8");
    invalid(r#"{"a":1e}"#, "invalid number at line 1 column 8");
    invalid(r#"{"a":NaN}"#, "expected value at line 1 column 6");
    invalid(r#"{"a":Infinity}"#, "expected value at line 1 column 6");
    invalid(r#"{"a":0x1}"#, "expected `,` or `}` at line 1 column 7");
    invalid(r#"{"a":1-2}"#, "expected `,` or `}` at line 1 column 7");
    invalid(r#"{"a":[1,]}"#, "expected value at line 1 column 9");
    invalid(r#"{"a":[1 2]}"#, "expected `,` or `]` at line 1 column 9");
    invalid(r#"{"a":'x'}"#, "expected value at line 1 column 6");
    invalid("{'a':1}", "key must be a string at line 1 column 2");
    invalid("{a:1}", "key must be a string at line 1 column 2");
    invalid("{\"a\":1/*x*/}", "expected `,` or `}` at line 1 column 7");
    invalid("{\"a\":\"\t\"}", "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6");
    invalid(r#"{"a":"\x"}"#, "invalid escape at line 1 column 8");
    invalid(r#"{"a":"\u12g4"}"#, "invalid escape at line 1 column 12");
    invalid(r#"{"a":{]}"#, "key must be a string at line 1 column 7");
}

#[test]
fn what_is_not_utf8() {
    let why = "reject: the message is not UTF-8 text";
    check_bytes("a STRING", b"{\"a\":\"\xff\"}", why);
    check_bytes("a STRING", b"{\"b\":\"\xc3\x28\"}", why);
    check_bytes("a STRING", b"\xff\xfe{}", why);
    check_bytes("a STRING", b"{\"a\":\"\xed\xa0\x80\"}", why);
}

/// Deeply nested values do not overflow the stack, with or without a column for them.
#[test]
fn depth_overflows_no_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!(r#"{{"a":{}1{}}}"#, open.repeat(200_000), close.repeat(200_000));
        check("b INT", &deep, "null");
        let kind = if open == "[" { "it is a list" } else { "it is an object" };
        check("a INT", &deep, &format!("reject: the value of `a` is not a valid INT: {kind}"));
        check("a INT", &deep[..200_000], "reject: the JSON object is not complete");
    }
}
