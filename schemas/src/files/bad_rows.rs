//! Rows of a file that do not fit the stream, and what else a user should know of the file.
//!
//! Invariant: a row that does not fit is an error with its number, or it is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use parking_lot::Mutex;

use super::format::{FileFormat, FileRows};
use crate::{Error, Result};

/// Skipped rows of which the reason is kept.
const REASONS: usize = 10;

/// What was found in a file, readable while the file is read.
#[derive(Debug, Default)]
pub struct RowNotes {
    skipped: AtomicU64,
    skips: Mutex<Vec<String>>,
    notes: Mutex<Vec<String>>,
}

impl RowNotes {
    fn skip(&self, reason: impl FnOnce() -> String) {
        self.skipped.fetch_add(1, Relaxed);
        let mut skips = self.skips.lock();
        if skips.len() < REASONS {
            skips.push(reason());
        }
    }

    pub(super) fn note(&self, note: String) {
        self.notes.lock().push(note);
    }

    /// Rows that did not fit and were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// Why the first of the skipped rows did not fit.
    pub fn skips(&self) -> Vec<String> {
        self.skips.lock().clone()
    }

    /// What the user should know of the file. A note is given once.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }
}

/// What happens to rows that do not fit.
#[derive(Debug, Clone)]
pub struct BadRows {
    /// The name of the file, for errors.
    pub file: String,
    pub format: FileFormat,
    /// True if such rows are counted and left out.
    pub skip: bool,
    pub notes: Arc<RowNotes>,
}

impl BadRows {
    /// An error about the file as a whole.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::MatchRows { file: self.file.clone(), reason: reason.into() }
    }

    /// An error about a row.
    pub(super) fn refuse_row(&self, number: u64, reason: impl Into<String>) -> Error {
        Error::ReadRow { file: self.file.clone(), place: self.format.place(), number, reason: reason.into() }
    }

    pub(super) fn failed(&self, source: std::io::Error) -> Error {
        Error::OpenRows { file: self.file.clone(), source }
    }

    /// Counts a row that does not fit.
    ///
    /// Errors: [`Error::ReadRow`], unless such rows are skipped.
    pub(super) fn skip(&self, number: u64, reason: &str) -> Result<()> {
        if !self.skip {
            return Err(self.refuse_row(number, reason));
        }
        self.notes.skip(|| format!("{} {number}: {reason}", self.format.place()));
        Ok(())
    }

    /// The rows without those that are bad: an index and a reason each.
    ///
    /// Errors: as [`Self::skip`].
    pub fn without(&self, rows: FileRows, bad: &[(usize, &str)]) -> Result<FileRows> {
        if bad.is_empty() {
            return Ok(rows);
        }
        let mut keep = vec![true; rows.numbers.len()];
        for (row, why) in bad {
            self.skip(rows.numbers[*row], why)?;
            keep[*row] = false;
        }
        let numbers = rows.numbers.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(number, _)| *number).collect();
        let rows = filter_record_batch(&rows.rows, &BooleanArray::from(keep)).map_err(broken)?;
        Ok(FileRows { numbers, rows })
    }
}

pub(super) fn broken(error: ArrowError) -> Error {
    Error::Broken(format!("rows of a file: {error}"))
}
