//! Following the warehouse: what other processes or clients define, publish and archive reaches this one's layers.
//!
//! Invariant: versions are shown in order, none twice.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use thalweg_batch::follow::{Masters, follow_masters, follow_published};
use thalweg_schemas::Fault;
use thalweg_schemas::catalog::{Catalog, CatalogStore};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::Published;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Stopped;
use super::supervise::supervise;

/// How soon a change made by another process is seen.
const POLL: Duration = Duration::from_millis(500);

/// Shows every new version of the catalog until `cancel`. Looks at once when this process has changed it: when `changed`
/// is poked, or a change by way of `catalogs` has landed.
///
/// Errors: the catalog cannot be understood, or storage refuses to show it.
pub(crate) async fn follow(
    catalogs: CatalogStore,
    shown: watch::Sender<Arc<Catalog>>,
    changed: Arc<Notify>,
    cancel: CancellationToken,
) -> Result<(), Stopped> {
    let mut reachable = true;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = changed.notified() => {}
            () = catalogs.landed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
        let known = Arc::clone(&shown.borrow());
        match catalogs.refresh(&known).await {
            Ok(news) => {
                reachable = true;
                if let Some(catalog) = news {
                    info!(version = catalog.version, "the catalog changed");
                    shown.send_replace(catalog);
                }
            }
            Err(e) if e.fault() == Fault::Transient => {
                if reachable {
                    warn!("the catalog cannot be read for now: {e}");
                }
                reachable = false;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Shows every batch version that is published, until `cancel`.
///
/// Errors: a broken promise.
pub(super) async fn published(
    warehouse: Warehouse,
    catalog: watch::Receiver<Arc<Catalog>>,
    shown: watch::Sender<Arc<Published>>,
    cancel: CancellationToken,
) -> Result<(), Stopped> {
    let (failure, _) = watch::channel(None);
    let attempt = || {
        let (catalog, shown) = (catalog.clone(), shown.clone());
        follow_published(warehouse.clone(), catalog, shown, cancel.clone()).map(|end| end.map_err(Stopped::from))
    };
    supervise("batch versions", &cancel, &failure, attempt).await
}

/// Shows the newest version of every master dataset, until `cancel`.
///
/// Errors: a broken promise.
pub(super) async fn masters(
    warehouse: Warehouse,
    catalog: watch::Receiver<Arc<Catalog>>,
    shown: watch::Sender<Arc<Masters>>,
    cancel: CancellationToken,
) -> Result<(), Stopped> {
    let (failure, _) = watch::channel(None);
    let attempt = || {
        let (catalog, shown) = (catalog.clone(), shown.clone());
        follow_masters(warehouse.clone(), catalog, shown, cancel.clone()).map(|end| end.map_err(Stopped::from))
    };
    supervise("archives", &cancel, &failure, attempt).await
}
