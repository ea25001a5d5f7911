//! Protobuf messages: types, presence, merging, framings, and what is refused.

use uuid::Uuid;

use super::{messages, show, with_options};
use crate::decode::{Decoder, Messages, RegisteredSchema, SchemaId, SchemaKind};
use crate::{Offset, Partition};

/// A number as Protobuf writes it.
pub(super) fn n(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A signed number, in 64 bits.
fn i(number: i64) -> Vec<u8> {
    n(number.cast_unsigned())
}

fn zigzag(number: i64) -> Vec<u8> {
    n((number << 1 ^ number >> 63).cast_unsigned())
}

pub(super) fn key(number: u64, wire: u64) -> Vec<u8> {
    n(number << 3 | wire)
}

/// A field with a number.
fn num(field: u64, value: Vec<u8>) -> Vec<u8> {
    [key(field, 0), value].concat()
}

/// A field with a length.
pub(super) fn len(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [key(field, 2), n(bytes.as_ref().len() as u64), bytes.as_ref().to_vec()].concat()
}

fn f32s(field: u64, bytes: [u8; 4]) -> Vec<u8> {
    [key(field, 5), bytes.to_vec()].concat()
}

fn f64s(field: u64, bytes: [u8; 8]) -> Vec<u8> {
    [key(field, 1), bytes.to_vec()].concat()
}

fn group(field: u64, inside: &[u8]) -> Vec<u8> {
    [key(field, 3), inside.to_vec(), key(field, 4)].concat()
}

fn cat(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn framed(id: u32, path: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), path, value].concat()
}

pub(super) fn schema(text: &str) -> RegisteredSchema {
    RegisteredSchema::alone(SchemaKind::Protobuf, text)
}

/// A schema of proto3 whose only message has these fields, and types beside it.
fn proto3(fields: &str) -> String {
    let (fields, beside) = fields.split_once("---").unwrap_or((fields, ""));
    let imports = ["timestamp", "duration", "wrappers", "struct", "any"];
    let imports = imports.map(|name| format!("import \"google/protobuf/{name}.proto\";")).concat();
    format!(
        "syntax = \"proto3\"; package p; {imports} import \"google/type/date.proto\"; import \"google/type/decimal.proto\";
         import \"confluent/type/decimal.proto\"; message M {{ {fields} }} {beside}"
    )
}

fn proto2(fields: &str) -> String {
    let (fields, beside) = fields.split_once("---").unwrap_or((fields, ""));
    format!("package p; message M {{ {fields} }} {beside}")
}

/// A decoder that knows schema 7.
pub(super) fn decoder(columns: &str, text: &str) -> Decoder {
    let decoder = Decoder::new(&with_options(columns, "'format' 'protobuf'")).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(schema(text)));
    decoder
}

/// Checks a value of schema 7 between two others, and that no end of it breaks those behind it.
#[track_caller]
fn check_text(columns: &str, text: &str, value: &[u8], expect: &str) {
    let decoder = decoder(columns, text);
    let message = framed(7, &[0], value);
    let decoded = decoder.decode(&messages([message.as_slice(), b"\x01", &message])).unwrap();
    let shown = show(&decoded);
    assert_eq!([&shown[0], &shown[2]], [expect, expect], "{columns} {text}");
    assert!(shown[1].starts_with("reject: the message does not begin"), "{}", shown[1]);
    for end in 0..message.len() {
        let cut = show(&decoder.decode(&messages([&message[..end], &message])).unwrap());
        assert_eq!(cut[1], expect, "{columns} {text}, behind one cut at {end}");
        assert!(end >= 6 || cut[0].starts_with("reject: "), "{}", cut[0]);
    }
}

/// Checks messages of proto3.
#[track_caller]
fn check_record(columns: &str, fields: &str, value: &[u8], expect: &str) {
    check_text(columns, &proto3(fields), value, expect);
}

/// Checks one column `a` of a field with the number 1, and that no part of the field is a row.
#[track_caller]
fn check(column: &str, of: &str, value: &[u8], expect: &str) {
    let (of, beside) = of.split_once("---").unwrap_or((of, ""));
    let fields = format!("{of} a = 1; --- {beside}");
    check_record(&format!("a {column}"), &fields, value, expect);
    let decoder = decoder(&format!("a {column}"), &proto3(&fields));
    if expect.starts_with("reject") || of.starts_with("repeated") || of.starts_with("map") {
        return;
    }
    for end in 1..value.len() {
        let cut = framed(7, &[0], &value[..end]);
        let shown = show(&decoder.decode(&messages([cut.as_slice()])).unwrap());
        assert!(shown[0].starts_with("reject: "), "{of}, cut at {end}: {}", shown[0]);
    }
}

/// The reject of one column.
#[track_caller]
fn refuse(column: &str, of: &str, value: &[u8], why: &str) {
    check(column, of, value, &format!("reject: the value of `a` is not a valid {column}: {why} (schema 7)"));
}

/// A column that takes no value of a type.
#[track_caller]
fn refuse_type(column: &str, of: &str, why: &str) {
    check(column, of, &[], &format!("reject: `a`: {why} (schema 7)"));
}

const RANGE: &str = "it is out of range";
const LOST: &str = "a number that is declared with 32 bits has more";

