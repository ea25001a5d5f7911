//! What the options of formats with schemas have in common.
//!
//! Invariant: an option of a format that the stream does not have is refused, whatever its value.

use std::collections::BTreeSet;

use super::pieces::Piece;
use super::stream::RecordFormat;
use crate::{Error, Result};

/// Refuses the options of a format, each with whether it is `given`, in a stream of another `format`.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn foreign(owner: &str, given: &[(&str, bool)], format: RecordFormat, piece: &Piece<'_>) -> Result<()> {
    let Some((key, _)) = given.iter().find(|(_, given)| *given) else { return Ok(()) };
    let message = format!("'{key}' belongs to {owner}, and the messages are in the format '{}'", format.name());
    let help = format!("Add 'format' '{}', or leave the option out.", owner.to_lowercase());
    Err(Error::refuse(message, help).at(piece.option(key).and_then(|option| option.name)))
}

/// The ids of schemas in the option `key`, whose messages are rejects. Without a registry there can be none.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn refused_ids(
    list: Option<&str>,
    key: &str,
    has_registry: bool,
    piece: &Piece<'_>,
) -> Result<BTreeSet<u32>> {
    let Some(list) = list else { return Ok(BTreeSet::new()) };
    let (name, value) = piece.option(key).map_or((None, None), |option| (option.name, option.value));
    if !has_registry {
        let message = "A schema without a registry has no ids that could be refused";
        return Err(Error::refuse(message, format!("Leave out '{key}'.")).at(name));
    }
    let ids = list.split(',').map(|id| {
        let id = id.trim();
        id.parse().map_err(|_| {
            let help = format!("Ids are whole numbers with commas between: '{key}' '17, 19'.");
            Error::refuse(format!("`{id}` is no id of a schema"), help).at(value)
        })
    });
    ids.collect()
}
