//! Columns for a stream from what is known of its messages: a sample of them, or their schema.
//!
//! Invariant: a guess says so. What is printed is a definition for people to read and correct, never applied by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Fields, TimeUnit};
use arrow::json::reader::infer_json_schema_from_iterator;
use serde_json::Value;

use super::inferred::{camel_case, is_word, quoted};
use super::writers::{RegisteredSchema, SchemaKind};
use super::{Decoder, Messages, avro, match_columns, protobuf, times};

pub use super::inferred::{InferredColumn, InferredColumns};
use crate::definition::stream::{REJECT, StreamDefinition};
use crate::definition::types::sql_name;
use crate::definition::{self, Statement};
use crate::{Error, Offset, Partition, Result};

/// The columns for a schema of a registry.
///
/// Errors: why there are none, as the end of a sentence.
pub fn columns_of_schema(schema: &RegisteredSchema) -> Result<InferredColumns, String> {
    match &schema.kind {
        SchemaKind::Avro => avro::columns_of(schema),
        SchemaKind::Protobuf => protobuf::columns_of(schema, None),
        SchemaKind::Other(name) => Err(format!("no stream reads messages of {name}")),
    }
}

/// The statement that gives a stream a column for each field of a schema that has none; `None` if all have one. Fields
/// that no column can take are left out.
///
/// Errors: why the schema has no columns, as the end of a sentence.
pub fn new_columns(stream: &StreamDefinition, schema: &RegisteredSchema) -> Result<Option<Statement>, String> {
    let inferred = match &schema.kind {
        SchemaKind::Protobuf => protobuf::columns_of(schema, stream.messages.protobuf.message.as_deref())?,
        _ => columns_of_schema(schema)?,
    };
    let has = |name: &str| {
        let matched = match_columns(&stream.columns, &[name]);
        matched.is_ok_and(|matched| matched[0].is_some())
    };
    let is_new = |column: &&InferredColumn| match &schema.kind {
        // A column may have the JSON name of a field.
        SchemaKind::Protobuf => !has(&column.name) && !has(&camel_case(&column.name)),
        _ => !has(&column.name),
    };
    let added: Vec<String> = inferred
        .columns
        .iter()
        .filter(is_new)
        .map(|column| format!("ADD COLUMN IF NOT EXISTS {} {}", quoted(&column.name), column.sql))
        .collect();
    if added.is_empty() {
        return Ok(None);
    }
    let statement = format!("ALTER TABLE {} {}", quoted(stream.name.as_str()), added.join(", "));
    definition::parse(&statement).map(|mut statements| statements.pop()).map_err(|e| e.to_string())
}

/// The columns for JSON messages: whole numbers as BIGINT, texts that are all times of ISO 8601 as TIMESTAMP.
///
/// Errors: why there are none, as the end of a sentence.
pub fn columns_of_json(messages: &[Vec<u8>]) -> Result<InferredColumns, String> {
    let values: Vec<Value> = messages.iter().filter_map(|message| serde_json::from_slice(message).ok()).collect();
    let objects: Vec<&Value> = values.iter().filter(|value| value.is_object()).collect();
    if objects.is_empty() {
        return Err("no message of the sample is a JSON object".to_owned());
    }
    let keys: BTreeSet<&String> =
        objects.iter().filter_map(|object| object.as_object()).flat_map(|o| o.keys()).collect();
    let mut inferred = InferredColumns::default();
    for key in keys {
        // Each key by itself, so that one with values of two kinds costs no other its column.
        let of_key = objects.iter().filter_map(|object| object.get(key).filter(|value| !value.is_null()));
        let of_key: Vec<Value> = of_key.map(|value| serde_json::json!({ "v": value })).collect();
        let found = infer_json_schema_from_iterator(of_key.iter().map(Ok::<_, arrow::error::ArrowError>));
        let found = found.ok().and_then(|schema| schema.fields().first().cloned());
        let kind = of_key.first().map(|value| std::mem::discriminant(&value["v"]));
        let one_kind = of_key.iter().all(|value| Some(std::mem::discriminant(&value["v"])) == kind);
        match found.map(|field| field.data_type().clone()).filter(|_| one_kind) {
            Some(found) if found != DataType::Null && is_known(&found) => {
                let texts: Option<Vec<&str>> = of_key.iter().map(|value| value["v"].as_str()).collect();
                let are_times = texts.is_some_and(|texts| texts.iter().all(|t| times::micros_of_text(t).is_ok()));
                let found = if are_times { DataType::Timestamp(TimeUnit::Microsecond, None) } else { found };
                inferred.add(key, sql_name(&plain(&found)));
            }
            Some(DataType::Null) | None if of_key.is_empty() => {
                inferred.left_out.push(format!("{key}: it is null in the whole sample"));
            }
            _ => inferred.left_out.push(format!("{key}: its values are of several kinds")),
        }
    }
    Ok(inferred)
}

/// How many of the messages the stream that `statement` creates rejects, and why the first; `None` if it reads all.
///
/// Errors: the statement creates no stream.
pub fn first_reject(statement: &str, messages: &[Vec<u8>]) -> Result<Option<(usize, String)>> {
    let Some(Statement::CreateStream { definition, .. }) = definition::parse(statement)?.pop() else {
        return Err(Error::Broken(format!("`{statement}` creates no stream")));
    };
    let mut all = Messages::new();
    for (offset, message) in (0..).zip(messages) {
        all.push(Partition(0), Offset(offset), None, Some(message));
    }
    let decoded = Decoder::new(&definition)?.decode(&all)?;
    let reasons = decoded.rows.column_by_name(REJECT).and_then(|reasons| reasons.as_string_opt::<i32>());
    let first = reasons.and_then(|reasons| reasons.iter().flatten().next());
    Ok(first.map(|first| (decoded.rejects, first.to_owned())))
}

/// True if a column can have the type.
fn is_known(found: &DataType) -> bool {
    match found {
        DataType::Null => false,
        DataType::List(item) => is_known(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_known(field.data_type()) && is_word(field.name())),
        _ => true,
    }
}

/// The type without fields that were null in the whole sample.
fn plain(found: &DataType) -> DataType {
    match found {
        DataType::List(item) => DataType::List(Arc::new(item.as_ref().clone().with_data_type(plain(item.data_type())))),
        DataType::Struct(fields) => {
            let known = fields.iter().filter(|field| is_known(field.data_type()) && is_word(field.name()));
            DataType::Struct(Fields::from_iter(
                known.map(|field| field.as_ref().clone().with_data_type(plain(field.data_type()))),
            ))
        }
        other => other.clone(),
    }
}
