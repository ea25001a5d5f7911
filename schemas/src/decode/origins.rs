//! The messages of rows, where messages have other numbers of rows than one.
//!
//! Invariant: rows are in the order of their messages, and the rows of a message in the order of their numbers.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int32Array, UInt32Array};
use arrow::compute::take;
use arrow::error::ArrowError;

use super::messages::Messages;

/// Where each row is from.
#[derive(Debug, Default)]
pub(super) struct RowOrigins {
    messages: Vec<u32>,
    /// The number of a row in its message; `None` if the row stands for the whole message.
    rows: Vec<Option<i32>>,
    /// The bytes of a row in the payload of its message.
    bytes: Vec<Range<usize>>,
}

impl RowOrigins {
    /// Adds a row with these bytes of the message at `message`.
    pub(super) fn push(&mut self, message: usize, row: Option<i32>, bytes: Range<usize>) {
        // A run of messages has at most 2 GiB of payloads.
        self.messages.push(u32::try_from(message).unwrap_or(u32::MAX));
        self.rows.push(row);
        self.bytes.push(bytes);
    }

    /// One row for each message that has a payload.
    pub(super) fn of_payloads(messages: &Messages) -> Self {
        let mut origins = Self::default();
        for at in (0..messages.len()).filter(|at| messages.has_payload(*at)) {
            origins.push(at, None, 0..messages.payload(at).len());
        }
        origins
    }

    /// The messages of the rows.
    pub(super) fn messages(&self) -> &[u32] {
        &self.messages
    }

    /// The entries of a column of messages, one for each row.
    pub(super) fn take(&self, of_messages: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        take(of_messages, &UInt32Array::from(self.messages.clone()), None)
    }

    /// The bytes of the rows that `keep` names; the others are null.
    pub(super) fn payloads(&self, messages: &Messages, keep: impl Iterator<Item = bool>) -> ArrayRef {
        let mut payloads = BinaryBuilder::new();
        for ((message, bytes), keep) in self.messages.iter().zip(&self.bytes).zip(keep) {
            let at = *message as usize;
            let kept = (keep && messages.has_payload(at)).then(|| &messages.payload(at)[bytes.clone()]);
            payloads.append_option(kept);
        }
        Arc::new(payloads.finish())
    }

    /// The numbers of the rows.
    pub(super) fn rows(&self) -> ArrayRef {
        Arc::new(Int32Array::from(self.rows.clone()))
    }
}