#[test]
fn numbers_of_every_kind() {
    for (column, most) in [("TINYINT", 127), ("SMALLINT", 32_767), ("INT", i32::MAX.into()), ("BIGINT", i64::MAX)] {
        for value in [0, 1, -1, most, -most - 1] {
            check(column, "int64", &num(1, i(value)), &value.to_string());
            check(column, "sint64", &num(1, zigzag(value)), &value.to_string());
            check(column, "sfixed64", &f64s(1, value.to_le_bytes()), &value.to_string());
        }
        if most < i64::MAX {
            refuse(column, "int64", &num(1, i(most + 1)), RANGE);
            refuse(column, "sint64", &num(1, zigzag(i64::MIN)), RANGE);
        }
    }
    check("BIGINT", "int32", &num(1, i(-5)), "-5");
    // A negative number in the five bytes that its 32 bits need.
    check("BIGINT", "int32", &num(1, n(0xffff_fffb)), "-5");
    refuse("BIGINT", "int32", &num(1, n(1 << 32)), LOST);
    refuse("BIGINT", "int32", &num(1, i(i64::MIN)), LOST);
    check("BIGINT", "uint32", &num(1, n(u32::MAX.into())), "4294967295");
    refuse("INT", "uint32", &num(1, n(u32::MAX.into())), RANGE);
    refuse("BIGINT", "uint32", &num(1, n(1 << 32)), LOST);
    refuse("BIGINT", "uint32", &num(1, i(-1)), LOST);
    check("BIGINT", "sint32", &num(1, zigzag(i32::MIN.into())), "-2147483648");
    refuse("BIGINT", "sint32", &num(1, zigzag(1 << 31)), LOST);
    check("BIGINT", "fixed32", &f32s(1, [0xff; 4]), "4294967295");
    check("BIGINT", "sfixed32", &f32s(1, [0xff; 4]), "-1");
    check("BIGINT", "uint64", &num(1, n(i64::MAX.cast_unsigned())), "9223372036854775807");
    refuse("BIGINT", "uint64", &num(1, n(u64::MAX)), RANGE);
    check("BIGINT UNSIGNED", "uint64", &num(1, n(u64::MAX)), "18446744073709551615");
    check("DECIMAL(20,0)", "fixed64", &f64s(1, [0xff; 8]), "18446744073709551615");
    check("DECIMAL(5,2)", "int32", &num(1, i(-12)), "-12.00");
    refuse("DECIMAL(4, 2)", "int64", &num(1, i(100)), RANGE);
    check("DOUBLE", "int64", &num(1, i(1 << 53)), "9007199254740992.0");
    check("REAL", "uint32", &num(1, n(3)), "3.0");
    check("DOUBLE", "float", &f32s(1, 1.5f32.to_le_bytes()), "1.5");
    check("REAL", "float", &f32s(1, f32::NAN.to_le_bytes()), "NaN");
    check("DOUBLE", "double", &f64s(1, f64::NEG_INFINITY.to_le_bytes()), "-inf");
    check("BOOLEAN", "bool", &num(1, n(1)), "true");
    check("BOOLEAN", "bool", &num(1, n(0)), "false");
    // Protobuf lets a bool be any number.
    check("BOOLEAN", "bool", &num(1, n(300)), "true");
    refuse_type("REAL", "double", "it is written as double, which no REAL takes");
    refuse_type("INT", "string", "it is written as string, which no INT takes");
    refuse_type("STRING", "int32", "it is written as int32, which no STRING takes");
    refuse_type("INT[]", "int32", "it is written as int32, which no INT[] takes");
    refuse_type("DATE", "int64", "it is written as int64, which no DATE takes");
    // Ten bytes, the last of which has bits beyond the 64th, and eleven.
    let long = |last: u8| [key(1, 0), vec![0xff; 9], vec![last]].concat();
    check("BIGINT", "int64", &long(1), "-1");
    refuse("BIGINT", "int64", &long(2), "a number has more than 64 bits");
    refuse("BIGINT", "int64", &long(0x81), "a number has more than 64 bits");
    // More bytes than needed are a number all the same.
    check("BIGINT", "int64", &[8, 0x83, 0x80, 0], "3");
}

#[test]
fn texts_bytes_and_enums() {
    check("STRING", "string", &len(1, "grün"), "grün");
    check("STRING", "bytes", &len(1, "x"), "x");
    check("BYTEA", "bytes", &len(1, [0xff, 0]), "ff00");
    check("BYTEA", "string", &len(1, "x"), "78");
    refuse("STRING", "string", &len(1, [0xff]), "the text is not UTF-8");
    refuse("STRING", "bytes", &len(1, [0xc3]), "the text is not UTF-8");
    let length = |of| [key(1, 2), n(of), vec![b'x'; 3]].concat();
    refuse("STRING", "string", &length(4), "it claims 4 bytes, and 3 are left");
    refuse("STRING", "string", &length(u64::MAX), "it claims 18446744073709551615 bytes, and 3 are left");
    let e = "E --- enum E { option allow_alias = true; OFF = 0; ON = 1; AN = 1; LOW = -1; }";
    check("STRING", e, &num(1, n(1)), "ON");
    check("STRING", e, &num(1, i(-1)), "LOW");
    check("STRING", e, &[], "OFF");
    check("STRING", e, &num(1, n(9)), "9");
    check("STRING", e, &num(1, i(-9)), "-9");
    check("INT", e, &num(1, i(-1)), "-1");
    refuse("STRING", e, &num(1, n(1 << 40)), LOST);
    refuse_type("BOOLEAN", e, "it is written as p.E, which no BOOLEAN takes");
}

