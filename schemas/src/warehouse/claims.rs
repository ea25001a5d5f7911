//! Numbered files that are created and never overwritten, `<folder>/00000012.json`: if two processes create the same
//! number, one of them succeeds.
//!
//! Create-if-absent is the one conditional write of every object store. Data without a Delta table uses these files as
//! its compare-and-set: the catalog's versions and the leases. Invariant: the outcome of a create is unknown after any
//! error, so the file is read back, and only its content decides which writer wrote it.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, Result};

use crate::warehouse::Warehouse;

/// Digits of a file's number, with leading zeros, so that names sort like numbers.
const DIGITS: usize = 8;

/// The numbered files of one folder; cheap to clone.
#[derive(Debug, Clone)]
pub struct Claims {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

/// The outcome of an attempt to create a file.
#[derive(Debug)]
pub enum Claim {
    /// The file exists, with the given content.
    Ours,
    /// Another writer has created the file.
    Taken,
    /// The file does not exist; the create failed with this error.
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

    /// Creates the file of `number`, unless it exists. `is_ours` decides from a file's content whether this writer
    /// wrote the file.
    ///
    /// Errors: the create failed, and reading the file back failed too. The file may exist.
    pub async fn create(&self, number: u64, content: Vec<u8>, is_ours: impl FnOnce(&[u8]) -> bool) -> Result<Claim> {
        let put = self.store.put_opts(&self.path(number), PutPayload::from(content), PutMode::Create.into()).await;
        let Err(failed) = put else {
            return Ok(Claim::Ours);
        };
        // Even `AlreadyExists` is not conclusive: object_store retries, and its first write may have created the file.
        Ok(match self.read(number).await? {
            Some(found) if is_ours(&found) => Claim::Ours,
            Some(_) => Claim::Taken,
            None => Claim::Failed(failed),
        })
    }

    /// The content of the file of `number`, if it exists.
    ///
    /// Errors: the store failed.
    pub async fn read(&self, number: u64) -> Result<Option<Bytes>> {
        match self.store.get(&self.path(number)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// The numbers of all files, ascending.
    ///
    /// Errors: the store failed.
    pub async fn numbers(&self) -> Result<Vec<u64>> {
        let listed = self.store.list(Some(&self.folder));
        let listed = listed.try_filter_map(async |file| Ok(file.location.filename().and_then(number)));
        let mut numbers: Vec<u64> = listed.try_collect().await?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes the file of `number`. A missing file is not an error.
    ///
    /// Errors: the store failed.
    pub async fn remove(&self, number: u64) -> Result<()> {
        match self.store.delete(&self.path(number)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(failed) => Err(failed),
        }
    }
}

/// The number in a file's name; `None` for other files in the folder.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() >= DIGITS && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests;
