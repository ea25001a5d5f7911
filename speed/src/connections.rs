//! The connections to Kafka that the operator's settings define.
//!
//! Invariant: only the settings define connections. Of the values of a connection, messages show the brokers alone, as
//! the settings write them; a reference stays a reference.

use std::collections::BTreeMap;
use std::fmt;

use thalweg_schemas::definition::stream::StreamDefinition;

use crate::{Error, Result};

/// The properties of librdkafka of one connection.
pub type Properties = BTreeMap<String, String>;

/// The connections of this process.
#[derive(Clone, Default)]
pub struct KafkaConnections {
    /// The connection of streams that name none: `[kafka]`.
    pub default: Properties,
    /// `[connection.NAME]`, by name. A named connection inherits nothing from the default.
    pub named: BTreeMap<String, Properties>,
}

impl fmt::Debug for KafkaConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |properties: &Properties| properties.keys().cloned().collect::<Vec<_>>();
        let named = self.named.iter().map(|(name, properties)| (name, keys(properties)));
        f.debug_map().entry(&"kafka", &keys(&self.default)).entries(named).finish()
    }
}

impl KafkaConnections {
    /// The connection that leads to the topic of `stream`.
    ///
    /// Errors: [`Error::FindConnection`].
    pub(crate) fn of(&self, stream: &StreamDefinition) -> Result<&Properties> {
        let Some(name) = &stream.connection else { return Ok(&self.default) };
        self.named.get(name).ok_or_else(|| Error::FindConnection {
            stream: stream.name.clone(),
            connection: name.clone(),
            known: self.named.keys().cloned().collect(),
        })
    }
}

/// The table of the settings that defines the connection of `stream`.
pub(crate) fn table_of(stream: &StreamDefinition) -> String {
    match &stream.connection {
        Some(name) => format!("[connection.{name}]"),
        None => "[kafka]".to_owned(),
    }
}
