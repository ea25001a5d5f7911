//! The columns that take all of a Protobuf message.
//!
//! Invariant: a stream with these columns reads every message of the type, except values that no column type holds,
//! which are named.

use super::super::inferred::{InferredColumns, Nesting, is_word};
use super::super::writers::RegisteredSchema;
use super::known_types::KnownType;
use super::schema::{MessageId, ProtoField, ProtoSchema, ProtoType};

/// The columns for the message `wanted` of a schema. Without a name, for the first one, which is the one that most
/// topics have.
///
/// Errors: why there are none, as the end of a sentence.
pub(in super::super) fn columns_of(schema: &RegisteredSchema, wanted: Option<&str>) -> Result<InferredColumns, String> {
    let schema = ProtoSchema::registered(schema)?;
    let is_wanted = |id: &MessageId| wanted.is_none_or(|name| schema.get(*id).name == name);
    let Some(root) = schema.top.iter().find(|id| is_wanted(id)) else {
        return Err(wanted.map_or("it has no message".to_owned(), |name| format!("it has no message {name}")));
    };
    let others: Vec<&MessageId> = schema.top.iter().filter(|id| wanted.is_none() && *id != root).collect();
    let mut inferred = InferredColumns::default();
    for field in &schema.get(*root).fields {
        let mut nesting = Nesting::within(*root);
        let sql = sql_type(&schema, field, &mut nesting);
        inferred.add_written(&field.name, sql, &nesting);
    }
    if schema.get(*root).fields.is_empty() {
        inferred.left_out.push(format!("{}: it has no fields", schema.get(*root).name));
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.into_iter().map(|id| schema.get(*id).name.as_str()).collect();
        let root = &schema.get(*root).name;
        inferred.left_out.push(format!("these are the fields of {root}; the schema also has {}", names.join(", ")));
    }
    Ok(inferred)
}

/// The SQL type for a field.
///
/// Errors: why there is none.
fn sql_type(schema: &ProtoSchema, field: &ProtoField, nesting: &mut Nesting<MessageId>) -> Result<String, String> {
    let one = sql_of(schema, field.of, nesting)?;
    Ok(if field.is_repeated { format!("{one}[]") } else { one })
}

fn sql_of(schema: &ProtoSchema, of: ProtoType, nesting: &mut Nesting<MessageId>) -> Result<String, String> {
    Ok(match of {
        ProtoType::Bool => "BOOLEAN",
        ProtoType::Int32 | ProtoType::Sint32 | ProtoType::Sfixed32 => "INT",
        ProtoType::Int64 | ProtoType::Sint64 | ProtoType::Sfixed64 | ProtoType::Uint32 | ProtoType::Fixed32 => "BIGINT",
        ProtoType::Uint64 | ProtoType::Fixed64 => "DECIMAL(20, 0)",
        ProtoType::Float => "REAL",
        ProtoType::Double => "DOUBLE",
        ProtoType::Text | ProtoType::Enum(_) => "STRING",
        ProtoType::Bytes => "BYTEA",
        ProtoType::Message(id) | ProtoType::Group(id) => return sql_of_message(schema, id, nesting),
    }
    .to_owned())
}

fn sql_of_message(schema: &ProtoSchema, id: MessageId, nesting: &mut Nesting<MessageId>) -> Result<String, String> {
    if let Some(inner) = KnownType::wrapped(schema, id) {
        return sql_of(schema, inner, nesting);
    }
    let known = match KnownType::named(schema, id) {
        Some(KnownType::Timestamp) => Some("TIMESTAMP"),
        Some(KnownType::Duration) => Some("BIGINT"),
        Some(KnownType::Date) => Some("DATE"),
        // Each message has a scale of its own.
        Some(KnownType::BinaryDecimal | KnownType::TextDecimal) => Some("DECIMAL(38, 9)"),
        Some(KnownType::JsonObject | KnownType::JsonValue | KnownType::JsonList) => Some("STRING"),
        None => None,
    };
    if let Some(known) = known {
        return Ok(known.to_owned());
    }
    nesting.enter(id)?;
    let fields = schema.get(id).fields.iter().filter(|field| is_word(&field.name));
    let fields = fields.map(|field| (field.name.as_str(), field));
    let fields = nesting.fields(fields, |field, nesting| sql_type(schema, field, nesting).ok());
    nesting.leave();
    if fields.is_empty() {
        return Err(format!("the message {} has no fields with columns", schema.get(id).name));
    }
    Ok(format!("STRUCT<{}>", fields.join(", ")))
}
