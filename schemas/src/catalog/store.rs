//! Reads the catalog's files in the warehouse, and writes a version by creating the file with the next number.
//!
//! Invariant: a change is decided on the version directly before its own. If another writer took the number, the
//! change is decided again on that writer's version.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Notify;

use super::cache::ViewCache;
use super::change::{Change, Facts};
use super::file::CatalogFile;
use super::{Applied, Catalog};
use crate::definition::statement::Statement;
use crate::warehouse::Warehouse;
use crate::warehouse::claims::{Claim, Claims};
use crate::{Error, Fault, Frontier, Result, StreamName, ViewId, ViewName};

/// Number of times that a change loses against other writers before its writer gets an error.
const RACES: u32 = 32;
/// Number of attempts to write a file before the writer gets an error.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Reads and changes the catalog of one warehouse. Clones are cheap. The cache saves work and has no influence on
/// results.
#[derive(Debug, Clone)]
pub struct CatalogStore {
    warehouse: Warehouse,
    files: Claims,
    cache: ViewCache,
    landed: Arc<Notify>,
}

impl CatalogStore {
    pub fn new(warehouse: Warehouse) -> Self {
        let files = Claims::new(&warehouse, Warehouse::catalog_path());
        Self { warehouse, files, cache: ViewCache::default(), landed: Arc::default() }
    }

    /// Waits until a change through this store or one of its clones has been written. Only one follower may wait.
    pub async fn landed(&self) {
        self.landed.notified().await;
    }

    /// Loads the newest version, or an empty one if there is none.
    ///
    /// Errors: [`Error::Store`], [`Error::ReadCatalog`].
    pub async fn load(&self) -> Result<Arc<Catalog>> {
        match self.newest().await? {
            None => Ok(Arc::new(Catalog::default())),
            Some(version) => {
                let file = self.read(version).await?.ok_or_else(|| Error::ReadCatalog {
                    path: self.files.path(version).to_string(),
                    reason: "it was listed and is not there; catalog files must not be removed".into(),
                })?;
                Ok(Arc::new(file.compile(&self.cache).await))
            }
        }
    }

    /// Loads the newest version if it is newer than `known`. Costs one request if there is no newer version.
    ///
    /// Errors: [`Error::Store`], [`Error::ReadCatalog`].
    pub async fn refresh(&self, known: &Arc<Catalog>) -> Result<Option<Arc<Catalog>>> {
        let mut newest = None;
        let mut version = known.version + 1;
        while let Some(file) = self.read(version).await? {
            newest = Some(file);
            version += 1;
        }
        match newest {
            None => Ok(None),
            Some(file) => Ok(Some(Arc::new(file.compile(&self.cache).await))),
        }
    }

    /// Applies all statements in one new version, or none of them.
    ///
    /// Errors: the error of the first statement that cannot be applied; [`Error::WriteCatalog`] if other writers were
    /// faster too often.
    pub async fn apply(&self, statements: Vec<Statement>) -> Result<Vec<Applied>> {
        let (_, applied) = self.change(Change::Statements { statements, repeated: false }).await?;
        Ok(applied)
    }

    /// As [`CatalogStore::apply`], for definitions that are applied at every start: a definition that stands as it is
    /// written needs no change, and is no conflict.
    ///
    /// Errors: as [`CatalogStore::apply`].
    pub async fn apply_again(&self, statements: Vec<Statement>) -> Result<Vec<Applied>> {
        let (_, applied) = self.change(Change::Statements { statements, repeated: true }).await?;
        Ok(applied)
    }

    /// Records the origins of partitions that have none yet; existing origins stay. Returns the catalog that contains
    /// them.
    ///
    /// Errors: [`Error::FindDefinition`], [`Error::Store`], [`Error::WriteCatalog`].
    pub async fn record_origin(&self, stream: &StreamName, origins: &Frontier) -> Result<Arc<Catalog>> {
        let change = Change::Origin(stream.clone(), origins.clone());
        Ok(self.change(change).await?.0)
    }

