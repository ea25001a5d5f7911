//! Schemas of Protobuf: what is one, what it imports, editions, and definitions that have one of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorSet;

use super::protobuf::{decoder, framed, key, len, n, schema};
use super::{definition, messages, show, with_options};
use crate::decode::infer::columns_of_schema;
use crate::decode::{Decoder, ReferencedSchema, RegisteredSchema, SchemaId};
use crate::definition::Statement;

fn num(field: u64, value: u64) -> Vec<u8> {
    [key(field, 0), n(value)].concat()
}

/// What a stream reads of one message of a schema.
fn read(columns: &str, schema: RegisteredSchema, value: &[u8]) -> String {
    let decoder = Decoder::new(&with_options(columns, "'format' 'protobuf'")).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(schema));
    show(&decoder.decode(&messages([framed(7, &[0], value).as_slice()])).unwrap()).remove(0)
}

fn with(text: &str, references: &[(&str, &str)]) -> RegisteredSchema {
    let reference =
        |(name, text): &(&str, &str)| ReferencedSchema { name: (*name).to_owned(), text: (*text).to_owned() };
    RegisteredSchema { references: references.iter().map(reference).collect(), ..schema(text) }
}

/// The descriptors of a file and of what it imports.
fn descriptors(text: &str) -> FileDescriptorSet {
    let mut file = protox_parse::parse("m.proto", text).unwrap();
    file.source_code_info = None;
    FileDescriptorSet { file: vec![file] }
}

