//! A warehouse with the catalog of one stream and its views, and the channels through which a process learns of them.
//!
//! Invariant: the product's own code reads, compiles and stores the definitions.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::definition;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Frontier, Shared, StreamName};
use tokio::sync::watch;
use url::Url;

use crate::store::FaultyStore;

pub fn warehouse_over(store: Arc<dyn ObjectStore>) -> Warehouse {
    Warehouse::over(Url::parse("memory:///").unwrap(), store)
}

pub fn warehouse_in_memory() -> Warehouse {
    warehouse_over(Arc::new(InMemory::new()))
}

/// Returns a warehouse in memory whose store can be made to fail.
pub fn faulty_warehouse() -> (Warehouse, Arc<FaultyStore>) {
    let store = FaultyStore::in_memory();
    (warehouse_over(Arc::clone(&store) as _), store)
}

/// A stream, its views, and their published versions.
pub struct World {
    pub warehouse: Warehouse,
    pub catalogs: CatalogStore,
    pub catalog: watch::Sender<Arc<Catalog>>,
    pub published: watch::Sender<Arc<Published>>,
    pub stream: StreamName,
    pub origin: Frontier,
}

impl World {
    /// Creates the stream and the views of `definitions`. Nothing is published.
    pub async fn new(warehouse: Warehouse, definitions: &str, origin: Frontier) -> Self {
        let catalogs = CatalogStore::new(warehouse.clone());
        catalogs.apply(definition::parse(definitions).unwrap()).await.unwrap();
        let stream = catalogs.load().await.unwrap().streams.keys().next().unwrap().clone();
        let catalog = catalogs.record_origin(&stream, &origin).await.unwrap();
        let (catalog, published) = (watch::Sender::new(catalog), watch::Sender::new(Arc::default()));
        Self { warehouse, catalogs, catalog, published, stream, origin }
    }

    /// Serves every view that is being built.
    pub async fn promote(&self) {
        for view in self.views() {
            self.catalog.send_replace(self.catalogs.promote(&view.definition.name, view.plan.id()).await.unwrap());
        }
    }

    /// Returns the values that every layer receives.
    pub fn shared(&self) -> Shared {
        Shared {
            warehouse: self.warehouse.clone(),
            catalogs: self.catalogs.clone(),
            catalog: self.catalog.subscribe(),
            published: self.published.subscribe(),
        }
    }

    pub fn definition(&self) -> StreamDefinition {
        self.catalog.borrow().streams[&self.stream].definition.clone()
    }

    pub fn views(&self) -> Vec<Arc<CompiledView>> {
        self.catalog.borrow().compiled().cloned().collect()
    }
}
