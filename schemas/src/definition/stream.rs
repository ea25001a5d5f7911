//! A stream: a Kafka topic with a schema, defined by `CREATE EXTERNAL TABLE … STORED AS KAFKA`.
//!
//! Invariant: [`StreamDefinition::row_schema`] has only canonical types. Rows and rejects share this schema: a row has
//! a null `_reject`, and a reject has null columns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::StreamName;
use crate::definition::message::{self, AvroFraming, MessageOptions, ProtobufFraming, UNLISTED};

pub use crate::definition::message::PAYLOAD;

/// The partition of a row, `Int32`; below 0 for amendments.
pub const PARTITION: &str = "_partition";
/// The offset of a row in its partition, `Int64`.
pub const OFFSET: &str = "_offset";
/// The Kafka timestamp of a row, in microseconds since 1970, without a time zone.
pub const TIMESTAMP: &str = "_timestamp";
/// The reason why a message was not decoded; null for rows.
pub const REJECT: &str = "_reject";

/// The encoding of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// One Avro value per message.
    Avro,
    /// One line of values per message, with commas between.
    Csv,
    /// One JSON object per message.
    Json,
    /// One Protobuf message per message.
    Protobuf,
    /// One value per message: the payload as it is.
    Raw,
    /// One line of values per message, with tabs between.
    Tsv,
}

impl RecordFormat {
    /// All formats.
    pub const ALL: [Self; 6] = [Self::Json, Self::Avro, Self::Protobuf, Self::Csv, Self::Tsv, Self::Raw];

    /// The name that the option `format` has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Protobuf => "protobuf",
            Self::Raw => "raw",
            Self::Tsv => "tsv",
        }
    }
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
    /// The connection of the settings that leads to Kafka; `None`: the default connection.
    pub connection: Option<String>,
    /// How messages are read, and what is kept of them.
    pub messages: MessageOptions,
    /// The librdkafka properties of this stream, without the prefix `kafka.`. Those of a definition from an older
    /// catalog need not be accepted today: see [`crate::definition::kafka_options`].
    pub kafka: BTreeMap<String, String>,
    /// The statement as the user wrote it.
    pub sql: String,
}

impl StreamDefinition {
    /// True if the schemas of messages are in a registry.
    pub fn needs_registry(&self) -> bool {
        match self.format {
            RecordFormat::Avro => self.messages.avro.framing == AvroFraming::Confluent,
            RecordFormat::Protobuf => self.messages.protobuf.framing == ProtobufFraming::Confluent,
            RecordFormat::Csv | RecordFormat::Json | RecordFormat::Raw | RecordFormat::Tsv => false,
        }
    }

    /// The hash of the statement, 32 hexadecimal digits. Processes compare hashes to check that they know the same
    /// definition.
    pub fn fingerprint(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex()[..32].to_owned()
    }

    /// The schema of the archive: `_partition, _offset, _timestamp`, the columns (all nullable), `_reject, _payload,
    /// _key, _headers, _source, _row`.
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

fn leading_fields() -> Vec<Field> {
    vec![
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]
}
