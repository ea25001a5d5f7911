//! Decoding: raw messages of a stream become rows and rejects in one record batch.
//!
//! A message that does not match its stream's declaration is not an error. The message becomes a *reject*: a row with
//! null columns, the message's bytes in `_payload` and the reason in `_reject`. So operators can inspect the message,
//! and no message is lost silently. Rows keep their key and headers, and their payload too unless the stream says
//! otherwise.
//!
//! Invariant: for any bytes, the batch has one row per message, in the order of the messages, unless the stream says
//! that messages have other numbers of rows. A row's content depends only on its own message.

mod fields;
mod numbers;
mod texts;

pub(crate) mod times;

mod messages;
mod origins;

mod base64;
mod columns;
mod inferred;

mod binary;
mod writers;

pub(crate) mod avro;
mod csv;
mod json;
mod protobuf;
mod raw;

pub mod infer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, StringBuilder, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::definition::message::{KeptPart, MessageOptions, Tombstones};
use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::{Error, Offset, Partition, Result, StreamName};
use avro::AvroReader;
use columns::ColumnBuilder;
use csv::{CsvReader, Separator};
use fields::FieldNames;
use json::JsonReader;
use origins::RowOrigins;
use protobuf::ProtobufReader;
use raw::RawReader;

pub use messages::{Messages, OneMessage};
pub use writers::{ReferencedSchema, RegisteredSchema, SchemaId, SchemaKind};

/// The result of decoding a run of messages.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// One row per message, rejects included, with the stream's row schema.
    pub rows: RecordBatch,
    /// The number of rejects among the rows.
    pub rejects: usize,
}

/// Why a message is a reject: one sentence that does not contain the message's bytes.
type Reason = Cow<'static, str>;

/// The result of a format's reader for a run of messages.
#[derive(Debug)]
struct Parsed {
    /// The declared columns. The values of a reject are undefined.
    columns: RecordBatch,
    /// Why each row could not be read; `None` for rows that could.
    reasons: Vec<Option<Reason>>,
    /// Where the rows are from; `None` if there is one per message.
    origins: Option<RowOrigins>,
}

impl Parsed {
    /// The values of `columns` with the schema `of`, and a reason or none for each of them.
    ///
    /// Errors: a bug in this program: the columns have other types or lengths.
    fn new(of: &SchemaRef, columns: Vec<ColumnBuilder>, reasons: Vec<Option<Reason>>) -> Result<Self, ArrowError> {
        let arrays = columns.into_iter().map(ColumnBuilder::finish).collect::<Result<_, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(reasons.len()));
        Ok(Self { columns: RecordBatch::try_new_with_options(Arc::clone(of), arrays, &rows)?, reasons, origins: None })
    }

    /// The rows of messages with a payload. There is one row per message.
    fn without_tombstones(self, messages: &Messages) -> Result<Self, ArrowError> {
        let origins = RowOrigins::of_payloads(messages);
        let kept = UInt32Array::from(origins.messages().to_vec());
        let columns = take_record_batch(&self.columns, &kept)?;
        let reasons = kept.values().iter().map(|at| self.reasons[*at as usize].clone()).collect();
        Ok(Self { columns, reasons, origins: Some(origins) })
    }

    /// The same rows from these places.
    fn from(self, origins: RowOrigins) -> Self {
        Self { origins: Some(origins), ..self }
    }
}

/// The reader of a stream's format.
#[derive(Debug)]
enum FormatReader {
    Avro(AvroReader),
    Csv(CsvReader),
    Json(Box<JsonReader>),
    Protobuf(ProtobufReader),
    Raw(RawReader),
}

/// Decodes the messages of one stream.
#[derive(Debug)]
pub struct Decoder {
    stream: StreamName,
    /// The columns as declared, including `NOT NULL`.
    columns: SchemaRef,
    row_schema: SchemaRef,
    reader: FormatReader,
    keep: KeptPart,
    tombstones: Tombstones,
}

