//! Proposed columns: what is printed is a definition that reads the messages it was made from.

use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;

use super::{definition, messages, show};
use crate::decode::infer::{columns_of_json, columns_of_schema};
use crate::decode::{Decoder, RegisteredSchema, SchemaId, SchemaKind, check};
use crate::definition::Statement;
use crate::definition::open_stream::columns_of;

fn stream(sql: &str) -> crate::definition::stream::StreamDefinition {
    match definition::parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).remove(0) {
        Statement::CreateStream { definition, .. } => definition,
        other => panic!("{other:?}"),
    }
}

/// Every word of SQL is the name of a field, also within another one.
#[test]
fn words_of_sql_are_names() {
    let words: Vec<String> =
        ALL_KEYWORDS.iter().map(|word| word.to_lowercase()).filter(|w| !w.starts_with('_')).collect();
    let fields: Vec<String> = words.iter().map(|word| format!(r#"{{"name":"{word}","type":"int"}}"#)).collect();
    let inner =
        format!(r#"{{"name":"inner_","type":{{"type":"record","name":"I","fields":[{}]}}}}"#, fields[..200].join(","));
    let schema = format!(r#"{{"type":"record","name":"R","fields":[{},{inner}]}}"#, fields.join(","));
    let inferred = columns_of_schema(&RegisteredSchema::alone(SchemaKind::Avro, schema)).unwrap();
    let stream = stream(&inferred.statement("s", "t", &[("format", "avro")]));
    let names: Vec<&String> = stream.columns.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names[..words.len()], words.iter().collect::<Vec<_>>());
    assert_eq!(columns_of(&stream.sql).map(|list| list.len() > words.len()), Some(true));
}

/// Each of 40 messages has two fields of the next one: a trillion fields in all.
#[test]
fn a_column_has_no_endless_fields() {
    let next = |n: u32| format!("message M{n} {{ M{m} a = 1; M{m} b = 2; int32 c = 3; int32 C = 4; }}", m = n + 1);
    let messages: String = (0..40).map(next).collect();
    let text = format!("syntax = \"proto2\"; {messages} message M40 {{ optional int32 x = 1; }}");
    let text = text.replace("{ M", "{ optional M").replace("; M", "; optional M");
    let text = text.replace("; int32", "; optional int32");
    let proto = RegisteredSchema::alone(SchemaKind::Protobuf, text);
    let of = |n: u32, inner: String| {
        let a = format!(r#"{{"name":"a","type":{inner}}},{{"name":"b","type":"M{n}"}}"#);
        format!(r#"{{"type":"record","name":"M{m}","fields":[{a},{{"name":"c","type":"int"}}]}}"#, m = n - 1)
    };
    let last = r#"{"type":"record","name":"M40","fields":[{"name":"x","type":"int"}]}"#.to_owned();
    let avro = RegisteredSchema::alone(SchemaKind::Avro, (1..=40).rev().fold(last, |inner, n| of(n, inner)));
    for (schema, format) in [(proto, "protobuf"), (avro, "avro")] {
        let inferred = columns_of_schema(&schema).unwrap();
        assert!(inferred.left_out.iter().any(|left| left.contains("some fields of a")), "{:?}", inferred.left_out);
        let statement = inferred.statement("s", "t", &[("format", format)]);
        assert!(statement.len() < 100_000, "{}", statement.len());
        assert!(stream(&statement).columns.fields().iter().any(|field| field.name() == "c"));
    }
}

#[test]
fn every_field_of_a_schema_is_a_column() {
    let schema = r#"{"type":"record","name":"R","namespace":"n","fields":[
        {"name":"id","type":"long"},{"name":"orderId","type":["null","int"]},{"name":"ok","type":"boolean"},
        {"name":"f","type":"float"},{"name":"d","type":"double"},{"name":"raw","type":"bytes"},{"name":"s","type":"string"},
        {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
        {"name":"huge","type":{"type":"bytes","logicalType":"decimal","precision":60,"scale":2}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"time","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"uid","type":{"type":"string","logicalType":"uuid"}},
        {"name":"span","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}},
        {"name":"hash","type":{"type":"fixed","name":"H","size":4}},
        {"name":"kind","type":{"type":"enum","name":"E","symbols":["A"]}},
        {"name":"tags","type":{"type":"array","items":["null","string"]}},
        {"name":"attributes","type":{"type":"map","values":"double"}},
        {"name":"place","type":{"type":"record","name":"P","fields":[{"name":"lat","type":"double"},{"name":"self","type":["null","P"]}]}},
        {"name":"either","type":["null","long","string"]},{"name":"nothing","type":"null"},
        {"name":"again","type":["null","R"]},{"name":"order","type":"int"},{"name":"_offset","type":"long"}]}"#;
    let schema = RegisteredSchema::alone(SchemaKind::Avro, schema);
    let inferred = columns_of_schema(&schema).unwrap();
    let found: Vec<String> = inferred.columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    assert_eq!(
        found,
        [
            "id BIGINT",
            "orderId INT",
            "ok BOOLEAN",
            "f REAL",
            "d DOUBLE",
            "raw BYTEA",
            "s STRING",
            "price DECIMAL(12, 2)",
            "day DATE",
            "at TIMESTAMP",
            "time BIGINT",
            "uid STRING",
            "span STRING",
            "hash BYTEA",
            "kind STRING",
            "tags STRING[]",
            "attributes STRUCT<key STRING, value DOUBLE>[]",
            "place STRUCT<lat DOUBLE>",
            "either STRUCT<long BIGINT, string STRING>",
            "order INT",
        ]
    );
    assert_eq!(
        inferred.left_out,
        [
            "huge: a decimal of 60 digits",
            "nothing: it is always null",
            "again: it holds itself",
            "_offset: names that begin with an underscore are the platform's",
        ]
    );
    let sql = inferred.statement("orders", "orders.v1", &[("format", "avro")]);
    let definition = stream(&sql);
    assert_eq!(definition.columns.fields().len(), 20, "{sql}");
    // Every column can be read from the schema.
    let decoder = Decoder::new(&definition).unwrap();
    decoder.learn_schema(SchemaId::Number(7), &Ok(schema));
    let shown = show(&decoder.decode(&messages([&[0, 0, 0, 0, 7][..]])).unwrap());
    assert!(shown[0].contains("the message ends too early"), "{}", shown[0]);
    check(&definition).unwrap();
    for (text, part) in [("\"long\"", "it is of long"), ("{", "it is not JSON")] {
        let schema = RegisteredSchema::alone(SchemaKind::Avro, text);
        assert!(columns_of_schema(&schema).unwrap_err().contains(part), "{text}");
    }
}

#[test]
fn columns_are_guessed_from_messages() {
    let sample = [
        r#"{"id":1,"at":"2026-01-02T03:04:05Z","price":1.5,"who":{"name":"Ada","odd-key":1},"tags":["a"],"mixed":1,"none":null}"#,
        r#"{"id":2,"at":"2026-01-02 03:04","price":2,"who":{"name":null,"age":3},"tags":[],"mixed":"x","order id":true}"#,
        "no JSON",
        "[1]",
        r#"{"id":null,"note":"2026","lines":[{"sku":"A"}],"_partition":1,"iD":3}"#,
    ];
    let bytes: Vec<Vec<u8>> = sample.iter().map(|message| message.as_bytes().to_vec()).collect();
    let inferred = columns_of_json(&bytes).unwrap();
    let sql = inferred.statement("t1", "t-1", &[("format", "json"), ("connection", "eu")]);
    let definition = stream(&sql);
    let found: Vec<String> = inferred.columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    assert_eq!(
        found,
        [
            "at TIMESTAMP",
            "iD BIGINT",
            "lines STRUCT<sku STRING>[]",
            "note STRING",
            "price DOUBLE",
            "tags STRING[]",
            "who STRUCT<name STRING, age BIGINT>",
        ],
        "{sql}"
    );
    assert_eq!(
        inferred.left_out,
        [
            "_partition: names that begin with an underscore are the platform's",
            "id: it differs from iD in case only",
            "mixed: its values are of several kinds",
            "none: it is null in the whole sample",
            "order id: no column can have this name",
        ]
    );
    let decoded = Decoder::new(&definition).unwrap().decode(&messages(sample.map(str::as_bytes))).unwrap();
    assert_eq!(decoded.rejects, 2);
    assert!(columns_of_json(&[b"x".to_vec()]).unwrap_err().contains("JSON object"));
}
