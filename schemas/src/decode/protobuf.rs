//! Protobuf messages, read by the schema of their writer into the columns of the stream.
//!
//! A message is one value in Protobuf's binary encoding. What is before it, or a header, says which schema wrote it:
//!
//! | framing | before the value |
//! |---|---|
//! | `confluent` | a zero byte, the schema's id in a registry, four bytes, and the path to the type in the schema: the number of its steps and each step, in zigzag; a single zero is the first type. Or nothing, if the header `__value_schema_id` holds these, or a byte 1, the sixteen bytes of the schema's GUID and the path |
//! | `delimited` | the length of the value: one value per message |
//! | `none` | nothing: the stream's own schema wrote every message |
//!
//! [`plan`] lists what columns take. A field that a message does not have is NULL, or the default of its type if the
//! schema cannot tell the two apart (proto3 without `optional`), or the default that the schema declares.
//!
//! Readers of Protobuf elsewhere skip a field that is written in another type than it is declared, and cut numbers to
//! 32 bits; here such a message is a reject. Decision 0025 compares.
//!
//! Invariant: whether a message is a row or a reject depends on the message, its writer's schema and the stream alone.

mod wire;

mod editions;
mod known_files;

mod files;

mod schema;

mod skip;

mod json_text;
mod whole;

mod known_types;

mod plan;

mod value;

mod infer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use self::plan::ProtoPlan;
use self::schema::{MessageId, ProtoSchema};
use self::skip::check_required;
use self::value::{HeldValues, append_message};
use self::wire::WireBytes;
use super::binary::RecordError;
use super::columns::{ColumnBuilder, columns};
use super::writers::{
    KnownWriter, RegisteredSchema, SchemaId, SchemaKind, WriterName, Writers, payload, registered_frame,
};
use super::{Messages, Parsed, Reason};
use crate::definition::message::{ProtobufFraming, ProtobufOptions, TimestampUnits};
use crate::{Offset, Partition};

pub(super) use self::infer::columns_of;
#[cfg(test)]
pub(super) use self::known_files::KNOWN_FILES;

/// The most steps of a path to a type.
const MOST_STEPS: i64 = 100;

/// A schema, and how messages of its types fill the columns.
#[derive(Debug)]
struct ProtoWriter {
    schema: ProtoSchema,
    /// By message, once one came: its plan, or why the columns cannot take it.
    plans: Vec<OnceLock<Result<ProtoPlan, String>>>,
    /// The type of messages that do not say theirs.
    root: Option<MessageId>,
}

/// Reads Protobuf messages into the columns of a schema.
#[derive(Debug)]
pub(super) struct ProtobufReader {
    /// The columns, all nullable.
    columns: SchemaRef,
    units: TimestampUnits,
    framing: ProtobufFraming,
    /// The only type that is read, if the definition names one.
    message: Option<String>,
    writers: Writers<ProtoWriter>,
}

/// A message without what is before its value.
struct ProtoFrame<'a> {
    writer: WriterName,
    /// The path to its type, to read from the bytes; `None` if messages do not say their type.
    path: Option<Cow<'static, [i64]>>,
    value: &'a [u8],
}

impl ProtobufReader {
    /// Errors: the stream's own schema is missing, is no schema, or does not fit the columns.
    pub(super) fn new(
        columns: SchemaRef,
        units: &TimestampUnits,
        options: &ProtobufOptions,
    ) -> Result<Self, ArrowError> {
        let own = own_writer(options, &columns).map_err(ArrowError::SchemaError)?;
        let own = own.map(|writer| (WriterName::Only, writer)).into_iter().collect();
        let reader = Self {
            units: units.clone(),
            framing: options.framing,
            message: options.message.clone(),
            writers: Writers::new(own, &options.refused),
            columns,
        };
        builders(&reader, 0)?;
        Ok(reader)
    }

    /// Adds the schema with an id, or why messages with that id are rejects.
    pub(super) fn learn(&self, id: SchemaId, schema: &Result<RegisteredSchema, String>) {
        let writer = schema.as_ref().map_err(Clone::clone).and_then(|schema| {
            schema.expect(SchemaKind::Protobuf)?;
            let read = ProtoSchema::registered(schema).map_err(|why| format!("the schema cannot be used: {why}"));
            Ok(ProtoWriter::new(read?, None))
        });
        self.writers.learn(id, writer);
    }

    /// By partition, the first message whose schema is not known.
    pub(super) fn unknown(&self, messages: &Messages) -> BTreeMap<Partition, (Offset, SchemaId)> {
        match self.framing {
            ProtobufFraming::Confluent => self.writers.unknown(messages),
            ProtobufFraming::Delimited | ProtobufFraming::None => BTreeMap::new(),
        }
    }

