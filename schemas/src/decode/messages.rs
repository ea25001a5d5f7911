//! Raw messages of a run, column by column: position, timestamp, key, headers and payload.
//!
//! Invariant: every column has one entry per message. The entries of a column are end to end in one buffer, so a
//! message costs no allocation of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, ListArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::error::ArrowError;

use super::times::TIMES;
use crate::definition::message::{header_field, header_fields};
use crate::{Offset, Partition};

/// Byte strings, some of them absent.
#[derive(Debug, Default)]
struct ByteStrings {
    bytes: Vec<u8>,
    /// The end of each string in `bytes`.
    ends: Vec<usize>,
    present: Vec<bool>,
}

impl ByteStrings {
    fn push(&mut self, string: Option<&[u8]>) {
        self.bytes.extend_from_slice(string.unwrap_or_default());
        self.ends.push(self.bytes.len());
        self.present.push(string.is_some());
    }

    /// Gives the last string these bytes; the string must be absent so far.
    fn fill_last(&mut self, string: &[u8]) {
        if let (Some(end), Some(present)) = (self.ends.last_mut(), self.present.last_mut()) {
            self.bytes.extend_from_slice(string);
            *end = self.bytes.len();
            *present = true;
        }
    }

    /// The string at `at`; empty if it is absent.
    fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    /// The string at `at`, if it is present.
    fn found(&self, at: usize) -> Option<&[u8]> {
        self.present[at].then(|| self.get(at))
    }

    fn memory(&self) -> usize {
        of(&self.bytes) + of(&self.ends) + of(&self.present)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.present.clear();
    }

    /// Errors: the strings are too long for one array together.
    fn offsets(&self) -> Result<OffsetBuffer<i32>, ArrowError> {
        offsets(&self.ends)
    }

    fn nulls(&self) -> Option<NullBuffer> {
        let nulls = NullBuffer::from(self.present.as_slice());
        (nulls.null_count() > 0).then_some(nulls)
    }

    fn array(&self) -> Result<BinaryArray, ArrowError> {
        BinaryArray::try_new(self.offsets()?, Buffer::from_slice_ref(&self.bytes), self.nulls())
    }
}

fn offsets(ends: &[usize]) -> Result<OffsetBuffer<i32>, ArrowError> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    for end in ends {
        let end = i32::try_from(*end);
        offsets.push(end.map_err(|_| ArrowError::ComputeError("more than 2 GiB in one column".into()))?);
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

fn of<T>(column: &Vec<T>) -> usize {
    column.capacity() * size_of::<T>()
}

/// Raw messages, column by column.
#[derive(Debug, Default)]
pub struct Messages {
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    /// Kafka's timestamps, which may lie outside any calendar.
    timestamps_ms: Vec<Option<i64>>,
    keys: ByteStrings,
    payloads: ByteStrings,
    /// The number of headers up to the end of each message.
    header_ends: Vec<usize>,
    header_names: ByteStrings,
    header_values: ByteStrings,
    /// The rows that messages are, if they are rows of a message that was split before.
    rows: BTreeMap<usize, i32>,
}

/// A message, without its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneMessage<'a> {
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
}

/// Microseconds of a time that a calendar has.
fn micros(ms: i64) -> Option<i64> {
    ms.checked_mul(1000).filter(|micros| TIMES.contains(&i128::from(*micros)))
}

impl Messages {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message without key and headers. `timestamp_ms` is Kafka's timestamp in milliseconds since 1970. A
    /// timestamp outside the years 1 to 9999, which no broker checks, becomes `None`.
    pub fn push(&mut self, partition: Partition, offset: Offset, timestamp_ms: Option<i64>, payload: Option<&[u8]>) {
        self.partitions.push(partition.0);
        self.offsets.push(offset.0);
        self.timestamps_ms.push(timestamp_ms);
        self.keys.push(None);
        self.payloads.push(payload);
        self.header_ends.push(self.header_names.ends.len());
    }

    /// Gives the message that was added last its key.
    pub fn set_key(&mut self, key: &[u8]) {
        self.keys.fill_last(key);
    }

    /// Says that the message that was added last is this row of a message that was split before.
    pub fn set_row(&mut self, row: i32) {
        self.rows.insert(self.len().saturating_sub(1), row);
    }

    /// Adds a header to the message that was added last.
    pub fn add_header(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(end) = self.header_ends.last_mut() {
            self.header_names.push(Some(name.as_bytes()));
            self.header_values.push(value);
            *end += 1;
        }
    }