    /// Makes the name serve the view `id`, if that view is being built for the name. Otherwise nothing changes: the
    /// view is served already, or has been replaced meanwhile.
    ///
    /// Errors: [`Error::FindDefinition`], [`Error::Store`], [`Error::WriteCatalog`].
    pub async fn promote(&self, view: &ViewName, id: &ViewId) -> Result<Arc<Catalog>> {
        let change = Change::Promote(view.clone(), id.clone());
        Ok(self.change(change).await?.0)
    }

    async fn change(&self, change: Change) -> Result<(Arc<Catalog>, Vec<Applied>)> {
        let facts = self.facts(&change).await?;
        let mut catalog = self.load().await?;
        let mut pause = FIRST_PAUSE;
        let (mut races, mut attempts) = (0, 0);
        loop {
            let decision = change.decide(&catalog, &facts).await?;
            let Some(mut next) = decision.catalog else {
                return Ok((catalog, decision.applied));
            };
            next.version = catalog.version + 1;
            let file = CatalogFile::of(&next, decision.changes);
            match self.write(&file).await? {
                Claim::Ours => {
                    self.cache.remember(&next);
                    self.landed.notify_one();
                    return Ok((Arc::new(next), decision.applied));
                }
                Claim::Taken => {
                    races += 1;
                    if races == RACES {
                        let version = next.version;
                        return Err(Error::WriteCatalog { version });
                    }
                    catalog = self.refresh(&catalog).await?.unwrap_or(catalog);
                }
                Claim::Failed(source) => {
                    let error = failed(&self.files.path(next.version), source);
                    attempts += 1;
                    if attempts == ATTEMPTS || error.fault() != Fault::Transient {
                        return Err(error);
                    }
                    tracing::warn!(%error, version = next.version, "writing the catalog again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    /// Creates the file of the next version. A file with the same commit id is this writer's own.
    async fn write(&self, file: &CatalogFile) -> Result<Claim> {
        let content = serde_json::to_vec_pretty(file)
            .map_err(|e| Error::Broken(format!("a catalog file cannot be written: {e}")))?;
        let is_ours =
            |found: &[u8]| serde_json::from_slice::<CatalogFile>(found).is_ok_and(|found| found.commit == file.commit);
        let claim = self.files.create(file.version, content, is_ours).await;
        claim.map_err(|source| failed(&self.files.path(file.version), source))
    }

    async fn read(&self, version: u64) -> Result<Option<CatalogFile>> {
        let path = self.files.path(version);
        let Some(content) = self.files.read(version).await.map_err(|source| failed(&path, source))? else {
            return Ok(None);
        };
        let unreadable = |reason: String| Error::ReadCatalog { path: path.to_string(), reason };
        let file: CatalogFile = serde_json::from_slice(&content).map_err(|e| unreadable(e.to_string()))?;
        if file.version != version {
            return Err(unreadable(format!("it says it is version {}", file.version)));
        }
        Ok(Some(file))
    }

    /// Returns the highest existing number.
    async fn newest(&self) -> Result<Option<u64>> {
        let numbers = self.files.numbers().await.map_err(|source| failed(self.files.folder(), source))?;
        Ok(numbers.last().copied())
    }

    /// Looks up the facts that the decision on `change` needs.
    async fn facts(&self, change: &Change) -> Result<Facts> {
        let mut facts = Facts::default();
        let Change::Statements { statements, .. } = change else {
            return Ok(facts);
        };
        for statement in statements {
            if let Statement::CreateStream { definition, .. } = statement
                && self.is_archived(&definition.name).await?
            {
                facts.archived.insert(definition.name.clone());
            }
        }
        Ok(facts)
    }

    async fn is_archived(&self, stream: &StreamName) -> Result<bool> {
        let folder = Warehouse::master_path(stream);
        let store = self.warehouse.store();
        let first = store.list(Some(&folder)).try_next().await;
        first.map(|found| found.is_some()).map_err(|source| failed(&folder, source))
    }
}

fn failed(path: &Path, source: object_store::Error) -> Error {
    Error::Store { path: path.to_string(), source }
}
