//! The batch states of one view id: a Delta table whose versions are the view's batch versions.
//!
//! Invariant: a publication lands only on the version that its run started from. If two runs start from the same
//! version, one is published and the files of the other are deleted. Files that the newest version does not need are
//! kept for a grace time, because a query may still read them.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::BatchVersion;
use thalweg_schemas::{Frontier, ViewId};
use uuid::Uuid;

use crate::files::{FileKind, PartFiles, discard};
use crate::log::{Draft, Landing, Log, NewFile, PublishedAt};
use crate::{Error, Result};

/// Age at which a file of no version counts as an orphan of a dead run.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// A view's batch states. The table is created by the first publication.
#[derive(Debug)]
pub struct ViewTable {
    view: ViewId,
    /// The view's stored schema.
    schema: SchemaRef,
    store: Arc<dyn ObjectStore>,
    folder: Path,
    log: Option<Log>,
    version: Option<Arc<BatchVersion>>,
}

/// The files of a run, to be published.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) run: Uuid,
    pub(crate) files: Vec<NewFile>,
    /// True if the files hold everything below `cut`; false if they hold only the range above the base version.
    pub(crate) replace: bool,
    pub(crate) cut: Frontier,
    pub(crate) master_version: u64,
}

/// The outcome of a publication.
#[derive(Debug, Clone)]
pub(crate) enum PublishOutcome {
    Published(Arc<BatchVersion>),
    /// Another run published first; holds the newest published version, if there is one.
    Fenced(Option<Arc<BatchVersion>>),
}

impl ViewTable {
    /// Opens the table of `view`, whose states have the columns of `schema`. The table need not exist yet.
    ///
    /// Errors: [`Error::ReadLog`], [`Error::MatchSchema`].
    pub async fn open(warehouse: &Warehouse, view: &ViewId, schema: &SchemaRef) -> Result<Self> {
        let folder = Warehouse::view_path(view);
        let log = Log::open(warehouse.store(), folder.clone(), schema).await?;
        Ok(Self {
            view: view.clone(),
            schema: Arc::clone(schema),
            store: warehouse.store(),
            folder,
            log,
            version: None,
        })
    }

    /// The newest published version, if there is one. Costs one small request if there is no new publication.
    ///
    /// Errors: [`Error::ReadLog`], [`Error::UnderstandLog`].
    pub async fn latest(&mut self) -> Result<Option<Arc<BatchVersion>>> {
        match &mut self.log {
            Some(log) => log.refresh().await?,
            None => {
                let folder = self.folder.clone();
                self.log = Log::open(Arc::clone(&self.store), folder, &self.schema).await?;
            }
        }
        Ok(self.current())
    }

    fn current(&mut self) -> Option<Arc<BatchVersion>> {
        let state = self.log.as_ref()?.state();
        let published = state.note.published.as_ref()?;
        if self.version.as_ref().is_none_or(|v| v.version != state.version) {
            self.version = Some(Arc::new(BatchVersion {
                view: self.view.clone(),
                version: state.version,
                cut: state.note.next.clone(),
                master_version: published.master_version,
                published_ms: published.at_ms,
                files: state.files.values().cloned().collect(),
            }));
        }
        self.version.clone()
    }

    /// A writer for the states of `run`.
    pub(crate) fn writer(&self, run: Uuid) -> PartFiles {
        let name = format!("states-{}", run.simple());
        let (store, folder, schema) = (Arc::clone(&self.store), self.folder.clone(), Arc::clone(&self.schema));
        PartFiles::new(store, folder, schema, FileKind::States, name)
    }

    /// Deletes the files of a run that is not published.
    pub(crate) async fn drop_files(&self, files: &[NewFile]) {
        discard(&self.store, &self.folder, files).await;
    }

    /// Publishes the result of a run that started from the version `base`.
    ///
    /// Errors: [`Error::WriteLog`], [`Error::ReadLog`]: it is unknown then whether the commit landed;
    /// [`Error::Broken`] if the cut would move back.
    pub(crate) async fn publish(
        &mut self,
        base: Option<&BatchVersion>,
        publication: Publication,
    ) -> Result<PublishOutcome> {
        if base.is_some_and(|base| !publication.cut.covers(&base.cut)) {
            return Err(Error::Broken(format!(
                "view {} would be published at {}, below its cut",
                self.view, publication.cut
            )));
        }
        let log = match &mut self.log {
            Some(log) => log,
            None => {
                let (store, folder) = (Arc::clone(&self.store), self.folder.clone());
                let log = Log::open_or_create(store, folder, &self.schema).await?;
                self.log.insert(log)
            }
        };
        let landing = log
            .compare_and_set(publication.run, |state| {
                let started_here = match base {
                    Some(base) => state.version == base.version,
                    None => state.note.published.is_none(),
                };
                started_here.then(|| Draft {
                    adds: publication.files.clone(),
                    replace: publication.replace,
                    next: publication.cut.clone(),
                    published: Some(PublishedAt {
                        master_version: publication.master_version,
                        at_ms: chrono::Utc::now().timestamp_millis(),
                    }),
                    ..Draft::default()
                })
            })
            .await?;
        match (landing, self.current()) {
            (Landing::Landed, Some(version)) => Ok(PublishOutcome::Published(version)),
            (Landing::Landed, None) => {
                Err(Error::Broken(format!("view {} was published and has no version", self.view)))
            }
            (Landing::Fenced, version) => {
                discard(&self.store, &self.folder, &publication.files).await;
                Ok(PublishOutcome::Fenced(version))
            }
        }
    }

    /// Maintenance: writes a checkpoint of the log if one is due, and vacuums files that no version has needed for
    /// `grace`. A failure loses no data.
    pub async fn maintain(&mut self, grace: Duration) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.checkpoint().await
        {
            tracing::warn!(view = %self.view, %error, "no checkpoint written; opening the table takes longer");
        }
        match self.vacuum(grace).await {
            Ok(0) => {}
            Ok(files) => {
                tracing::debug!(view = %self.view, files, "removed files that are not needed")
            }
            Err(error) => {
                tracing::warn!(view = %self.view, %error, "files that are not needed are kept");
            }
        }
    }

    /// Deletes files that no version has needed for `grace`. Returns their number.
    async fn vacuum(&mut self, grace: Duration) -> Result<usize> {
        let Some(log) = &mut self.log else {
            return Ok(0);
        };
        let now = chrono::Utc::now();
        let failed = |source| Error::Store { path: self.folder.to_string(), source };
        let listing = self.store.list(Some(&self.folder));
        let listed: Vec<_> = listing.try_collect().await.map_err(failed)?;
        let mut removed = 0;
        for meta in listed {
            let Some(name) = meta.location.filename().filter(|n| n.ends_with(".parquet")) else {
                continue;
            };
            let of_table = self.folder.clone().join(name) == meta.location;
            if !of_table || log.state().files.contains_key(name) {
                continue;
            }
            match log.state().removed.get(name).copied() {
                Some(since) if now.timestamp_millis() - since >= millis(grace) => {
                    match self.store.delete(&meta.location).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(source) => return Err(failed(source)),
                    }
                    log.removed_mut().remove(name);
                    removed += 1;
                }
                Some(_) => {}
                // The file belongs to an unpublished run, or an earlier process saw its removal. Only an old file
                // counts as removed, from now on.
                None => {
                    let age = now.signed_duration_since(meta.last_modified);
                    if age.num_milliseconds() >= millis(ORPHAN_AGE) {
                        let name = name.to_owned();
                        log.removed_mut().insert(name, now.timestamp_millis());
                    }
                }
            }
        }
        Ok(removed)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
