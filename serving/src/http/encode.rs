//! Answers as JSON, CSV and NDJSON, batch by batch; [`binary`] has Arrow and Parquet.
//!
//! Invariant: JSON neither rounds nor loses a value. Integers are numbers, decimals are strings, floats are the
//! shortest numbers that read back equal, NaN and infinities are strings, and binary is hexadecimal. A time that no
//! calendar has is shown as the number that it is, so an answer is valid whatever it contains.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type, Int64Type, Schema, SchemaRef,
};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder as ValueEncoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::memory_pool::MemoryReservation;
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::{AnswerColumn, SqlAnswer};

use self::binary::{ArrowStream, BinaryHead, ParquetFile};
use super::format::AnswerFormat;
use crate::{Error, Result};

mod binary;
pub(super) mod size;

/// The last bytes of an answer as JSON.
const JSON_END: &[u8] = b"]}";

/// Writes one answer: call `begin`, then `batch` for each batch, then `end`.
pub(super) struct Encoder {
    format: AnswerFormat,
    schema: SchemaRef,
    options: EncoderOptions,
    rows: bool,
    /// What stands before each value of a row of NDJSON: braces, commas and names.
    keys: Vec<Vec<u8>>,
    binary: Option<BinaryWriter>,
    /// The memory for what the writer holds back.
    held: Option<MemoryReservation>,
}

enum BinaryWriter {
    Arrow(Box<ArrowStream>),
    Parquet(Box<ParquetFile>),
}

/// The columns of an answer.
pub(super) fn columns(schema: &Schema) -> Vec<AnswerColumn> {
    let columns = schema.fields().iter();
    columns.map(|f| AnswerColumn { name: f.name().clone(), data_type: f.data_type().to_string() }).collect()
}