impl Decoder {
    /// Errors: [`Error::Decode`] if the stream's format has no reader for a column's type.
    pub fn new(stream: &StreamDefinition) -> Result<Self> {
        let columns = nullable(&stream.columns);
        let MessageOptions { json, avro, protobuf, tombstones, evolves: _, units, keep } = &stream.messages;
        let reader = match stream.format {
            RecordFormat::Avro => AvroReader::new(columns, units, avro).map(FormatReader::Avro),
            RecordFormat::Csv => CsvReader::new(columns, units, Separator::Comma).map(FormatReader::Csv),
            RecordFormat::Tsv => CsvReader::new(columns, units, Separator::Tab).map(FormatReader::Csv),
            RecordFormat::Json => {
                JsonReader::new(columns, units, *json, *tombstones).map(|reader| FormatReader::Json(Box::new(reader)))
            }
            RecordFormat::Protobuf => ProtobufReader::new(columns, units, protobuf).map(FormatReader::Protobuf),
            RecordFormat::Raw => RawReader::new(columns).map(FormatReader::Raw),
        };
        let row_schema = stream.row_schema();
        Ok(Self {
            stream: stream.name.clone(),
            columns: Arc::clone(&stream.columns),
            reader: reader.map_err(|e| failed(&stream.name, &row_schema, &e))?,
            row_schema,
            keep: *keep,
            tombstones: *tombstones,
        })
    }

    /// By partition, the first message that cannot be decoded before the schema with this id is learned.
    pub fn unknown_schemas(&self, messages: &Messages) -> BTreeMap<Partition, (Offset, SchemaId)> {
        match &self.reader {
            FormatReader::Avro(reader) => reader.unknown(messages),
            FormatReader::Protobuf(reader) => reader.unknown(messages),
            FormatReader::Csv(_) | FormatReader::Json(_) | FormatReader::Raw(_) => BTreeMap::new(),
        }
    }

    /// Takes the schema with an id from a registry, or why messages with that id are rejects.
    pub fn learn_schema(&self, id: SchemaId, schema: &std::result::Result<RegisteredSchema, String>) {
        match &self.reader {
            FormatReader::Avro(reader) => reader.learn(id, schema),
            FormatReader::Protobuf(reader) => reader.learn(id, schema),
            FormatReader::Csv(_) | FormatReader::Json(_) | FormatReader::Raw(_) => {}
        }
    }

    /// Decodes all `messages`, whose schemas must be known, with at most 2 GiB each of keys, headers and payloads.
    ///
    /// Errors: [`Error::Decode`] because of a bug in this program; never because of the content of a message.
    pub fn decode(&self, messages: &Messages) -> Result<Decoded> {
        let parsed = match &self.reader {
            FormatReader::Avro(reader) => reader.read(messages),
            FormatReader::Csv(reader) => reader.read(messages),
            FormatReader::Json(reader) => reader.read(messages),
            FormatReader::Protobuf(reader) => reader.read(messages),
            FormatReader::Raw(reader) => reader.read(messages),
        };
        let failed = |e| failed(&self.stream, &self.row_schema, &e);
        let mut parsed = parsed.map_err(failed)?;
        if self.tombstones == Tombstones::Skip && parsed.origins.is_none() {
            parsed = parsed.without_tombstones(messages).map_err(failed)?;
        }
        self.enforce_not_null(&mut parsed);
        self.assemble(messages, &parsed).map_err(failed)
    }

    /// Turns a row into a reject if a `NOT NULL` column has no value.
    fn enforce_not_null(&self, parsed: &mut Parsed) {
        for (field, array) in self.columns.fields().iter().zip(parsed.columns.columns()) {
            if field.is_nullable() || array.null_count() == 0 {
                continue;
            }
            for (row, reason) in parsed.reasons.iter_mut().enumerate() {
                if reason.is_none() && array.is_null(row) {
                    let lacks = format!("`{}` is NOT NULL and has no value", field.name());
                    *reason = Some(lacks.into());
                }
            }
        }
    }

