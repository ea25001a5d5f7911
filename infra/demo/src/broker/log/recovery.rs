//! Opens a partition: reads its segments from header to header, and cuts off an incomplete end.
//!
//! A killed process leaves at most one incomplete append, at the end of the last segment. A machine that stops may
//! damage more of the last segment, because only full segments are synced. So every batch of the last segment is
//! checked completely, and only the headers of the other segments.
//!
//! Invariant: the opened log is complete and undamaged, and its offsets have no gaps. A full segment is never cut,
//! because only a person may decide to lose its data.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::batch::{HEADER, Header};
use super::segment::{LogSegment, base_of, path};
use super::sequences::Sequences;
use crate::{Error, Result};

/// The file with the first offset of the log; exists once records were deleted.
pub(crate) const START: &str = "start";

/// The state of a partition's files.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) segments: VecDeque<LogSegment>,
    pub(crate) sequences: Sequences,
}

/// Reads the partition in `folder`; empty if the folder does not exist.
///
/// Errors: [`Error::OpenLog`].
pub(crate) fn recover(folder: &Path) -> Result<Recovered> {
    let unopened = |reason: String| Error::OpenLog { folder: folder.to_owned(), reason };
    let bases = bases(folder).map_err(|e| unopened(e.to_string()))?;
    let start = start(folder).map_err(|e| unopened(format!("`{START}`: {e}")))?;
    let mut found = Recovered { start: start.unwrap_or(0), ..Recovered::default() };
    let newest = bases.last().copied();
    for base in bases {
        let is_last = Some(base) == newest;
        let after = found.segments.back().map(|segment| segment.end);
        if after.is_some_and(|end| end != base) {
            return Err(unopened(format!("no segment begins at the offset {}", after.unwrap_or(0))));
        }
        let segment = walk(&path(folder, base), base, is_last, &mut found.sequences);
        found.segments.push_back(segment.map_err(|e| unopened(format!("{}: {e}", path(folder, base).display())))?);
    }
    let first = found.segments.front().map_or(found.start, |segment| segment.base);
    found.end = found.segments.back().map_or(found.start, |segment| segment.end);
    found.start = found.start.max(first);
    if found.start > found.end {
        // Records were deleted up to an offset that the machine lost when it stopped. So all remaining records are
        // deleted too.
        for segment in found.segments.drain(..) {
            std::fs::remove_file(path(folder, segment.base)).map_err(|e| unopened(e.to_string()))?;
        }
        found.end = found.start;
    }
    Ok(found)
}

fn bases(folder: &Path) -> io::Result<Vec<i64>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bases = Vec::new();
    for entry in entries {
        bases.extend(base_of(&entry?.path()));
    }
    bases.sort_unstable();
    Ok(bases)
}

fn start(folder: &Path) -> io::Result<Option<i64>> {
    match std::fs::read_to_string(folder.join(START)) {
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn walk(path: &Path, base: i64, is_last: bool, sequences: &mut Sequences) -> io::Result<LogSegment> {
    let file = OpenOptions::new().read(true).write(is_last).open(path)?;
    let length = file.metadata()?.len();
    let mut segment = LogSegment::new(base);
    let mut batch = Vec::new();
    while segment.bytes < length {
        let left = length - segment.bytes;
        match next(&file, segment.bytes, left, is_last, &mut batch)?.filter(|next| next.base_offset == segment.end) {
            Some(header) => {
                sequences.note(&header);
                segment.add(&header);
            }
            None if is_last => {
                tracing::warn!(path = %path.display(), bytes = left, "the embedded broker cuts what was not finished");
                file.set_len(segment.bytes)?;
                break;
            }
            None => return Err(io::Error::other(format!("damaged at byte {}", segment.bytes))),
        }
    }
    Ok(segment)
}

/// Reads the header of the batch at `position`, and with `whole` checks the complete batch. `None` if it is no valid
/// batch.
fn next(file: &File, position: u64, left: u64, whole: bool, batch: &mut Vec<u8>) -> io::Result<Option<Header>> {
    if left < HEADER as u64 {
        return Ok(None);
    }
    batch.resize(HEADER, 0);
    file.read_exact_at(batch, position)?;
    let Ok(header) = Header::read(batch) else {
        return Ok(None);
    };
    if header.bytes as u64 > left {
        return Ok(None);
    }
    if whole {
        batch.resize(header.bytes, 0);
        file.read_exact_at(&mut batch[HEADER..], position + HEADER as u64)?;
        return Ok(Header::check(batch).ok());
    }
    Ok(Some(header))
}
