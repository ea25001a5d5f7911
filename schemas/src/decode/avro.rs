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

mod run;

mod value;

mod target;

mod write;

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub(super) use self::infer::columns_of;

use self::cursor::AvroBytes;
use self::plan::{RecordPlan, ValueSource};
use self::schema::{AvroSchema, AvroShape, TypeId};
use super::binary::RecordError;
use super::columns::{ColumnBuilder, columns};
use super::writers::{
    KnownWriter, RegisteredSchema, SchemaId, SchemaKind, WriterName, Writers, no_header_id, payload, registered_frame,
};
use super::{Messages, Parsed, Reason};
use crate::definition::message::{AvroFraming, AvroOptions, TimestampUnits};
use crate::{Offset, Partition};

pub(crate) use run::ValueRun;
pub(crate) use write::AvroWriter;

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

/// Reads Avro messages into the columns of a schema.
#[derive(Debug)]
pub(super) struct AvroReader {
    /// The columns, all nullable.
    columns: SchemaRef,
    units: TimestampUnits,
    framing: AvroFraming,
    writers: Writers<Writer>,
}

impl AvroReader {
    /// Errors: the stream's own schema is missing, is no schema, or does not fit the columns.
    pub(super) fn new(columns: SchemaRef, units: &TimestampUnits, options: &AvroOptions) -> Result<Self, ArrowError> {
        let own = own_writers(options, &columns).map_err(ArrowError::SchemaError)?;
        let writers = Writers::new(own, &options.refused);
        let reader = Self { columns, units: units.clone(), framing: options.framing, writers };
        builders(&reader, 0)?;
        Ok(reader)
    }

    /// Adds the schema with an id, or why messages with that id are rejects.
    pub(super) fn learn(&self, id: SchemaId, schema: &Result<RegisteredSchema, String>) {
        let writer = schema.as_ref().map_err(Clone::clone).and_then(|schema| {
            schema.expect(SchemaKind::Avro)?;
            writer(&AvroSchema::parse(&schema.text, &schema.references)?, &self.columns)
        });
        self.writers.learn(id, writer);
    }

    /// By partition, the first message whose schema is not known.
    pub(super) fn unknown(&self, messages: &Messages) -> BTreeMap<Partition, (Offset, SchemaId)> {
        match self.framing {
            AvroFraming::Confluent => self.writers.unknown(messages),
            AvroFraming::SingleObject | AvroFraming::None => BTreeMap::new(),
        }
    }

    /// Reads all `messages`, whose schemas must be known.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let mut columns = builders(self, messages.len())?;
        let mut reasons = Vec::with_capacity(messages.len());
        let mut last: Option<(WriterName, KnownWriter<Writer>)> = None;
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
                _ => &last.insert((name, self.writers.get(name)?)).1,
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

    fn append(&self, writer: &Writer, columns: &mut [ColumnBuilder], value: &[u8]) -> Result<(), Reason> {
        let mut bytes = AvroBytes::new(value);
        let appended = append_root(&writer.schema, &writer.plan, columns, &mut bytes);
        appended.map_err(|refused| refused.of_message(&self.columns))?;
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
fn own_writers(options: &AvroOptions, columns: &SchemaRef) -> Result<Vec<(WriterName, Writer)>, String> {
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
        Ok((name, writer(&schema, columns)?))
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
    match framing {
        AvroFraming::Confluent => {
            let found = registered_frame(messages, at)?;
            match found.header {
                None | Some([]) => Ok((WriterName::Registered(found.id), found.payload)),
                Some(_) => Err(no_header_id()),
            }
        }
        AvroFraming::SingleObject => match payload(messages, at)? {
            [] => Err("the message is empty".into()),
            [0xc3, 0x01, a, b, c, d, e, f, g, h, value @ ..] => {
                let fingerprint = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                Ok((WriterName::Fingerprint(fingerprint), value))
            }
            _ => Err("the message does not begin with C3 01 and the fingerprint of its schema".into()),
        },
        AvroFraming::None => Ok((WriterName::Only, payload(messages, at)?)),
    }
}
