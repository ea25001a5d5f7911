//! A record batch: its header, and checks of its content.
//!
//! ```text
//!  base offset 8 │ length 4 │ leader epoch 4 │ magic 1 │ crc 4 │ attributes 2 │ last offset delta 4 │ base timestamp 8
//!  max timestamp 8 │ producer id 8 │ producer epoch 2 │ base sequence 4 │ count 4 │ records …
//! ```
//!
//! The checksum covers only the bytes after it, so the broker may set base offset and leader epoch.
//!
//! Invariant: the numbers in a [`Header`] agree with each other.

use bytes::Buf;

/// Bytes of the header, before the records.
pub(crate) const HEADER: usize = 61;
/// Bytes that the length does not count.
const PREFIX: usize = 12;
/// Bytes that the checksum does not cover.
const UNCHECKED: usize = 21;
const MAGIC: i8 = 2;
/// The only leader epoch of a broker without replicas.
pub(crate) const LEADER_EPOCH: i32 = 0;

const COMPRESSION: i16 = 0b111;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The reason why bytes cannot be stored as a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it ends too early")]
    Short,
    #[error("its length is {0}")]
    Length(i32),
    #[error("its format is {0}; this broker takes 2")]
    Magic(i8),
    #[error("its checksum does not match")]
    Checksum,
    #[error("it says {records} records and a last offset delta of {delta}")]
    Count { records: i32, delta: i32 },
    #[error("its attributes are {0:#x}, which no producer outside a transaction sets")]
    Attributes(i16),
    #[error("it has a producer and the sequence {0}")]
    Sequence(i32),
    #[error("{0} bytes follow it")]
    Followed(usize),
}

/// The fields of a batch header that the broker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// Size of the whole batch with its header.
    pub(crate) bytes: usize,
    checksum: u32,
    attributes: i16,
    last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// Negative if the producer is not idempotent.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
}

impl Header {
    /// Reads the header at the front of `bytes`; the records may be missing.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Flaw> {
        let Some(mut rest) = bytes.get(..HEADER) else {
            return Err(Flaw::Short);
        };
        let base_offset = rest.get_i64();
        let length = rest.get_i32();
        let _leader_epoch = rest.get_i32();
        let magic = rest.get_i8();
        if magic != MAGIC {
            return Err(Flaw::Magic(magic));
        }
        let whole = usize::try_from(length).ok().and_then(|length| length.checked_add(PREFIX));
        let Some(whole) = whole.filter(|whole| *whole > HEADER) else {
            return Err(Flaw::Length(length));
        };
        let header = Self {
            base_offset,
            bytes: whole,
            checksum: rest.get_u32(),
            attributes: rest.get_i16(),
            last_offset_delta: rest.get_i32(),
            base_timestamp: rest.get_i64(),
            max_timestamp: rest.get_i64(),
            producer_id: rest.get_i64(),
            producer_epoch: rest.get_i16(),
            base_sequence: rest.get_i32(),
        };
        let records = rest.get_i32();
        let delta = header.last_offset_delta;
        if records < 1 || delta != records - 1 {
            return Err(Flaw::Count { records, delta });
        }
        Ok(header)
    }

    /// Reads the batch at the front of `bytes`, and checks that it is complete and undamaged.
    pub(crate) fn check(bytes: &[u8]) -> Result<Self, Flaw> {
        let header = Self::read(bytes)?;
        let Some(batch) = bytes.get(..header.bytes) else {
            return Err(Flaw::Short);
        };
        match crc32c::crc32c(&batch[UNCHECKED..]) == header.checksum {
            true => Ok(header),
            false => Err(Flaw::Checksum),
        }
    }

    /// Checks that a producer sent exactly one batch of a supported kind.
    pub(crate) fn check_produced(bytes: &[u8]) -> Result<Self, Flaw> {
        let header = Self::check(bytes)?;
        if header.bytes != bytes.len() {
            return Err(Flaw::Followed(bytes.len() - header.bytes));
        }
        // The compression codecs have the numbers 0 to 4.
        if header.attributes & (TRANSACTIONAL | CONTROL) != 0 || header.attributes & COMPRESSION > 4 {
            return Err(Flaw::Attributes(header.attributes));
        }
        if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
            return Err(Flaw::Sequence(header.base_sequence));
        }
        Ok(header)
    }

    pub(crate) fn at(self, base_offset: i64) -> Self {
        Self { base_offset, ..self }
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence of the last record; sequences wrap around.
    pub(crate) fn last_sequence(&self) -> i32 {
        add_to_sequence(self.base_sequence, self.last_offset_delta)
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION != 0
    }
}

/// The sequence `count` after this one. 0 follows the largest sequence.
pub(crate) fn add_to_sequence(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// Sets the offset of a batch; the checksum does not cover the offset.
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[PREFIX..PREFIX + 4].copy_from_slice(&LEADER_EPOCH.to_be_bytes());
}

#[cfg(test)]
pub(crate) mod tests;
