//! The options of a stream that reads JSON, and what becomes of tombstones.
//!
//! Invariant: options that contradict the format or the columns are refused when the stream is created.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};

use super::message::{
    BytesForm, DecimalForm, Envelope, JsonOptions, MessageRows, TimestampUnit, TimestampUnits, Tombstones,
};
use super::pieces::Piece;
use super::registry_options::foreign;
use super::stream::RecordFormat;
use crate::{Error, Result};

/// What is around the columns of a row.
pub(super) const ENVELOPE: &str = "envelope";
/// How many objects a message has.
pub(super) const ROWS: &str = "json.rows";
/// How BYTEA is written.
pub(super) const BYTES: &str = "json.bytes";
/// How DECIMAL is written.
pub(super) const DECIMALS: &str = "json.decimals";
/// What becomes of messages without a payload.
pub(super) const TOMBSTONES: &str = "tombstones";

/// Takes the options of JSON out of `options`.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn read_json(
    options: &mut BTreeMap<String, String>,
    format: RecordFormat,
    piece: &Piece<'_>,
) -> Result<JsonOptions> {
    if format != RecordFormat::Json {
        let given = [ENVELOPE, ROWS, BYTES, DECIMALS].map(|key| (key, options.contains_key(key)));
        return foreign("JSON", &given, format, piece).map(|()| JsonOptions::default());
    }
    let envelopes = [("none", Envelope::None), ("connect", Envelope::Connect), ("debezium", Envelope::Debezium)];
    let rows = [("one", MessageRows::One), ("array", MessageRows::Array), ("lines", MessageRows::Lines)];
    let bytes = [("hex", BytesForm::Hexadecimal), ("base64", BytesForm::Base64)];
    let decimals = [("number", DecimalForm::Number), ("base64", DecimalForm::Base64)];
    Ok(JsonOptions {
        envelope: choice(options, ENVELOPE, &envelopes, piece)?.unwrap_or_default(),
        rows: choice(options, ROWS, &rows, piece)?.unwrap_or_default(),
        bytes: choice(options, BYTES, &bytes, piece)?.unwrap_or_default(),
        decimals: choice(options, DECIMALS, &decimals, piece)?.unwrap_or_default(),
    })
}

/// Takes the option that says what becomes of tombstones out of `options`. Debezium writes one after each delete.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn read_tombstones(
    options: &mut BTreeMap<String, String>,
    format: RecordFormat,
    envelope: Envelope,
    piece: &Piece<'_>,
) -> Result<Tombstones> {
    let choices = [("reject", Tombstones::Read), ("skip", Tombstones::Skip)];
    match choice(options, TOMBSTONES, &choices, piece)? {
        Some(_) if format == RecordFormat::Raw => {
            let message = "A tombstone of raw messages is a row without a value";
            let help = "Leave out 'tombstones'; a view leaves such rows out with WHERE … IS NOT NULL.";
            Err(Error::refuse(message, help).at(piece.option(TOMBSTONES).and_then(|option| option.name)))
        }
        Some(chosen) => Ok(chosen),
        None if envelope == Envelope::Debezium => Ok(Tombstones::Skip),
        None => Ok(Tombstones::default()),
    }
}

/// Gives the times of Debezium's envelope the units that they have there, unless the definition says otherwise.
pub(super) fn set_units_of_envelope(units: &mut TimestampUnits, columns: &Schema, envelope: Envelope) {
    if envelope != Envelope::Debezium {
        return;
    }
    let known = [
        ("ts_ms", TimestampUnit::Milliseconds),
        ("ts_us", TimestampUnit::Microseconds),
        ("ts_ns", TimestampUnit::Nanoseconds),
    ];
    for (name, unit) in known {
        let is_time = |column: &arrow::datatypes::Field| matches!(column.data_type(), DataType::Timestamp(..));
        if columns.field_with_name(name).is_ok_and(is_time) {
            units.columns.entry(name.to_owned()).or_insert(unit);
        }
    }
}

/// Takes the option `key` out of `options`: the choice that its value names.
fn choice<T: Copy>(
    options: &mut BTreeMap<String, String>,
    key: &str,
    choices: &[(&str, T)],
    piece: &Piece<'_>,
) -> Result<Option<T>> {
    let Some(text) = options.remove(key) else { return Ok(None) };
    match choices.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, chosen)) => Ok(Some(*chosen)),
        None => {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("'{name}'")).collect();
            let help = format!("Write {}.", names.join(" or "));
            Err(Error::refuse(format!("`{text}` is no '{key}'"), help).at(piece.option(key).and_then(|o| o.value)))
        }
    }
}
