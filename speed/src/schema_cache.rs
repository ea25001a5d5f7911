//! The schemas that were fetched from registries, and the properties of a connection that lead to its registry.
//!
//! Invariant: a schema never changes under its id, so one that was fetched is kept for the life of the process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thalweg_schemas::decode::{RegisteredSchema, SchemaId};

use crate::connections::Properties;

/// The prefix of the registry's properties in a connection.
const PREFIX: &str = "schema.registry.";
pub(crate) const URL: &str = "schema.registry.url";
pub(crate) const USER_INFO: &str = "schema.registry.basic.auth.user.info";
pub(crate) const TOKEN: &str = "schema.registry.bearer.auth.token";
pub(crate) const AUTHORITY: &str = "schema.registry.ssl.ca.location";
pub(crate) const KNOWN: [&str; 4] = [URL, USER_INFO, TOKEN, AUTHORITY];

/// A schema of a registry, or why messages with it are rejects.
pub(crate) type FetchedSchema = Result<RegisteredSchema, String>;

/// The schemas that this process has fetched, by the registry's addresses and the id; clones share them.
#[derive(Clone, Default)]
pub struct SchemaCache(Arc<Mutex<HashMap<(String, SchemaId), FetchedSchema>>>);

impl std::fmt::Debug for SchemaCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} schemas", self.0.lock().len())
    }
}

impl SchemaCache {
    pub(crate) fn get(&self, key: &(String, SchemaId)) -> Option<FetchedSchema> {
        self.0.lock().get(key).cloned()
    }

    pub(crate) fn keep(&self, key: (String, SchemaId), schema: FetchedSchema) {
        self.0.lock().insert(key, schema);
    }
}

/// The properties of a connection that librdkafka takes.
pub(crate) fn without_registry(connection: &Properties) -> Properties {
    connection.iter().filter(|(key, _)| !key.starts_with(PREFIX)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The first property of a connection that begins like those of the registry and is none, and those that there are.
pub fn unknown_registry_property(connection: &Properties) -> Option<(&str, [&'static str; 4])> {
    let unknown = connection.keys().find(|key| key.starts_with(PREFIX) && !KNOWN.contains(&key.as_str()));
    unknown.map(|key| (key.as_str(), KNOWN))
}
