//! The parts of a message: how numbers become times, and what the archive keeps beside the columns.
//!
//! Invariant: the columns named here have canonical types and are nullable, so an archive without them can get them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};

/// The bytes of a message's key in the archive. To queries, its text; null if there is no key or it is not UTF-8.
pub const KEY: &str = "_key";
/// To queries, the bytes of a message's key.
pub const KEY_BYTES: &str = "_key_bytes";
/// The headers of a message: a list of names and values; null without headers.
pub const HEADERS: &str = "_headers";
/// The bytes of a message. They are null in a row of a stream that keeps rows only.
pub const PAYLOAD: &str = "_payload";

/// Where an amendment is from, as text; null for a message that was read from its topic. A reject that was read again
/// has the reject's partition and offset, `3:1042`; a row of a file has the file and its row, `URL#17`.
pub const SOURCE: &str = "_source";

/// The place of a row in its message, from 0; null in a stream whose messages have one row each, and for an amendment.
pub const ROW: &str = "_row";

/// The columns of a stream that only a query which names them sees.
pub const UNLISTED: [&str; 6] = [KEY, KEY_BYTES, HEADERS, PAYLOAD, SOURCE, ROW];

/// The unlisted column `name` as queries see it.
pub(crate) fn unlisted_field(name: &str) -> Field {
    let data_type = match name {
        KEY | SOURCE => DataType::Utf8,
        HEADERS => headers_type(),
        ROW => DataType::Int32,
        _ => DataType::Binary,
    };
    Field::new(name, data_type, true)
}

/// The columns of the archive behind `_payload`.
pub(crate) fn added_fields() -> [Field; 4] {
    [
        Field::new(KEY, DataType::Binary, true),
        Field::new(HEADERS, headers_type(), true),
        Field::new(SOURCE, DataType::Utf8, true),
        Field::new(ROW, DataType::Int32, true),
    ]
}

fn headers_type() -> DataType {
    DataType::List(header_field())
}

/// One header as the item of a list.
pub(crate) fn header_field() -> FieldRef {
    Arc::new(Field::new("element", DataType::Struct(header_fields()), true))
}

pub(crate) fn header_fields() -> Fields {
    Fields::from(vec![Field::new("name", DataType::Utf8, true), Field::new("value", DataType::Binary, true)])
}

/// The unit of numbers in TIMESTAMP columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampUnit {
    Seconds,
    Milliseconds,
    #[default]
    Microseconds,
    Nanoseconds,
}

impl TimestampUnit {
    /// All units, the coarsest first. Each is a thousandth of the one before.
    const ALL: [Self; 4] = [Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Nanoseconds];

    /// The unit that an option names.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| text.eq_ignore_ascii_case(unit.symbol()))
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        }
    }

    pub fn plural(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        }
    }

    /// The coarser units, and how many of this unit make one of each.
    pub(crate) fn coarser(self) -> impl Iterator<Item = (Self, i64)> {
        let at = Self::ALL.iter().position(|unit| *unit == self).unwrap_or_default();
        Self::ALL[..at].iter().rev().scan(1, |factor, unit| {
            *factor *= 1000;
            Some((*unit, *factor))
        })
    }
}

/// The units of all columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimestampUnits {
    /// The unit of the columns that are not in `columns`.
    pub others: TimestampUnit,
    pub columns: BTreeMap<String, TimestampUnit>,
}

impl TimestampUnits {
    /// The unit of numbers in `column`, at any depth.
    pub fn of(&self, column: &str) -> TimestampUnit {
        self.columns.get(column).copied().unwrap_or(self.others)
    }
}

/// What is kept of a message that became a row. A reject keeps its payload always, and both keep key and headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptPart {
    /// The columns.
    Row,
    /// The columns and the payload.
    #[default]
    Message,
}

/// What says which schema wrote an Avro message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AvroFraming {
    /// The id of a schema in a registry, in Confluent's wire format.
    #[default]
    Confluent,
    /// The fingerprint of a schema, in Avro's single-object encoding.
    SingleObject,
    /// Nothing: one schema wrote all messages.
    None,
}

impl AvroFraming {
    const ALL: [Self; 3] = [Self::Confluent, Self::SingleObject, Self::None];

    /// The framing that an option names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|framing| text.eq_ignore_ascii_case(framing.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Confluent => "confluent",
            Self::SingleObject => "single_object",
            Self::None => "none",
        }
    }
}

/// How a stream reads Avro.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AvroOptions {
    pub framing: AvroFraming,
    /// The schema that wrote the messages, or a list of them, as JSON; `None` if a registry has them.
    pub schema: Option<String>,
    /// Ids of schemas whose messages are rejects, whatever the registry says.
    pub refused: BTreeSet<u32>,
}

/// What says which schema wrote a Protobuf message, and which type of it the message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtobufFraming {
    /// The id of a schema in a registry and the path to the type, in Confluent's wire format.
    #[default]
    Confluent,
    /// Nothing: one type wrote all messages, each behind its length.
    Delimited,
    /// Nothing: one type wrote all messages.
    None,
}

impl ProtobufFraming {
    const ALL: [Self; 3] = [Self::Confluent, Self::Delimited, Self::None];

    /// The framing that an option names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|framing| text.eq_ignore_ascii_case(framing.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Confluent => "confluent",
            Self::Delimited => "delimited",
            Self::None => "none",
        }
    }
}

/// How a stream reads Protobuf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtobufOptions {
    pub framing: ProtobufFraming,
    /// The text of the `.proto` file that declares the messages; `None` if a registry or `descriptor` has it.
    pub schema: Option<String>,
    /// The descriptors of the files that declare the messages, in base64.
    pub descriptor: Option<String>,
    /// The full name of the only message that is read.
    pub message: Option<String>,
    /// Ids of schemas whose messages are rejects, whatever the registry says.
    pub refused: BTreeSet<u32>,
}

/// What is around the object with the columns of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Envelope {
    #[default]
    None,
    /// The schema and the payload of Kafka Connect's JsonConverter.
    Connect,
    /// A change event of Debezium, with or without the envelope of Connect.
    Debezium,
}

/// How many objects a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MessageRows {
    #[default]
    One,
    /// The items of a JSON array, or one object.
    Array,
    /// One object a line.
    Lines,
}

/// How a JSON string holds the value of a BYTEA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BytesForm {
    #[default]
    Hexadecimal,
    Base64,
}

/// How a JSON string holds the value of a DECIMAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecimalForm {
    #[default]
    Number,
    /// The value without its decimal point, as the bytes of a big-endian two's complement in base64. The column has
    /// the scale.
    Base64,
}

/// How a stream reads JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonOptions {
    pub envelope: Envelope,
    pub rows: MessageRows,
    pub bytes: BytesForm,
    pub decimals: DecimalForm,
}

/// What becomes of a message without a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tombstones {
    /// The format's reader gets the message: it is a reject, or a row of raw messages without a value.
    #[default]
    Read,
    /// The message has no row.
    Skip,
}

/// How a stream reads and keeps messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageOptions {
    pub json: JsonOptions,
    pub avro: AvroOptions,
    /// Boxed, because definitions are moved and nearly none has it.
    pub protobuf: Box<ProtobufOptions>,
    pub tombstones: Tombstones,
    /// True if the stream gets a column for every field that a new schema of the registry has.
    pub evolves: bool,
    pub units: TimestampUnits,
    pub keep: KeptPart,
}

impl MessageOptions {
    /// True if a message can have more than one row.
    pub fn has_several_rows(&self) -> bool {
        self.json.rows != MessageRows::One
    }
}
