//! Avro messages, resolved from the schema of their writer to the columns of the stream.
//!
//! A message is one value in Avro's binary encoding. What is before the value, or a header, says which schema wrote it:
//!
//! | framing | before the value |
//! |---|---|
//! | `confluent` | a zero byte and the schema's id in a registry, four bytes, the highest first; or nothing, if the header `__value_schema_id` holds these, or a byte 1 and the sixteen bytes of the schema's GUID |
//! | `single_object` | `C3 01` and the fingerprint of one of the stream's own schemas, eight bytes, the lowest first |
//! | `none` | nothing: the stream's own schema wrote every message |
//!
//! The value must end where the message ends. [`plan`] lists what columns take.
//!
//! Readers of Avro elsewhere take whatever follows a wrong branch of a union, or leave a row half read after an error;
//! here every byte is checked, and a message that is refused leaves nothing behind. Decision 0021 compares.
//!
//! Invariant: whether a message is a row or a reject depends on the message, its writer's schema and the stream alone.

mod schema;

mod cursor;
mod fingerprint;
mod infer;
mod plan;
mod skip;

mod value;

mod target;

mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parking_lot::RwLock;
use uuid::Uuid;

pub(super) use self::infer::columns_of;

use self::cursor::AvroBytes;
use self::plan::{RecordPlan, ValueSource};
use self::schema::{AvroSchema, AvroShape, TypeId};
use self::value::RecordError;
use super::columns::{ColumnBuilder, columns};
use super::{Messages, Parsed, Reason, refused_value};
use crate::definition::message::{AvroFraming, AvroOptions, TimestampUnits};
use crate::{Offset, Partition};

pub(crate) use write::AvroWriter;

/// What a message calls its schema in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    Number(u32),
    Guid(Uuid),
}

impl std::fmt::Display for SchemaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(id) => id.fmt(f),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

/// The header that names the schema of a message's value.
const HEADER: &str = "__value_schema_id";

/// What says who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WriterName {
    Registered(SchemaId),
    Fingerprint(u64),
    /// The one writer of a stream without framing.
    Only,
}

impl std::fmt::Display for WriterName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registered(id) => write!(f, " (schema {id})"),
            Self::Fingerprint(fingerprint) => write!(f, " (schema {fingerprint:016x})"),
            Self::Only => Ok(()),
        }
    }
}

/// A schema, and how its values fill the columns.
#[derive(Debug)]
struct Writer {
    schema: AvroSchema,
    plan: RootPlan,
}

/// How the values of a writer fill the columns.
#[derive(Debug)]
enum RootPlan {
    Record(RecordPlan),
    /// By branch of a union.
    Branches(Vec<Result<RootPlan, String>>),
    /// The value is that of the only column.
    Value(ValueSource),
}

/// A writer, or why its values cannot be read.
type KnownWriter = Arc<Result<Writer, String>>;

/// Reads Avro messages into the columns of a schema.
#[derive(Debug)]
pub(super) struct AvroReader {
    /// The columns, all nullable.
    columns: SchemaRef,
    units: TimestampUnits,
    framing: AvroFraming,
    writers: RwLock<HashMap<WriterName, KnownWriter>>,
}

impl AvroReader {
    /// Errors: the stream's own schema is missing, is no schema, or does not fit the columns.
    pub(super) fn new(columns: SchemaRef, units: &TimestampUnits, options: &AvroOptions) -> Result<Self, ArrowError> {
        let reader = Self { columns, units: units.clone(), framing: options.framing, writers: RwLock::default() };
        builders(&reader, 0)?;
        let own = own_writers(options, &reader.columns).map_err(ArrowError::SchemaError)?;
        let refused = options.refused.iter().map(|id| {
            let why = "the definition of the stream refuses the schema".to_owned();
            (WriterName::Registered(SchemaId::Number(*id)), Arc::new(Err(why)))
        });
        reader.writers.write().extend(own.into_iter().chain(refused));
        Ok(reader)
    }

    /// Adds the schema with an id. Types that it names are in `references`, each after those that it names itself.
    pub(super) fn learn(&self, id: SchemaId, text: &Result<String, String>, references: &[String]) {
        let writer = text.clone().and_then(|text| writer(&AvroSchema::parse(&text, references)?, &self.columns));
        self.writers.write().insert(WriterName::Registered(id), Arc::new(writer));
    }