    /// Reads all `messages`, whose schemas must be known.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let mut columns = builders(self, messages.len())?;
        let mut reasons = Vec::with_capacity(messages.len());
        let mut held = HeldValues::default();
        let mut last: Option<(WriterName, KnownWriter<ProtoWriter>)> = None;
        for at in 0..messages.len() {
            let frame = match frame(self.framing, messages, at) {
                Ok(frame) => frame,
                Err(reason) => {
                    columns.iter_mut().for_each(ColumnBuilder::append_null);
                    reasons.push(Some(reason));
                    continue;
                }
            };
            let name = frame.writer;
            let writer = match &last {
                Some((known, writer)) if *known == name => writer,
                _ => &last.insert((name, self.writers.get(name)?)).1,
            };
            let found = writer.as_ref().as_ref().map_err(|why| why.clone().into()).and_then(|writer| {
                let id = self.message_of(writer, frame.path.as_deref())?;
                Ok((writer, id, writer.plan(id, &self.columns).map_err(|why| Reason::from(why.to_owned()))?))
            });
            let refused: Result<(), Reason> = match found {
                Ok((writer, id, plan)) => {
                    let parts = [frame.value];
                    append_message(&writer.schema, plan, &mut columns, &parts, 0, &mut held)
                        .and_then(|()| check_required(&writer.schema, id, &parts, 0).map_err(RecordError::Whole))
                        .map_err(|refused| refused.of_message(&self.columns))
                }
                Err(why) => {
                    columns.iter_mut().for_each(ColumnBuilder::append_null);
                    Err(why)
                }
            };
            reasons.push(refused.err().map(|why| format!("{why}{name}").into()));
        }
        Parsed::new(&self.columns, columns, reasons)
    }

    /// The type of a message.
    ///
    /// Errors: the schema has none at the path, or the stream reads another one.
    fn message_of(&self, writer: &ProtoWriter, path: Option<&[i64]>) -> Result<MessageId, Reason> {
        let Some(path) = path else { return writer.root.ok_or("the schema has no type of the message".into()) };
        let found = writer.schema.at_path(path);
        let id = found.ok_or_else(|| -> Reason { format!("the schema has no message at the path {path:?}").into() })?;
        match (&self.message, &writer.schema.get(id).name) {
            (Some(wanted), found) if wanted != found => {
                Err(format!("the message is a `{found}`, and the stream reads `{wanted}`").into())
            }
            _ => Ok(id),
        }
    }
}

impl ProtoWriter {
    fn new(schema: ProtoSchema, root: Option<MessageId>) -> Self {
        Self { plans: (0..schema.len()).map(|_| OnceLock::new()).collect(), schema, root }
    }

    fn plan(&self, id: MessageId, columns: &SchemaRef) -> Result<&ProtoPlan, &str> {
        let plan = self.plans[id.0].get_or_init(|| ProtoPlan::new(&self.schema, id, columns.fields()));
        plan.as_ref().map_err(String::as_str)
    }
}

fn builders(reader: &ProtobufReader, rows: usize) -> Result<Vec<ColumnBuilder>, ArrowError> {
    columns(reader.columns.fields(), |name| reader.units.of(name), rows)
}

/// The writer whose schema the stream's definition has.
///
/// Errors: the schema is missing, is none, or does not fit the columns.
fn own_writer(options: &ProtobufOptions, columns: &SchemaRef) -> Result<Option<ProtoWriter>, String> {
    if options.framing == ProtobufFraming::Confluent {
        return Ok(None);
    }
    let schema = ProtoSchema::own(options)?.ok_or("it has no schema")?;
    let root = match (&options.message, schema.top.as_slice()) {
        (Some(name), _) => schema.find(name).ok_or_else(|| {
            let known: Vec<&str> = schema.top.iter().take(5).map(|id| schema.get(*id).name.as_str()).collect();
            format!("it has no message `{name}`; it has {}", known.join(", "))
        })?,
        (None, [only]) => *only,
        (None, []) => return Err("it has no message".to_owned()),
        (None, several) => {
            return Err(format!("it has {} messages; add 'protobuf.message' with the name of one", several.len()));
        }
    };
    let writer = ProtoWriter::new(schema, Some(root));
    writer.plan(root, columns).map_err(str::to_owned)?;
    Ok(Some(writer))
}

/// Checks the schema of a stream's definition against its columns.
///
/// Errors: what is wrong, as the end of a sentence.
pub(super) fn check_own(options: &ProtobufOptions, columns: &SchemaRef) -> Result<(), String> {
    own_writer(options, columns).map(drop)
}

/// Takes message `at` apart.
fn frame(framing: ProtobufFraming, messages: &Messages, at: usize) -> Result<ProtoFrame<'_>, Reason> {
    match framing {
        ProtobufFraming::Confluent => {
            let found = registered_frame(messages, at)?;
            let mut bytes = WireBytes::new(found.header.unwrap_or(found.payload));
            let writer = WriterName::Registered(found.id);
            let path = path(&mut bytes);
            let path = path.map_err(|why| format!("the path to its type cannot be read: {why}{writer}"))?;
            let value = match found.header {
                None => bytes.rest(),
                Some(_) if bytes.is_at_end() => found.payload,
                Some(_) => {
                    return Err(format!("something follows the path to its type in the header{writer}").into());
                }
            };
            Ok(ProtoFrame { writer, path: Some(path), value })
        }
        ProtobufFraming::Delimited => {
            let mut bytes = WireBytes::new(payload(messages, at)?);
            let value = bytes.bytes()?;
            match bytes.rest().len() {
                0 => Ok(ProtoFrame { writer: WriterName::Only, path: None, value }),
                1 => Err("a byte follows the value".into()),
                more => Err(format!("{more} bytes follow the value").into()),
            }
        }
        ProtobufFraming::None => Ok(ProtoFrame { writer: WriterName::Only, path: None, value: payload(messages, at)? }),
    }
}

fn path(bytes: &mut WireBytes<'_>) -> Result<Cow<'static, [i64]>, Reason> {
    match bytes.zigzag()? {
        0 => Ok(Cow::Borrowed(&[0])),
        steps @ 1..=MOST_STEPS => (0..steps).map(|_| bytes.zigzag()).collect::<Result<Vec<_>, _>>().map(Cow::Owned),
        other => Err(format!("it has {other} steps").into()),
    }
}
