//! The options of a stream that reads Avro.
//!
//! Invariant: a stream has a schema of its own exactly if no registry has those of its messages. Whether the schema
//! fits the columns is checked by [`crate::decode`].

use std::collections::BTreeMap;

use super::message::{AvroFraming, AvroOptions};
use super::pieces::Piece;
use super::registry_options::{foreign, refused_ids};
use super::stream::RecordFormat;
use crate::{Error, Result};

/// What says which schema wrote a message.
pub(super) const FRAMING: &str = "avro.framing";
/// The schema of the messages, as JSON.
pub(super) const SCHEMA: &str = "avro.schema";
/// Ids of schemas whose messages are rejects.
pub(super) const REFUSED: &str = "avro.refused";

/// Takes the options of Avro out of `options`.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn read_avro(
    options: &mut BTreeMap<String, String>,
    format: RecordFormat,
    piece: &Piece<'_>,
) -> Result<AvroOptions> {
    let (framing, schema, refused) = (options.remove(FRAMING), options.remove(SCHEMA), options.remove(REFUSED));
    let named = |key| piece.option(key).and_then(|option| option.name);
    let valued = |key| piece.option(key).and_then(|option| option.value);
    if format != RecordFormat::Avro {
        let given = [(FRAMING, framing.is_some()), (SCHEMA, schema.is_some()), (REFUSED, refused.is_some())];
        return foreign("Avro", &given, format, piece).map(|()| AvroOptions::default());
    }
    let framing = match framing {
        None if schema.is_some() => AvroFraming::None,
        None => AvroFraming::default(),
        Some(text) => AvroFraming::parse(&text).ok_or_else(|| {
            let help = "Framings are 'confluent', with the id of a schema in a registry, 'single_object', with the \
                        fingerprint of a schema, and 'none'.";
            Error::refuse(format!("`{text}` is no '{FRAMING}'"), help).at(valued(FRAMING))
        })?,
    };
    match (framing, &schema) {
        (AvroFraming::Confluent, None) => {}
        (AvroFraming::Confluent, Some(_)) => {
            let message = "In Confluent's wire format, every message names its schema in a registry";
            let help = "Leave out 'avro.schema'; the address of the registry is schema.registry.url in the settings, \
                        beside the brokers. Or add 'avro.framing' 'none'.";
            return Err(Error::refuse(message, help).at(named(SCHEMA)));
        }
        (_, None) => {
            let help = "Add 'avro.schema' with the JSON of the schema that wrote the messages.";
            return Err(Error::refuse("Without a registry the stream needs a schema", help).at(valued(FRAMING)));
        }
        (_, Some(_)) => {}
    }
    let refused = refused_ids(refused.as_deref(), REFUSED, framing == AvroFraming::Confluent, piece)?;
    Ok(AvroOptions { framing, schema, refused })
}