    /// By partition, the first message whose schema is not known.
    pub(super) fn unknown(&self, messages: &Messages) -> BTreeMap<Partition, (Offset, SchemaId)> {
        let mut unknown = BTreeMap::new();
        if self.framing != AvroFraming::Confluent {
            return unknown;
        }
        let writers = self.writers.read();
        let mut known = None;
        for at in 0..messages.len() {
            let Ok((name @ WriterName::Registered(id), _)) = frame(self.framing, messages, at) else { continue };
            if known == Some(id) {
                continue;
            }
            if writers.contains_key(&name) {
                known = Some(id);
            } else {
                let (partition, offset) = (messages.partitions()[at], messages.offsets()[at]);
                unknown.entry(Partition(partition)).or_insert((Offset(offset), id));
            }
        }
        unknown
    }

    /// Reads all `messages`, whose schemas must be known.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let mut columns = builders(self, messages.len())?;
        let mut reasons = Vec::with_capacity(messages.len());
        let mut last: Option<(WriterName, KnownWriter)> = None;
        for at in 0..messages.len() {
            let (name, value) = match frame(self.framing, messages, at) {
                Ok(framed) => framed,
                Err(reason) => {
                    columns.iter_mut().for_each(ColumnBuilder::append_null);
                    reasons.push(Some(reason));
                    continue;
                }
            };
            let writer = match &last {
                Some((known, writer)) if *known == name => writer,
                _ => &last.insert((name, self.writer(name)?)).1,
            };
            let refused = match writer.as_ref() {
                Ok(writer) => self.append(writer, &mut columns, value).err(),
                Err(why) => {
                    columns.iter_mut().for_each(ColumnBuilder::append_null);
                    Some(why.clone().into())
                }
            };
            reasons.push(refused.map(|why| format!("{why}{name}").into()));
        }
        Parsed::new(&self.columns, columns, reasons)
    }

    fn writer(&self, name: WriterName) -> Result<KnownWriter, ArrowError> {
        let known = self.writers.read().get(&name).map(Arc::clone);
        match (known, name) {
            (Some(writer), _) => Ok(writer),
            (None, WriterName::Fingerprint(_)) => Ok(Arc::new(Err("the stream has no such schema".to_owned()))),
            (None, _) => Err(ArrowError::SchemaError(format!("a schema was not fetched{name}"))),
        }
    }

    fn append(&self, writer: &Writer, columns: &mut [ColumnBuilder], value: &[u8]) -> Result<(), Reason> {
        let mut bytes = AvroBytes::new(value);
        match append_root(&writer.schema, &writer.plan, columns, &mut bytes) {
            Ok(()) => {}
            Err(RecordError::Column(at, why)) => {
                return Err(refused_value(self.columns.field(at), &why));
            }
            Err(RecordError::Field(name, why)) => {
                return Err(format!("the field `{name}` cannot be read: {why}").into());
            }
            Err(RecordError::Whole(why)) => return Err(why),
        }
        match bytes.rest.len() {
            0 => Ok(()),
            1 => Err("a byte follows the value".into()),
            more => Err(format!("{more} bytes follow the value").into()),
        }
    }
}

/// Appends a value of the writer: an entry to each column, also if the value is refused.
fn append_root(
    schema: &AvroSchema,
    plan: &RootPlan,
    columns: &mut [ColumnBuilder],
    bytes: &mut AvroBytes<'_>,
) -> Result<(), RecordError> {
    let refused = match plan {
        RootPlan::Record(plan) => return value::append_record(schema, plan, columns, bytes),
        RootPlan::Value(source) => match columns {
            [column] => {
                return value::append(schema, source, column, bytes).map_err(|why| RecordError::Column(0, why));
            }
            _ => "a single value needs a stream with one column".into(),
        },
        RootPlan::Branches(branches) => match bytes.branch(branches.len()).map(|at| &branches[at]) {
            Ok(Ok(plan)) => return append_root(schema, plan, columns, bytes),
            Ok(Err(why)) => why.clone().into(),
            Err(why) => why,
        },
    };
    columns.iter_mut().for_each(ColumnBuilder::append_null);
    Err(RecordError::Whole(refused))
}

fn builders(reader: &AvroReader, rows: usize) -> Result<Vec<ColumnBuilder>, ArrowError> {
    columns(reader.columns.fields(), |name| reader.units.of(name), rows)
}

