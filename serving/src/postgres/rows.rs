//! Rows of an answer as bytes for the client: DataRow messages, or the data of a COPY.
//!
//! Invariant: a piece of rows is encoded at a time, so that an answer takes the memory of a piece, however long it is.

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;

use super::types::Formats;
use super::values::{Column, sized};

/// Bytes of a piece.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// How rows are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    Rows(Formats),
    Copy(CopyLayout),
}

/// How the rows of a COPY are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CopyLayout {
    pub(super) format: CopyFormat,
    pub(super) delimiter: u8,
    pub(super) null: String,
    pub(super) header: bool,
    pub(super) quote: u8,
    pub(super) escape: u8,
    /// Every value is in quotes.
    pub(super) force_quote: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// A batch that is being written.
pub(super) struct EncodedBatch {
    columns: Vec<Column>,
    rows: usize,
    next: usize,
    /// The head of a binary COPY, which clients expect in the message of the first row.
    head: &'static [u8],
}

/// Why a row is not written.
pub(super) enum Unwritten {
    /// A value has no place in the format.
    Value(String),
    /// The query has no memory left for it.
    Memory(DataFusionError),
}

impl From<String> for Unwritten {
    fn from(reason: String) -> Self {
        Unwritten::Value(reason)
    }
}

/// What stands in front of the rows of a binary COPY: a signature, no flags, and no extension.
const BINARY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl EncodedBatch {
    /// Errors: those of a column that cannot be read in its encoded type.
    pub(super) fn new(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let columns = batch.columns().iter().map(Column::new).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: batch.num_rows(), next: 0, head: &[] })
    }

    /// Rows that are left.
    pub(super) fn left(&self) -> usize {
        self.rows - self.next
    }

    /// Makes the next row the first one of a COPY.
    pub(super) fn begin_copy(&mut self, layout: &CopyLayout) {
        self.head = if layout.format == CopyFormat::Binary { BINARY_HEAD } else { &[] };
    }

    /// Leaves out at most `most` rows, and returns their number.
    pub(super) fn leave_out(&mut self, most: usize) -> usize {
        let count = self.left().min(most);
        self.next += count;
        count
    }

    /// Writes a piece of at most `most` rows behind `out`, and returns their number.
    ///
    /// Errors: why a row is not written.
    pub(super) fn write(
        &mut self,
        layout: &Layout,
        most: usize,
        out: &mut BytesMut,
        memory: Option<&MemoryReservation>,
    ) -> Result<usize, Unwritten> {
        let mut written = 0;
        let full = out.len().saturating_add(PIECE_BYTES);
        while written < most && self.next < self.rows && out.len() < full {
            let row = self.next;
            match layout {
                Layout::Rows(formats) => message(b'D', out, |out| self.row(row, formats, out, memory))?,
                Layout::Copy(copy) => {
                    let head = std::mem::take(&mut self.head);
                    message(b'd', out, |out| {
                        out.put_slice(head);
                        self.copied(row, copy, out, memory)
                    })?;
                }
            }
            (self.next, written) = (row + 1, written + 1);
        }
        Ok(written)
    }

    fn row(
        &self,
        row: usize,
        formats: &Formats,
        out: &mut BytesMut,
        memory: Option<&MemoryReservation>,
    ) -> Result<(), Unwritten> {
        out.put_i16(self.columns.len() as i16);
        for (at, column) in self.columns.iter().enumerate() {
            if column.is_null(row) {
                out.put_i32(-1);
            } else if formats.is_binary(at) {
                sized(out, |out| column.values().binary(row, out))?;
            } else {
                sized(out, |out| {
                    column.values().text(row, out);
                    Ok(())
                })?;
            }
            count(out, memory)?;
        }
        Ok(())
    }

    fn copied(
        &self,
        row: usize,
        copy: &CopyLayout,
        out: &mut BytesMut,
        memory: Option<&MemoryReservation>,
    ) -> Result<(), Unwritten> {
        if copy.format == CopyFormat::Binary {
            return self.row(row, &Formats(vec![1]), out, memory);
        }
        let mut text = BytesMut::new();
        for (at, column) in self.columns.iter().enumerate() {
            if at > 0 {
                out.put_u8(copy.delimiter);
            }
            if column.is_null(row) {
                out.put_slice(copy.null.as_bytes());
                continue;
            }
            text.clear();
            column.values().text(row, &mut text);
            match copy.format {
                CopyFormat::Csv => copy.write_csv(&text, self.columns.len() == 1, out),
                _ => copy.write_text(&text, out),
            }
            count(out, memory)?;
        }
        out.put_u8(b'\n');
        Ok(())
    }
}

/// Counts bytes that wait for the client, once they are more than a piece.
fn count(out: &BytesMut, memory: Option<&MemoryReservation>) -> Result<(), Unwritten> {
    match memory {
        Some(memory) if out.len() > memory.size().max(PIECE_BYTES) => {
            // In steps: the pool is not asked for every column.
            memory.try_resize(out.len().saturating_add(out.len() / 4)).map_err(Unwritten::Memory)
        }
        _ => Ok(()),
    }
}

impl CopyLayout {
    /// The message in front of the first row, if there is one.
    pub(super) fn head<'a>(&self, names: impl Iterator<Item = &'a str>, out: &mut BytesMut) -> Result<(), String> {
        match self.format {
            // It is a part of the first row's message.
            CopyFormat::Binary => Ok(()),
            _ if !self.header => Ok(()),
            format => message(b'd', out, |out| {
                for (at, name) in names.enumerate() {
                    if at > 0 {
                        out.put_u8(self.delimiter);
                    }
                    match format {
                        CopyFormat::Csv => self.write_csv(name.as_bytes(), false, out),
                        _ => self.write_text(name.as_bytes(), out),
                    }
                }
                out.put_u8(b'\n');
                Ok(())
            }),
        }
    }

    /// The message behind the last of `rows`, if there is one.
    pub(super) fn tail(&self, rows: usize, out: &mut BytesMut) -> Result<(), String> {
        match self.format {
            CopyFormat::Binary => message(b'd', out, |out| {
                if rows == 0 {
                    out.put_slice(BINARY_HEAD);
                }
                out.put_i16(-1);
                Ok(())
            }),
            _ => Ok(()),
        }
    }

    fn write_text(&self, text: &[u8], out: &mut BytesMut) {
        for byte in text {
            let escaped = match byte {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                b'\\' => b'\\',
                other if *other == self.delimiter => *other,
                other => {
                    out.put_u8(*other);
                    continue;
                }
            };
            out.put_slice(&[b'\\', escaped]);
        }
    }

    fn write_csv(&self, text: &[u8], is_alone: bool, out: &mut BytesMut) {
        let special = |byte: &u8| *byte == self.delimiter || *byte == self.quote || matches!(byte, b'\n' | b'\r');
        let is_end = is_alone && text == b"\\.";
        if !self.force_quote && !is_end && text != self.null.as_bytes() && !text.iter().any(special) {
            return out.put_slice(text);
        }
        out.put_u8(self.quote);
        for byte in text {
            if *byte == self.quote || *byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(self.quote);
    }
}

/// Writes a message of a kind behind `out`. A message that fails is taken back.
fn message<E: From<String>>(
    kind: u8,
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.put_u8(kind);
    let at = out.len();
    out.put_i32(0);
    let written = write(out)
        .and_then(|()| i32::try_from(out.len() - at).map_err(|_| "a row is longer than 2 GiB".to_owned().into()));
    match written {
        Ok(length) => {
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}
