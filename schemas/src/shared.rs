//! What every layer of a process is given: the warehouse, its catalog, and the batch versions that are published.
//!
//! It exists so that layers are wired with one value, the same for all. Invariant: all of it is of one warehouse.

use std::sync::Arc;

use tokio::sync::watch;

use crate::catalog::{Catalog, CatalogStore};
use crate::warehouse::Warehouse;
use crate::warehouse::versions::Published;

/// The handle of a process on one warehouse; cheap to clone. Each clone sees changes by itself.
#[derive(Debug, Clone)]
pub struct Shared {
    pub warehouse: Warehouse,
    /// Reads the catalog anew, and changes it.
    pub catalogs: CatalogStore,
    /// The newest catalog that this process knows.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The newest batch versions that this process knows.
    pub published: watch::Receiver<Arc<Published>>,
}
