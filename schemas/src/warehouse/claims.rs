//! Numbered files that are created and never overwritten, `<folder>/00000012.json`: of two processes that create the
//! same number, one does.
//!
//! Creating a file is the one condition that every object store knows, so this is the compare-and-set of everything
//! that has no Delta table: the catalog's versions and the leases. Invariant: after any error of a create its outcome
//! is unknown, so the file is read back, and its content alone says whose it is.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, Result};

use crate::warehouse::Warehouse;

/// Digits of a file's number; they keep a listing in order.
const DIGITS: usize = 8;

/// The numbered files of one folder; cheap to clone.
#[derive(Debug, Clone)]
pub struct Claims {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

/// What became of an attempt to create a file.
#[derive(Debug)]
pub enum Claim {
    /// The file is there, with the content that was given.
    Ours,
    /// Another writer has the number.
    Taken,
    /// No file is there.
    Failed(Error),
}

impl Claims {
    pub fn new(warehouse: &Warehouse, folder: Path) -> Self {
        Self { store: warehouse.store(), folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, number: u64) -> Path {
        self.folder.clone().join(format!("{number:0DIGITS$}.json"))
    }

    /// Creates the file of `number`, unless there is one. `is_ours` tells from a file's content whether this writer
    /// wrote it.
    ///
    /// Errors: the create failed, and reading the file back did too: whether it is there is unknown.
    pub async fn create(&self, number: u64, content: Vec<u8>, is_ours: impl FnOnce(&[u8]) -> bool) -> Result<Claim> {
        let put = self.store.put_opts(&self.path(number), PutPayload::from(content), PutMode::Create.into()).await;
        let Err(failed) = put else {
            return Ok(Claim::Ours);
        };
        // Not even "it exists" is an answer: object_store may have retried a write of its own that landed.
        Ok(match self.read(number).await? {
            Some(found) if is_ours(&found) => Claim::Ours,
            Some(_) => Claim::Taken,
            None => Claim::Failed(failed),
        })
    }

    /// The content of a file, if there is one of that number.
    ///
    /// Errors: the store failed.
    pub async fn read(&self, number: u64) -> Result<Option<Bytes>> {
        match self.store.get(&self.path(number)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// All numbers, ascending.
    ///
    /// Errors: the store failed.
    pub async fn numbers(&self) -> Result<Vec<u64>> {
        let listed = self.store.list(Some(&self.folder));
        let listed = listed.try_filter_map(async |file| Ok(file.location.filename().and_then(number)));
        let mut numbers: Vec<u64> = listed.try_collect().await?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes a file; one that is gone already is no error.
    ///
    /// Errors: the store failed.
    pub async fn remove(&self, number: u64) -> Result<()> {
        match self.store.delete(&self.path(number)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(failed) => Err(failed),
        }
    }
}

/// The number in a file's name; `None` for anything else that lies there.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() >= DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests;
