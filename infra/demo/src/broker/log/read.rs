//! Reads of a partition: batches from an offset on, and offsets by timestamp.
//!
//! Invariant: a read returns whole batches. The batch with the requested offset is returned even if it exceeds the
//! limit, so a reader always makes progress.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::batch::{HEADER, Header};
use super::partition::PartitionLog;
use super::records::timestamps;
use super::segment::{BLOCK, FileRange, path};

/// The reason why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the log does not hold that offset")]
    OutOfRange,
    #[error("the log cannot be read: {0}")]
    Storage(#[from] io::Error),
}

/// Batches, and the bounds of the log at the time of the read.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) batches: Bytes,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl PartitionLog {
    /// The file range that holds `offset`, and the bounds of the log. The range is `None` at the end of the log.
    fn locate(&self, offset: i64) -> Result<(Option<FileRange>, i64, i64), ReadError> {
        let held = self.held.read();
        if offset < held.start || offset > held.end {
            return Err(ReadError::OutOfRange);
        }
        let after = held.segments.partition_point(|segment| segment.base <= offset);
        let segment = after.checked_sub(1).and_then(|index| held.segments.get(index));
        let span = segment.filter(|_| offset < held.end).map(|segment| segment.since_offset(offset));
        Ok((span, held.start, held.end))
    }

    /// Bytes from `offset` to the end of its segment. The number may be up to one block too high.
    pub(crate) fn available(&self, offset: i64) -> Result<u64, ReadError> {
        let (span, ..) = self.locate(offset)?;
        Ok(span.map_or(0, |span| span.until - span.from))
    }

    /// Reads whole batches of one segment, starting with the batch that holds `offset`. Blocks.
    pub(crate) fn read(&self, offset: i64, max_bytes: usize) -> Result<Slice, ReadError> {
        let (span, start, end) = self.locate(offset)?;
        let batches = match span {
            Some(span) => self.batches(span, offset, max_bytes)?,
            None => Bytes::new(),
        };
        Ok(Slice { batches, start, end })
    }

    fn batches(&self, span: FileRange, offset: i64, max_bytes: usize) -> io::Result<Bytes> {
        let file = File::open(path(&self.folder, span.base))?;
        // The batch starts in this block, so these bytes contain its header.
        let wanted = BLOCK + HEADER as u64 + max_bytes as u64;
        let mut bytes = vec![0; wanted.min(span.until - span.from) as usize];
        file.read_exact_at(&mut bytes, span.from)?;
        let mut at = 0;
        let first = loop {
            let header = header_at(&bytes, at)?;
            if header.last_offset() >= offset {
                break header;
            }
            at += header.bytes;
        };
        if at + first.bytes > bytes.len() {
            let mut batch = vec![0; first.bytes];
            file.read_exact_at(&mut batch, span.from + at as u64)?;
            return Ok(Bytes::from(batch));
        }
        let mut until = at + first.bytes;
        while let Some(next) = bytes.get(until..).and_then(|rest| Header::read(rest).ok()) {
            let after = until + next.bytes;
            if after - at > max_bytes || after > bytes.len() {
                break;
            }
            until = after;
        }
        Ok(Bytes::from(bytes).slice(at..until))
    }

    /// Offset and timestamp of the first record with this timestamp or a later one. Blocks.
    pub(crate) fn since(&self, timestamp: i64) -> io::Result<Option<(i64, i64)>> {
        let (start, blocks) = self.blocks();
        for (span, max) in blocks {
            if max >= timestamp {
                let records = self.timestamps(span, start)?;
                if let Some(found) = records.into_iter().find(|(_, t)| *t >= timestamp) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Offset and timestamp of the first record with the largest timestamp. Blocks.
    pub(crate) fn latest(&self) -> io::Result<Option<(i64, i64)>> {
        let (start, blocks) = self.blocks();
        let Some((first, rest)) = blocks.split_first() else {
            return Ok(None);
        };
        // Some records of the first block may be deleted, so its largest timestamp is computed again.
        let of_first = self.timestamps(first.0, start)?.into_iter().map(|(_, t)| t).max();
        let largest = rest.iter().map(|(_, t)| *t).chain(of_first).max();
        largest.map_or(Ok(None), |timestamp| self.since(timestamp))
    }

    fn blocks(&self) -> (i64, Vec<(FileRange, i64)>) {
        let held = self.held.read();
        let blocks = held.segments.iter().flat_map(|segment| segment.blocks(held.start));
        (held.start, blocks.collect())
    }

    /// Offsets and timestamps of the records in a range of blocks, from the offset `start` on.
    fn timestamps(&self, span: FileRange, start: i64) -> io::Result<Vec<(i64, i64)>> {
        let file = File::open(path(&self.folder, span.base))?;
        let mut bytes = vec![0; (span.until - span.from) as usize];
        file.read_exact_at(&mut bytes, span.from)?;
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            let header = header_at(&bytes, at)?;
            let batch = bytes.get(at..at + header.bytes).unwrap_or_default();
            for (offset, timestamp) in timestamps(&header, batch) {
                match header.is_compressed() {
                    true if header.last_offset() >= start => found.push((offset.max(start), timestamp)),
                    false if offset >= start => found.push((offset, timestamp)),
                    _ => {}
                }
            }
            at += header.bytes;
        }
        Ok(found)
    }
}

fn header_at(bytes: &[u8], at: usize) -> io::Result<Header> {
    let rest = bytes.get(at..).unwrap_or_default();
    Header::read(rest).map_err(|flaw| io::Error::new(io::ErrorKind::InvalidData, flaw))
}
