//! Ids for idempotent producers.
//!
//! Ids are taken from blocks. The end of a block is written to the file before its first id is used, so a restart
//! skips the rest of the block.
//!
//! Invariant: no id is given out twice in the life of the log.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::files;
use crate::{Error, Result};

const FILE: &str = "next-producer-id";
const BLOCK: i64 = 1000;

pub(crate) struct ProducerIds {
    path: PathBuf,
    block: Mutex<Reserve>,
}

struct Reserve {
    next: i64,
    end: i64,
}

impl ProducerIds {
    /// Opens the file of ids in `folder`. Blocks.
    ///
    /// Errors: [`Error::OpenLog`].
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let next = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|e| format!("`{FILE}`: {e}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(format!("`{FILE}`: {error}")),
        };
        let next = next.map_err(|reason| Error::OpenLog { folder: folder.to_owned(), reason })?;
        Ok(Self { path, block: Mutex::new(Reserve { next, end: next }) })
    }

    /// Returns a new id. Blocks.
    ///
    /// Errors: [`Error::Write`].
    pub(crate) fn next(&self) -> Result<i64> {
        let mut block = self.block.lock();
        if block.next == block.end {
            let end = block.end + BLOCK;
            files::replace(&self.path, end.to_string().as_bytes())
                .map_err(|source| Error::Write { path: self.path.clone(), source })?;
            block.end = end;
        }
        block.next += 1;
        Ok(block.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_id_is_given_twice() {
        let root = tempfile::tempdir().unwrap();
        let mut given = BTreeSet::new();
        for _ in 0..3 {
            let ids = ProducerIds::open(root.path()).unwrap();
            for _ in 0..BLOCK + 5 {
                assert!(given.insert(ids.next().unwrap()));
            }
        }
        std::fs::write(root.path().join(FILE), "x").unwrap();
        assert!(matches!(ProducerIds::open(root.path()), Err(Error::OpenLog { .. })));
    }
}
