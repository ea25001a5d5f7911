//! Rows of a file as rows of the stream, and these as payloads.
//!
//! Texts are read by the stream's own rules: each row becomes a JSON object, which the decoder of JSON messages takes
//! or refuses, with the reason. Rows of Arrow batches with the stream's types are taken as they are.
//!
//! Invariant: a row is passed on only if all rows of its batch fit, or if the others are to be skipped.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use thalweg_schemas::decode::{Decoder, Messages, match_columns};
use thalweg_schemas::definition::message::KeptPart;
use thalweg_schemas::definition::stream::{REJECT, RecordFormat, StreamDefinition};
use thalweg_schemas::encode::{ByteColumn, MessageEncoder};
use thalweg_schemas::{Offset, Partition};

use super::counts::RowCounts;
use super::plan::{FileFormat, ProducePlan};
use crate::{Error, Result};

/// One row on its way.
pub(super) struct EncodedRow<'a> {
    /// The number of the row, or of its line.
    pub(super) number: u64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) payload: Option<&'a [u8]>,
}

impl EncodedRow<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.payload.map_or(0, <[u8]>::len)
    }
}

/// The payloads of some rows.
#[derive(Debug, Default)]
pub(super) struct EncodedRows {
    numbers: Vec<u64>,
    keys: Option<ByteColumn>,
    payloads: ByteColumn,
}

impl EncodedRows {
    pub(super) fn iter(&self) -> impl Iterator<Item = EncodedRow<'_>> {
        self.numbers.iter().enumerate().map(|(at, number)| EncodedRow {
            number: *number,
            key: self.keys.as_ref().and_then(|keys| keys.get(at)),
            payload: self.payloads.get(at),
        })
    }
}

/// What the thread that reads a file says.
pub(super) enum FromFile {
    Rows(EncodedRows),
    /// All rows have been passed on.
    End,
    Failed(Error),
}

/// Takes the rows of a file.
pub(super) struct RowReader {
    file: String,
    /// What a row is called by its number.
    place: &'static str,
    columns: SchemaRef,
    decoder: Decoder,
    encoder: MessageEncoder,
    key: Option<usize>,
    skip_bad: bool,
    /// How many more rows are wanted.
    left: u64,
    counts: Arc<RowCounts>,
    objects: Messages,
    numbers: Vec<u64>,
    /// The bytes of `objects`.
    bytes: usize,
}

impl RowReader {
    /// Errors: [`Error::MatchRows`] if the key is no column with a text.
    pub(super) fn new(plan: &ProducePlan, encoder: MessageEncoder, counts: Arc<RowCounts>) -> Result<Self> {
        let columns = Arc::clone(&plan.stream.columns);
        let refuse = |reason: String| Error::MatchRows { file: plan.from.to_string(), reason };
        let key = match &plan.key {
            None => None,
            Some(name) => {
                let found = match_columns(&columns, &[name.as_str()]).ok().and_then(|found| found[0]);
                let known = || listed(columns.fields().iter().map(|field| field.name().as_str()));
                let stream = &plan.stream.name;
                let lacks = || refuse(format!("stream `{stream}` has no column `{name}` for keys; it has {}", known()));
                Some(found.ok_or_else(lacks)?)
            }
        };
        if let Some(key) = key {
            encoder
                .texts(&RecordBatch::new_empty(nullable(&columns)), key)
                .map_err(|why| refuse(format!("--key: {why}")))?;
        }
        // Objects are read as messages of the stream would be, if its messages were JSON.
        let mut as_json: StreamDefinition = plan.stream.clone();
        as_json.format = RecordFormat::Json;
        as_json.messages.keep = KeptPart::Row;
        Ok(Self {
            file: plan.from.to_string(),
            place: if plan.format == FileFormat::Ndjson { "line" } else { "row" },
            decoder: Decoder::new(&as_json)?,
            columns,
            encoder,
            key,
            skip_bad: plan.skip_bad,
            left: plan.limit.unwrap_or(u64::MAX),
            counts,
            objects: Messages::new(),
            numbers: Vec::new(),
            bytes: 0,
        })
    }

