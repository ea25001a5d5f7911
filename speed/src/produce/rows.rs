//! Rows of a file as the keys and payloads of messages.
//!
//! Invariant: a row is passed on only if all rows of its batch can be encoded, or if the others are to be skipped.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use thalweg_schemas::decode::match_columns;
use thalweg_schemas::encode::{ByteColumn, MessageEncoder};
use thalweg_schemas::files::{BadRows, FileRows};

use super::plan::ProducePlan;
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

/// Encodes the rows of a file.
pub(super) struct RowEncoder {
    bad: BadRows,
    encoder: MessageEncoder,
    key: Option<usize>,
}

impl RowEncoder {
    /// Errors: [`thalweg_schemas::Error::MatchRows`] if the key is no column with a text.
    pub(super) fn new(plan: &ProducePlan, encoder: MessageEncoder, bad: BadRows) -> Result<Self> {
        let columns = &plan.stream.columns;
        let key = match &plan.key {
            None => None,
            Some(name) => {
                let found = match_columns(columns, &[name.as_str()]).ok().and_then(|found| found[0]);
                let known =
                    || columns.fields().iter().map(|f| format!("`{}`", f.name())).collect::<Vec<_>>().join(", ");
                let stream = &plan.stream.name;
                let lacks =
                    || bad.refuse(format!("stream `{stream}` has no column `{name}` for keys; it has {}", known()));
                Some(found.ok_or_else(lacks)?)
            }
        };
        if let Some(key) = key {
            let texts = encoder.texts(&RecordBatch::new_empty(nullable(columns)), key);
            texts.map_err(|why| bad.refuse(format!("--key: {why}")))?;
        }
        Ok(Self { bad, encoder, key })
    }

    /// Errors: [`thalweg_schemas::Error::ReadRow`] for the first row that cannot be encoded, unless such rows are
    /// skipped.
    pub(super) fn encode(&self, rows: FileRows) -> Result<EncodedRows> {
        let encoded = self.encoder.encode(&rows.rows);
        if encoded.refused.is_empty() {
            return self.with_keys(rows, encoded.payloads);
        }
        let bad: Vec<(usize, &str)> = encoded.refused.iter().map(|(row, why)| (*row, why.as_str())).collect();
        let rows = self.bad.without(rows, &bad)?;
        let payloads = self.encoder.encode(&rows.rows).payloads;
        self.with_keys(rows, payloads)
    }

    fn with_keys(&self, rows: FileRows, payloads: ByteColumn) -> Result<EncodedRows> {
        let keys = self.key.map(|column| self.encoder.texts(&rows.rows, column)).transpose();
        let keys = keys.map_err(|why| self.bad.refuse(format!("--key: {why}")))?;
        Ok(EncodedRows { numbers: rows.numbers, keys, payloads })
    }
}

/// The error of a reading thread that has ended without a word.
pub(super) fn reader_gone() -> Error {
    Error::Broken("the thread that reads the rows of a file has panicked".to_owned())
}

/// The same columns, all nullable: the encoder decides about `NOT NULL`.
fn nullable(columns: &SchemaRef) -> SchemaRef {
    let fields = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
