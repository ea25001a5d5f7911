//! Avro messages: types, resolution, framings, and what is refused.

use uuid::Uuid;

use super::{definition, messages, show, with_options};
use crate::decode::{Decoder, Messages, ReferencedSchema, RegisteredSchema, SchemaId, SchemaKind};
use crate::definition::Statement;
use crate::{Offset, Partition};

/// A number as Avro writes it.
fn n(number: i64) -> Vec<u8> {
    let mut zigzag = (number << 1 ^ number >> 63).cast_unsigned();
    let mut out = Vec::new();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
    out
}

/// A text, or bytes, as Avro writes them.
fn s(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = n(bytes.as_ref().len() as i64);
    out.extend_from_slice(bytes.as_ref());
    out
}

fn cat(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn framed(id: u32, value: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), value].concat()
}

fn avro(text: impl Into<String>) -> RegisteredSchema {
    RegisteredSchema::alone(SchemaKind::Avro, text)
}

fn number(id: u32) -> SchemaId {
    SchemaId::Number(id)
}

/// A schema of one field.
fn field(schema: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":{schema}}}]}}"#)
}

/// A decoder that knows schema 7.
fn decoder(columns: &str, schema: &str) -> Decoder {
    let decoder = Decoder::new(&with_options(columns, "'format' 'avro'")).unwrap();
    decoder.learn_schema(number(7), &Ok(avro(schema)));
    decoder
}

/// Checks a value of schema 7 between two others, alone, and cut at every byte.
#[track_caller]
fn check_record(columns: &str, schema: &str, value: &[u8], expect: &str) {
    let decoder = decoder(columns, schema);
    let message = framed(7, value);
    let decoded = decoder.decode(&messages([message.as_slice(), b"\x01", &message])).unwrap();
    let shown = show(&decoded);
    assert_eq!([&shown[0], &shown[2]], [expect, expect], "{columns} {schema}");
    assert!(shown[1].starts_with("reject: the message does not begin"), "{}", shown[1]);
    if expect.starts_with("reject") {
        return;
    }
    for end in 0..message.len() {
        let cut = show(&decoder.decode(&messages([&message[..end]])).unwrap());
        assert!(cut[0].starts_with("reject: "), "{columns} {schema}, cut at {end}: {}", cut[0]);
    }
    let longer = [message.as_slice(), b"\0"].concat();
    let shown = show(&decoder.decode(&messages([longer.as_slice()])).unwrap());
    assert_eq!(shown, ["reject: a byte follows the value (schema 7)"]);
}

/// Checks one column.
#[track_caller]
fn check(column: &str, schema: &str, value: impl AsRef<[u8]>, expect: &str) {
    check_record(&format!("a {column}"), &field(schema), value.as_ref(), expect);
}

/// The reject of one column.
#[track_caller]
fn refuse(column: &str, schema: &str, value: impl AsRef<[u8]>, why: &str) {
    let of = column.split(" NOT NULL").next().unwrap_or(column);
    let expect = format!("reject: the value of `a` is not a valid {of}: {why} (schema 7)");
    check(column, schema, value, &expect);
}

/// A column that takes no value of a type.
#[track_caller]
fn refuse_type(column: &str, schema: &str, why: &str) {
    check(column, schema, n(0), &format!("reject: `a`: {why} (schema 7)"));
}

