//! The views whose newest run failed, as small objects in the warehouse: `failures/<view id>`. A replica has no other
//! connection to the processes that run views, and tells its clients why a view does not advance.
//!
//! Invariant: no answer and no commit depends on these objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use thalweg_schemas::ViewId;
use thalweg_schemas::api::runs::{RunOutcome, RunReport};
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::warehouse::Warehouse;

/// Time between two polls of the folder.
pub const POLL: Duration = Duration::from_secs(5);

/// The content of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FailedRun {
    view: ViewId,
    failure: ViewFailure,
}

/// Writes the failures of one process's runs. Several processes write the objects of the same views, so each run says
/// what it has ended with, whatever this process has written before.
pub(crate) struct FailedRuns {
    store: Arc<dyn ObjectStore>,
    /// When each view failed first, in milliseconds since 1970, as far as the objects are known.
    since: HashMap<ViewId, i64>,
}

impl FailedRuns {
    /// Reads what earlier processes have written. A store that does not answer costs only that knowledge.
    pub(crate) async fn open(warehouse: &Warehouse) -> Self {
        let mut reader = Reader::new(warehouse);
        let known = reader.read().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "failures of earlier runs are not seen");
            BTreeMap::new()
        });
        let since = known.into_iter().map(|(view, failure)| (view, failure.since_ms)).collect();
        Self { store: warehouse.store(), since }
    }

    /// Writes the failure of a run, or removes the failure that the run has ended. A store that does not take the
    /// object gets the next one.
    pub(crate) async fn record(&mut self, report: &RunReport) {
        let path = Warehouse::failure_path(&report.id);
        let done = match &report.outcome {
            RunOutcome::Failed(failure) => {
                let since_ms = *self.since.entry(report.id.clone()).or_insert(failure.since_ms);
                let failure = ViewFailure { since_ms, ..failure.clone() };
                write(&self.store, &path, &FailedRun { view: report.id.clone(), failure }).await
            }
            RunOutcome::Busy { .. } => return,
            RunOutcome::Published | RunOutcome::NothingNew | RunOutcome::Fenced => {
                self.since.remove(&report.id);
                remove(&self.store, &path).await
            }
        };
        if let Err(error) = done {
            tracing::debug!(%path, %error, "replicas do not hear of the end of a run");
        }
    }

    /// Removes the failures of views that do not exist any more.
    pub(crate) async fn keep(&mut self, exists: impl Fn(&ViewId) -> bool) {
        let gone: Vec<ViewId> = self.since.keys().filter(|id| !exists(id)).cloned().collect();
        for id in gone {
            let path = Warehouse::failure_path(&id);
            match remove(&self.store, &path).await {
                Ok(()) => drop(self.since.remove(&id)),
                Err(error) => tracing::debug!(%path, %error, "a failure of a dropped view is left"),
            }
        }
    }
}

async fn write(store: &Arc<dyn ObjectStore>, path: &Path, failed: &FailedRun) -> object_store::Result<()> {
    let generic = |source: serde_json::Error| object_store::Error::Generic { store: "json", source: source.into() };
    let bytes = serde_json::to_vec(failed).map_err(generic)?;
    store.put(path, PutPayload::from(bytes)).await.map(drop)
}

async fn remove(store: &Arc<dyn ObjectStore>, path: &Path) -> object_store::Result<()> {
    match store.delete(path).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        done => done,
    }
}

/// Calls `show` with the failures of all views whenever they change. Never returns.
pub async fn follow_failures(
    warehouse: Warehouse,
    poll: Duration,
    show: impl Fn(BTreeMap<ViewId, ViewFailure>) + Send,
) {
    let mut reader = Reader::new(&warehouse);
    let mut shown = BTreeMap::new();
    loop {
        match reader.read().await {
            Ok(failures) if failures != shown => {
                shown.clone_from(&failures);
                show(failures);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "failures of runs are not seen"),
        }
        tokio::time::sleep(poll).await;
    }
}

/// Reads objects again only if they have changed.
struct Reader {
    store: Arc<dyn ObjectStore>,
    read: HashMap<Path, (ObjectMeta, FailedRun)>,
}

impl Reader {
    fn new(warehouse: &Warehouse) -> Self {
        Self { store: warehouse.store(), read: HashMap::new() }
    }

    async fn read(&mut self) -> object_store::Result<BTreeMap<ViewId, ViewFailure>> {
        let listed: Vec<ObjectMeta> = self.store.list(Some(&Warehouse::failures_path())).try_collect().await?;
        let mut read = HashMap::new();
        for meta in listed {
            let known = self.read.remove(&meta.location).filter(|(known, _)| *known == meta);
            let failed = match known {
                Some((_, failed)) => Some(failed),
                None => self.fetch(&meta.location).await?,
            };
            if let Some(failed) = failed {
                read.insert(meta.location.clone(), (meta, failed));
            }
        }
        self.read = read;
        Ok(self.read.values().map(|(_, failed)| (failed.view.clone(), failed.failure.clone())).collect())
    }

    /// `None` if the object is gone, or written by a version that this program does not know.
    async fn fetch(&self, path: &Path) -> object_store::Result<Option<FailedRun>> {
        let bytes = match self.store.get(path).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

#[cfg(test)]
mod tests;
