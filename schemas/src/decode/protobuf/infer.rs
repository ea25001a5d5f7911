//! The columns that take all of a Protobuf message.
//!
//! Invariant: a stream with these columns reads every message of the type, except values that no column type holds,
//! which are named.

use super::super::inferred::{InferredColumns, is_word};
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
        match sql_type(&schema, field, &mut vec![*root]) {
            Ok(sql) => inferred.add(&field.name, sql),
            Err(why) => inferred.left_out.push(format!("{}: {why}", field.name)),
        }
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.into_iter().map(|id| schema.get(*id).name.as_str()).collect();
        let root = &schema.get(*root).name;
        inferred.left_out.push(format!("these are the fields of {root}; the schema also has {}", names.join(", ")));
    }
    Ok(inferred)
}

/// The SQL type for a field. `open` are the messages around it.
///
/// Errors: why there is none.
fn sql_type(schema: &ProtoSchema, field: &ProtoField, open: &mut Vec<MessageId>) -> Result<String, String> {
    let one = sql_of(schema, field.of, open)?;
    Ok(if field.is_repeated { format!("{one}[]") } else { one })
}

fn sql_of(schema: &ProtoSchema, of: ProtoType, open: &mut Vec<MessageId>) -> Result<String, String> {
    Ok(match of {
        ProtoType::Bool => "BOOLEAN",
        ProtoType::Int32 | ProtoType::Sint32 | ProtoType::Sfixed32 => "INT",
        ProtoType::Int64 | ProtoType::Sint64 | ProtoType::Sfixed64 | ProtoType::Uint32 | ProtoType::Fixed32 => "BIGINT",
        ProtoType::Uint64 | ProtoType::Fixed64 => "DECIMAL(20, 0)",
        ProtoType::Float => "REAL",
        ProtoType::Double => "DOUBLE",
        ProtoType::Text | ProtoType::Enum(_) => "STRING",
        ProtoType::Bytes => "BYTEA",
        ProtoType::Message(id) | ProtoType::Group(id) => return sql_of_message(schema, id, open),
    }
    .to_owned())
}

fn sql_of_message(schema: &ProtoSchema, id: MessageId, open: &mut Vec<MessageId>) -> Result<String, String> {
    if let Some(inner) = KnownType::wrapped(schema, id) {
        return sql_of(schema, inner, open);
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
    if open.contains(&id) {
        return Err("it holds itself".to_owned());
    }
    open.push(id);
    let fields = schema.get(id).fields.iter().filter(|field| is_word(&field.name));
    let fields: Vec<String> =
        fields.filter_map(|field| Some(format!("{} {}", field.name, sql_type(schema, field, open).ok()?))).collect();
    open.pop();
    if fields.is_empty() {
        return Err(format!("the message {} has no fields with columns", schema.get(id).name));
    }
    Ok(format!("STRUCT<{}>", fields.join(", ")))
}