    /// The messages of these partitions below the offsets, and all messages of other partitions.
    pub fn below(&self, ends: &BTreeMap<Partition, Offset>) -> Self {
        let mut kept = Self::new();
        for at in 0..self.len() {
            let (partition, offset) = (Partition(self.partitions[at]), Offset(self.offsets[at]));
            if ends.get(&partition).is_some_and(|end| offset >= *end) {
                continue;
            }
            kept.push(partition, offset, self.timestamps_ms[at], self.payloads.found(at));
            if let Some(key) = self.keys.found(at) {
                kept.set_key(key);
            }
            if let Some(row) = self.row(at) {
                kept.set_row(row);
            }
            let start = if at == 0 { 0 } else { self.header_ends[at - 1] };
            for header in start..self.header_ends[at] {
                let name = self.header_names.get(header);
                kept.header_names.push(Some(name));
                kept.header_values.push(self.header_values.found(header));
            }
            if let Some(end) = kept.header_ends.last_mut() {
                *end = kept.header_names.ends.len();
            }
        }
        kept
    }

    /// The last message of a partition.
    pub fn last_of(&self, partition: Partition) -> Option<OneMessage<'_>> {
        let at = self.partitions.iter().rposition(|found| *found == partition.0)?;
        Some(OneMessage {
            offset: Offset(self.offsets[at]),
            timestamp_ms: self.timestamps_ms[at],
            key: self.keys.found(at),
            payload: self.payloads.found(at),
        })
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The bytes of memory that are allocated.
    pub fn memory(&self) -> usize {
        of(&self.partitions)
            + of(&self.offsets)
            + of(&self.timestamps_ms)
            + of(&self.header_ends)
            + self.keys.memory()
            + self.payloads.memory()
            + self.header_names.memory()
            + self.header_values.memory()
    }

    /// Removes the messages and keeps the allocated memory.
    pub fn clear(&mut self) {
        self.partitions.clear();
        self.offsets.clear();
        self.timestamps_ms.clear();
        self.header_ends.clear();
        self.rows.clear();
        for column in [&mut self.keys, &mut self.payloads, &mut self.header_names, &mut self.header_values] {
            column.clear();
        }
    }

    pub(super) fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    pub(super) fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// Microseconds since 1970; `None` for a message without a timestamp that a calendar has.
    pub(super) fn timestamps_us(&self) -> impl Iterator<Item = Option<i64>> {
        self.timestamps_ms.iter().map(|ms| ms.and_then(micros))
    }

    /// The payload of message `at`; empty if the message has no payload.
    pub(super) fn payload(&self, at: usize) -> &[u8] {
        self.payloads.get(at)
    }

    /// True if message `at` has a payload, which may be empty.
    pub(super) fn has_payload(&self, at: usize) -> bool {
        self.payloads.present[at]
    }

    /// The bytes of the key and the headers of message `at`, which every row of the message has.
    pub(super) fn shared_bytes(&self, at: usize) -> usize {
        let start = if at == 0 { 0 } else { self.header_ends[at - 1] };
        let headers = (start..self.header_ends[at])
            .map(|header| self.header_names.get(header).len() + self.header_values.get(header).len());
        self.keys.get(at).len() + headers.sum::<usize>()
    }

    /// The row that message `at` is, if it is a row of a message that was split before.
    pub(super) fn row(&self, at: usize) -> Option<i32> {
        self.rows.get(&at).copied()
    }

    /// The value of the first header `name` of message `at`.
    pub(super) fn header(&self, at: usize, name: &str) -> Option<&[u8]> {
        let start = if at == 0 { 0 } else { self.header_ends[at - 1] };
        let found = (start..self.header_ends[at]).find(|h| self.header_names.get(*h) == name.as_bytes())?;
        self.header_values.found(found)
    }

    /// The payloads of all messages.
    pub(super) fn payloads(&self) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(self.payloads.array()?))
    }

    /// The payloads of the messages that `keep` names; the others are null.
    pub(super) fn payloads_of(&self, keep: impl Iterator<Item = bool>) -> ArrayRef {
        let mut payloads = BinaryBuilder::new();
        for (at, keep) in keep.enumerate() {
            payloads.append_option(self.payloads.found(at).filter(|_| keep));
        }
        Arc::new(payloads.finish())
    }

    pub(super) fn keys(&self) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(self.keys.array()?))
    }

    /// The headers of each message as a list of names and values; null for a message without headers.
    pub(super) fn headers(&self) -> Result<ArrayRef, ArrowError> {
        let names = StringArray::try_new(
            self.header_names.offsets()?,
            Buffer::from_slice_ref(&self.header_names.bytes),
            self.header_names.nulls(),
        )?;
        let values: ArrayRef = Arc::new(self.header_values.array()?);
        let count = values.len();
        let headers = StructArray::try_new_with_length(header_fields(), vec![Arc::new(names), values], None, count)?;
        let starts = std::iter::once(&0).chain(&self.header_ends);
        let present: Vec<bool> = starts.zip(&self.header_ends).map(|(start, end)| end > start).collect();
        let nulls = NullBuffer::from(present);
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        Ok(Arc::new(ListArray::try_new(header_field(), offsets(&self.header_ends)?, Arc::new(headers), nulls)?))
    }
}