impl Encoder {
    /// Errors: [`Error::RefuseFormat`] if columns of one name have no place in the format.
    pub(super) fn new(format: AnswerFormat, schema: SchemaRef, held: Option<MemoryReservation>) -> Result<Self> {
        let keys = match format {
            AnswerFormat::Ndjson => keys(&schema, format)?,
            AnswerFormat::Parquet => keys(&schema, format).map(|_| Vec::new())?,
            AnswerFormat::Json | AnswerFormat::Csv | AnswerFormat::Arrow => Vec::new(),
        };
        let options = EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(ExactNumbers));
        Ok(Self { format, schema, options, rows: false, keys, binary: None, held })
    }

    /// Writes the start of the answer; `head` is the answer without its rows.
    pub(super) fn begin(&mut self, head: &SqlAnswer, out: &mut Vec<u8>) -> Result<()> {
        match self.format {
            AnswerFormat::Json => {
                let whole = serde_json::to_vec(head).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
                // The rows are the last field of the head and are still empty, so the closing bytes can be cut off.
                out.extend_from_slice(&whole[..whole.len() - JSON_END.len()]);
            }
            AnswerFormat::Csv => write_csv(&RecordBatch::new_empty(flat_schema(&self.schema)), true, out)?,
            AnswerFormat::Ndjson => {}
            AnswerFormat::Arrow => {
                let head = BinaryHead::new(&self.schema, facts(head)?);
                self.binary = Some(BinaryWriter::Arrow(Box::new(ArrowStream::begin(&head, out)?)));
            }
            AnswerFormat::Parquet => {
                let head = BinaryHead::new(&self.schema, facts(head)?);
                self.binary = Some(BinaryWriter::Parquet(Box::new(ParquetFile::new(&head)?)));
            }
        }
        Ok(())
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        match (self.format, &mut self.binary) {
            (_, Some(BinaryWriter::Arrow(stream))) => stream.batch(batch, out),
            (_, Some(BinaryWriter::Parquet(file))) => {
                file.batch(batch, out)?;
                let bytes = file.held();
                match &self.held {
                    Some(held) => held.try_resize(bytes).map_err(|source| Error::of_engine(source, false)),
                    None => Ok(()),
                }
            }
            (AnswerFormat::Csv, None) => write_csv(&self.flat(batch).map_err(Error::Encode)?, false, out),
            (AnswerFormat::Ndjson, None) => self.objects(batch, out).map_err(Error::Encode),
            (_, None) => self.json_rows(batch, out).map_err(Error::Encode),
        }
    }

    /// True if a small batch may take long, because what was held back is written with it.
    pub(super) fn holds_back(&self) -> bool {
        self.format == AnswerFormat::Parquet
    }

    /// The bytes that `batch` becomes, at most, and what is needed on the way.
    pub(super) fn bytes_of(&self, batch: &RecordBatch) -> usize {
        let held = match &self.binary {
            Some(BinaryWriter::Parquet(file)) => file.held(),
            Some(BinaryWriter::Arrow(_)) | None => 0,
        };
        size::encoded_bytes(batch, self.format).saturating_add(held)
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match (self.format, &mut self.binary) {
            (_, Some(BinaryWriter::Arrow(stream))) => stream.end(out)?,
            (_, Some(BinaryWriter::Parquet(file))) => file.end(out)?,
            (AnswerFormat::Json, None) => {
                out.extend_from_slice(JSON_END);
                out.push(b'\n');
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// Writes one object per row.
    fn objects(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let mut columns = self.values(batch)?;
        for row in 0..batch.num_rows() {
            if columns.is_empty() {
                out.push(b'{');
            }
            for (key, column) in self.keys.iter().zip(&mut columns) {
                out.extend_from_slice(key);
                write_value(column, row, out);
            }
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }

    /// The encoders of the columns' values.
    fn values<'a>(&'a self, batch: &'a RecordBatch) -> Result<Vec<NullableEncoder<'a>>, ArrowError> {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        columns.map(|(field, column)| make_encoder(field, column, &self.options)).collect()
    }

    fn json_rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let mut columns = self.values(batch)?;
        let mut rows = self.rows;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if rows { b",\n[" } else { b"\n[" });
            rows = true;
            for (i, column) in columns.iter_mut().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(column, row, out);
            }
            out.push(b']');
        }
        drop(columns);
        self.rows = rows;
        Ok(())
    }

    /// Returns the batch with nested columns as JSON texts, and times as texts.
    fn flat(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| {
                if field.data_type().is_nested() {
                    json_texts(field, column, &self.options)
                } else if is_time(field.data_type()) {
                    time_texts(column)
                } else {
                    Ok(Arc::clone(column))
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(flat_schema(&schema), columns, &rows)
    }
}

/// What stands before each value of a row of NDJSON.
///
/// Errors: [`Error::RefuseFormat`] if a name repeats.
fn keys(schema: &Schema, format: AnswerFormat) -> Result<Vec<Vec<u8>>> {
    let mut names = BTreeSet::new();
    let mut keys = Vec::new();
    for field in schema.fields() {
        if !names.insert(field.name()) {
            return Err(Error::RefuseFormat {
                reason: format!(
                    "the answer has several columns `{}`, and {} takes each name once; give them other names with AS, or \
                     ask for JSON or CSV",
                    field.name(),
                    format.media_type()
                ),
            });
        }
        let name = serde_json::to_string(field.name()).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
        keys.push(format!("{}{name}:", if keys.is_empty() { '{' } else { ',' }).into_bytes());
    }
    Ok(keys)
}

/// What the headers of an answer say, for formats that have a place for it.
fn facts(head: &SqlAnswer) -> Result<Vec<(String, String)>> {
    let json = |value: std::result::Result<String, serde_json::Error>| {
        value.map_err(|e| Error::Serve(std::io::Error::other(e)))
    };
    let mut facts = vec![(headers::FRONTIER.to_owned(), json(serde_json::to_string(&head.frontier))?)];
    if head.stale {
        facts.push((headers::STALE.to_owned(), headers::TRUE.to_owned()));
    }
    if !head.partial.is_empty() {
        facts.push((headers::PARTIAL.to_owned(), json(serde_json::to_string(&head.partial))?));
    }
    if let Some(certificate) = &head.certificate {
        facts.push((headers::CERTIFICATE.to_owned(), json(serde_json::to_string(certificate))?));
    }
    Ok(facts)
}

fn write_value(column: &mut NullableEncoder<'_>, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        out.extend_from_slice(b"null");
    } else {
        column.encode(row, out);
    }
}

