//! The options of a stream that reads Protobuf.
//!
//! Invariant: a stream has a schema of its own exactly if no registry has those of its messages. Whether the schema
//! fits the columns is checked by [`crate::decode`].

use std::collections::BTreeMap;

use super::message::{ProtobufFraming, ProtobufOptions};
use super::pieces::Piece;
use super::registry_options::{foreign, refused_ids};
use super::stream::RecordFormat;
use crate::{Error, Result};

/// What says which schema wrote a message.
pub(super) const FRAMING: &str = "protobuf.framing";
/// The text of the `.proto` file that declares the messages.
pub(super) const SCHEMA: &str = "protobuf.schema";
/// The descriptors of several files, in base64.
pub(super) const DESCRIPTOR: &str = "protobuf.descriptor";
/// The full name of the message that is read.
pub(super) const MESSAGE: &str = "protobuf.message";
/// Ids of schemas whose messages are rejects.
pub(super) const REFUSED: &str = "protobuf.refused";

/// Takes the options of Protobuf out of `options`.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn read_protobuf(
    options: &mut BTreeMap<String, String>,
    format: RecordFormat,
    piece: &Piece<'_>,
) -> Result<ProtobufOptions> {
    let [framing, schema, descriptor, message, refused] =
        [FRAMING, SCHEMA, DESCRIPTOR, MESSAGE, REFUSED].map(|key| options.remove(key));
    let named = |key| piece.option(key).and_then(|option| option.name);
    let valued = |key| piece.option(key).and_then(|option| option.value);
    if format != RecordFormat::Protobuf {
        let given = [
            (FRAMING, framing.is_some()),
            (SCHEMA, schema.is_some()),
            (DESCRIPTOR, descriptor.is_some()),
            (MESSAGE, message.is_some()),
            (REFUSED, refused.is_some()),
        ];
        return foreign("Protobuf", &given, format, piece).map(|()| ProtobufOptions::default());
    }
    let own = match (&schema, &descriptor) {
        (Some(_), Some(_)) => {
            let help =
                "Keep 'protobuf.schema', the text of one file, or 'protobuf.descriptor', the descriptors of all.";
            return Err(Error::refuse("The stream has two schemas", help).at(named(DESCRIPTOR)));
        }
        (Some(_), None) => Some(SCHEMA),
        (None, Some(_)) => Some(DESCRIPTOR),
        (None, None) => None,
    };
    let framing = match framing {
        None if own.is_some() => ProtobufFraming::None,
        None => ProtobufFraming::default(),
        Some(text) => ProtobufFraming::parse(&text).ok_or_else(|| {
            let help = "Framings are 'confluent', with the id of a schema in a registry, 'none', with the message alone, \
                        and 'delimited', with its length before it.";
            Error::refuse(format!("`{text}` is no '{FRAMING}'"), help).at(valued(FRAMING))
        })?,
    };
    match (framing, own) {
        (ProtobufFraming::Confluent, Some(key)) => {
            let message = "In Confluent's wire format, every message names its schema in a registry";
            let help = format!(
                "Leave out '{key}'; the address of the registry is schema.registry.url in the settings, beside the \
                 brokers. Or add 'protobuf.framing' 'none'."
            );
            return Err(Error::refuse(message, help).at(named(key)));
        }
        (ProtobufFraming::Delimited | ProtobufFraming::None, None) => {
            let help = "Add 'protobuf.schema' with the text of the .proto file, or 'protobuf.descriptor'.";
            return Err(Error::refuse("Without a registry the stream needs a schema", help).at(valued(FRAMING)));
        }
        _ => {}
    }
    let message = message.map(|name| name.strip_prefix('.').map_or(name.clone(), str::to_owned));
    let refused = refused_ids(refused.as_deref(), REFUSED, framing == ProtobufFraming::Confluent, piece)?;
    Ok(ProtobufOptions { framing, schema, descriptor, message, refused })
}
