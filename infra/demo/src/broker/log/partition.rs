//! A partition: appended to by one at a time, read by many, and waited for.
//!
//! Two locks: `appending` is held while files are written, so only threads that may block take it; `held` is held for a
//! moment, and is all that a reader needs. Invariant: `held` speaks of bytes that are in the files, and is changed only
//! under `appending`.

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

/// Why a batch is not stored.
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
    /// What Kafka calls it.
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

/// Where a batch is now, whether it was stored just now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) start: i64,
}

/// What readers know.
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
    /// The end, for those that wait for more; marked as changed too when the topic is deleted.
    end: watch::Sender<i64>,
    /// Bytes of the whole log.
    total: Arc<AtomicU64>,
    /// When a segment is full.
    segment: u64,
}

impl PartitionLog {
    /// Opens what is in `folder`; it is made by the first append. Blocks.
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

    /// First offset and the one after the last.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        let held = self.held.read();
        (held.start, held.end)
    }

    /// Tells when there is more to read than now, or nothing any more.
    pub(crate) fn watch(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    /// Stores what a producer sent, unless it is stored. Blocks.
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

    /// Writes at the end of the last segment, or begins another.
    fn write(&self, batch: &[u8]) -> io::Result<()> {
        let last = self.held.read().segments.back().map(|segment| (segment.base, segment.bytes));
        let (base, position) = match last {
            Some((base, bytes)) if bytes == 0 || bytes + batch.len() as u64 <= self.segment => (base, bytes),
            full => {
                if let Some((base, _)) = full {
                    // From now on nobody checks it again.
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
            // The next append begins at the same place; what stays behind it is cut when the log is opened.
            let _ = file.set_len(position);
        })
    }

    /// Forgets the records before `offset`, or all of them if it is -1; the first offset that is left. Blocks.
    ///
    /// Errors: [`Error::Write`]; none if the offset lies beyond the end.
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
            // The last one stays, since it knows what the next offset is.
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

    /// Takes no more appends, and wakes who waits. Blocks; the files are the caller's to remove.
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
