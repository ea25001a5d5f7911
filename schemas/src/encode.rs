//! Encoding: rows of a stream become the payloads of messages, as [`crate::decode`] reads them.
//!
//! Invariant: the payload of a row decodes to that row. A row without such a payload is refused, with the reason.

mod json;
mod lines;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::decode::RegisteredSchema;
use crate::decode::avro::AvroWriter;
use crate::definition::message::{BytesForm, Envelope, TimestampUnits};
use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::definition::types::sql_name;
use crate::{Error, Result};
use json::{JsonWriter, WrittenForm};
use lines::LineWriter;

/// Byte strings end to end; a string may be absent.
#[derive(Debug, Default)]
pub struct ByteColumn {
    bytes: Vec<u8>,
    ends: Vec<(usize, bool)>,
}

impl ByteColumn {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a row; `None` if it has none.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let start = if at == 0 { 0 } else { self.ends[at - 1].0 };
        let (end, present) = self.ends[at];
        present.then(|| &self.bytes[start..end])
    }

    /// Ends the value whose bytes were appended.
    fn end(&mut self, present: bool) {
        self.ends.push((self.bytes.len(), present));
    }
}

/// The payloads of a batch, and the rows that have none.
#[derive(Debug, Default)]
pub struct EncodedPayloads {
    /// One value per row; absent for refused rows and for tombstones.
    pub payloads: ByteColumn,
    /// Rows that cannot be written, and why, as the end of a sentence.
    pub refused: Vec<(usize, String)>,
}

#[derive(Debug)]
enum FormatWriter {
    Avro(Box<AvroWriter>),
    Json(JsonWriter),
    Line(LineWriter),
    /// The one column as it is.
    Raw,
}

/// Encodes the rows of one stream.
#[derive(Debug)]
pub struct MessageEncoder {
    columns: SchemaRef,
    units: TimestampUnits,
    writer: FormatWriter,
}

impl MessageEncoder {
    /// The encoder of a stream whose definition says all that a message needs.
    ///
    /// Errors: [`Error::Encode`] if messages need a schema that only a registry has, or one that cannot hold the
    /// columns.
    pub fn new(stream: &StreamDefinition) -> Result<Self> {
        let units = stream.messages.units.clone();
        let writer = match stream.format {
            RecordFormat::Avro => AvroWriter::new(&stream.columns, &units, &stream.messages.avro)
                .map(|writer| FormatWriter::Avro(Box::new(writer)))
                .map_err(|reason| Error::Encode { stream: stream.name.clone(), reason })?,
            RecordFormat::Json if stream.messages.json.envelope != Envelope::None => {
                let reason = "messages in an envelope are written by Kafka Connect, and not here".to_owned();
                return Err(Error::Encode { stream: stream.name.clone(), reason });
            }
            RecordFormat::Json => {
                FormatWriter::Json(JsonWriter::new(stream.columns.fields(), &units, stream.messages.json.bytes))
            }
            RecordFormat::Csv => FormatWriter::Line(LineWriter::new(stream.columns.fields(), &units, b',')),
            RecordFormat::Tsv => FormatWriter::Line(LineWriter::new(stream.columns.fields(), &units, b'\t')),
            RecordFormat::Protobuf => {
                let reason = "no messages are written in Protobuf".to_owned();
                return Err(Error::Encode { stream: stream.name.clone(), reason });
            }
            RecordFormat::Raw => FormatWriter::Raw,
        };
        Ok(Self { columns: SchemaRef::clone(&stream.columns), units, writer })
    }

    /// The encoder of a stream whose messages are framed with the id of a schema in a registry.
    ///
    /// Errors: [`Error::Encode`] if the schema cannot hold the columns.
    pub fn registered(stream: &StreamDefinition, id: u32, schema: &RegisteredSchema) -> Result<Self> {
        let units = stream.messages.units.clone();
        let writer = AvroWriter::registered(&stream.columns, &units, id, schema)
            .map_err(|reason| Error::Encode { stream: stream.name.clone(), reason })?;
        Ok(Self { columns: SchemaRef::clone(&stream.columns), units, writer: FormatWriter::Avro(Box::new(writer)) })
    }

    /// The encoder of JSON objects with the fields of `columns`, which have canonical types.
    pub fn json(columns: &SchemaRef) -> Self {
        let units = TimestampUnits::default();
        let writer = FormatWriter::Json(JsonWriter::new(columns.fields(), &units, BytesForm::default()));
        Self { columns: SchemaRef::clone(columns), units, writer }
    }

    /// Encodes `rows`, which have the columns of the stream and no others.
    pub fn encode(&self, rows: &RecordBatch) -> EncodedPayloads {
        let mut encoded = EncodedPayloads::default();
        for row in 0..rows.num_rows() {
            let start = encoded.payloads.bytes.len();
            let out = &mut encoded.payloads.bytes;
            let written = self.lacking(rows, row).and_then(|()| match &self.writer {
                FormatWriter::Avro(writer) => writer.write(rows, row, out).map(|()| true),
                FormatWriter::Json(writer) => writer.write(rows, row, out).map(|()| true),
                FormatWriter::Line(writer) => writer.write(rows, row, out).map(|()| true),
                FormatWriter::Raw => Ok(write_raw(rows.column(0), row, out)),
            });
            if let Err(why) = &written {
                encoded.payloads.bytes.truncate(start);
                encoded.refused.push((row, why.clone()));
            }
            encoded.payloads.end(written.unwrap_or(false));
        }
        encoded
    }

    /// Errors: a `NOT NULL` column has no value.
    fn lacking(&self, rows: &RecordBatch, row: usize) -> Result<(), String> {
        let mut columns = self.columns.fields().iter().zip(rows.columns());
        match columns.find(|(field, array)| !field.is_nullable() && array.is_null(row)) {
            Some((field, _)) => Err(format!("`{}` is NOT NULL and has no value", field.name())),
            None => Ok(()),
        }
    }

    /// The texts of a column, as keys of messages; the bytes of a BYTEA column as they are.
    ///
    /// Errors: why the column has no text.
    pub fn texts(&self, rows: &RecordBatch, column: usize) -> Result<ByteColumn, String> {
        let (field, array) = (self.columns.field(column), rows.column(column));
        if field.data_type().is_nested() {
            return Err(format!("`{}` is {}, which has no text", field.name(), sql_name(field.data_type())));
        }
        let mut texts = ByteColumn::default();
        for row in 0..rows.num_rows() {
            let present = match field.data_type() {
                DataType::Utf8 | DataType::Binary => write_raw(array, row, &mut texts.bytes),
                _ if array.is_null(row) => false,
                _ => {
                    let mut text = Vec::new();
                    let form = WrittenForm { unit: self.units.of(field.name()), bytes: BytesForm::default() };
                    json::write(array, row, form, &mut text)?;
                    texts.bytes.extend(text.into_iter().filter(|byte| *byte != b'"'));
                    true
                }
            };
            texts.end(present);
        }
        Ok(texts)
    }
}

/// Appends a text or bytes. Returns false if there is no value.
fn write_raw(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> bool {
    if array.is_null(row) {
        return false;
    }
    match array.data_type() {
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        _ => out.extend_from_slice(array.as_binary::<i32>().value(row)),
    }
    true
}

#[cfg(test)]
mod tests;