fn json_texts(field: &FieldRef, column: &ArrayRef, options: &EncoderOptions) -> Result<ArrayRef, ArrowError> {
    let mut values = make_encoder(field, column, options)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..column.len() {
        if values.is_null(row) {
            texts.append_null();
        } else {
            text.clear();
            values.encode(row, &mut text);
            texts.append_value(String::from_utf8_lossy(&text));
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// True for dates, times and durations, which have a text unless they are in no calendar.
fn is_time(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(
        data_type,
        T::Date32 | T::Date64 | T::Timestamp(_, _) | T::Time32(_) | T::Time64(_) | T::Duration(_) | T::Interval(_)
    )
}

fn time_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let times = Times::of(column)?;
    let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| times.text(row)));
    Ok(Arc::new(texts.collect::<StringArray>()))
}

fn flat_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        if field.data_type().is_nested() || is_time(field.data_type()) {
            Arc::new(Field::new(field.name(), DataType::Utf8, true))
        } else {
            Arc::clone(field)
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn write_csv(batch: &RecordBatch, header: bool, out: &mut Vec<u8>) -> Result<()> {
    WriterBuilder::new().with_header(header).build(out).write(batch).map_err(Error::Encode)
}

/// Encodes as strings the floats that JSON has no number for, and the decimals that a reader's floats would round.
#[derive(Debug)]
struct ExactNumbers;

impl EncoderFactory for ExactNumbers {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn ValueEncoder + 'a> = match array.data_type() {
            DataType::Float16 => Box::new(Floats(array.as_primitive::<Float16Type>())),
            DataType::Float32 => Box::new(Floats(array.as_primitive::<Float32Type>())),
            DataType::Float64 => Box::new(Floats(array.as_primitive::<Float64Type>())),
            decimal if decimal.is_decimal() => {
                let options = FormatOptions::new().with_display_error(true);
                let formatter = ArrayFormatter::try_new(array, &options)?;
                Box::new(Quoted(formatter))
            }
            time if is_time(time) => Box::new(Times::of(array)?),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T> ValueEncoder for Floats<'_, T>
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64>,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        let wide: f64 = value.into();
        let text = if wide.is_finite() {
            // Debug prints the shortest text that reads back equal, which is also a JSON number.
            format!("{value:?}")
        } else if wide.is_nan() {
            "\"NaN\"".to_owned()
        } else if wide > 0.0 {
            "\"Infinity\"".to_owned()
        } else {
            "\"-Infinity\"".to_owned()
        };
        out.extend_from_slice(text.as_bytes());
    }
}

struct Quoted<'a>(ArrayFormatter<'a>);

impl ValueEncoder for Quoted<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\"{}\"", self.0.value(row)).as_bytes());
    }
}

/// Dates, times and durations.
struct Times<'a> {
    texts: ArrayFormatter<'a>,
    /// The numbers of units; an interval has several.
    numbers: Option<ArrayRef>,
}

impl<'a> Times<'a> {
    fn of(array: &'a dyn Array) -> Result<Self, ArrowError> {
        let options = FormatOptions::new().with_display_error(false);
        let numbers = match array.data_type() {
            DataType::Interval(_) => None,
            DataType::Date32 | DataType::Time32(_) => Some(cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?),
            _ => Some(cast(array, &DataType::Int64)?),
        };
        Ok(Self { texts: ArrayFormatter::try_new(array, &options)?, numbers })
    }

    /// The time, or the number of its unit since 1970 if it is in no calendar.
    fn text(&self, row: usize) -> String {
        self.texts.value(row).try_to_string().unwrap_or_else(|_| match &self.numbers {
            Some(numbers) => numbers.as_primitive::<Int64Type>().value(row).to_string(),
            None => "out of range".to_owned(),
        })
    }
}

impl ValueEncoder for Times<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(self.text(row).as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests;
