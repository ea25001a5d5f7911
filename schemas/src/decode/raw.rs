//! Raw messages: the payload of a message is the value of the stream's one column.
//!
//! | column | takes |
//! |---|---|
//! | STRING | a payload in UTF-8 |
//! | BYTEA | any payload |
//!
//! A message without a payload, a tombstone, has no value. An empty payload is an empty value.
//!
//! Invariant: a value has the bytes of its payload and no others.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::{Messages, Parsed};

/// Reads payloads into the column of a schema.
#[derive(Debug)]
pub(super) struct RawReader {
    columns: SchemaRef,
}

impl RawReader {
    /// Errors: the schema is not one column of text or bytes.
    pub(super) fn new(columns: SchemaRef) -> Result<Self, ArrowError> {
        match columns.fields().iter().map(|field| field.data_type()).collect::<Vec<_>>()[..] {
            [DataType::Utf8 | DataType::Binary] => Ok(Self { columns }),
            _ => Err(ArrowError::SchemaError("raw messages have one column of text or bytes".into())),
        }
    }

    /// Reads all `messages`.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let payloads = messages.payloads()?;
        let (column, reasons) = match self.columns.field(0).data_type() {
            DataType::Utf8 => {
                let mut texts = StringBuilder::new();
                let mut reasons = Vec::with_capacity(messages.len());
                for payload in payloads.as_binary::<i32>() {
                    let text = payload.map(std::str::from_utf8).transpose();
                    reasons.push(text.is_err().then(|| "the message is not UTF-8 text".into()));
                    texts.append_option(text.unwrap_or_default());
                }
                (Arc::new(texts.finish()) as ArrayRef, reasons)
            }
            _ => (Arc::clone(&payloads), vec![None; payloads.len()]),
        };
        Ok(Parsed { columns: RecordBatch::try_new(Arc::clone(&self.columns), vec![column])?, reasons, origins: None })
    }
}