#[test]
fn a_value_in_another_type_is_refused() {
    for (of, declared) in [("int32", "int32"), ("string", "string"), ("double", "double"), ("fixed32", "fixed32")] {
        let column = match of {
            "string" => "STRING",
            "double" => "DOUBLE",
            _ => "BIGINT",
        };
        for (value, written) in [
            (num(1, n(5)), "varint"),
            (f64s(1, [0; 8]), "64 bits"),
            (len(1, "x"), "bytes with a length"),
            (group(1, &[]), "group"),
            (f32s(1, [0; 4]), "32 bits"),
        ] {
            let fits = matches!((of, written), ("int32", "varint") | ("string", "bytes with a length"))
                || matches!((of, written), ("double", "64 bits") | ("fixed32", "32 bits"));
            if !fits {
                let why = format!("it is written as {written}, and is declared as {declared}");
                refuse(column, of, &value, &why);
                let skipped = format!("reject: the field `a` cannot be read: {why} (schema 7)");
                check_record("b INT", &format!("{of} a = 1;"), &value, &skipped);
            }
        }
    }
    refuse("INT", "int32", &key(1, 4), "a group ends that did not begin");
    let whole = |value: Vec<u8>, why: &str| {
        check_record("a INT", "int32 a = 1;", &value, &format!("reject: {why} (schema 7)"));
    };
    whole(vec![0, 1], "no field has the number 0");
    whole(n(1 << 33), "no field has the number 1073741824");
    whole(vec![0x0e], "no value is written as wire type 6 (field 1)");
    whole(vec![0x0f], "no value is written as wire type 7 (field 1)");
    whole(vec![0x80], "the message ends within a number");
    whole(key(2, 4), "field 2, which is not known: a group ends that did not begin");
    whole([key(2, 2), n(7), vec![0]].concat(), "field 2, which is not known: it claims 7 bytes, and 1 are left");
    whole(key(2, 1), "field 2, which is not known: the message ends within a number");
    whole([key(2, 3), key(3, 4)].concat(), "field 2, which is not known: a group ends that did not begin");
    whole([key(2, 3), num(1, n(1))].concat(), "field 2, which is not known: the group 2 does not end");
    // Unknown fields of every kind are skipped.
    let unknown = cat(&[num(9, n(1)), len(10, "xyz"), f32s(11, [1; 4]), f64s(12, [1; 8]), group(13, &group(14, &[]))]);
    check_record("a INT", "int32 a = 1;", &cat(&[unknown.clone(), num(1, n(5)), unknown]), "5");
}