/// How values of a schema fill the columns.
///
/// Errors: why the columns cannot take them.
fn writer(schema: &AvroSchema, columns: &SchemaRef) -> Result<Writer, String> {
    Ok(Writer { plan: root_plan(schema, schema.root, columns)?, schema: schema.clone() })
}

fn root_plan(schema: &AvroSchema, root: TypeId, columns: &SchemaRef) -> Result<RootPlan, String> {
    match (&schema.get(root).shape, columns.fields().as_ref()) {
        (AvroShape::Record { .. }, _) => RecordPlan::new(schema, root, columns.fields()).map(RootPlan::Record),
        (AvroShape::Union(branches), _) => {
            let plans: Vec<_> = branches.iter().map(|branch| root_plan(schema, *branch, columns)).collect();
            match plans.iter().all(Result::is_err) {
                true => plans.into_iter().find_map(Result::err).map_or_else(|| Err(String::new()), Err),
                false => Ok(RootPlan::Branches(plans)),
            }
        }
        (_, [column]) => plan::source(schema, root, column.data_type()).map(RootPlan::Value),
        _ => Err(format!("a value is written as {}, and the stream has several columns", schema.name(root))),
    }
}

/// The writers whose schemas the stream's definition has.
///
/// Errors: a schema is missing, is none, or does not fit the columns.
fn own_writers(options: &AvroOptions, columns: &SchemaRef) -> Result<Vec<(WriterName, KnownWriter)>, String> {
    let text = match (options.framing, &options.schema) {
        (AvroFraming::Confluent, _) => return Ok(Vec::new()),
        (_, Some(text)) => text,
        (_, None) => return Err("it has no schema".into()),
    };
    let schemas = match serde_json::from_str(text) {
        Ok(serde_json::Value::Array(list)) if options.framing == AvroFraming::SingleObject => {
            list.iter().map(ToString::to_string).collect()
        }
        _ => vec![text.clone()],
    };
    let own = schemas.iter().map(|text| {
        let schema = AvroSchema::parse(text, &[])?;
        let name = match options.framing {
            AvroFraming::SingleObject => WriterName::Fingerprint(fingerprint::fingerprint(&schema)),
            _ => WriterName::Only,
        };
        Ok((name, Arc::new(Ok(writer(&schema, columns)?))))
    });
    own.collect()
}

/// Checks the schema of a stream's definition against its columns.
///
/// Errors: what is wrong, as the end of a sentence.
pub(super) fn check_own(options: &AvroOptions, columns: &SchemaRef) -> Result<(), String> {
    own_writers(options, columns).map(drop)
}

/// Who wrote message `at`, and its value.
fn frame(framing: AvroFraming, messages: &Messages, at: usize) -> Result<(WriterName, &[u8]), Reason> {
    if !messages.has_payload(at) {
        return Err("the message is empty".into());
    }
    let payload = messages.payload(at);
    match framing {
        AvroFraming::Confluent => {
            if let Some(header) = messages.header(at, HEADER) {
                return match header_id(header) {
                    Some(id) => Ok((WriterName::Registered(id), payload)),
                    None => Err(format!("the header `{HEADER}` holds no id of a schema").into()),
                };
            }
            match payload {
                [] => Err("the message is empty".into()),
                [0, rest @ ..] => match rest.split_first_chunk() {
                    Some((id, value)) => Ok((WriterName::Registered(SchemaId::Number(u32::from_be_bytes(*id))), value)),
                    None => Err("the message ends within the id of its schema".into()),
                },
                _ => Err("the message does not begin with a zero byte and the id of its schema".into()),
            }
        }
        AvroFraming::SingleObject => match payload {
            [] => Err("the message is empty".into()),
            [0xc3, 0x01, a, b, c, d, e, f, g, h, value @ ..] => {
                let fingerprint = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                Ok((WriterName::Fingerprint(fingerprint), value))
            }
            _ => Err("the message does not begin with C3 01 and the fingerprint of its schema".into()),
        },
        AvroFraming::None => Ok((WriterName::Only, payload)),
    }
}

/// The id of a schema that a header holds.
fn header_id(header: &[u8]) -> Option<SchemaId> {
    let (magic, id) = header.split_first()?;
    match magic {
        0 => Some(SchemaId::Number(u32::from_be_bytes(id.try_into().ok()?))),
        1 => Some(SchemaId::Guid(Uuid::from_bytes(id.try_into().ok()?))),
        _ => None,
    }
}
