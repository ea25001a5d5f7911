//! Tables that this process has put together, at pins that it holds, in place of those of the catalog.
//!
//! Invariant: the names of these tables are in a schema that no client's query can name.

use std::sync::Arc;

use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, TableProvider};

use crate::{Error, Result};

/// The schema of the assembled tables.
pub(crate) const ASSEMBLED: &str = "assembled";

/// Tables under names of the schema [`ASSEMBLED`].
#[derive(Debug, Clone)]
pub(crate) struct AssembledTables(Arc<dyn SchemaProvider>);

impl AssembledTables {
    /// Errors: those of the engine.
    pub(crate) fn new(tables: impl IntoIterator<Item = (&'static str, Arc<dyn TableProvider>)>) -> Result<Self> {
        let schema = MemorySchemaProvider::new();
        for (name, table) in tables {
            schema.register_table(name.to_owned(), table).map_err(|source| Error::of_engine(source, true))?;
        }
        Ok(Self(Arc::new(schema)))
    }

    pub(super) fn schema(&self) -> (&'static str, Arc<dyn SchemaProvider>) {
        (ASSEMBLED, Arc::clone(&self.0))
    }
}
