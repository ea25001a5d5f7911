//! The schemas `pg_catalog` and `information_schema` of one statement.
//!
//! A table is made when a statement names it. Settings, functions and their parameters are the engine's own tables.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{MemTable, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as EngineResult;

use super::snapshot::{INFORMATION_SCHEMA, PG_CATALOG, Snapshot};
use super::{information, live};

/// Tables of the engine's `information_schema` that SHOW and the shell read.
const OF_THE_ENGINE: [&str; 3] = ["df_settings", "routines", "parameters"];

/// One of the two schemas.
#[derive(Debug)]
pub(super) struct SystemSchema {
    name: &'static str,
    snapshot: Arc<Snapshot>,
}

/// Both schemas by name.
pub(super) fn all(snapshot: &Arc<Snapshot>) -> Vec<(&'static str, Arc<dyn SchemaProvider>)> {
    let schema = |name| -> (&'static str, Arc<dyn SchemaProvider>) {
        (name, Arc::new(SystemSchema { name, snapshot: Arc::clone(snapshot) }))
    };
    vec![schema(PG_CATALOG), schema(INFORMATION_SCHEMA)]
}

impl SystemSchema {
    fn of_the_engine(&self, table: &str) -> bool {
        self.name == INFORMATION_SCHEMA && OF_THE_ENGINE.contains(&table)
    }

    fn batches(&self, table: &str) -> EngineResult<Vec<RecordBatch>> {
        let own = match self.name {
            PG_CATALOG => live::rows(table, &self.snapshot)?,
            _ => information::rows(table, &self.snapshot)?,
        };
        let fixed = self.snapshot.system.table(self.name, table).and_then(|table| table.fixed().cloned());
        Ok(own.into_iter().chain(fixed).collect())
    }
}

/// True if the table has no rows, whatever the streams and views are.
pub(super) fn is_empty(snapshot: &Snapshot, schema: &str, name: &str) -> bool {
    let Some(table) = snapshot.system.table(schema, name) else { return false };
    let has_rows = match schema {
        PG_CATALOG => live::HAVE_ROWS.contains(&name),
        _ => information::HAVE_ROWS.contains(&name) || OF_THE_ENGINE.contains(&name),
    };
    !has_rows && table.fixed().is_none()
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = self.snapshot.system.tables().filter(|table| table.schema == self.name);
        tables.map(|table| table.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        if self.of_the_engine(name) {
            let engine = InformationSchemaProvider::new(Arc::new(MemoryCatalogProviderList::new()));
            return engine.table(name).await;
        }
        let Some(table) = self.snapshot.system.table(self.name, name) else { return Ok(None) };
        let rows = MemTable::try_new(Arc::clone(&table.arrow), vec![self.batches(name)?])?;
        Ok(Some(Arc::new(rows)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.of_the_engine(name) || self.snapshot.system.table(self.name, name).is_some()
    }
}