#[test]
fn presence_is_what_the_schema_can_tell() {
    check("INT", "int32", &[], "0");
    check("STRING", "string", &[], "");
    check("BYTEA", "bytes", &[], "");
    check("BOOLEAN", "bool", &[], "false");
    check("DOUBLE", "double", &[], "0.0");
    check("DECIMAL(5,2)", "int32", &[], "0.00");
    check("INT[]", "repeated int32", &[], "[]");
    check("STRUCT<key STRING, value INT>[]", "map<string, int32>", &[], "[]");
    check("INT", "optional int32", &[], "null");
    check("INT", "optional int32", &num(1, n(0)), "0");
    check("STRING", "optional string", &len(1, ""), "");
    check("STRUCT<b INT>", "N --- message N { int32 b = 1; }", &[], "null");
    check("STRUCT<b INT>", "N --- message N { int32 b = 1; }", &len(1, ""), "{b: 0}");
    check_record("a INT NOT NULL", "optional int32 a = 1;", &[], "reject: `a` is NOT NULL and has no value");
    check_record("a INT NOT NULL", "int32 a = 1;", &[], "0");
    check_record("a INT, none STRING, c INT", "int32 c = 3; int32 a = 1;", &num(3, n(5)), "0|null|5");
    // What proto2 declares as a default is the value; without a default there is none.
    let fields = "optional int32 a = 1; optional sint32 b = 2 [default = -7]; optional string c = 3 [default = \"x\"];
         optional E d = 4 [default = TWO]; optional double e = 5 [default = -inf]; optional bytes f = 6 [default = \"\\377\"];
         optional bool g = 7 [default = true]; optional fixed64 h = 8 [default = 9]; optional float i = 9 [default = 1.5];
         optional uint64 j = 10 [default = 18446744073709551615]; repeated int32 k = 11;
         --- enum E { ONE = 1; TWO = 2; }";
    check_text(
        "a INT, b INT, c STRING, d STRING, e DOUBLE, f BYTEA, g BOOLEAN, h BIGINT, i REAL, j DECIMAL(20,0), k INT[]",
        &proto2(fields),
        &[],
        "null|-7|x|TWO|-inf|ff|true|9|1.5|18446744073709551615|[]",
    );
    check_text("b INT, d STRING", &proto2(fields), &cat(&[num(2, zigzag(0)), num(4, n(1))]), "0|ONE");
}

#[test]
fn required_fields_must_be_there() {
    let fields = "required int32 a = 1; optional N n = 2; repeated N r = 3; oneof o { N x = 4; int32 y = 5; } extensions 100 to 200;
        --- message N { required int32 b = 1; optional N n = 2; }";
    let text = proto2(fields);
    let a = num(1, n(1));
    let lacks = |why: &str| format!("reject: {why} (schema 7)");
    check_text("a INT", &text, &a, "1");
    check_text("a INT", &text, &[], &lacks("the required field `a` is missing"));
    check_text("c INT", &text, &[], &lacks("the required field `a` is missing"));
    for columns in ["a INT", "n STRUCT<b INT>, a INT"] {
        let message = cat(&[a.clone(), len(2, [])]);
        check_text(columns, &text, &message, &lacks("`n`: the required field `b` is missing"));
        let message = cat(&[a.clone(), len(2, cat(&[num(1, n(1)), len(2, [])]))]);
        check_text(columns, &text, &message, &lacks("`n`: `n`: the required field `b` is missing"));
        let message = cat(&[a.clone(), len(3, num(1, n(1))), len(3, [])]);
        check_text(columns, &text, &message, &lacks("`r`: the required field `b` is missing"));
    }
    // The parts of a message are one, and what another member of a oneof replaced is not looked at.
    check_text("a INT, n STRUCT<b INT>", &text, &cat(&[len(2, []), a.clone(), len(2, num(1, n(4)))]), "1|{b: 4}");
    check_text("a INT, y INT", &text, &cat(&[a.clone(), len(4, []), num(5, n(3))]), "1|3");
}

#[test]
fn the_last_value_counts_and_messages_are_merged() {
    check_record("a INT", "int32 a = 1;", &cat(&[num(1, n(1)), num(1, n(2))]), "2");
    let fields = "N a = 1; --- message N { int32 b = 1; repeated int32 c = 2; N d = 3; string e = 4; }";
    let column = "a STRUCT<b INT, c INT[], d STRUCT<b INT, c INT[]>, e STRING>";
    let one = cat(&[num(1, n(1)), len(2, [1, 2]), len(3, num(1, n(5))), len(4, "x")]);
    let two = cat(&[num(2, n(3)), len(3, len(2, [7])), num(1, n(9))]);
    let three = len(3, len(2, [8]));
    let merged = "{b: 9, c: [1, 2, 3], d: {b: 5, c: [7, 8]}, e: x}";
    check_record(column, fields, &cat(&[len(1, &one), len(9, ""), len(1, &two), len(1, &three)]), merged);
    check_record(column, fields, &len(1, cat(&[one, two, three])), merged);
    check_record(
        "b INT",
        fields,
        &cat(&[len(1, ""), len(1, [0x80])]),
        "reject: the field `a` cannot be read: the message ends within a number (schema 7)",
    );
    // A scalar between the parts does not matter, and neither does the order of fields.
    let fields = "int32 a = 1; string b = 2;";
    check_record("a INT, b STRING", fields, &cat(&[len(2, "x"), num(1, n(1))]), "1|x");
}

#[test]
fn the_last_member_of_a_oneof_counts() {
    let fields =
        "oneof o { int32 a = 1; string b = 2; N c = 3; int32 d = 4; } --- message N { int32 x = 1; int32 y = 2; }";
    let columns = "a INT, b STRING, c STRUCT<x INT, y INT>";
    let check = |value: &[Vec<u8>], expect: &str| check_record(columns, fields, &cat(value), expect);
    check(&[], "null|null|null");
    check(&[num(1, n(0))], "0|null|null");
    check(&[num(1, n(5)), len(2, "x")], "null|x|null");
    check(&[len(2, "x"), num(1, n(5))], "5|null|null");
    let (x, y) = (len(3, num(1, n(1))), len(3, num(2, n(2))));
    check(&[x.clone(), y.clone()], "null|null|{x: 1, y: 2}");
    check(&[x.clone(), num(1, n(5)), y.clone()], "null|null|{x: 0, y: 2}");
    check(&[x.clone(), num(1, n(5))], "5|null|null");
    let broken = |value: &[Vec<u8>]| {
        let why = "`c`: the message ends within a number";
        check(value, &format!("reject: the value of `a` is not a valid INT: {why} (schema 7)"));
    };
    broken(&[len(3, [0x80]), num(1, n(5))]);
    broken(&[x.clone(), len(3, [0x80]), num(1, n(5))]);
    // Also by a member that no column takes.
    check(&[num(1, n(5)), num(4, n(5))], "null|null|null");
    check_record("a INT", fields, &cat(&[num(1, n(5)), x]), "null");
    check_record(
        "d INT",
        fields,
        &cat(&[num(4, n(5)), len(3, [0x80])]),
        "reject: the field `c` cannot be read: the message ends within a number (schema 7)",
    );
}

#[test]
fn lists_are_packed_or_not() {
    for of in ["repeated int32", "repeated sint64", "repeated bool", "repeated uint32"] {
        let (column, items) = match of {
            "repeated bool" => ("BOOLEAN[]", "[true, false, true]"),
            "repeated sint64" => ("BIGINT[]", "[-1, 0, -1]"),
            _ => ("BIGINT[]", "[1, 0, 1]"),
        };
        check(column, of, &len(1, [1, 0, 1]), items);
        check(column, of, &cat(&[num(1, n(1)), len(1, [0]), num(1, n(1)), len(1, [])]), items);
    }
    check("DOUBLE[]", "repeated double", &len(1, [1.5f64.to_le_bytes(), 2f64.to_le_bytes()].concat()), "[1.5, 2.0]");
    check("REAL[]", "repeated float", &f32s(1, 1.5f32.to_le_bytes()), "[1.5]");
    refuse("DOUBLE[]", "repeated double", &len(1, [0; 9]), "the message ends within a number");
    refuse("INT[]", "repeated int32", &len(1, [1, 0x80]), "the message ends within a number");
    refuse("TINYINT[]", "repeated int32", &len(1, [1, 0x80, 1]), RANGE);
    check("STRING[]", "repeated string", &cat(&[len(1, "a"), len(1, ""), len(1, "b")]), "[a, , b]");
    refuse("STRING[]", "repeated string", &num(1, n(1)), "it is written as varint, and is declared as string");
    let m = "repeated N --- message N { int32 b = 1; repeated N c = 2; }";
    let item = cat(&[num(1, n(1)), len(2, num(1, n(2))), len(2, [])]);
    check(
        "STRUCT<b INT, c STRUCT<b INT>[]>[]",
        m,
        &cat(&[len(1, &item), len(1, [])]),
        "[{b: 1, c: [{b: 2}, {b: 0}]}, {b: 0, c: []}]",
    );
    refuse("STRUCT<b TINYINT>[]", m, &len(1, num(1, n(128))), "`b`: it is out of range");
    refuse_type("STRING", "repeated string", "it is written as repeated string, which no STRING takes");
    check_record(
        "b INT",
        "repeated double a = 1;",
        &len(1, [0; 9]),
        "reject: the field `a` cannot be read: the message ends within a number (schema 7)",
    );
}

#[test]
fn maps_are_lists_of_entries() {
    let entry = |key: &str, value: u64| len(1, cat(&[len(1, key), num(2, n(value))]));
    let column = "STRUCT<key STRING, value INT>[]";
    let of = "map<string, int32>";
    check(column, of, &entry("k", 4), "[{key: k, value: 4}]");
    check(column, of, &cat(&[entry("k", 1), entry("l", 2), entry("k", 3)]), "[{key: l, value: 2}, {key: k, value: 3}]");
    check(column, of, &cat(&[len(1, []), len(1, num(2, n(5)))]), "[{key: , value: 5}]");
    check(column, of, &len(1, cat(&[num(2, n(5)), len(1, "k"), num(2, n(6)), num(9, n(1))])), "[{key: k, value: 6}]");
    check("STRUCT<value INT, key STRING>[]", of, &entry("k", 4), "[{value: 4, key: k}]");
    check("STRUCT<key STRING>[]", of, &entry("k", 4), "[{key: k}]");
    // Keys that are written differently are the same key.
    let keys = cat(&[len(1, num(1, n(0xffff_fffb))), len(1, num(1, i(-5)))]);
    check("STRUCT<key INT, value BOOLEAN>[]", "map<int32, bool>", &keys, "[{key: -5, value: false}]");
    check(
        "STRUCT<key BOOLEAN>[]",
        "map<bool, bool>",
        &cat(&[len(1, num(1, n(3))), len(1, num(1, n(1)))]),
        "[{key: true}]",
    );
    let m = "map<uint64, N> --- message N { int32 b = 1; }";
    check("STRUCT<key DECIMAL(20,0), value STRUCT<b INT>>[]", m, &len(1, num(1, n(7))), "[{key: 7, value: {b: 0}}]");
    refuse(
        "STRUCT<key STRING, value INT>[]",
        of,
        &cat(&[entry("k", 1), len(1, [16])]),
        "`value`: the message ends within a number",
    );
    refuse(
        "STRUCT<key STRING, value INT>[]",
        of,
        &len(1, num(1, n(8))),
        "`key`: it is written as varint, and is declared as string",
    );
    let only = "it is written as map, which STRUCT<key …, value …>[] takes";
    refuse_type("STRING[]", of, only);
    refuse_type("STRUCT<key STRING, other INT>[]", of, only);
    refuse_type("STRUCT<key STRING, value INT>", of, only);
    check_record(
        "b INT",
        "map<string, int32> a = 1;",
        &len(1, num(1, n(8))),
        "reject: the field `a` cannot be read: `key`: it is written as varint, and is declared as string (schema 7)",
    );
}

#[test]
fn groups_are_messages() {
    let text = proto2("optional group A = 1 { optional int32 b = 1; } repeated group R = 2 { optional int32 b = 1; }");
    check_text("a STRUCT<b INT>", &text, &group(1, &num(1, n(5))), "{b: 5}");
    check_text("a STRUCT<b INT>", &text, &[], "null");
    check_text("r STRUCT<b INT>[]", &text, &cat(&[group(2, &num(1, n(5))), group(2, &[])]), "[{b: 5}, {b: null}]");
    let refused = "reject: the value of `a` is not a valid STRUCT<b INT>: it is written as bytes with a length, and is declared as p.M.A (schema 7)";
    check_text("a STRUCT<b INT>", &text, &len(1, []), refused);
    let refused = "reject: the value of `a` is not a valid STRUCT<b INT>: the group 1 does not end (schema 7)";
    check_text("a STRUCT<b INT>", &text, &key(1, 3), refused);
}

#[test]
fn what_is_nested_too_deeply_is_refused() {
    let fields = "int32 v = 1; M next = 2;";
    let nested = |depth| (0..depth).fold(num(1, n(1)), |inner, _| len(2, inner));
    check_record("v INT, next STRUCT<v INT>", fields, &nested(1), "0|{v: 1}");
    let decoder = decoder("v INT", &proto3(fields));
    let shown = |value: &[u8]| show(&decoder.decode(&messages([framed(7, &[0], value).as_slice()])).unwrap()).remove(0);
    assert_eq!(shown(&nested(100)), "0");
    let deep = shown(&nested(101));
    assert!(
        deep.contains("the field `next` cannot be read: ") && deep.ends_with("nested more than 100 deep (schema 7)")
    );
    assert!(shown(&nested(20_000)).ends_with("nested more than 100 deep (schema 7)"));
    assert_eq!(shown(&[key(9, 3).repeat(100), key(9, 4).repeat(100)].concat()), "0");
    assert!(shown(&key(9, 3).repeat(100_000)).ends_with("nested more than 100 deep (schema 7)"));
}

#[test]
fn fields_and_columns_meet_by_name_or_json_name() {
    let fields = "int32 order_id = 1; string Name = 2; int32 other = 3 [json_name = \"theOther\"];";
    let value = cat(&[num(1, n(1)), len(2, "x"), num(3, n(3))]);
    check_record("name STRING, order_id INT", fields, &value, "x|1");
    check_record("orderId INT, \"theOther\" INT", fields, &value, "1|3");
    check_record("\"ORDER_ID\" INT, \"Name\" STRING", fields, &value, "null|x");
    // The name goes before the JSON name, and the case that is written before another.
    let fields = "optional int32 a_b = 1; optional int32 ab = 2;";
    check_text("ab INT, a_b INT", &proto2(fields), &cat(&[num(1, n(1)), num(2, n(2))]), "2|1");
    let alike = proto2("optional int32 ID = 1; optional int32 Id = 2;");
    check_text("id INT", &alike, &[], "reject: `ID` and `Id` are both `id` (schema 7)");
}

#[test]
fn messages_that_stand_for_one_value() {
    let time = |seconds: i64, nanos: i64| len(1, cat(&[num(1, i(seconds)), num(2, i(nanos))]));
    let of = "google.protobuf.Timestamp";
    check("TIMESTAMP", of, &time(1_700_000_000, 123_456_999), "2023-11-14T22:13:20.123456");
    check("TIMESTAMP", of, &time(-1, 999_999_000), "1969-12-31T23:59:59.999999");
    check("TIMESTAMP", of, &len(1, []), "1970-01-01T00:00:00");
    check("TIMESTAMP", of, &[], "null");
    refuse("TIMESTAMP", of, &time(0, -1), "its nanos are no part of a second");
    refuse("TIMESTAMP", of, &time(i64::MAX, 0), RANGE);
    refuse("TIMESTAMP", of, &time(0, 1 << 40), LOST);
    refuse("TIMESTAMP", of, &len(1, f64s(1, [0; 8])), "`seconds`: it is written as 64 bits, and is declared as int64");
    check("STRUCT<seconds BIGINT, nanos INT>", of, &time(5, 6), "{seconds: 5, nanos: 6}");
    check(
        "TIMESTAMP[]",
        &format!("repeated {of}"),
        &cat(&[time(0, 0), time(1, 0)]),
        "[1970-01-01T00:00:00, 1970-01-01T00:00:01]",
    );
    refuse_type("BIGINT", of, "it is written as google.protobuf.Timestamp, which no BIGINT takes");
    // Parts of it are merged.
    check_record(
        "a TIMESTAMP",
        "google.protobuf.Timestamp a = 1;",
        &cat(&[time(9, 5_000), len(1, num(1, n(1)))]),
        "1970-01-01T00:00:01.000005",
    );
    let of = "google.protobuf.Duration";
    check("BIGINT", of, &time(1, 500_000_999), "1500000");
    check("BIGINT", of, &time(-1, -500_000_000), "-1500000");
    check("BIGINT", of, &time(-1, -1_999), "-1000001");
    check("BIGINT", of, &time(0, -1), "0");
    check("STRING", of, &time(3, 0), "3s");
    check("STRING", of, &time(0, -500_000_000), "-0.500s");
    check("STRING", of, &time(3, 1_000), "3.000001s");
    check("STRING", of, &time(3, 1), "3.000000001s");
    refuse("STRING", of, &time(1, -1), "it is no duration of at most ten thousand years");
    refuse("BIGINT", of, &time(1 << 40, 0), "it is no duration of at most ten thousand years");
    for (of, column, value, shown) in [
        ("Int32Value", "BIGINT", num(1, i(-5)), "-5"),
        ("UInt64Value", "BIGINT UNSIGNED", num(1, n(u64::MAX)), "18446744073709551615"),
        ("StringValue", "STRING", len(1, "x"), "x"),
        ("BytesValue", "BYTEA", len(1, [1]), "01"),
        ("BoolValue", "BOOLEAN", num(1, n(1)), "true"),
        ("DoubleValue", "DOUBLE", f64s(1, 1.5f64.to_le_bytes()), "1.5"),
    ] {
        let of = format!("google.protobuf.{of}");
        check(column, &of, &len(1, value), shown);
        check(column, &of, &[], "null");
    }
    check("INT", "google.protobuf.Int32Value", &len(1, []), "0");
    refuse("TINYINT", "google.protobuf.Int32Value", &len(1, num(1, n(128))), RANGE);
    refuse_type("BOOLEAN", "google.protobuf.Int32Value", "it is written as int32, which no BOOLEAN takes");
    let date = |y, m, d| len(1, cat(&[num(1, i(y)), num(2, i(m)), num(3, i(d))]));
    check("DATE", "google.type.Date", &date(2024, 2, 29), "2024-02-29");
    refuse("DATE", "google.type.Date", &date(2023, 2, 29), "it is no full date");
    refuse("DATE", "google.type.Date", &date(2023, 2, 0), "it is no full date");
    refuse("DATE", "google.type.Date", &date(10_000, 1, 1), RANGE);
    let decimal = |digits: &[u8], scale: i64| len(1, cat(&[len(1, digits), num(2, n(9)), num(3, i(scale))]));
    let of = "confluent.type.Decimal";
    check("DECIMAL(10,2)", of, &decimal(&[0x30, 0x39], 2), "123.45");
    check("DECIMAL(10,3)", of, &decimal(&[0xff], 2), "-0.010");
    check("DECIMAL(10,2)", of, &decimal(&[5], -2), "500.00");
    check("DECIMAL(10,2)", of, &len(1, []), "0.00");
    refuse("DECIMAL(10, 1)", of, &decimal(&[1], 2), "it has more decimal places");
    refuse("DECIMAL(10, 1)", of, &decimal(&[1], -40), RANGE);
    refuse("DECIMAL(10, 1)", of, &decimal(&[1; 17], 0), RANGE);
    let of = "google.type.Decimal";
    for (text, shown) in [
        ("-12.5", "-12.50"),
        ("+1e1", "10.00"),
        (".5", "0.50"),
        ("5.", "5.00"),
        ("007", "7.00"),
        ("-00.50", "-0.50"),
        ("0", "0.00"),
        ("", "0.00"),
        ("25E-1", "2.50"),
    ] {
        check("DECIMAL(10,2)", of, &len(1, len(1, text)), shown);
    }
    for text in [".", "+-5", "--5", "e5", "1e", "1.2.3", " 1", "1,5", "NaN", "0x1"] {
        refuse("DECIMAL(10, 2)", of, &len(1, len(1, text)), "its text is not a number");
    }
}

#[test]
fn json_within_messages_is_text() {
    let value = |inner: Vec<u8>| inner;
    let entry = |key: &str, held: Vec<u8>| len(1, cat(&[len(1, key), len(2, held)]));
    let number = |x: f64| f64s(2, x.to_le_bytes());
    let of = "google.protobuf.Struct";
    let list = len(6, cat(&[len(1, num(1, n(0))), len(1, number(1.5)), len(1, num(4, n(1)))]));
    let object = cat(&[
        entry("a", number(3.0)),
        entry("b", list),
        entry("c\"", value(len(3, "x\n"))),
        entry("d", len(5, entry("e", vec![]))),
    ]);
    check("STRING", of, &len(1, &object), r#"{"a":3,"b":[null,1.5,true],"c\"":"x\n","d":{"e":null}}"#);
    check(
        "STRING",
        of,
        &len(1, cat(&[entry("a", number(1.0)), entry("b", number(2.0)), entry("a", number(1e300))])),
        r#"{"a":1e300,"b":2}"#,
    );
    check("STRING", of, &[], "null");
    check("STRING", of, &len(1, []), "{}");
    check("STRING", "google.protobuf.Value", &len(1, len(3, "x")), "\"x\"");
    check("STRING", "google.protobuf.ListValue", &len(1, len(1, number(0.5))), "[0.5]");
    refuse("STRING", "google.protobuf.Value", &len(1, number(f64::NAN)), "JSON has no number NaN");
    refuse("STRING", "google.protobuf.Value", &len(1, len(3, [0xff])), "a text of its JSON is not UTF-8");
    refuse(
        "STRING",
        "google.protobuf.Value",
        &len(1, len(2, "x")),
        "a part of its JSON is written in another type than it has",
    );
    let deep = (0..200).fold(number(1.0), |inner, _| len(6, len(1, inner)));
    refuse("STRING", "google.protobuf.Value", &len(1, deep), "messages are nested more than 100 deep");
    let any = cat(&[len(1, "type.googleapis.com/p.M"), len(2, [1, 2])]);
    check(
        "STRUCT<type_url STRING, value BYTEA>",
        "google.protobuf.Any",
        &len(1, any),
        "{type_url: type.googleapis.com/p.M, value: 0102}",
    );
}

#[test]
fn whole_numbers_are_times_in_the_unit_of_the_stream() {
    check("TIMESTAMP", "int64", &num(1, i(1_700_000_000_000_000)), "2023-11-14T22:13:20");
    check("DATE", "int32", &num(1, i(-1)), "1969-12-31");
    refuse("DATE", "int32", &num(1, i(3_000_000)), RANGE);
    let stream = with_options("a TIMESTAMP", "'format' 'protobuf', 'timestamp_unit' 'ms'");
    let decoder = Decoder::new(&stream).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(schema(&proto3("fixed64 a = 1;"))));
    let message = framed(7, &[0], &f64s(1, 1_700_000_000_000u64.to_le_bytes()));
    assert_eq!(show(&decoder.decode(&messages([message.as_slice()])).unwrap()), ["2023-11-14T22:13:20"]);
}

#[test]
fn paths_lead_to_types() {
    let text = "syntax = \"proto3\"; message A { int32 a = 1; message B { map<string, int32> m = 2; message C { int32 a = 3; } } }
        message D { string a = 1; }";
    let known = decoder("a INT", text);
    let only = Decoder::new(&with_options("a INT", "'format' 'protobuf', 'protobuf.message' '.A.B.C'")).unwrap();
    only.learn_schema(SchemaId::Number(7), &Ok(schema(text)));
    let step =
        |steps: &[i64]| [zigzag(steps.len() as i64), steps.iter().flat_map(|step| zigzag(*step)).collect()].concat();
    let (a, c) = (num(1, n(1)), num(3, n(3)));
    let shown = |decoder: &Decoder, path: &[u8], value: &[u8]| {
        show(&decoder.decode(&messages([framed(7, path, value).as_slice()])).unwrap()).remove(0)
    };
    // The entries of a map are a message of their own before C.
    for (path, value, all, one) in [
        (vec![0], &a, "1", "reject: the message is a `A`, and the stream reads `A.B.C` (schema 7)"),
        (step(&[0]), &a, "1", "reject: the message is a `A`, and the stream reads `A.B.C` (schema 7)"),
        (step(&[0, 0]), &a, "null", "reject: the message is a `A.B`, and the stream reads `A.B.C` (schema 7)"),
        (step(&[0, 0, 1]), &c, "3", "3"),
    ] {
        assert_eq!([shown(&known, &path, value), shown(&only, &path, value)], [all, one]);
    }
    for (path, why) in [
        (step(&[1]), "`a`: it is written as string, which no INT takes"),
        (step(&[2]), "the schema has no message at the path [2]"),
        (step(&[-1]), "the schema has no message at the path [-1]"),
        (step(&[0, 0, 0]), "the schema has no message at the path [0, 0, 0]"),
        (step(&[0, 0, 1, 0]), "the schema has no message at the path [0, 0, 1, 0]"),
    ] {
        assert_eq!(shown(&known, &path, &a), format!("reject: {why} (schema 7)"));
    }
    for (path, why) in [
        (vec![], "the message ends within a number"),
        (zigzag(-1), "it has -1 steps"),
        (zigzag(i64::MAX), "it has 9223372036854775807 steps"),
        (vec![4, 0], "the message ends within a number"),
    ] {
        assert_eq!(shown(&known, &path, &[]), format!("reject: the path to its type cannot be read: {why} (schema 7)"));
    }
}

#[test]
fn ids_and_paths_may_be_in_a_header() {
    let decoder = decoder("a INT", &proto3("int32 a = 1; --- message N { int32 a = 2; }"));
    let guid = Uuid::from_u128(5);
    decoder.learn_schema(SchemaId::Guid(guid), &Ok(schema(&proto3("int64 a = 5;"))));
    let mut all = Messages::new();
    let by_number = [&[0], 7u32.to_be_bytes().as_slice(), &[0]].concat();
    let to_n = [&[0], 7u32.to_be_bytes().as_slice(), &[2, 2]].concat();
    let by_guid = [&[1], guid.as_bytes().as_slice(), &[0]].concat();
    for (header, payload) in [
        (by_number.clone(), num(1, n(1))),
        (to_n, num(2, n(2))),
        (by_guid, num(5, n(3))),
        (by_number.clone(), vec![]),
        (by_number[..5].to_vec(), vec![]),
        ([by_number, vec![0]].concat(), vec![]),
        (vec![2], vec![]),
    ] {
        all.push(Partition(0), Offset(0), None, Some(&payload));
        all.add_header("__value_schema_id", Some(&header));
    }
    assert!(decoder.unknown_schemas(&all).is_empty());
    let shown = show(&decoder.decode(&all).unwrap());
    assert_eq!(shown[..4], ["1", "2", "3", "0"]);
    assert!(shown[4].contains("the path to its type cannot be read: the message ends"), "{shown:?}");
    assert!(shown[5].contains("something follows the path"), "{shown:?}");
    assert!(shown[6].contains("holds no id of a schema"), "{shown:?}");
    // No writer puts a GUID before the message, and junk must not be waited for.
    let prefixed = cat(&[vec![1], guid.as_bytes().to_vec(), vec![0], num(5, n(4))]);
    let shown = show(&decoder.decode(&messages([prefixed.as_slice()])).unwrap());
    assert!(shown[0].contains("does not begin with a zero byte"), "{shown:?}");
}

#[test]
fn unknown_schemas_wait_and_other_kinds_are_refused() {
    let decoder = decoder("a INT", &proto3("int32 a = 1;"));
    let mut all = Messages::new();
    for (offset, id) in (0..).zip([7, 8, 9]) {
        all.push(Partition(0), Offset(offset), None, Some(&framed(id, &[0], &num(1, n(1)))));
    }
    let number = SchemaId::Number;
    assert_eq!(decoder.unknown_schemas(&all), [(Partition(0), (Offset(1), number(8)))].into());
    decoder.learn_schema(number(8), &Ok(RegisteredSchema::alone(SchemaKind::Avro, "\"int\"")));
    decoder.learn_schema(number(9), &Err("the schema refers to more than 1000 others".to_owned()));
    assert!(decoder.unknown_schemas(&all).is_empty());
    let shown = show(&decoder.decode(&all).unwrap());
    let expect = [
        "1",
        "reject: the schema is one of AVRO, and the stream reads Protobuf (schema 8)",
        "reject: the schema refers to more than 1000 others (schema 9)",
    ];
    assert_eq!(shown, expect);
}
