//! Secrets that settings only refer to: `${env:NAME}` and `${file:/path}`.
//!
//! Invariant: a reference is looked up when a client is created, and only librdkafka receives the secret. No
//! definition, log or error contains the secret.

use std::collections::BTreeMap;

use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::reference::{Reference, look_up};

use crate::{Error, Result};

/// `properties` of the connection `table` with every reference replaced by its secret.
///
/// Errors: [`Error::Secret`], which names the property and the reference.
pub(crate) fn resolve(
    stream: &StreamDefinition,
    table: &str,
    properties: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    properties
        .into_iter()
        .map(|(property, value)| match look_up(&value) {
            Ok(secret) => Ok((property, secret)),
            Err(reason) => Err(Error::Secret {
                stream: stream.name.clone(),
                table: table.to_owned(),
                property,
                reference: value,
                reason,
            }),
        })
        .collect()
}

pub(crate) fn is_reference(value: &str) -> bool {
    Reference::of(value).is_some()
}
