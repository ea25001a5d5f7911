//! Rows of a file as rows of the stream.
//!
//! Texts are read by the stream's own rules: each row becomes a JSON object, which the decoder of JSON messages takes
//! or refuses, with the reason. Rows of Arrow batches with the stream's types are taken as they are.
//!
//! Invariant: a row is passed on only if all rows of its batch fit, or if the others are to be skipped.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::bad_rows::{BadRows, broken};
use super::format::FileRows;
use crate::decode::{Decoder, Messages, match_columns};
use crate::definition::message::{AvroFraming, AvroOptions, JsonOptions, KeptPart, Tombstones};
use crate::definition::stream::{REJECT, RecordFormat, StreamDefinition};
use crate::definition::types::canonical;
use crate::encode::MessageEncoder;
use crate::{Error, Offset, Partition, Result};

/// Takes the rows of a file.
pub struct RowReader {
    bad: BadRows,
    /// The stream, as if its messages were JSON.
    stream: StreamDefinition,
    columns: SchemaRef,
    decoder: Decoder,
    /// How many more rows are wanted.
    left: u64,
    objects: Messages,
    numbers: Vec<u64>,
    /// The bytes of `objects`.
    bytes: usize,
}

impl std::fmt::Debug for RowReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rows of {}", self.bad.file)
    }
}

impl RowReader {
    /// Reads at most `limit` rows of a file for `stream`.
    ///
    /// Errors: those of [`Decoder::new`].
    pub fn new(stream: &StreamDefinition, bad: BadRows, limit: Option<u64>) -> Result<Self> {
        // Objects are read as messages of the stream would be, if its messages were JSON.
        let mut as_json: StreamDefinition = stream.clone();
        as_json.format = RecordFormat::Json;
        as_json.messages.keep = KeptPart::Row;
        // A file has no envelopes and no tombstones, and bytes in hexadecimal digits.
        as_json.messages.json = JsonOptions::default();
        as_json.messages.tombstones = Tombstones::default();
        Ok(Self {
            bad,
            columns: Arc::clone(&stream.columns),
            decoder: Decoder::new(&as_json)?,
            stream: as_json,
            left: limit.unwrap_or(u64::MAX),
            objects: Messages::new(),
            numbers: Vec::new(),
            bytes: 0,
        })
    }

    /// Takes values of this Avro schema for rows from now on, in place of JSON objects.
    ///
    /// Errors: [`Error::MatchRows`] if no column can be read from the schema.
    pub(super) fn read_avro(&mut self, schema: &str) -> Result<()> {
        self.stream.format = RecordFormat::Avro;
        self.stream.messages.avro =
            AvroOptions { framing: AvroFraming::None, schema: Some(schema.to_owned()), refused: BTreeSet::new() };
        self.decoder = Decoder::new(&self.stream).map_err(|error| match error {
            Error::Decode { reason, .. } => self.bad.refuse(reason),
            other => other,
        })?;
        Ok(())
    }

    pub(super) fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    pub(super) fn bad(&self) -> &BadRows {
        &self.bad
    }

    /// For each column of the file, the column of the stream; `None` if the stream has none.
    ///
    /// Errors: [`Error::MatchRows`] if two columns are one, or if none is the stream's.
    pub(super) fn match_names(&self, names: &[&str]) -> Result<Vec<Option<usize>>> {
        let matched = match_columns(&self.columns, names);
        let matched =
            matched.map_err(|[a, b, column]| self.bad.refuse(format!("`{a}` and `{b}` are both `{column}`")))?;
        if matched.iter().all(Option::is_none) {
            let wanted = listed(self.columns.fields().iter().map(|field| field.name().as_str()));
            let has = listed(names.iter().copied());
            return Err(self
                .bad
                .refuse(format!("no column is one of the stream's: it has {has}, and the stream {wanted}")));
        }
        let unused = names.iter().zip(&matched).filter(|(_, column)| column.is_none()).map(|(name, _)| *name);
        let unused: Vec<&str> = unused.collect();
        let absent = (0..self.columns.fields().len()).filter(|column| !matched.contains(&Some(*column)));
        let absent: Vec<&str> = absent.map(|column| self.columns.field(column).name().as_str()).collect();
        if !unused.is_empty() {
            self.bad.notes.note(format!("columns that the stream does not have are left out: {}", unused.join(", ")));
        }
        if !absent.is_empty() {
            self.bad.notes.note(format!(
                "columns that {} does not have are null: {}",
                self.bad.file,
                absent.join(", ")
            ));
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

    /// Decodes the rows that were added.
    ///
    /// Errors: [`Error::ReadRow`] for the first row that does not fit, unless such rows are skipped.
    pub(super) fn take(&mut self) -> Result<FileRows> {
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
        self.bad.without(FileRows { numbers, rows }, &bad.collect::<Vec<_>>())
    }

    /// Takes a batch of other rows: columns with canonical types, each with its column of the stream. `before` rows
    /// came before them. Returns `None` if no more rows are wanted.
    ///
    /// Errors: as [`Self::take`].
    pub(super) fn take_batch(
        &mut self,
        columns: &[(usize, ArrayRef)],
        rows: usize,
        before: u64,
    ) -> Result<Option<FileRows>> {
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
                found.unwrap_or_else(|| new_null_array(field.data_type(), wanted))
            });
            let rows = RecordBatch::try_new(nullable(&self.columns), all.collect()).map_err(broken)?;
            let lacking = self.lacking(&rows);
            let bad: Vec<(usize, &str)> = lacking.iter().map(|(row, why)| (*row, why.as_str())).collect();
            return self.bad.without(FileRows { numbers, rows }, &bad).map(Some);
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
                    self.bad.skip(number, why)?;
                }
            }
        }
        self.take().map(Some)
    }

    /// The rows without a value of a `NOT NULL` column, each once and in order.
    fn lacking(&self, rows: &RecordBatch) -> Vec<(usize, String)> {
        let required = self.columns.fields().iter().zip(rows.columns()).filter(|(field, _)| !field.is_nullable());
        let required: Vec<_> = required.filter(|(_, array)| array.null_count() > 0).collect();
        let lack = |row: usize| {
            let (field, _) = required.iter().find(|(_, array)| array.is_null(row))?;
            Some((row, format!("`{}` is NOT NULL and has no value", field.name())))
        };
        if required.is_empty() { Vec::new() } else { (0..rows.num_rows()).filter_map(lack).collect() }
    }
}

/// The same columns, all nullable.
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
pub(super) fn readable(data_type: &DataType) -> Result<DataType> {
    canonical(data_type)
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