#[test]
fn texts_that_are_no_schema() {
    for (text, why) in [
        ("", "the schema has no message at the path [0]"),
        ("syntax = \"proto4\";", "line 1, column 10: unknown syntax 'proto4'"),
        ("message", "expected an identifier, but reached end of file"),
        ("syntax = \"proto3\";\nmessage M {\n  int32 a = x;\n}", "line 3, column 13: expected an integer"),
        ("message M { int32 a = 1; }", "fields must have a label with proto2 syntax"),
        ("syntax = \"proto3\"; message M { N a = 1; }", "'N' is not defined"),
        ("syntax = \"proto3\"; message M { int32 a = 1; int32 b = 1; }", "field number '1' is already used"),
        ("syntax = \"proto3\"; message M { int32 a = 0; }", "number"),
        ("syntax = \"proto3\"; message M { int32 a = 1; } message M {}", "'M'"),
        ("syntax = \"proto3\"; enum E { A = 1; }", "must be 0"),
        ("syntax = \"proto3\"; import \"a.proto\"; message M { A a = 1; }", "it imports `a.proto`, which no reference"),
        (r#"{"type":"record"}"#, "line 1, column 1"),
        ("AAAA", "it is no descriptor of a file: "),
        (&format!("option x = {};", "{ a: ".repeat(100_000)), "its brackets are nested more than 100 deep"),
        (&format!("message M {{ optional int32 a = 1 [x = {}", "[".repeat(100_000)), "nested more than 100 deep"),
    ] {
        let said = read("a INT", schema(text), &[]);
        let start: String = text.chars().take(80).collect();
        assert!(said.starts_with("reject: ") && said.contains(why) && said.ends_with("(schema 7)"), "{start}: {said}");
    }
    // Brackets in texts and comments do not count.
    let text = format!(
        "// {0}\n/* {0} */ syntax = \"proto3\"; message M {{ string a = 1 [(x) = \"{0}\\\"{0}\"]; }}",
        "{[<(".repeat(200)
    );
    assert_eq!(read("a STRING", schema(&text), &[]), "");
    // Even a schema whose parts have no end is told, not waited for.
    for text in ["/*", "/* x", "\"", "'\\", "edition", "edition = \"2023", "// x", "edition = \"2023\"; /*"] {
        assert!(read("a INT", schema(text), &[]).starts_with("reject: "), "{text}");
    }
}

/// What only the texts of editions have, and what every compiler skips.
#[test]
fn texts_are_read_as_compilers_read_them() {
    let message = "message M { int32 a = 1; }";
    for text in [
        format!("\u{feff}syntax = \"proto3\"; {message}"),
        format!("edition /* x */ = // y\n \"2023\"; {message}"),
        "edition = \"2023\"; message M { reserved foo, bar; reserved 7, 9 to max; int32 a = 1; reserved\nx ; }"
            .to_owned(),
        "edition = \"2023\"; message M { string x = 2 [(o) = \"{ reserved a; }\"]; // reserved b;\n int32 a = 1; }"
            .to_owned(),
        "edition = \"2023\"; enum E { reserved OLD; X = 0; } message M { int32 a = 1; int32 reserved = 2; }".to_owned(),
    ] {
        assert_eq!(read("a INT", schema(&text), &num(1, 5)), "5", "{text}");
    }
    for text in [
        "edition = \"2023\"; message M { reserved",
        "edition = \"2023\"; message M { reserved a",
        "edition = \"2023\";\"",
    ] {
        assert!(read("a INT", schema(text), &[]).starts_with("reject: "), "{text}");
    }
    let said = read("a INT", schema("edition = \"2023\"; message M { int32 a = 1 [default = 5]; }"), &[]);
    assert!(said.contains("give the file's descriptor"), "{said}");
}

/// The linker refuses such names; compilers do not.
#[test]
fn names_may_be_alike() {
    let value = [num(1, 5), num(2, 6), num(3, 7)].concat();
    for (start, fields, columns) in [
        ("syntax = \"proto3\";", "int32 user_id = 1; int32 userid = 2; int32 userId = 3;", "user_id INT, userid INT"),
        (
            "syntax = \"proto3\";",
            "int32 foo1 = 1; int32 foo_1 = 2; int32 x = 3 [json_name = \"foo1\"];",
            "foo1 INT, foo_1 INT",
        ),
        ("syntax = \"proto2\";", "optional int32 foo1 = 1; optional int32 foo_1 = 2;", "foo1 INT, foo_1 INT"),
        ("edition = \"2023\";", "int32 foo1 = 1; int32 foo_1 = 2; int32 FOO1 = 3;", "foo1 INT, foo_1 INT"),
    ] {
        let text = format!("{start} message M {{ {fields} }}");
        assert_eq!(read(columns, schema(&text), &value), "5|6", "{text}");
    }
    let twice = "syntax = \"proto3\"; message M { int32 a = 1; int32 a = 2; }";
    assert!(read("a INT", schema(twice), &value).starts_with("reject: "));
}

#[test]
fn imports_are_references_or_known() {
    let text = "syntax = \"proto3\"; package a.b; import \"common/money.proto\"; import public \"other.proto\";
        import \"google/protobuf/timestamp.proto\"; import \"buf/validate/validate.proto\";
        option java_package = \"x\"; option (unknown.to_us) = { a: [1, 2] };
        message M { option (also) = true; common.Money price = 1 [(buf.validate.field).required = true];
          google.protobuf.Timestamp at = 2; Deep deep = 3; }
        service S { rpc Do(M) returns (M); } extend google.protobuf.FieldOptions { string x = 50000; }";
    let references = [
        ("deep.proto", "syntax = \"proto3\"; package a.b; message Deep { bool ok = 1; }"),
        ("other.proto", "syntax = \"proto3\"; import public \"deep.proto\";"),
        ("common/money.proto", "package common; message Money { optional int64 units = 1; }"),
    ];
    let value = [len(1, num(1, 5)), len(2, []), len(3, num(1, 1))].concat();
    let columns = "price STRUCT<units INT>, at TIMESTAMP, deep STRUCT<ok BOOLEAN>";
    assert_eq!(read(columns, with(text, &references), &value), "{units: 5}|1970-01-01T00:00:00|{ok: true}");
    let lacks = read(columns, with(text, &references[..2]), &value);
    assert!(lacks.contains("it imports `common/money.proto`, it imports `buf/validate/validate.proto`, which no reference of the schema holds"), "{lacks}");
    let lacks = read(columns, with(text, &references[1..]), &value);
    assert!(
        lacks.contains(
            "`other.proto` imports `deep.proto`, which no reference of the schema holds: name 'Deep' is not defined"
        ),
        "{lacks}"
    );
    let broken = [references[0], references[1], ("common/money.proto", "message {")];
    let said = read(columns, with(text, &broken), &value);
    assert!(said.contains("`common/money.proto`: line 1, column 9: "), "{said}");
    // Files that import each other.
    let around = with(
        "syntax = \"proto3\"; import \"b.proto\"; message M { B b = 1; }",
        &[
            ("b.proto", "syntax = \"proto3\"; import public \"c.proto\"; message B { C c = 1; }"),
            ("c.proto", "syntax = \"proto3\"; import public \"b.proto\"; message C { B b = 1; int32 x = 2; }"),
        ],
    );
    assert!(read("a INT", around, &[]).contains("imports itself, by way of others"));
}

#[test]
fn files_that_compilers_know() {
    for (path, _) in crate::decode::protobuf::KNOWN_FILES {
        let text = format!("syntax = \"proto3\"; import \"{path}\"; message M {{ int32 a = 1; }}");
        assert_eq!(read("a INT", schema(&text), &num(1, 5)), "5", "{path}");
    }
    let text = "syntax = \"proto3\"; import \"confluent/types/decimal.proto\"; import \"google/type/money.proto\";
        import \"google/type/decimal.proto\"; import \"confluent/meta.proto\";
        message M { confluent.type.Decimal d = 1 [(confluent.field_meta).doc = \"x\"]; google.type.Money m = 2; google.type.Decimal t = 3; }";
    let value = [len(1, [len(1, [5]), num(3, 1)].concat()), len(2, len(1, "EUR")), len(3, len(1, "+1.50"))].concat();
    let columns = "d DECIMAL(9,2), m STRUCT<currency_code STRING, units BIGINT>, t DECIMAL(9,2)";
    assert_eq!(read(columns, schema(text), &value), "0.50|{currency_code: EUR, units: 0}|1.50");
    let said = read("t DECIMAL(9,2)", schema(text), &len(3, len(1, "1,5")));
    assert!(said.contains("its text is not a number"), "{said}");
}

#[test]
fn a_schema_may_be_a_descriptor_in_base64() {
    let text = "syntax = \"proto3\"; import \"x.proto\"; message M { X x = 1; optional int32 a = 2; map<string, bool> m = 3; }";
    let encode = |text: &str| STANDARD.encode(descriptors(text).file[0].encode_to_vec());
    let x = encode("syntax = \"proto3\"; message X { int32 a = 1; }");
    let value = [len(1, num(1, 5)), num(2, 6), len(3, [len(1, "k"), num(2, 1)].concat())].concat();
    let columns = "x STRUCT<a INT>, a INT, m STRUCT<key STRING, value BOOLEAN>[]";
    let shown = read(columns, with(&encode(text), &[("x.proto", &x)]), &value);
    assert_eq!(shown, "{a: 5}|6|[{key: k, value: true}]");
    let garbage = STANDARD.encode([0x0a, 0xff, 0xff]);
    let said = read(columns, schema(&garbage), &[]);
    assert!(said.contains("it is no descriptor of a file: "), "{said}");
}

#[test]
fn editions_say_what_can_be_absent() {
    let text = "// A comment.\nedition = \"2023\"; package p;
        message M { int32 a = 1; int32 b = 2 [features.field_presence = IMPLICIT]; repeated int32 c = 3;
          N d = 4 [features.message_encoding = DELIMITED]; map<string, int32> e = 5; oneof o { int32 f = 6; } }
        message N { option features = { field_presence: IMPLICIT }; int32 a = 1; }";
    let columns = "a INT, b INT, c INT[], d STRUCT<a INT>, e STRUCT<key STRING, value INT>[], f INT";
    assert_eq!(read(columns, schema(text), &[]), "null|0|[]|null|[]|null");
    let value = [key(4, 3), key(4, 4), len(5, []), num(1, 0), len(3, [1, 2])].concat();
    assert_eq!(read(columns, schema(text), &value), "0|0|[1, 2]|{a: 0}|[{key: , value: 0}]|null");
    let text = "edition = \"2023\"; option features.field_presence = IMPLICIT;
        message M { int32 a = 1; int32 b = 2 [features = { field_presence: EXPLICIT enum_type: CLOSED }]; }";
    assert_eq!(read("a INT, b INT", schema(text), &[]), "0|null");
    let text = "edition = \"2023\"; message M { int32 a = 1 [features.field_presence = LEGACY_REQUIRED]; E e = 2; } enum E { X = 1; Y = 2; }";
    assert_eq!(read("e STRING", schema(text), &num(1, 1)), "null");
    assert_eq!(read("e STRING", schema(text), &[]), "reject: the required field `a` is missing (schema 7)");
    let text = "edition = \"2023\"; option features.message_encoding = DELIMITED; message M { int32 a = 1; }";
    assert!(read("a INT", schema(text), &[]).contains("DELIMITED as a whole"));
    // A place is that in the text.
    let said = read("a INT", schema("edition = \"2023\";\nmessage M {\n int32 a = x; }"), &[]);
    assert!(said.contains("line 3, column 12: "), "{said}");
    // A descriptor: syntax "editions", features in the options of the file (50), the message (12) and the field (21).
    let implicit = len(21, num(1, 2));
    let field = |name: &str, number: u64, options: &[u8]| {
        len(2, [len(1, name), num(3, number), num(4, 1), num(5, 5), len(8, options)].concat())
    };
    let message = len(4, [len(1, "M"), field("a", 1, &[]), field("b", 2, &implicit)].concat());
    let file = [message, len(12, "editions"), num(14, 1000)].concat();
    assert_eq!(read("a INT, b INT", schema(&STANDARD.encode(file)), &[]), "null|0");
}

/// The refusal of a definition.
fn refused(options: &str) -> String {
    let sql = format!("CREATE EXTERNAL TABLE s (a INT) STORED AS KAFKA LOCATION 's' OPTIONS ({options})");
    let parsed = definition::parse(&sql).and_then(|mut all| match all.remove(0) {
        Statement::CreateStream { definition, .. } => crate::decode::check(&definition),
        other => panic!("{other:?}"),
    });
    parsed.unwrap_err().to_string()
}

#[test]
fn definitions_of_protobuf() {
    let one = "'protobuf.schema' 'syntax = \"proto3\"; message M { int32 a = 1; }'";
    let two = "'protobuf.schema' 'syntax = \"proto3\"; message M { int32 a = 1; } message N { string a = 1; }'";
    let set = STANDARD.encode(descriptors("syntax = \"proto3\"; message M { int32 a = 1; }").encode_to_vec());
    for (options, part) in [
        ("'format' 'protobuf', 'protobuf.framing' 'xml'", "`xml` is no 'protobuf.framing'"),
        ("'format' 'protobuf', 'protobuf.framing' 'none'", "needs a schema"),
        ("'format' 'protobuf', 'protobuf.framing' 'delimited'", "needs a schema"),
        (&format!("'format' 'protobuf', 'protobuf.framing' 'confluent', {one}"), "every message names its schema"),
        (one, "'protobuf.schema' belongs to Protobuf, and the messages are in the format 'json'"),
        ("'format' 'avro', 'protobuf.message' 'M'", "'protobuf.message' belongs to Protobuf"),
        ("'format' 'protobuf', 'avro.refused' '1'", "'avro.refused' belongs to Avro"),
        (&format!("'format' 'protobuf', {two}"), "it has 2 messages; add 'protobuf.message'"),
        (
            &format!("'format' 'protobuf', {two}, 'protobuf.message' 'N'"),
            "`a`: it is written as string, which no INT takes",
        ),
        (&format!("'format' 'protobuf', {two}, 'protobuf.message' 'p.M'"), "it has no message `p.M`; it has M, N"),
        ("'format' 'protobuf', 'protobuf.schema' 'message {'", "line 1, column 9: expected an identifier"),
        (
            "'format' 'protobuf', 'protobuf.schema' 'import \"x.proto\"; message M { optional X a = 1; }'",
            "imports `x.proto`",
        ),
        ("'format' 'protobuf', 'protobuf.schema' ''", "it has no message"),
        ("'format' 'protobuf', 'protobuf.descriptor' '%'", "it is no descriptor set in base64"),
        ("'format' 'protobuf', 'protobuf.descriptor' ''", "it holds no file"),
        ("'format' 'protobuf', 'protobuf.descriptor' 'CgA'", "it is no descriptor set in base64"),
        (&format!("'format' 'protobuf', {one}, 'protobuf.descriptor' '{set}'"), "two schemas"),
        ("'format' 'protobuf', 'protobuf.refused' '7, x'", "`x` is no id of a schema"),
        (&format!("'format' 'protobuf', {one}, 'protobuf.refused' '7'"), "has no ids"),
        ("'format' 'protobuf', 'protobuf.shema' '{'", "Did you mean 'protobuf.schema'?"),
    ] {
        let said = refused(options);
        assert!(said.contains(part), "{options}: {said}");
    }
    let decode = |options: &str, payload: Option<&[u8]>| {
        let decoder = Decoder::new(&with_options("a INT", &format!("'format' 'protobuf', {options}"))).unwrap();
        let mut all = messages([]);
        all.push(crate::Partition(0), crate::Offset(0), None, payload);
        assert!(decoder.unknown_schemas(&all).is_empty());
        show(&decoder.decode(&all).unwrap()).remove(0)
    };
    let value = num(1, 5);
    assert_eq!(decode(one, Some(&value)), "5");
    assert_eq!(decode(one, Some(b"")), "0");
    assert_eq!(decode(one, None), "reject: the message is empty");
    assert_eq!(decode(one, Some(b"\x80")), "reject: the message ends within a number");
    assert_eq!(decode(&format!("{two}, 'protobuf.message' 'M'"), Some(&value)), "5");
    assert_eq!(decode(&format!("'protobuf.descriptor' '{set}'"), Some(&value)), "5");
    let delimited = format!("{one}, 'protobuf.framing' 'delimited'");
    assert_eq!(decode(&delimited, Some(&[n(2), value.clone()].concat())), "5");
    assert_eq!(decode(&delimited, Some(&[n(3), value.clone()].concat())), "reject: it claims 3 bytes, and 2 are left");
    assert_eq!(decode(&delimited, Some(&[n(1), value.clone()].concat())), "reject: a byte follows the value");
    assert_eq!(decode(&delimited, Some(&[0])), "0");
    assert_eq!(decode(&delimited, Some(&[])), "reject: the message ends within a number");
    let refusing = Decoder::new(&with_options("a INT", "'format' 'protobuf', 'protobuf.refused' '7, 9'")).unwrap();
    let message = framed(7, &[0], &value);
    assert!(refusing.unknown_schemas(&messages([message.as_slice()])).is_empty());
    let shown = show(&refusing.decode(&messages([message.as_slice()])).unwrap());
    assert_eq!(shown, ["reject: the definition of the stream refuses the schema (schema 7)"]);
}

#[test]
fn every_field_of_a_message_is_a_column() {
    let text = "syntax = \"proto3\"; package p; import \"google/protobuf/timestamp.proto\"; import \"google/protobuf/duration.proto\";
        import \"google/protobuf/wrappers.proto\"; import \"google/protobuf/struct.proto\"; import \"google/protobuf/empty.proto\";
        import \"google/type/date.proto\"; import \"confluent/type/decimal.proto\";
        message Order { int64 id = 1; string buyer_name = 2; uint64 big = 3; repeated string tags = 4; map<int32, Line> lines = 5;
          google.protobuf.Timestamp at = 6; google.protobuf.Duration took = 7; google.protobuf.BoolValue gift = 8;
          google.protobuf.Struct extra = 9; google.type.Date day = 10; confluent.type.Decimal price = 11; Order parent = 12;
          oneof paid { float card = 13; bytes coin = 14; } Kind kind = 15; google.protobuf.Empty nothing = 16; int32 _x = 17; }
        message Line { fixed32 sku = 1; double price = 2; Line self = 3; } enum Kind { A = 0; }";
    let schema = schema(text);
    let inferred = columns_of_schema(&schema).unwrap();
    let found: Vec<String> = inferred.columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    let expect = [
        "id BIGINT",
        "buyer_name STRING",
        "big DECIMAL(20, 0)",
        "tags STRING[]",
        "lines STRUCT<key INT, value STRUCT<sku BIGINT, price DOUBLE>>[]",
        "at TIMESTAMP",
        "took BIGINT",
        "gift BOOLEAN",
        "extra STRING",
        "day DATE",
        "price DECIMAL(38, 9)",
        "card REAL",
        "coin BYTEA",
        "kind STRING",
    ];
    assert_eq!(found, expect);
    let left_out = [
        "parent: it holds itself",
        "nothing: the message google.protobuf.Empty has no fields with columns",
        "_x: names that begin with an underscore are the platform's",
        "these are the fields of p.Order; the schema also has p.Line",
    ];
    assert_eq!(inferred.left_out, left_out);
    let statement = inferred.statement("orders", "orders", &[("format", "protobuf")]);
    let Statement::CreateStream { definition, .. } = definition::parse(&statement).unwrap().remove(0) else { panic!() };
    let decoder = Decoder::new(&definition).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(schema));
    let shown = show(&decoder.decode(&messages([framed(7, &[0], &[]).as_slice()])).unwrap());
    assert_eq!(shown, ["0||0|[]|[]|null|null|null|null|null|null|null|null|A"]);
    assert_eq!(columns_of_schema(&super::protobuf::schema("")).unwrap_err(), "it has no message");
}

#[test]
fn large_schemas_are_read_in_time() {
    // Twenty thousand fields, each with a type of its own, and names that resemble each other.
    let count = 20_000;
    let fields: String = (1..=count).map(|n| format!("M{n} f{n} = {};", n + n / 18_000 * 2_000)).collect();
    let types: String = (1..=count).map(|n| format!("message M{n} {{ int32 a = 1; Root r = 2; }}")).collect();
    let text = format!("syntax = \"proto3\"; message Root {{ {fields} }} {types}");
    let decoder = decoder("f7 STRUCT<a INT>", &text);
    let value = len(7, num(1, 5));
    assert_eq!(show(&decoder.decode(&messages([framed(7, &[0], &value).as_slice()])).unwrap()), ["{a: 5}"]);
}

/// A schema with something of everything.
const RICH: &str = "edition = \"2023\"; package a.b; import public \"x.proto\"; option java_package = \"x\";
    message M { option (o).p = { q: [1, <r: 2>] }; int32 a = 1 [features.field_presence = IMPLICIT, deprecated = true];
      map<string, N> m = 2; oneof o { string s = 3; N n = 4 [features.message_encoding = DELIMITED]; } repeated E e = 5;
      message N { .a.b.M m = 1; reserved 2, 4 to 6; extensions 100 to max; } enum E { option allow_alias = true; A = 0; B = 0; } }
    extend M { int32 x = 101; } service S { rpc R(M) returns (stream M); }";

/// Parts of the language, which edits put anywhere.
const PARTS: [&str; 22] = [
    "{",
    "}",
    "message",
    "M",
    ".",
    "=",
    "0",
    "-1",
    "536870912",
    "\"",
    "'",
    "/*",
    "//",
    "map<",
    ">",
    "oneof",
    "group",
    "[",
    "]",
    "required",
    "import public \"the schema\";",
    "edition = \"2024\";",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_a_text_is_it_is_a_schema_or_none(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), 0..12usize, 0..PARTS.len()), 0..5),
        syntax in 0..3usize,
    ) {
        let mut text = RICH.replace("edition = \"2023\"", ["edition = \"2023\"", "syntax = \"proto3\"", "syntax = \"proto2\""][syntax]);
        for (at, cut, part) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, PARTS[part]);
        }
        let shown = read("a INT, m STRUCT<key STRING>[]", with(&text, &[("x.proto", "syntax = \"proto3\";")]), &num(1, 5));
        prop_assert!(shown.starts_with("reject: ") || shown.starts_with("5|") || shown.starts_with("null|"), "{text}: {shown}");
    }

    #[test]
    fn whatever_bytes_are_they_are_a_descriptor_or_none(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()), 0..6),
        is_set in any::<bool>(),
    ) {
        let text = "syntax = \"proto2\"; package p; message M { required int32 a = 1; map<string, N> m = 2; oneof o { string s = 3; }
            optional group G = 4 { optional int32 x = 1; } message N { optional E e = 1 [default = B]; } enum E { A = 1; B = 2; } }";
        let set = descriptors(text);
        let mut bytes = if is_set { set.encode_to_vec() } else { set.file[0].encode_to_vec() };
        for (at, to, insert) in edits {
            let at = at.index(bytes.len());
            if insert { bytes.insert(at, to) } else { bytes[at] = to }
        }
        let text = STANDARD.encode(bytes);
        if is_set {
            let options = format!("'format' 'protobuf', 'protobuf.descriptor' '{text}', 'protobuf.message' 'p.M'");
            let definition = with_options("a INT", &options);
            drop(crate::decode::check(&definition));
        } else {
            drop(read("a INT, m STRUCT<key STRING>[]", schema(&text), &num(1, 5)));
        }
    }
}