fn logical(base: &str, name: &str) -> String {
    format!(r#"{{"type":"{base}","logicalType":"{name}"}}"#)
}

#[test]
fn numbers_of_every_width() {
    for (column, most) in [("TINYINT", 127), ("SMALLINT", 32_767), ("INT", i32::MAX.into()), ("BIGINT", i64::MAX)] {
        for value in [0, 1, -1, most, -most - 1] {
            check(column, "\"long\"", n(value), &value.to_string());
        }
        if most < i64::MAX {
            refuse(column, "\"long\"", n(most + 1), "it is out of range");
            refuse(column, "\"long\"", n(i64::MIN), "it is out of range");
        }
    }
    check("BIGINT", "\"int\"", n(i32::MIN.into()), "-2147483648");
    refuse("BIGINT", "\"int\"", n(1 << 31), "a number that is declared as int has more than 32 bits");
    check("BIGINT UNSIGNED", "\"long\"", n(5), "5");
    check("DECIMAL(5,2)", "\"int\"", n(-12), "-12.00");
    refuse("DECIMAL(4, 2)", "\"long\"", n(100), "it is out of range");
    check("DOUBLE", "\"long\"", n(1 << 53), "9007199254740992.0");
    check("REAL", "\"int\"", n(3), "3.0");
    check("DOUBLE", "\"float\"", 1.5f32.to_le_bytes(), "1.5");
    check("REAL", "\"float\"", f32::NAN.to_le_bytes(), "NaN");
    check("DOUBLE", "\"double\"", f64::NEG_INFINITY.to_le_bytes(), "-inf");
    check("DOUBLE", "\"double\"", (-0.0f64).to_le_bytes(), "-0.0");
    check("BOOLEAN", "\"boolean\"", [1], "true");
    check("BOOLEAN", "\"boolean\"", [0], "false");
    refuse("BOOLEAN", "\"boolean\"", [2], "a boolean is 0 or 1, not 2");
    // Ten bytes of a number, the last of which has bits beyond the 64th, and eleven.
    let long = |last: u8| [vec![0xff; 9], vec![last]].concat();
    check("BIGINT", "\"long\"", long(1), "-9223372036854775808");
    refuse("BIGINT", "\"long\"", long(2), "a number has more than 64 bits");
    refuse("BIGINT", "\"long\"", long(0x81), "a number has more than 64 bits");
    // More bytes than needed are a number all the same.
    check("BIGINT", "\"long\"", [0x80 | 6, 0x80, 0], "3");
}

#[test]
fn texts_and_bytes() {
    check("STRING", "\"string\"", s("grün"), "grün");
    check("STRING", "\"string\"", s(""), "");
    check("STRING", r#"{"type":"string","avro.java.string":"String"}"#, s("x"), "x");
    check("STRING", "\"bytes\"", s("x"), "x");
    check("BYTEA", "\"string\"", s("x"), "78");
    check("BYTEA", "\"bytes\"", s([0xff, 0]), "ff00");
    check("BYTEA", r#"{"type":"fixed","name":"F","size":3}"#, [1, 2, 3], "010203");
    refuse("STRING", "\"string\"", s([0xff]), "the text is not UTF-8");
    refuse("STRING", "\"string\"", n(-1), "a length is negative");
    refuse("STRING", "\"string\"", n(i64::MAX), "the message ends too early");
    let symbols = r#"{"type":"enum","name":"E","symbols":["OFF","ON"]}"#;
    check("STRING", symbols, n(1), "ON");
    refuse("STRING", symbols, n(2), "the enum has no such symbol");
    refuse("STRING", symbols, n(-1), "the enum has no such symbol");
    let text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    check("STRING", &logical("string", "uuid"), s(text), text);
    let fixed = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    check("STRING", fixed, Uuid::parse_str(text).unwrap().as_bytes(), text);
    check("BYTEA", fixed, [7; 16], &"07".repeat(16));
    let duration = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
    check("STRING", duration, [1, 0, 0, 0, 2, 0, 0, 0, 0xbc, 0x0b, 0, 0], "P1M2DT3.004S");
}

#[test]
fn decimals_are_exact() {
    let bytes = r#"{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}"#;
    let column = "DECIMAL(10, 2)";
    check(column, bytes, s([0x30, 0x39]), "123.45");
    check(column, bytes, s([0xff]), "-0.01");
    check(column, bytes, s([]), "0.00");
    check(column, bytes, s([vec![0xff; 30], vec![0xfe]].concat()), "-0.02");
    refuse(column, bytes, s([vec![1], vec![0; 16]].concat()), "it is out of range");
    refuse(column, bytes, s([vec![0], vec![0xff; 16]].concat()), "it is out of range");
    check("DECIMAL(10,4)", bytes, s([1]), "0.0100");
    check("DECIMAL(10,1)", bytes, s([10]), "0.1");
    refuse("DECIMAL(10, 1)", bytes, s([1]), "it has more decimal places");
    let fixed = r#"{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":9}"#;
    check("DECIMAL(9,0)", fixed, (-7i32).to_be_bytes(), "-7");
    refuse_type("BIGINT", fixed, "it is written as decimal, which no BIGINT takes");
    // A logical type that does not fit is none.
    check("BYTEA", r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#, s([1]), "01");
}

#[test]
fn times_and_dates() {
    check("DATE", &logical("int", "date"), n(-1), "1969-12-31");
    refuse("DATE", &logical("int", "date"), n(3_000_000), "it is out of range");
    for (name, factor) in [("millis", 1), ("micros", 1000), ("nanos", 1_000_000)] {
        for prefix in ["", "local-"] {
            let schema = logical("long", &format!("{prefix}timestamp-{name}"));
            check("TIMESTAMP", &schema, n(1_700_000_000_123 * factor), "2023-11-14T22:13:20.123");
            check("TIMESTAMP", &schema, n(-factor), "1969-12-31T23:59:59.999");
            check("TIMESTAMP", &schema, n(5 * factor), "1970-01-01T00:00:00.005");
        }
    }
    let millis = logical("long", "timestamp-millis");
    refuse("TIMESTAMP", &millis, n(i64::MAX), "it is out of range");
    refuse_type("BIGINT", &millis, "it is written as timestamp, which no BIGINT takes");
    check("TIMESTAMP", &logical("long", "timestamp-nanos"), n(1999), "1970-01-01T00:00:00.000001");
    // Without a logical type, the unit is the stream's.
    check("TIMESTAMP", "\"long\"", n(1_700_000_000_000_000), "2023-11-14T22:13:20");
    let stream = with_options("a TIMESTAMP", "'format' 'avro', 'timestamp_unit' 'ms'");
    let decoder = Decoder::new(&stream).unwrap();
    decoder.learn_schema(number(7), &Ok(avro(field("\"long\""))));
    let message = framed(7, &n(1_700_000_000_000));
    assert_eq!(show(&decoder.decode(&messages([message.as_slice()])).unwrap()), ["2023-11-14T22:13:20"]);
    check("BIGINT", &logical("int", "time-millis"), n(1), "1000");
    check("STRING", &logical("long", "time-micros"), n(86_399_999_999), "23:59:59.999999");
    refuse("BIGINT", &logical("long", "time-micros"), n(86_400_000_000), "it is no time of a day");
}

#[test]
fn unions_give_what_their_branch_gives() {
    for (schema, null, some) in [(r#"["null","long"]"#, 0, 1), (r#"["long","null"]"#, 1, 0)] {
        check("BIGINT", schema, n(null), "null");
        check("BIGINT", schema, cat(&[n(some), n(5)]), "5");
        refuse("BIGINT", schema, n(2), "a union of 2 branches has no branch 2");
        refuse("BIGINT", schema, n(-1), "a union of 2 branches has no branch -1");
    }
    check("BIGINT", r#"["int"]"#, cat(&[n(0), n(5)]), "5");
    check("BIGINT", "\"null\"", [], "null");
    let mixed = r#"["null","long","string"]"#;
    check("STRING", mixed, cat(&[n(2), s("x")]), "x");
    refuse("STRING", mixed, cat(&[n(1), n(5)]), "it is written as long, which no STRING takes");
    check("STRUCT<long BIGINT, string STRING>", mixed, cat(&[n(1), n(5)]), "{long: 5, string: null}");
    check("STRUCT<string STRING, long BIGINT>", mixed, cat(&[n(2), s("x")]), "{string: x, long: null}");
    check("STRUCT<long BIGINT, string STRING>", mixed, n(0), "null");
    refuse_type("BIGINT", r#"["null","string"]"#, "it is written as string, which no BIGINT takes");
}

#[test]
fn nested_values() {
    check("BIGINT[]", r#"{"type":"array","items":"long"}"#, cat(&[n(2), n(1), n(2), n(1), n(3), n(0)]), "[1, 2, 3]");
    check("BIGINT[]", r#"{"type":"array","items":"long"}"#, n(0), "[]");
    check("BIGINT[]", r#"{"type":"array","items":["null","long"]}"#, cat(&[n(1), n(0), n(0)]), "[null]");
    // A block that says how many bytes it has.
    check("BIGINT[]", r#"{"type":"array","items":"long"}"#, cat(&[n(-2), n(2), n(1), n(2), n(0)]), "[1, 2]");
    refuse(
        "BIGINT[]",
        r#"{"type":"array","items":"long"}"#,
        cat(&[n(-2), n(3), n(1), n(2), n(0)]),
        "a block of an array or map has another size than it says",
    );
    let map = r#"{"type":"map","values":"int"}"#;
    let entries = cat(&[n(1), s("k"), n(4), n(0)]);
    check("STRUCT<key STRING, value INT>[]", map, &entries, "[{key: k, value: 4}]");
    check("STRUCT<value INT, key STRING>[]", map, &entries, "[{value: 4, key: k}]");
    check("STRUCT<key STRING>[]", map, &entries, "[{key: k}]");
    refuse_type("STRING[]", map, "it is written as map, which STRUCT<key STRING, value …>[] takes");
    let record = r#"{"type":"record","name":"P","fields":[{"name":"lat","type":"double"},
        {"name":"Tag","type":["null","string"]},{"name":"skipped","type":"long"}]}"#;
    let value = cat(&[1.5f64.to_le_bytes().to_vec(), n(1), s("t"), n(9)]);
    check("STRUCT<lat DOUBLE, tag STRING>", record, &value, "{lat: 1.5, tag: t}");
    check("STRUCT<tag STRING, none INT>", record, &value, "{tag: t, none: null}");
    check(
        "STRUCT<lat DOUBLE>[]",
        &format!(r#"["null",{{"type":"array","items":{record}}}]"#),
        cat(&[n(1), n(1), value, n(0)]),
        "[{lat: 1.5}]",
    );
    refuse_type("STRUCT<lat INT>", record, "`lat`: it is written as double, which no INT takes");
}

#[test]
fn fields_and_columns_meet_by_name() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"Name","type":"string"},
        {"name":"more","type":{"type":"array","items":{"type":"map","values":["null","bytes"]}}}]}"#;
    let more = cat(&[n(1), n(1), s("k"), n(1), s([7]), n(0), n(0)]);
    let value = cat(&[n(1), s("x"), more]);
    check_record("name STRING, id INT", schema, &value, "x|1");
    check_record("id INT, absent STRING, name STRING", schema, &value, "1|null|x");
    check_record("absent STRING", schema, &value, "null");
    check_record(
        "id INT NOT NULL, absent STRING NOT NULL",
        schema,
        &value,
        "reject: `absent` is NOT NULL and has no value",
    );
    check_record("\"Name\" STRING, \"ID\" INT", schema, &value, "x|null");
    let alike = r#"{"type":"record","name":"R","fields":[{"name":"ID","type":"int"},{"name":"Id","type":"int"}]}"#;
    check_record("id INT", alike, &cat(&[n(1), n(2)]), "reject: `ID` and `Id` are both `id` (schema 7)");
    let exact = r#"{"type":"record","name":"R","fields":[{"name":"ID","type":"int"},{"name":"id","type":"int"}]}"#;
    check_record("id INT", exact, &cat(&[n(1), n(2)]), "2");
    let broken = cat(&[n(1), n(-1)]);
    check_record("id INT", schema, &broken, "reject: the field `Name` cannot be read: a length is negative (schema 7)");
}

#[test]
fn a_value_need_not_be_a_record() {
    check_record("a BIGINT", "\"long\"", &n(5), "5");
    check_record("a STRING[]", r#"{"type":"array","items":"string"}"#, &cat(&[n(1), s("x"), n(0)]), "[x]");
    check_record(
        "a BIGINT, b INT",
        "\"long\"",
        &n(5),
        "reject: a value is written as long, and the stream has several columns (schema 7)",
    );
    let events = r#"[{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]},
        {"type":"record","name":"B","fields":[{"name":"b","type":"int"}]},{"type":"fixed","name":"F","size":1}]"#;
    check_record("a INT, b INT", events, &cat(&[n(0), n(1)]), "1|null");
    check_record("a INT, b INT", events, &cat(&[n(1), n(1)]), "null|1");
    check_record(
        "a INT, b INT",
        events,
        &cat(&[n(2), n(1)]),
        "reject: a value is written as F, and the stream has several columns (schema 7)",
    );
    check_record("a INT, b INT", events, &n(3), "reject: a union of 3 branches has no branch 3 (schema 7)");
}

#[test]
fn schemas_that_are_none() {
    for (schema, why) in [
        ("", "it is not JSON"),
        ("7", "neither a name"),
        ("\"lang\"", "`lang` is not defined"),
        (r#"{"type":"record","name":"R"}"#, "no list of `fields`"),
        (r#"{"type":"record","fields":[]}"#, "has no name"),
        (r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#, "has no type"),
        (r#"{"type":"record","name":"R","fields":[{"type":"int"}]}"#, "has no name"),
        (&field("[[\"int\"]]"), "a union holds a union"),
        (&field("[]"), "a union has no branches"),
        (&field(r#"{"type":"fixed","name":"R","size":1}"#), "`R` is defined twice"),
        (&field(r#"{"type":"fixed","name":"F","size":-1}"#), "no size"),
        (&field(r#"{"type":"enum","name":"E","symbols":[1]}"#), "no list of `symbols`"),
        (&field(r#"{"type":"array"}"#), "no `items`"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "two fields `a`",
        ),
    ] {
        let decoder = decoder("a INT", schema);
        let shown = show(&decoder.decode(&messages([framed(7, &n(1)).as_slice()])).unwrap());
        assert!(shown[0].starts_with("reject: ") && shown[0].contains(why), "{schema}: {}", shown[0]);
    }
}

#[test]
fn names_have_namespaces() {
    let schema = r#"{"type":"record","name":"R","namespace":"a.b","fields":[
        {"name":"one","type":{"type":"enum","name":"E","symbols":["X"]}},{"name":"two","type":"E"},
        {"name":"three","type":"a.b.E"},{"name":"four","type":{"type":"fixed","name":"c.F","size":1}},
        {"name":"five","type":"c.F"}]}"#;
    check_record(
        "one STRING, two STRING, three STRING, five BYTEA",
        schema,
        &cat(&[n(0), n(0), n(0), vec![1, 2]]),
        "X|X|X|02",
    );
}

#[test]
fn a_recursive_schema_is_read_as_deep_as_its_columns() {
    let schema =
        r#"{"type":"record","name":"T","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","T"]}]}"#;
    let value = cat(&[n(1), n(1), n(2), n(1), n(3), n(0)]);
    check_record("v INT", schema, &value, "1");
    check_record("v INT, next STRUCT<v INT>", schema, &value, "1|{v: 2}");
    let deep = cat(&[[n(1), n(1)].concat().repeat(1000), n(1), n(0)]);
    check_record(
        "v INT",
        schema,
        &deep,
        "reject: the field `next` cannot be read: values are nested more than 200 deep (schema 7)",
    );
}

#[test]
fn what_claims_more_than_it_holds_is_refused_at_once() {
    for (column, items) in [("BIGINT[]", "\"null\""), ("BIGINT[]", "\"long\""), ("STRING", "\"null\"")] {
        let column = if column == "STRING" { "other STRING" } else { "a BIGINT[]" };
        let schema = field(&format!(r#"{{"type":"array","items":{items}}}"#));
        let decoder = decoder(column, &schema);
        for count in [i64::MAX, 1 << 40, 100] {
            let message = framed(7, &cat(&[n(count), n(0)]));
            let shown = show(&decoder.decode(&messages([message.as_slice()])).unwrap());
            let claims = format!("claims {count} items");
            assert!(shown[0].contains(&claims), "{}", shown[0]);
        }
    }
    check("BIGINT[]", r#"{"type":"array","items":"null"}"#, cat(&[n(2), n(0)]), "[null, null]");
    // Thirty records, each of two of the one before: more nulls than anybody can count, in no bytes.
    let mut nested = r#"{"type":"record","name":"L0","fields":[{"name":"a","type":"null"}]}"#.to_owned();
    for level in 1..30 {
        let inner = level - 1;
        nested = format!(
            r#"{{"type":"record","name":"L{level}","fields":[{{"name":"a","type":{nested}}},{{"name":"b","type":"L{inner}"}}]}}"#
        );
    }
    check_record(
        "x INT",
        &field(&nested),
        b"",
        "reject: the field `a` cannot be read: it has too many values without bytes (schema 7)",
    );
}

#[test]
fn unknown_schemas_are_named_by_partition() {
    let decoder = decoder("a INT", &field("\"int\""));
    let mut all = Messages::new();
    let mut push = |partition, offset, message: &[u8]| {
        all.push(Partition(partition), Offset(offset), Some(5), Some(message));
    };
    push(0, 1, &framed(7, &n(1)));
    push(0, 2, &framed(8, &n(2)));
    push(1, 5, b"no avro");
    push(0, 3, &framed(9, &n(3)));
    push(1, 6, &framed(1 << 31, &n(3)));
    push(2, 1, &framed(7, &n(4)));
    let unknown = |decoder: &Decoder, all: &Messages| decoder.unknown_schemas(all).into_iter().collect::<Vec<_>>();
    let expect = [(0, 2, 8), (1, 6, 1 << 31)].map(|(p, o, id)| (Partition(p), (Offset(o), number(id))));
    assert_eq!(unknown(&decoder, &all), expect);
    let below = all.below(&[(Partition(0), Offset(2)), (Partition(1), Offset(6))].into());
    assert!(unknown(&decoder, &below).is_empty());
    let shown = show(&decoder.decode(&below).unwrap());
    let reject = "reject: the message does not begin with a zero byte and the id of its schema";
    assert_eq!(shown, ["1", reject, "4"]);
    decoder.learn_schema(number(8), &Ok(RegisteredSchema::alone(SchemaKind::Protobuf, "")));
    decoder.learn_schema(number(1 << 31), &Ok(avro(field("\"string\""))));
    assert_eq!(unknown(&decoder, &all), [(Partition(0), (Offset(3), number(9)))]);
    let fixed = r#"{"type":"fixed","name":"X","size":1}"#.to_owned();
    let mut refers = avro(field("\"X\""));
    refers.references.push(ReferencedSchema { name: "x".to_owned(), text: fixed });
    decoder.learn_schema(number(9), &Ok(refers));
    let shown = show(&decoder.decode(&all).unwrap());
    assert_eq!(shown[1], "reject: the schema is one of PROTOBUF, and the stream reads Avro (schema 8)");
    assert_eq!(shown[3], "reject: `a`: it is written as X, which no INT takes (schema 9)");
    assert_eq!(shown[4], "reject: `a`: it is written as string, which no INT takes (schema 2147483648)");
}

#[test]
fn ids_may_be_in_a_header_and_guids_too() {
    let decoder = decoder("a INT", &field("\"int\""));
    let guid = Uuid::from_u128(5);
    decoder.learn_schema(SchemaId::Guid(guid), &Ok(avro(field("\"long\""))));
    let mut all = Messages::new();
    let by_number = [&[0], 7u32.to_be_bytes().as_slice()].concat();
    let by_guid = [&[1], guid.as_bytes().as_slice()].concat();
    for (header, payload) in [
        (Some(by_number.clone()), n(1)),
        (Some(by_guid.clone()), n(2)),
        (None, [by_guid, n(3)].concat()),
        (Some([vec![1], vec![0; 15]].concat()), n(3)),
        (Some(vec![0, 1]), n(4)),
        (Some(vec![2]), n(4)),
        (Some(by_number), vec![]),
    ] {
        all.push(Partition(0), Offset(0), None, Some(&payload));
        all.add_header("other", Some(b"x"));
        if let Some(header) = header {
            all.add_header("__value_schema_id", Some(&header));
        }
    }
    assert!(decoder.unknown_schemas(&all).is_empty());
    let shown = show(&decoder.decode(&all).unwrap());
    assert_eq!(shown[..2], ["1", "2"]);
    // No writer puts a GUID there, and junk must not be waited for.
    assert!(shown[2].contains("does not begin with a zero byte"), "{shown:?}");
    assert!(shown[3..6].iter().all(|reason| reason.contains("holds no id")), "{shown:?}");
    assert_eq!(shown[6], "reject: the value of `a` is not a valid INT: the message ends too early (schema 7)");
}

#[test]
fn streams_have_schemas_of_their_own() {
    let options = |schema: &str, more: &str| format!("'format' 'avro', 'avro.schema' '{schema}'{more}");
    let decode = |options: &str, payload: &[u8]| {
        let decoder = Decoder::new(&with_options("a INT", options)).unwrap();
        assert!(decoder.unknown_schemas(&messages([payload])).is_empty());
        show(&decoder.decode(&messages([payload])).unwrap()).remove(0)
    };
    let bare = options(&field("\"int\""), "");
    assert_eq!(decode(&bare, &n(5)), "5");
    assert_eq!(decode(&bare, b""), "reject: the value of `a` is not a valid INT: the message ends too early");
    let two = format!("[{},{}]", field("\"int\""), field("\"long\""));
    let object = options(&two, ", 'avro.framing' 'single_object'");
    for (schema, value) in [("\"int\"", n(5)), ("\"long\"", n(5))] {
        let theirs = arrow_avro::schema::AvroSchema::new(field(schema));
        let fingerprint = theirs.fingerprint(arrow_avro::schema::FingerprintAlgorithm::Rabin).unwrap();
        let arrow_avro::schema::Fingerprint::Rabin(fingerprint) = fingerprint else { panic!() };
        let message = [&[0xc3, 0x01], fingerprint.to_le_bytes().as_slice(), &value].concat();
        assert_eq!(decode(&object, &message), "5");
    }
    let unknown = [&[0xc3, 0x01], 5u64.to_le_bytes().as_slice(), &n(1)].concat();
    assert_eq!(decode(&object, &unknown), "reject: the stream has no such schema (schema 0000000000000005)");
    assert!(decode(&object, b"\xc3\x01").contains("does not begin with C3 01"));
    assert_eq!(decode(&object, b""), "reject: the message is empty");
}

#[test]
fn definitions_of_avro() {
    let refused = |options: &str| {
        let sql = format!("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 's' OPTIONS ({options})");
        let parsed = definition::parse(&sql).and_then(|mut all| match all.remove(0) {
            Statement::CreateStream { definition, .. } => crate::decode::check(&definition),
            other => panic!("{other:?}"),
        });
        parsed.unwrap_err().to_string()
    };
    for (options, part) in [
        ("'format' 'avro', 'avro.framing' 'xml'", "`xml` is no 'avro.framing'"),
        ("'format' 'avro', 'avro.framing' 'none'", "needs a schema"),
        ("'format' 'avro', 'avro.framing' 'single_object'", "needs a schema"),
        ("'format' 'avro', 'avro.framing' 'confluent', 'avro.schema' '\"int\"'", "every message names its schema"),
        ("'avro.schema' '\"int\"'", "belongs to Avro"),
        ("'format' 'raw', 'avro.framing' 'none'", "in the format 'raw'"),
        ("'format' 'avro', 'avro.schema' '\"string\"'", "it is written as string, which no INT takes"),
        ("'format' 'avro', 'avro.schema' '{'", "it is not JSON"),
        ("'format' 'avro', 'avro.refused' '7, x'", "`x` is no id of a schema"),
        ("'format' 'avro', 'avro.refused' '4294967296'", "is no id of a schema"),
        ("'format' 'avro', 'avro.framing' 'none', 'avro.schema' '\"int\"', 'avro.refused' '7'", "has no ids"),
        ("'format' 'avro', 'avro.shema' '{'", "Did you mean 'avro.schema'?"),
    ] {
        // A stream of one column of type INT is no stream of raw messages.
        let options = options.replace("'format' 'raw'", "'format' 'json'");
        let said = refused(&options);
        assert!(said.contains(&part.replace("'raw'", "'json'")), "{options}: {said}");
    }
    assert_eq!(with_options("a INT", "'format' 'AVRO'").messages.avro.schema, None);
    let refusing = Decoder::new(&with_options("a INT", "'format' 'avro', 'avro.refused' '7, 9'")).unwrap();
    let message = framed(7, &n(1));
    assert!(refusing.unknown_schemas(&messages([message.as_slice()])).is_empty());
    let shown = show(&refusing.decode(&messages([message.as_slice()])).unwrap());
    assert_eq!(shown, ["reject: the definition of the stream refuses the schema (schema 7)"]);
}
