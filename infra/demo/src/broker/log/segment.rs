//! A segment: one file of batches, and an index of its blocks.
//!
//! The index is sparse, with one entry per [`BLOCK`] bytes, and is kept in memory only. The index is rebuilt when the
//! log is opened, and is small even for a large log.
//!
//! Invariant: a block starts at the start of a batch. The offsets and timestamps of a block cover every batch before
//! the next block.

use std::path::{Path, PathBuf};

use super::batch::Header;

/// Size of a full segment in bytes; the next batch starts a new one.
pub(crate) const SEGMENT: u64 = 64 << 20;
/// A search for an offset reads at most this many bytes and one batch.
pub(crate) const BLOCK: u64 = 16 << 10;

const ENDING: &str = "log";

#[derive(Debug, Clone, Copy)]
struct Block {
    position: u64,
    base_offset: i64,
    max_timestamp: i64,
}

/// A range of bytes in a segment's file; `from` is the start of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileRange {
    pub(crate) base: i64,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

#[derive(Debug)]
pub(crate) struct LogSegment {
    /// The segment's first offset, which is in its file name.
    pub(crate) base: i64,
    pub(crate) bytes: u64,
    /// The offset after the last record.
    pub(crate) end: i64,
    blocks: Vec<Block>,
}

impl LogSegment {
    pub(crate) fn new(base: i64) -> Self {
        Self { base, bytes: 0, end: base, blocks: Vec::new() }
    }

    /// Adds the next batch of the file to the index.
    pub(crate) fn add(&mut self, header: &Header) {
        match self.blocks.last_mut() {
            Some(block) if self.bytes - block.position < BLOCK => {
                block.max_timestamp = block.max_timestamp.max(header.max_timestamp);
            }
            _ => self.blocks.push(Block {
                position: self.bytes,
                base_offset: header.base_offset,
                max_timestamp: header.max_timestamp,
            }),
        }
        self.bytes += header.bytes as u64;
        self.end = header.next_offset();
    }

    /// The bytes from the block that holds `offset` to the end.
    pub(crate) fn since_offset(&self, offset: i64) -> FileRange {
        let after = self.blocks.partition_point(|block| block.base_offset <= offset);
        let from = after.checked_sub(1).map_or(0, |index| self.blocks[index].position);
        FileRange { base: self.base, from, until: self.bytes }
    }

    /// The blocks that end after `offset`, each with its largest timestamp.
    pub(crate) fn blocks(&self, offset: i64) -> impl Iterator<Item = (FileRange, i64)> {
        self.blocks.iter().enumerate().filter_map(move |(index, block)| {
            let next = self.blocks.get(index + 1);
            let until = next.map_or(self.bytes, |next| next.position);
            let end = next.map_or(self.end, |next| next.base_offset);
            let span = FileRange { base: self.base, from: block.position, until };
            (end > offset).then_some((span, block.max_timestamp))
        })
    }
}

/// The file of the segment with the first offset `base`.
pub(crate) fn path(folder: &Path, base: i64) -> PathBuf {
    folder.join(format!("{base:020}.{ENDING}"))
}

/// The first offset of the segment in `file`; `None` if the file is no segment.
pub(crate) fn base_of(file: &Path) -> Option<i64> {
    let name = file.file_stem()?.to_str()?;
    let is_segment = file.extension()? == ENDING && name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    is_segment.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::plain;
    use super::*;

    #[test]
    fn a_block_holds_the_requested_offset() {
        let value = "x".repeat(5000);
        let header = Header::check(&plain(&[&value, &value])).unwrap();
        let mut segment = LogSegment::new(100);
        assert_eq!(segment.since_offset(100), FileRange { base: 100, from: 0, until: 0 });
        for index in 0..10 {
            segment.add(&header.at(100 + index * 2));
        }
        let size = header.bytes as u64;
        assert_eq!((segment.end, segment.bytes), (120, size * 10));
        // Two batches per block.
        for offset in 100..120 {
            let from = (offset as u64 - 100) / 4 * 2 * size;
            assert_eq!(segment.since_offset(offset).from, from, "{offset}");
        }
        let blocks: Vec<u64> = segment.blocks(108).map(|(span, _)| span.from / size).collect();
        assert_eq!(blocks, [4, 6, 8]);
        assert!(segment.blocks(0).all(|(span, max)| span.until - span.from == size * 2 && max == 1001));
    }

    #[test]
    fn segments_are_known_by_their_names() {
        let folder = Path::new("f");
        for base in [0, 81_234, i64::MAX] {
            assert_eq!(base_of(&path(folder, base)), Some(base));
        }
        for other in
            ["start", "0.log", "00000000000000000000.tmp", "0000000000000000000x.log", "99999999999999999999.log"]
        {
            assert_eq!(base_of(Path::new(other)), None, "{other}");
        }
    }
}
