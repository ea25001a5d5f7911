//! Where the ingest loop has schemas from: the registry, and a catalog that learns the columns of new schemas.
//!
//! ```text
//!  a new schema has fields without columns ─▶ ALTER TABLE … ADD COLUMN ─▶ the stream's session starts anew
//! ```
//!
//! Invariant: in a stream that evolves, no message is decoded before its schema's fields have columns. So the first
//! value of a new field is not lost, and the line is the offset of the message that has it.

use std::sync::Arc;

use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::decode::SchemaId;
use thalweg_schemas::decode::infer::new_columns;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::{Fault, StreamName};

use crate::Result;
use crate::config::SpeedConfig;
use crate::registry::{SchemaRegistry, Unfetched};
use crate::schema_cache::FetchedSchema;

/// Gives schemas by their ids; clones share one registry.
#[derive(Clone)]
pub(crate) struct SchemaSource {
    registry: SchemaRegistry,
    /// The stream as this process reads it, and the catalog; `None` if the stream does not get columns by itself.
    evolving: Option<(Arc<StreamDefinition>, CatalogStore)>,
}

impl SchemaSource {
    /// The source of a stream whose messages name their schemas by ids; `None` for other streams.
    ///
    /// Errors: those of [`SchemaRegistry::open`].
    pub(crate) fn needed(
        config: &SpeedConfig,
        stream: &StreamDefinition,
        catalogs: &CatalogStore,
    ) -> Result<Option<Self>> {
        let Some(registry) = SchemaRegistry::needed(config, stream)? else { return Ok(None) };
        let evolving = stream.messages.evolves.then(|| (Arc::new(stream.clone()), catalogs.clone()));
        Ok(Some(Self { registry, evolving }))
    }

    /// The schema with an id, once all of its fields have columns that can have one.
    ///
    /// Errors: why there is none now.
    pub(crate) async fn fetch(&self, id: SchemaId) -> Result<FetchedSchema, Unfetched> {
        let fetched = self.registry.fetch(id).await?;
        let (Some((stream, catalogs)), Ok(schema)) = (&self.evolving, &fetched) else { return Ok(fetched) };
        let Ok(Some(statement)) = new_columns(stream, schema) else { return Ok(fetched) };
        let wait = |reason| Err(Unfetched { reason, is_unknown: false });
        let name: &StreamName = &stream.name;
        match catalogs.apply(vec![statement]).await {
            Ok(applied) => {
                let actions: Vec<&str> = applied.iter().map(|applied| applied.action.as_str()).collect();
                tracing::info!(stream = %name, "schema {id} has new fields: {}", actions.join("; "));
                wait("its new fields become columns".to_owned())
            }
            // Another field would be refused as well: the message is read with the columns that there are.
            Err(error) if error.fault() == Fault::User => {
                tracing::warn!(stream = %name, "the new fields of schema {id} do not become columns: {error}");
                Ok(fetched)
            }
            Err(error) => wait(format!("its new fields cannot become columns: {error}")),
        }
    }
}
