//! JSON messages: objects with keys that are matched with the columns by name. A message is one object, unless the
//! stream says that it is an array of objects or has one a line; [`envelope`] says what may be around an object.
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
//! | DECIMAL(p, s) as base64 | also a string of base64: the value times 10 to the power of `s`, as a big-endian two's complement; and `{"scale": …, "value": …}`, which has a scale of its own |
//! | DOUBLE, REAL | a number, rounded to the nearest value of the type (`1e-400` is 0); `"NaN"`, `"Infinity"` and `"-Infinity"`; not `1e999`, which is out of range |
//! | all number types above | also the number in a string, with nothing around it: `"12"` |
//! | STRING | a string |
//! | BYTEA | a string of hexadecimal digits, two per byte; or of base64, if the stream says so |
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

mod items;

mod connect;
mod envelope;

use std::ops::Range;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::columns::{ColumnBuilder, columns, refused_value};
use super::{Messages, Parsed, Reason, RowOrigins};
use crate::definition::message::{JsonOptions, MessageRows, TimestampUnits, Tombstones};
use envelope::{FoundObject, ObjectReader, ObjectValues};
use items::MARK;

/// Reads JSON messages into the columns of a schema.
#[derive(Debug)]
pub(super) struct JsonReader {
    /// The columns, all nullable.
    columns: SchemaRef,
    objects: ObjectReader,
    units: TimestampUnits,
    options: JsonOptions,
    tombstones: Tombstones,
}

impl JsonReader {
    /// Errors: a column has a type that is not canonical.
    pub(super) fn new(
        schema: SchemaRef,
        units: &TimestampUnits,
        options: JsonOptions,
        tombstones: Tombstones,
    ) -> Result<Self, ArrowError> {
        let objects = ObjectReader::new(schema.fields(), units, options);
        let reader = Self { columns: schema, objects, units: units.clone(), options, tombstones };
        reader.empty(0)?;
        Ok(reader)
    }

    /// Empty columns with capacity for `rows` entries.
    fn empty(&self, rows: usize) -> Result<Vec<ColumnBuilder>, ArrowError> {
        let mut columns = columns(self.columns.fields(), |name| self.units.of(name), rows)?;
        columns.iter_mut().for_each(|column| column.read_as(self.options.bytes, self.options.decimals));
        Ok(columns)
    }

    /// Reads all `messages`.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let rows = ReadRows {
            columns: self.empty(messages.len())?,
            reasons: Vec::with_capacity(messages.len()),
            values: self.objects.values(),
            nothing: self.objects.values(),
            reader: self,
        };
        if self.options.rows == MessageRows::One && self.tombstones == Tombstones::Read {
            rows.one_each(messages)
        } else {
            rows.any_number(messages)
        }
    }
}

/// The rows of a run of messages while they are read.
struct ReadRows<'r, 'a> {
    columns: Vec<ColumnBuilder>,
    reasons: Vec<Option<Reason>>,
    values: ObjectValues<'a>,
    nothing: ObjectValues<'a>,
    reader: &'r JsonReader,
}

impl<'a> ReadRows<'_, 'a> {
    fn one_each(mut self, messages: &'a Messages) -> Result<Parsed, ArrowError> {
        for at in 0..messages.len() {
            if !self.append(messages.payload(at)) {
                self.reject("the message is an envelope without a payload".into());
            }
        }
        Parsed::new(&self.reader.columns, self.columns, self.reasons)
    }

    fn any_number(mut self, messages: &'a Messages) -> Result<Parsed, ArrowError> {
        let mut origins = RowOrigins::default();
        for at in 0..messages.len() {
            let payload = messages.payload(at);
            if !messages.has_payload(at) && self.reader.tombstones == Tombstones::Skip {
                continue;
            }
            // A row that was split from its message before.
            if let Some(row) = messages.row(at) {
                self.append_at(&mut origins, payload, at, Some(row), 0..payload.len());
                continue;
            }
            match items::split(payload, self.reader.options.rows) {
                Ok(_) if self.reader.options.rows == MessageRows::One => {
                    self.append_at(&mut origins, payload, at, None, 0..payload.len());
                }
                Ok(items) if is_blown_up(messages, at, items.len()) => {
                    let repeats = format!("its key and headers would be repeated for {} objects", items.len());
                    self.reject(repeats.into());
                    origins.push(at, None, 0..payload.len());
                }
                Ok(items) => {
                    for (row, item) in (0i32..).zip(items) {
                        self.append_at(&mut origins, payload, at, Some(row), item);
                    }
                }
                Err(reason) => {
                    self.reject(reason);
                    origins.push(at, None, 0..payload.len());
                }
            }
        }
        Ok(Parsed::new(&self.reader.columns, self.columns, self.reasons)?.from(origins))
    }

    /// Appends the row in `item` of the message `at`, unless it is an envelope without a payload.
    fn append_at(
        &mut self,
        origins: &mut RowOrigins,
        payload: &'a [u8],
        at: usize,
        row: Option<i32>,
        item: Range<usize>,
    ) {
        if !self.append(&payload[item.clone()]) {
            if self.reader.tombstones == Tombstones::Skip {
                return;
            }
            self.reject("the message is an envelope without a payload".into());
        }
        origins.push(at, row, item);
    }

    /// Appends the row in `object`, or a reject. Returns false, and appends nothing, for an envelope without a payload.
    fn append(&mut self, object: &'a [u8]) -> bool {
        let objects = &self.reader.objects;
        let mut reason = match text_of(object).and_then(|text| objects.fill(&mut self.values, text)) {
            Ok(FoundObject::Tombstone) => return false,
            Ok(FoundObject::Row(None)) => None,
            Ok(FoundObject::Row(Some(schema))) => objects.contradiction(&self.values, schema),
            Err(reason) => Some(reason),
        };
        let values = if reason.is_none() { &self.values } else { &self.nothing };
        for (c, column) in self.columns.iter_mut().enumerate() {
            if let Err(why) = column.append(objects.raw(values, c))
                && reason.is_none()
            {
                reason = Some(refused_value(self.reader.columns.field(c), &why));
            }
        }
        self.reasons.push(reason);
        true
    }

    fn reject(&mut self, reason: Reason) {
        self.columns.iter_mut().for_each(ColumnBuilder::append_null);
        self.reasons.push(Some(reason));
    }
}

/// How many times the bytes of its payload a message may have as keys and headers of its rows, beside some KiB.
const MOST_REPEATED: usize = 64;

/// True if the rows of a message would take far more memory than the message: each row has its key and headers.
fn is_blown_up(messages: &Messages, at: usize, rows: usize) -> bool {
    let repeated = messages.shared_bytes(at).saturating_mul(rows.saturating_sub(1));
    repeated > (64 << 10) + messages.payload(at).len().saturating_mul(MOST_REPEATED)
}

/// The text of an object. RFC 8259, 8.1: a reader may ignore the byte order mark.
fn text_of(object: &[u8]) -> Result<&str, Reason> {
    let text = std::str::from_utf8(object).map_err(|_| "the message is not UTF-8 text")?;
    Ok(text.strip_prefix(MARK).unwrap_or(text))
}
