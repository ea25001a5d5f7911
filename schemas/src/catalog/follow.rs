//! Follows the catalog: every new version reaches the layers of this process, whichever process wrote it.
//!
//! Invariant: versions are published in order, and none twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Catalog, CatalogStore};
use crate::{Fault, Result};

/// The interval at which the storage is polled for changes by other processes.
const POLL: Duration = Duration::from_millis(500);

/// Publishes new versions of one catalog to this process.
#[derive(Debug)]
pub struct CatalogFollower {
    catalogs: CatalogStore,
    shown: watch::Sender<Arc<Catalog>>,
}

impl CatalogFollower {
    /// Reads the newest version. Later versions are published while [`CatalogFollower::run`] runs.
    ///
    /// Errors: the catalog cannot be read.
    pub async fn open(catalogs: CatalogStore) -> Result<(Self, watch::Receiver<Arc<Catalog>>)> {
        let (shown, catalog) = watch::channel(catalogs.load().await?);
        Ok((Self { catalogs, shown }, catalog))
    }

    /// Publishes every new version until `cancel`. A change through the same store is published at once.
    ///
    /// While a version cannot be read, the last one stays.
    ///
    /// Errors: a broken invariant of the catalog.
    pub async fn run(self, cancel: CancellationToken) -> Result<()> {
        let mut reachable = true;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = self.catalogs.landed() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            let known = Arc::clone(&self.shown.borrow());
            match self.catalogs.refresh(&known).await {
                Ok(news) => {
                    reachable = true;
                    if let Some(catalog) = news {
                        tracing::info!(version = catalog.version, "the catalog changed");
                        self.shown.send_replace(catalog);
                    }
                }
                Err(e) if e.fault() != Fault::Bug => {
                    if reachable {
                        tracing::warn!("the catalog cannot be read for now: {e}");
                    }
                    reachable = false;
                }
                Err(e) => return Err(e),
            }
        }
    }
}