    pub(super) fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// An error about the file as a whole.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::MatchRows { file: self.file.clone(), reason: reason.into() }
    }

    /// An error about a row.
    pub(super) fn refuse_row(&self, number: u64, reason: impl Into<String>) -> Error {
        Error::ReadRow { file: self.file.clone(), place: self.place, number, reason: reason.into() }
    }

    pub(super) fn failed(&self, source: std::io::Error) -> Error {
        Error::OpenRows { file: self.file.clone(), source }
    }

    /// For each column of the file, the column of the stream; `None` if the stream has none.
    ///
    /// Errors: [`Error::MatchRows`] if two columns are one, or if none is the stream's.
    pub(super) fn match_names(&self, names: &[&str]) -> Result<Vec<Option<usize>>> {
        let matched = match_columns(&self.columns, names);
        let matched = matched.map_err(|[a, b, column]| self.refuse(format!("`{a}` and `{b}` are both `{column}`")))?;
        if matched.iter().all(Option::is_none) {
            let wanted = listed(self.columns.fields().iter().map(|field| field.name().as_str()));
            let has = listed(names.iter().copied());
            return Err(self.refuse(format!("no column is one of the stream's: it has {has}, and the stream {wanted}")));
        }
        let unused = names.iter().zip(&matched).filter(|(_, column)| column.is_none()).map(|(name, _)| *name);
        let unused: Vec<&str> = unused.collect();
        let absent = (0..self.columns.fields().len()).filter(|column| !matched.contains(&Some(*column)));
        let absent: Vec<&str> = absent.map(|column| self.columns.field(column).name().as_str()).collect();
        if !unused.is_empty() {
            self.counts.note(format!("columns that the stream does not have are left out: {}", unused.join(", ")));
        }
        if !absent.is_empty() {
            self.counts.note(format!("columns that {} does not have are null: {}", self.file, absent.join(", ")));
        }
        Ok(matched)
    }

    /// Adds a row as a JSON object, if it is wanted. Returns false if no more rows are.
    pub(super) fn add(&mut self, number: u64, object: &[u8]) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.objects.push(Partition(0), Offset(0), None, Some(object));
        self.numbers.push(number);
        self.bytes += object.len();
        self.left > 0
    }

    /// The number of rows that were added since [`Self::take`].
    pub(super) fn added(&self) -> usize {
        self.numbers.len()
    }

    /// The bytes of the rows that were added.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Encodes the rows that were added.
    ///
    /// Errors: [`Error::ReadRow`] for the first row that does not fit, unless such rows are skipped.
    pub(super) fn take(&mut self) -> Result<EncodedRows> {
        let numbers = std::mem::take(&mut self.numbers);
        let decoded = self.decoder.decode(&self.objects)?;
        self.objects.clear();
        self.bytes = 0;
        let reasons = decoded.rows.column_by_name(REJECT).map(Arc::clone);
        let reasons = reasons.ok_or_else(|| Error::Broken(format!("a batch has no column {REJECT}")))?;
        let reasons = reasons.as_string::<i32>();
        let first = decoded.rows.schema().index_of(self.columns.field(0).name()).map_err(broken)?;
        let found: Vec<usize> = (first..first + self.columns.fields().len()).collect();
        let rows = decoded.rows.project(&found).map_err(broken)?;
        let bad = (0..reasons.len()).filter(|row| reasons.is_valid(*row)).map(|row| (row, reasons.value(row)));
        let (rows, numbers) = self.without(rows, numbers, &bad.collect::<Vec<_>>())?;
        self.encode(rows, numbers)
    }

    /// Encodes rows with the stream's columns and types. `numbers` has the number of each.
    ///
    /// Errors: as [`Self::take`].
    fn encode(&self, rows: RecordBatch, numbers: Vec<u64>) -> Result<EncodedRows> {
        let encoded = self.encoder.encode(&rows);
        if encoded.refused.is_empty() {
            return self.with_keys(&rows, numbers, encoded.payloads);
        }
        let bad: Vec<(usize, &str)> = encoded.refused.iter().map(|(row, why)| (*row, why.as_str())).collect();
        let (rows, numbers) = self.without(rows, numbers, &bad)?;
        let payloads = self.encoder.encode(&rows).payloads;
        self.with_keys(&rows, numbers, payloads)
    }

    fn with_keys(&self, rows: &RecordBatch, numbers: Vec<u64>, payloads: ByteColumn) -> Result<EncodedRows> {
        let keys = self.key.map(|column| self.encoder.texts(rows, column)).transpose();
        let keys = keys.map_err(|why| self.refuse(format!("--key: {why}")))?;
        Ok(EncodedRows { numbers, keys, payloads })
    }

    /// The rows without those that are bad.
    fn without(&self, rows: RecordBatch, numbers: Vec<u64>, bad: &[(usize, &str)]) -> Result<(RecordBatch, Vec<u64>)> {
        let Some((first, why)) = bad.first() else { return Ok((rows, numbers)) };
        if !self.skip_bad {
            return Err(self.refuse_row(numbers[*first], *why));
        }
        for (row, why) in bad {
            self.counts.skip(|| format!("{} {}: {why}", self.place, numbers[*row]));
        }
        let mut keep = vec![true; numbers.len()];
        bad.iter().for_each(|(row, _)| keep[*row] = false);
        let numbers = numbers.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(number, _)| *number).collect();
        Ok((filter_record_batch(&rows, &BooleanArray::from(keep)).map_err(broken)?, numbers))
    }

    /// Encodes a batch of other rows: columns with canonical types, each with its column of the stream. `before` rows
    /// came before them. Returns `None` if no more rows are wanted.
    ///
    /// Errors: as [`Self::take`].
    pub(super) fn take_batch(
        &mut self,
        columns: &[(usize, ArrayRef)],
        rows: usize,
        before: u64,
    ) -> Result<Option<EncodedRows>> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(rows);
        if wanted == 0 {
            return Ok(None);
        }
        let numbers: Vec<u64> = (before + 1..).take(wanted).collect();
        let columns: Vec<(usize, ArrayRef)> = columns.iter().map(|(to, array)| (*to, array.slice(0, wanted))).collect();
        if columns.iter().all(|(to, array)| array.data_type() == self.columns.field(*to).data_type()) {
            self.left -= wanted as u64;
            let all = self.columns.fields().iter().enumerate().map(|(at, field)| {
                let found = columns.iter().find(|(to, _)| *to == at).map(|(_, array)| Arc::clone(array));
                found.unwrap_or_else(|| arrow::array::new_null_array(field.data_type(), wanted))
            });
            let rows = RecordBatch::try_new(nullable(&self.columns), all.collect()).map_err(broken)?;
            return self.encode(rows, numbers).map(Some);
        }
        let field = |(to, array): &(usize, ArrayRef)| {
            Field::new(self.columns.field(*to).name(), array.data_type().clone(), true)
        };
        let schema: SchemaRef = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let rows = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(broken)?;
        let encoded = MessageEncoder::json(&schema).encode(&rows);
        for (at, number) in numbers.into_iter().enumerate() {
            match encoded.payloads.get(at) {
                Some(object) => drop(self.add(number, object)),
                None => {
                    self.left -= 1;
                    let why = encoded.refused.iter().find(|(row, _)| *row == at).map_or("", |(_, why)| why);
                    if !self.skip_bad {
                        return Err(self.refuse_row(number, why));
                    }
                    self.counts.skip(|| format!("{} {number}: {why}", self.place));
                }
            }
        }
        self.take().map(Some)
    }
}

/// The error of a reading thread that has ended without a word.
pub(super) fn reader_gone() -> Error {
    Error::Broken("the thread that reads the rows of a file has panicked".to_owned())
}

fn broken(error: ArrowError) -> Error {
    Error::Broken(format!("rows of a file: {error}"))
}

/// The same columns, all nullable: the encoder decides about `NOT NULL`.
fn nullable(columns: &SchemaRef) -> SchemaRef {
    let fields = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The first names of a list, for a message.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "no columns".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

/// The type in which a column of a file is read: canonical, and with all bits of a float.
///
/// Errors: the type has no canonical form.
pub(super) fn readable(data_type: &DataType) -> thalweg_schemas::Result<DataType> {
    thalweg_schemas::definition::types::canonical(data_type)
}

/// The type with each REAL as DOUBLE, whose text has all bits.
pub(super) fn widened(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float32 => DataType::Float64,
        DataType::List(item) => {
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(widened(item.data_type()))))
        }
        DataType::Struct(fields) => {
            let wide = fields.iter().map(|f| f.as_ref().clone().with_data_type(widened(f.data_type())));
            DataType::Struct(wide.collect())
        }
        other => other.clone(),
    }
}
