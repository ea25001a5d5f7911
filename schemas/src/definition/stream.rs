//! A stream: a Kafka topic with a schema, defined by `CREATE EXTERNAL TABLE … STORED AS KAFKA`.
//!
//! Invariant: [`StreamDefinition::row_schema`] has only canonical types. Rows and rejects share this schema: a row has
//! a null `_reject`, and a reject has null columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::StreamName;
use crate::definition::message::{self, MessageOptions, UNLISTED};

pub use crate::definition::message::PAYLOAD;

/// The Kafka partition of a row, `Int32`.
pub const PARTITION: &str = "_partition";
/// The Kafka offset of a row, `Int64`.
pub const OFFSET: &str = "_offset";
/// The Kafka timestamp of a row, in microseconds since 1970, without a time zone.
pub const TIMESTAMP: &str = "_timestamp";
/// The reason why a message was not decoded; null for rows.
pub const REJECT: &str = "_reject";

/// The encoding of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// One JSON object per message.
    Json,
}

/// The definition of a stream.
#[derive(Debug, Clone)]
pub struct StreamDefinition {
    pub name: StreamName,
    pub topic: String,
    /// The declared columns with canonical types; nullable unless declared `NOT NULL`.
    pub columns: SchemaRef,
    pub format: RecordFormat,
    /// The column with the time of an event.
    pub event_time: Option<String>,
    pub messages: MessageOptions,
    /// The librdkafka properties of this stream, without the prefix `kafka.`.
    pub kafka: BTreeMap<String, String>,
    /// The statement as the user wrote it.
    pub sql: String,
}

/// A Kafka property that refers to its value. The value is looked up when a client is created, and stored nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `${env:NAME}`
    Environment(&'a str),
    /// `${file:/path}`: the text of the file without the last line break.
    File(&'a str),
}

/// The reference that a property's value is; `None` if the value is anything but one reference.
pub fn reference(value: &str) -> Option<Reference<'_>> {
    let inner = value.strip_prefix("${")?.strip_suffix('}')?;
    match inner.split_once(':')? {
        ("env", name) if !name.is_empty() => Some(Reference::Environment(name)),
        ("file", path) if !path.is_empty() => Some(Reference::File(path)),
        _ => None,
    }
}

impl StreamDefinition {
    /// The Kafka properties with a secret value in the statement itself, instead of a reference.
    pub fn written_secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        let secret = |property: &str| {
            ["password", "secret", "key.pem", "jaas", "token"].iter().any(|word| property.contains(word))
        };
        let properties = self.kafka.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        properties.filter(move |(property, value)| secret(property) && reference(value).is_none())
    }

    /// Warnings about an accepted definition, for the user.
    pub fn warnings(&self) -> Vec<String> {
        self.written_secrets().map(|(property, _)| secret_warning(property)).collect()
    }

    /// The statement as it is shown to users, with masked passwords, secrets and keys in the Kafka properties.
    pub fn shown_sql(&self) -> String {
        let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
        self.written_secrets().fold(self.sql.clone(), |sql, (_, value)| sql.replace(&quoted(value), "'***'"))
    }

    /// The hash of the statement, 32 hexadecimal digits. Processes compare hashes to check that they know the same
    /// definition.
    pub fn fingerprint(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex()[..32].to_owned()
    }

    /// The schema of the archive: `_partition, _offset, _timestamp`, the columns (all nullable), `_reject, _payload,
    /// _key, _headers`.
    pub fn row_schema(&self) -> SchemaRef {
        let mut fields = leading_fields();
        fields.extend(self.columns.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)));
        fields.push(Field::new(REJECT, DataType::Utf8, true));
        fields.push(Field::new(PAYLOAD, DataType::Binary, true));
        fields.extend(message::added_fields());
        Arc::new(Schema::new(fields))
    }

    /// The schema for queries: the columns, then `_partition, _offset, _timestamp`. Queries see no rejects.
    pub fn table_schema(&self) -> SchemaRef {
        self.table_schema_with(&BTreeSet::new())
    }

    /// [`Self::table_schema`] with the unlisted columns that are in `named`.
    pub fn table_schema_with(&self, named: &BTreeSet<&'static str>) -> SchemaRef {
        let mut fields: Vec<Field> = self.columns.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(leading_fields());
        fields.extend(unlisted(named));
        Arc::new(Schema::new(fields))
    }

    /// The schema of `rejects.<stream>`: `_partition, _offset, _timestamp, _reject, _payload`, and the unlisted columns
    /// that are in `named`.
    pub fn reject_schema_with(&self, named: &BTreeSet<&'static str>) -> SchemaRef {
        let mut fields = leading_fields();
        fields.push(Field::new(REJECT, DataType::Utf8, false));
        fields.push(Field::new(PAYLOAD, DataType::Binary, true));
        fields.extend(unlisted(named).filter(|field| field.name() != PAYLOAD));
        Arc::new(Schema::new(fields))
    }
}

fn unlisted(named: &BTreeSet<&'static str>) -> impl Iterator<Item = Field> {
    UNLISTED.into_iter().filter(|name| named.contains(name)).map(message::unlisted_field)
}

/// The warning for a user who wrote the value of a secret property in the statement.
pub(crate) fn secret_warning(property: &str) -> String {
    format!(
        "the value of 'kafka.{property}' is stored in the catalog as it is written here; \
         '${{env:NAME}}' or '${{file:/path}}' in its place is looked up by each process that reads the stream and stored nowhere"
    )
}

fn leading_fields() -> Vec<Field> {
    vec![
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_whole_values() {
        let check = |value, expect| assert_eq!(reference(value), expect, "{value}");
        check("${env:KAFKA_PASSWORD}", Some(Reference::Environment("KAFKA_PASSWORD")));
        check("${file:/run/secrets/a:b}", Some(Reference::File("/run/secrets/a:b")));
        for value in ["", "x", "${env:}", "${file:}", "${vault:x}", "x${env:A}", "${env:A}x", "${env}", "$env:A"] {
            check(value, None);
        }
    }

    #[test]
    fn secrets_are_masked_wherever_sql_is_shown() {
        let properties = [("sasl.password", "it's 9"), ("sasl.username", "ann"), ("ssl.key.password", "${env:KEY}")];
        let stream = StreamDefinition {
            name: StreamName::new("s").unwrap(),
            topic: "s".into(),
            columns: Arc::new(Schema::empty()),
            format: RecordFormat::Json,
            event_time: None,
            messages: MessageOptions::default(),
            kafka: properties.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            sql: "… ('kafka.sasl.password' 'it''s 9', 'kafka.sasl.username' 'ann', 'kafka.ssl.key.password' '${env:KEY}')".into(),
        };
        assert_eq!(
            stream.shown_sql(),
            "… ('kafka.sasl.password' '***', 'kafka.sasl.username' 'ann', 'kafka.ssl.key.password' '${env:KEY}')"
        );
        let warnings = stream.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("kafka.sasl.password") && !warnings[0].contains("it's 9"));
    }
}
