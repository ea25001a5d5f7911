//! Values for placeholders, as clients bind them: batches of Arrow, one column per placeholder in its order.
//!
//! Invariant: nothing is decoded before its size is known to be small, and nothing is written out before it is known
//! how long it becomes: many rows may share one long text. What cannot be decoded is an error of its client, also where
//! the decoder panics.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::ipc::{MessageHeader, root_as_message};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use datafusion::common::ScalarValue;
use futures::{StreamExt, stream};
use thalweg_schemas::engine::contain::contain;

use super::wire;
use crate::parameters::{Declared, Parameter};
use crate::{Error, Result};

/// Bytes of all values that are bound at once.
const BOUND_BYTES: usize = 1 << 20;

/// Bytes of the same values, once each row has values of its own.
const WRITTEN_BYTES: usize = 2 * BOUND_BYTES;

/// Rows of values that are bound at once. Each row runs the query once.
const BOUND_ROWS: i64 = 1_000;

/// The messages of one binding, counted while they arrive.
#[derive(Default)]
pub(super) struct BoundMessages {
    messages: Vec<FlightData>,
    bytes: usize,
    rows: i64,
}

impl BoundMessages {
    /// Takes one more message.
    ///
    /// Errors: [`Error::ReadLongRequest`], [`Error::ReadRequest`].
    pub(super) fn push(&mut self, message: FlightData) -> Result<()> {
        if message.data_header.is_empty() {
            return Ok(());
        }
        self.bytes += message.data_header.len() + message.data_body.len();
        if self.bytes > BOUND_BYTES {
            let reason = format!("the values are longer than {} MiB; bind fewer at a time", BOUND_BYTES >> 20);
            return Err(Error::ReadLongRequest { reason });
        }
        self.rows = self.rows.saturating_add(rows_of(&message)?);
        if !(0..=BOUND_ROWS).contains(&self.rows) {
            let reason = format!("there are more than {BOUND_ROWS} rows of values; bind fewer at a time");
            return Err(Error::ReadLongRequest { reason });
        }
        self.messages.push(message);
        Ok(())
    }

    /// The values; `None` if no row is bound.
    ///
    /// Errors: [`Error::ReadRequest`], [`Error::ReadLongRequest`].
    pub(super) async fn decode(self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let decoded = contain::<_, Error>("reading the bound values", decode(self.messages)).await;
        let batch = decoded.map_err(|error| unread(&error.to_string()))?;
        if wire::row_bytes(&batch).total() > WRITTEN_BYTES {
            let reason = format!(
                "the values are longer than {} MiB once each row has values of its own; bind fewer at a time",
                WRITTEN_BYTES >> 20
            );
            return Err(Error::ReadLongRequest { reason });
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
            let column = plain(column).map_err(|e| unread(&e.to_string()))?;
            fields.push(Field::new(field.name(), column.data_type().clone(), true));
            columns.push(column);
        }
        if columns.is_empty() {
            return Ok(None);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map(Some).map_err(|e| unread(&e.to_string()))
    }
}

/// Rows of a message, before it is decoded.
fn rows_of(message: &FlightData) -> Result<i64> {
    let header = root_as_message(&message.data_header).map_err(|e| unread(&e.to_string()))?;
    let batch = match header.header_type() {
        MessageHeader::RecordBatch => header.header_as_record_batch(),
        MessageHeader::DictionaryBatch => header.header_as_dictionary_batch().and_then(|batch| batch.data()),
        MessageHeader::Schema => return Ok(0),
        _ => return Err(unread("they hold messages other than batches")),
    };
    let Some(batch) = batch else { return Err(unread("a message has no batch")) };
    if batch.compression().is_some() {
        return Err(unread("they are compressed"));
    }
    if !(0..=BOUND_ROWS).contains(&batch.length()) {
        return Ok(i64::MAX);
    }
    Ok(if header.header_type() == MessageHeader::RecordBatch { batch.length() } else { 0 })
}

async fn decode(messages: Vec<FlightData>) -> Result<RecordBatch> {
    let mut decoder = FlightDataDecoder::new(stream::iter(messages.into_iter().map(Ok)));
    let (mut schema, mut batches) = (None, Vec::new());
    while let Some(message) = decoder.next().await {
        match message.map_err(|e| unread(&e.to_string()))?.payload {
            DecodedPayload::Schema(found) => schema = Some(found),
            DecodedPayload::RecordBatch(batch) => batches.push(batch),
            DecodedPayload::None => {}
        }
    }
    let schema = schema.ok_or_else(|| unread("they have no schema"))?;
    concat_batches(&schema, &batches).map_err(|e| unread(&e.to_string()))
}

/// A column in a type that placeholders have: what SQL has no name for becomes the type that holds the same values.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = match column.data_type() {
        DataType::Dictionary(_, values) => return plain(&cast(column, values)?),
        DataType::RunEndEncoded(_, values) => return plain(&cast(column, values.data_type())?),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        // An instant is sent in UTC, whatever its zone; streams hold UTC.
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, None),
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => DataType::Time64(TimeUnit::Nanosecond),
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => return Ok(Arc::clone(column)),
    };
    cast(column, &to)
}

/// The values of each row.
///
/// Errors: [`Error::ReadRequest`].
pub(super) fn rows(bound: &RecordBatch) -> Result<Vec<Vec<Parameter>>> {
    let value = |column: &ArrayRef, row: usize| -> Result<Parameter> {
        if column.data_type().is_null() || (column.data_type().is_string() && column.is_null(row)) {
            return Ok(Parameter::Null);
        }
        Ok(match ScalarValue::try_from_array(column, row).map_err(|e| unread(&e.strip_backtrace()))? {
            // A text is read as the type that the query expects, as a literal in quotes is.
            ScalarValue::Utf8(Some(text)) => Parameter::Text(text),
            value => Parameter::Typed(value),
        })
    };
    let row = |row: usize| bound.columns().iter().map(|column| value(column, row)).collect::<Result<Vec<_>>>();
    (0..bound.num_rows()).map(row).collect()
}

/// The types that bound values declare; `None` where the query decides.
pub(super) fn declared(bound: &RecordBatch) -> Declared {
    let types = bound.columns().iter().map(|column| column.data_type());
    types.map(|of| (!of.is_string() && !of.is_null()).then(|| of.clone())).collect()
}

/// Values as bytes of Arrow's stream format.
///
/// Errors: [`Error::Encode`].
pub(super) fn to_bytes(bound: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), &bound.schema()).map_err(Error::Encode)?;
    writer.write(bound).map_err(Error::Encode)?;
    writer.into_inner().map_err(Error::Encode)
}

/// Reads what [`to_bytes`] wrote.
///
/// Errors: [`Error::ReadRequest`].
pub(super) fn from_bytes(bytes: &[u8]) -> Result<RecordBatch> {
    let read = StreamReader::try_new(bytes, None).and_then(|mut reader| reader.next().transpose());
    read.map_err(|e| unread(&e.to_string()))?.ok_or_else(|| unread("there are none"))
}

fn unread(reason: &str) -> Error {
    Error::ReadRequest { reason: format!("the bound values cannot be read: {reason}") }
}
