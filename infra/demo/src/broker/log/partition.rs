//! A partition's log: one append at a time, many readers, and readers that wait for new records.
//!
//! There are two locks. `appending` is locked while files are written, so only blocking threads lock it. `held` is
//! locked only briefly, and readers need no other lock.
//!
//! Invariant: `held` describes bytes that are in the files, and changes only while `appending` is locked.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::batch::{Flaw, Header, place};
use super::recovery::{Recovered, START, recover};
use super::segment::{LogSegment, SEGMENT, path};
use super::sequences::{OutOfLine, Sequences, Verdict};
use crate::broker::files;
use crate::{Error, Result};

/// The reason why a batch is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("this is no batch that can be stored: {0}")]
    Flaw(#[from] Flaw),
    #[error(transparent)]
    OutOfLine(#[from] OutOfLine),
    #[error("the topic is deleted")]
    Deleted,
    #[error(transparent)]
    Storage(#[from] Error),
}

impl AppendError {
    /// The error code in Kafka's protocol.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Flaw(Flaw::Short | Flaw::Length(_) | Flaw::Checksum) => ResponseError::CorruptMessage,
            Self::Flaw(_) => ResponseError::InvalidRecord,
            Self::OutOfLine(OutOfLine::Sequence { .. }) => ResponseError::OutOfOrderSequenceNumber,
            Self::OutOfLine(OutOfLine::Old { .. }) => ResponseError::DuplicateSequenceNumber,
            Self::OutOfLine(OutOfLine::Epoch { .. }) => ResponseError::InvalidProducerEpoch,
            Self::Deleted => ResponseError::UnknownTopicOrPartition,
            Self::Storage(_) => ResponseError::KafkaStorageError,
        }
    }
}

/// The offset of a stored batch, and the start of the log. The batch may have been stored by an earlier request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) start: i64,
}

/// The readers' view of the log.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) segments: VecDeque<LogSegment>,
}

struct Appending {
    sequences: Sequences,
    deleted: bool,
}

pub(crate) struct PartitionLog {
    pub(crate) folder: PathBuf,
    appending: Mutex<Appending>,
    pub(crate) held: RwLock<Held>,
    /// The end of the log, for waiting readers. Also marked as changed when the topic is deleted.
    end: watch::Sender<i64>,
    /// Bytes of the logs of all partitions.
    total: Arc<AtomicU64>,
    /// Size of a full segment in bytes.
    segment: u64,
}

impl PartitionLog {
    /// Opens the partition in `folder`, which the first append creates. Blocks.
    ///
    /// Errors: [`Error::OpenLog`].
    pub(crate) fn open(folder: PathBuf, total: Arc<AtomicU64>) -> Result<Self> {
        Self::open_with(folder, total, SEGMENT)
    }

    pub(crate) fn open_with(folder: PathBuf, total: Arc<AtomicU64>, segment: u64) -> Result<Self> {
        let Recovered { start, end, segments, sequences } = recover(&folder)?;
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        total.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self {
            folder,
            appending: Mutex::new(Appending { sequences, deleted: false }),
            held: RwLock::new(Held { start, end, segments }),
            end: watch::Sender::new(end),
            total,
            segment,
        })
    }

    /// The first offset, and the offset after the last record.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        let held = self.held.read();
        (held.start, held.end)
    }

    /// Watches the end of the log. Also changes when the topic is deleted.
    pub(crate) fn watch(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// Stores a producer's batch, unless the batch is already stored. Blocks.
    pub(crate) fn append(&self, produced: &Bytes) -> Result<Appended, AppendError> {
        let header = Header::check_produced(produced)?;
        let mut appending = self.appending.lock();
        if appending.deleted {
            return Err(AppendError::Deleted);
        }
        let (start, end) = self.bounds();
        if let Verdict::Stored(base_offset) = appending.sequences.weigh(&header)? {
            return Ok(Appended { base_offset, start });
        }
        let header = header.at(end);
        let mut batch = produced.to_vec();
        place(&mut batch, end);
        self.write(&batch).map_err(|source| Error::Write { path: self.folder.clone(), source })?;
        appending.sequences.note(&header);
        let mut held = self.held.write();
        if let Some(segment) = held.segments.back_mut() {
            segment.add(&header);
        }
        held.end = header.next_offset();
        drop(held);
        self.total.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.end.send_replace(header.next_offset());
        Ok(Appended { base_offset: end, start })
    }

    /// Writes to the end of the last segment, or starts a new one if it is full.
    fn write(&self, batch: &[u8]) -> io::Result<()> {
        let last = self.held.read().segments.back().map(|segment| (segment.base, segment.bytes));
        let (base, position) = match last {
            Some((base, bytes)) if bytes == 0 || bytes + batch.len() as u64 <= self.segment => (base, bytes),
            full => {
                if let Some((base, _)) = full {
                    // A full segment is never checked again, so it is synced now.
                    File::open(path(&self.folder, base))?.sync_data()?;
                }
                let (_, end) = self.bounds();
                std::fs::create_dir_all(&self.folder)?;
                File::create(path(&self.folder, end))?;
                self.held.write().segments.push_back(LogSegment::new(end));
                (end, 0)
            }
        };
        let file = OpenOptions::new().write(true).open(path(&self.folder, base))?;
        file.write_all_at(batch, position).inspect_err(|_| {
            // The next append starts at the same position. Bytes that remain behind it are cut when the log is
            // opened.
            let _ = file.set_len(position);
        })
    }

    /// Deletes the records before `offset`, or all records if `offset` is -1. Returns the new first offset. Blocks.
    ///
    /// Errors: [`Error::Write`]. Returns `None` if the offset is beyond the end.
    pub(crate) fn delete_before(&self, offset: i64) -> Result<Option<i64>> {
        let failed = |source| Error::Write { path: self.folder.clone(), source };
        let _appending = self.appending.lock();
        let (start, end) = self.bounds();
        let offset = if offset == -1 { end } else { offset };
        if offset > end || offset < 0 {
            return Ok(None);
        }
        if offset <= start {
            return Ok(Some(start));
        }
        files::replace(&self.folder.join(START), offset.to_string().as_bytes()).map_err(failed)?;
        let mut gone = Vec::new();
        {
            let mut held = self.held.write();
            held.start = offset;
            // The last segment stays, because it determines the next offset.
            while held.segments.len() > 1 && held.segments.front().is_some_and(|first| first.end <= offset) {
                gone.extend(held.segments.pop_front());
            }
        }
        for segment in gone {
            self.total.fetch_sub(segment.bytes, Ordering::Relaxed);
            std::fs::remove_file(path(&self.folder, segment.base)).map_err(failed)?;
        }
        Ok(Some(offset))
    }

    /// Refuses further appends and wakes waiting readers. Blocks. The caller removes the files.
    pub(crate) fn delete(&self) {
        let mut appending = self.appending.lock();
        if std::mem::replace(&mut appending.deleted, true) {
            return;
        }
        let bytes: u64 = self.held.read().segments.iter().map(|segment| segment.bytes).sum();
        self.total.fetch_sub(bytes, Ordering::Relaxed);
        self.end.send_modify(|_| {});
    }
}

#[cfg(test)]
mod tests;
