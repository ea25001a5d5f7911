//! Announces the newest batch version of every view and the newest version of every master dataset to readers,
//! whichever process wrote the versions.
//!
//! Invariant: this file writes nothing to the warehouse, and announced versions never go back.

mod reasons;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::{Catalog, CatalogStream, CompiledView};
use thalweg_schemas::error::innermost;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion, Masters, Published};
use thalweg_schemas::{Fault, StreamName, ViewId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::reasons::Reasons;
use crate::Result;
use crate::archive::Archive;
use crate::view_table::ViewTable;

/// Time between two polls of the tables. A poll costs one small request per table.
const POLL: Duration = Duration::from_secs(1);

/// Announces new batch versions from the state tables, until cancelled. A process that runs [`crate::schedule()`]
/// does not need this function, because the schedule calls it.
///
/// Errors: a broken invariant. A table that cannot be read concerns its view alone, which keeps its last version; the
/// log has the reason once.
pub async fn follow_published(
    warehouse: Warehouse,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    published: watch::Sender<Arc<Published>>,
    cancel: CancellationToken,
) -> Result<()> {
    let mut tables: HashMap<ViewId, ViewTable> = HashMap::new();
    let mut reasons = Reasons::new();
    catalog.mark_changed();
    while turn(&mut catalog, &cancel).await {
        let known = Arc::clone(&catalog.borrow_and_update());
        let views: HashMap<ViewId, &Arc<CompiledView>> =
            known.compiled().map(|view| (view.plan.id().clone(), view)).collect();
        tables.retain(|id, _| views.contains_key(id));
        reasons.retain(|id| views.contains_key(id));
        forget_others(&published, &views);
        for (id, view) in &views {
            match latest(&warehouse, &mut tables, id, view).await {
                Ok(version) => {
                    reasons.end(id);
                    if let Some(version) = version {
                        announce(&published, version);
                    }
                }
                Err(error) if error.fault() == Fault::Bug => return Err(error),
                Err(error) if reasons.is_new(id, innermost(&error)) => {
                    let view = &view.definition.name;
                    tracing::warn!(%view, %error, "published versions are not seen");
                }
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Announces new versions of master datasets, until cancelled. A stream without an archived epoch has no version.
///
/// Errors: a broken invariant. A table that cannot be read, for example one with another stream's columns, concerns its
/// stream alone, which keeps its last version; the log has the reason once.
pub async fn follow_masters(
    warehouse: Warehouse,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    masters: watch::Sender<Arc<Masters>>,
    cancel: CancellationToken,
) -> Result<()> {
    let mut archives: HashMap<StreamName, Followed> = HashMap::new();
    let mut reasons = Reasons::new();
    catalog.mark_changed();
    while turn(&mut catalog, &cancel).await {
        let known = Arc::clone(&catalog.borrow_and_update());
        archives.retain(|name, followed| {
            let stream = known.streams.get(name);
            stream.is_some_and(|stream| stream.definition.sql == followed.sql)
        });
        reasons.retain(|name| known.streams.contains_key(name));
        let mut seen = Masters::new();
        for (name, stream) in &known.streams {
            match newest(&warehouse, &mut archives, stream).await {
                Ok(version) => {
                    reasons.end(name);
                    seen.extend(version.map(|version| (name.clone(), version)));
                }
                Err(error) if error.fault() == Fault::Bug => return Err(error),
                Err(error) => {
                    if reasons.is_new(name, innermost(&error)) {
                        tracing::warn!(stream = %name, %error, "the archive is not seen");
                    }
                    let known = masters.borrow().get(name).cloned();
                    seen.extend(known.map(|version| (name.clone(), version)));
                }
            }
        }
        masters.send_if_modified(|shown| {
            let same = |(name, version): (&StreamName, &Arc<MasterVersion>)| {
                shown.get(name).is_some_and(|old| Arc::ptr_eq(old, version))
            };
            if shown.len() == seen.len() && seen.iter().all(same) {
                return false;
            }
            *shown = Arc::new(seen);
            true
        });
    }
    Ok(())
}

/// Waits for the next poll, or for a change of definitions. Returns false after cancellation.
async fn turn(catalog: &mut watch::Receiver<Arc<Catalog>>, cancel: &CancellationToken) -> bool {
    tokio::select! {
        () = cancel.cancelled() => false,
        changed = catalog.changed() => changed.is_ok(),
        () = tokio::time::sleep(POLL) => true,
    }
}

async fn latest(
    warehouse: &Warehouse,
    tables: &mut HashMap<ViewId, ViewTable>,
    id: &ViewId,
    view: &CompiledView,
) -> Result<Option<Arc<BatchVersion>>> {
    if !tables.contains_key(id) {
        let table = ViewTable::open(warehouse, id, view.plan.stored_schema()).await?;
        tables.insert(id.clone(), table);
    }
    match tables.get_mut(id) {
        Some(table) => table.latest().await,
        None => Ok(None),
    }
}

/// An open archive, and the definition that it was opened for.
struct Followed {
    sql: String,
    archive: Archive,
}

async fn newest(
    warehouse: &Warehouse,
    archives: &mut HashMap<StreamName, Followed>,
    stream: &CatalogStream,
) -> Result<Option<Arc<MasterVersion>>> {
    let definition = &stream.definition;
    let origin = || stream.origin.clone();
    if !archives.contains_key(&definition.name) {
        let Some(archive) = Archive::find(warehouse, definition, origin()).await? else {
            return Ok(None);
        };
        let sql = definition.sql.clone();
        archives.insert(definition.name.clone(), Followed { sql, archive });
    }
    match archives.get_mut(&definition.name) {
        Some(Followed { archive, .. }) => {
            archive.know_origin(origin());
            archive.latest().await.map(Some)
        }
        None => Ok(None),
    }
}

/// Announces `version`, unless this version or a newer one was announced before.
pub(crate) fn announce(published: &watch::Sender<Arc<Published>>, version: Arc<BatchVersion>) {
    published.send_if_modified(|published| {
        let known = published.versions.get(&version.view);
        if known.is_some_and(|known| known.version >= version.version) {
            return false;
        }
        Arc::make_mut(published).versions.insert(version.view.clone(), version);
        true
    });
}

fn forget_others(published: &watch::Sender<Arc<Published>>, views: &HashMap<ViewId, &Arc<CompiledView>>) {
    published.send_if_modified(|published| {
        if published.versions.keys().all(|id| views.contains_key(id)) {
            return false;
        }
        let versions = &mut Arc::make_mut(published).versions;
        versions.retain(|id, _| views.contains_key(id));
        true
    });
}

#[cfg(test)]
mod tests;
