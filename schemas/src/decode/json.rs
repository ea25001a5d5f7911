//! JSON messages: exactly one object per message, with keys that are matched with the columns by name.
//!
//! A message must be valid JSON by RFC 8259 to its last byte, including the values of keys without a column. Each value
//! must be of its column's type. A value that does not fit without a change makes the message a reject.
//!
//! | column | takes |
//! |---|---|
//! | any | `null`; a missing key is also null |
//! | BOOLEAN | `true`, `false` |
//! | TINYINT to BIGINT | a whole number in range, in any notation: `12`, `12.0`, `1.2e1`; not `1.5` |
//! | DECIMAL(p, s) | a number with at most `s` decimal places and `p` digits, not counting zeros at the end: for (4, 2) `1.50`, `1.5000`, `15e-1`, but not `1.505` or `100` |
//! | DOUBLE, REAL | a number, rounded to the nearest value of the type (`1e-400` is 0); `"NaN"`, `"Infinity"` and `"-Infinity"`; not `1e999`, which is out of range |
//! | all number types above | also the number in a string, with nothing around it: `"12"` |
//! | STRING | a string |
//! | BYTEA | a string of hexadecimal digits, two per byte |
//! | DATE | `"2024-05-01"`, or days since 1970 as a whole number; the years 1 to 9999 |
//! | TIMESTAMP | a string: a time in a form of ISO 8601 that docs/definitions.md lists, without an offset (the time is then in UTC), or a date alone; no leap seconds. Or a number since 1970 in the unit of its column, unless it would be a time of early 1970 and plausible in a coarser unit. The years 1 to 9999. Digits below a microsecond, the precision of a timestamp, are cut off |
//! | lists | a list, each item by the rules of the items' type |
//! | STRUCT | an object, each field by the rules of its type |
//!
//! - Keys are compared after their escapes are resolved. A column without upper-case letters takes a key in any case,
//!   and prefers the key that is written like the column. Unknown keys are ignored. A column's key that occurs twice
//!   makes the message a reject, because either value could be meant. So do two keys that match in another case only.
//! - A byte order mark before the object is ignored.
//! - Values are not converted between kinds: a STRING or BOOLEAN takes no number, and a number type takes no boolean.
//!
//! Invariant: a row's values equal the values in its message, and no byte of a message reaches the row of another
//! message.

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::de::IgnoredAny;

use super::columns::{columns, refused_value};
use super::fields::{FieldNames, FieldValues};
use super::{Messages, Parsed, Reason};
use crate::definition::message::TimestampUnits;

/// Reads JSON messages into the columns of a schema.
#[derive(Debug)]
pub(super) struct JsonReader {
    /// The columns, all nullable.
    columns: SchemaRef,
    names: FieldNames,
    units: TimestampUnits,
}

impl JsonReader {
    /// Errors: a column has a type that is not canonical.
    pub(super) fn new(schema: SchemaRef, units: &TimestampUnits) -> Result<Self, ArrowError> {
        columns(schema.fields(), |name| units.of(name), 0)?;
        Ok(Self { names: FieldNames::new(schema.fields()), columns: schema, units: units.clone() })
    }

    /// Reads all `messages`.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let mut columns = columns(self.columns.fields(), |name| self.units.of(name), messages.len())?;
        let mut reasons = Vec::with_capacity(messages.len());
        let mut found = FieldValues::new(columns.len());
        let nothing = FieldValues::new(columns.len());
        for at in 0..messages.len() {
            let mut reason = self.fill(&mut found, messages.payload(at)).err();
            let values = if reason.is_none() { &found } else { &nothing };
            for (c, column) in columns.iter_mut().enumerate() {
                if let Err(why) = column.append(values.raw(c))
                    && reason.is_none()
                {
                    reason = Some(refused_value(self.columns.field(c), &why));
                }
            }
            reasons.push(reason);
        }
        Parsed::new(&self.columns, columns, reasons)
    }

    /// Fills `values` with the values of one message.
    fn fill<'a>(&self, values: &mut FieldValues<'a>, payload: &'a [u8]) -> Result<(), Reason> {
        let Ok(text) = std::str::from_utf8(payload) else {
            return Err("the message is not UTF-8 text".into());
        };
        // RFC 8259, 8.1: a reader may ignore the mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match values.fill(&self.names, text) {
            Ok(None) => Ok(()),
            Ok(Some(at)) => Err(format!("`{}` occurs twice", self.names.name(at)).into()),
            Err(error) => Err(explain(text, &error)),
        }
    }
}

/// The reason why `text` is not one JSON object.
fn explain(text: &str, error: &serde_json::Error) -> Reason {
    match text.trim_ascii_start().as_bytes().first() {
        None => return "the message is empty".into(),
        Some(b'{') => {}
        Some(_) => return "the message is not a JSON object".into(),
    }
    if error.is_eof() {
        return "the JSON object is not complete".into();
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    match (values.next(), values.next()) {
        (Some(Ok(_)), Some(Ok(_))) => "the message holds more than one JSON value".into(),
        (Some(Ok(_)), Some(Err(_))) => "something follows the JSON object".into(),
        _ => format!("the message is not valid JSON: {error}").into(),
    }
}