    /// Combines the leading columns, the declared columns and the parts of the message into one batch.
    fn assemble(&self, messages: &Messages, parsed: &Parsed) -> Result<Decoded, ArrowError> {
        let rejects = parsed.reasons.iter().filter(|r| r.is_some()).count();
        let position: [ArrayRef; 3] = [
            Arc::new(Int32Array::from(messages.partitions().to_vec())),
            Arc::new(Int64Array::from(messages.offsets().to_vec())),
            Arc::new(TimestampMicrosecondArray::from_iter(messages.timestamps_us())),
        ];
        let of_rows = |array: ArrayRef| match &parsed.origins {
            None => Ok(array),
            Some(origins) => origins.take(&array),
        };
        let mut arrays = position.into_iter().map(of_rows).collect::<Result<Vec<ArrayRef>, _>>()?;
        if rejects == 0 {
            arrays.extend(parsed.columns.columns().iter().map(Arc::clone));
        } else {
            let rows: UInt32Array =
                (0u32..).zip(&parsed.reasons).map(|(row, reason)| reason.is_none().then_some(row)).collect();
            for column in parsed.columns.columns() {
                arrays.push(take(column, &rows, None)?);
            }
        }
        let mut reasons = StringBuilder::new();
        for reason in &parsed.reasons {
            reasons.append_option(reason.as_deref());
        }
        arrays.push(Arc::new(reasons.finish()));
        let kept = || parsed.reasons.iter().map(|reason| self.keep == KeptPart::Message || reason.is_some());
        arrays.push(match (&parsed.origins, self.keep) {
            (Some(origins), _) => origins.payloads(messages, kept()),
            (None, KeptPart::Message) => messages.payloads()?,
            (None, KeptPart::Row) => messages.payloads_of(kept()),
        });
        arrays.push(of_rows(messages.keys()?)?);
        arrays.push(of_rows(messages.headers()?)?);
        arrays.push(new_null_array(&DataType::Utf8, parsed.reasons.len()));
        arrays.push(match &parsed.origins {
            Some(origins) => origins.rows(),
            None => new_null_array(&DataType::Int32, parsed.reasons.len()),
        });
        Ok(Decoded { rows: RecordBatch::try_new(Arc::clone(&self.row_schema), arrays)?, rejects })
    }
}

/// The columns that get their values from fields or columns called `names`, as from the keys of a JSON object.
///
/// Errors: the two names that a column could take, and the column.
pub fn match_columns(columns: &SchemaRef, names: &[&str]) -> Result<Vec<Option<usize>>, [String; 3]> {
    let known = FieldNames::new(columns.fields());
    let mut matched = vec![None; names.len()];
    let mut taken: Vec<Option<(usize, bool)>> = vec![None; columns.fields().len()];
    // A name that is written like the column is preferred, wherever it stands.
    for exactly in [true, false] {
        for (at, name) in names.iter().enumerate() {
            let Some((column, exact)) = known.place(name).filter(|(_, exact)| *exact == exactly) else { continue };
            match taken[column] {
                Some((other, before)) if before == exact => {
                    return Err([names[other].to_owned(), (*name).to_owned(), known.name(column).to_owned()]);
                }
                Some(_) => {}
                None => {
                    taken[column] = Some((at, exact));
                    matched[at] = Some(column);
                }
            }
        }
    }
    Ok(matched)
}

/// Checks what a definition says of its messages against its columns.
///
/// Errors: [`Error::RefuseDefinition`].
pub(crate) fn check(stream: &StreamDefinition) -> Result<()> {
    let columns = nullable(&stream.columns);
    let checked = match stream.format {
        RecordFormat::Avro => avro::check_own(&stream.messages.avro, &columns),
        RecordFormat::Protobuf => protobuf::check_own(&stream.messages.protobuf, &columns),
        RecordFormat::Csv | RecordFormat::Json | RecordFormat::Raw | RecordFormat::Tsv => Ok(()),
    };
    checked.map_err(|why| {
        let help = "A column takes the field of its name; docs/definitions.md lists the types that columns take.";
        Error::refuse(format!("The schema in '{}.schema' cannot be used: {why}", stream.format.name()), help)
    })
}

/// The same columns, all nullable. `NOT NULL` is enforced after reading, for all rows at once.
fn nullable(columns: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(columns.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn failed(stream: &StreamName, schema: &SchemaRef, error: &ArrowError) -> Error {
    Error::Decode { stream: stream.clone(), reason: format!("{error} ({} columns)", schema.fields().len()) }
}

#[cfg(test)]
mod tests;
