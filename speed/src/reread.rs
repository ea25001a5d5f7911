//! Messages that were read before and are decoded again, outside of the ingest loop.
//!
//! Invariant: what is decoded is what the ingest loop would make of the messages today, with the same schemas.

use std::collections::BTreeSet;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::StreamName;
use thalweg_schemas::decode::{Decoder, Messages, SchemaId};
use thalweg_schemas::definition::stream::StreamDefinition;

use crate::config::SpeedConfig;
use crate::registry::SchemaRegistry;
use crate::{Error, Result};

/// Decodes messages of one stream.
pub struct Rereading {
    stream: StreamName,
    decoder: Decoder,
    registry: Option<SchemaRegistry>,
}

impl std::fmt::Debug for Rereading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rereading of `{}`", self.stream)
    }
}

impl Rereading {
    /// Errors: those of the registry's configuration, if messages name schemas by their ids.
    pub fn new(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Self> {
        Ok(Self {
            stream: stream.name.clone(),
            decoder: Decoder::new(stream)?,
            registry: SchemaRegistry::needed(config, stream)?,
        })
    }

    /// The rows and rejects of `messages`. A message whose schema the registry does not have is a reject.
    ///
    /// Errors: [`Error::FetchSchema`] if the registry does not answer.
    pub async fn decode(&self, messages: &Messages) -> Result<RecordBatch> {
        if let Some(registry) = &self.registry {
            let mut asked = BTreeSet::new();
            while let Some(id) = self.next_unknown(messages, &asked) {
                asked.insert(id);
                match registry.fetch(id).await {
                    Ok(fetched) => self.decoder.learn_schema(id, &fetched),
                    Err(unfetched) if unfetched.is_unknown => {
                        self.decoder.learn_schema(id, &Err(unfetched.reason));
                    }
                    Err(unfetched) => {
                        return Err(Error::FetchSchema { stream: self.stream.clone(), reason: unfetched.reason });
                    }
                }
            }
        }
        Ok(self.decoder.decode(messages)?.rows)
    }

    fn next_unknown(&self, messages: &Messages, asked: &BTreeSet<SchemaId>) -> Option<SchemaId> {
        let unknown = self.decoder.unknown_schemas(messages);
        unknown.into_values().map(|(_, id)| id).find(|id| !asked.contains(id))
    }
}
