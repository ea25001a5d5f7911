//! The handle that every layer of a process receives: the warehouse, its catalog, and the published batch versions.
//!
//! All layers are wired with the same value, so no two layers see different warehouses. Invariant: all fields belong to
//! one warehouse.

use std::sync::Arc;

use tokio::sync::watch;

use crate::catalog::{Catalog, CatalogStore};
use crate::warehouse::Warehouse;
use crate::warehouse::versions::Published;

/// A process's handle on one warehouse; cheap to clone. Each clone tracks by itself which changes it has seen.
#[derive(Debug, Clone)]
pub struct Shared {
    pub warehouse: Warehouse,
    /// Reads the catalog from the warehouse, and changes it.
    pub catalogs: CatalogStore,
    /// The newest catalog that this process knows.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The newest batch versions that this process knows.
    pub published: watch::Receiver<Arc<Published>>,
}
