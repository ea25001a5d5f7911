//! Finds the values of a row in its object, which may be in an envelope of Kafka Connect or Debezium.
//!
//! | envelope | the object | the columns |
//! |---|---|---|
//! | none | `{…}` | the object's keys |
//! | Connect | `{"schema": …, "payload": {…}}` | the keys of `payload` |
//! | Debezium | `{"before": …, "after": …, "op": …, …}`, alone or as the `payload` of Connect | see below |
//!
//! A column with the name of a field of Debezium's envelope (`before`, `after`, `source`, `op`, `ts_ms`, `ts_us`,
//! `ts_ns`, `transaction`) is that field. Every other column is a column of the table that changed: from `after`, and
//! from `before` if the row was deleted. Source: Debezium's documentation, "Change event values".
//!
//! Invariant: the values of a row come from one object, and the whole message is valid JSON.

use arrow::datatypes::{DataType, Field, Fields};
use serde::de::IgnoredAny;

use super::super::columns::ValueError;
use super::super::fields::{FieldNames, FieldValues};
use super::connect::{ColumnPlace, ConnectSchemas};
use crate::definition::message::{Envelope, JsonOptions, TimestampUnits};

/// The keys of Connect's envelope.
const SCHEMA: usize = 0;
const PAYLOAD: usize = 1;
const BEFORE: usize = 2;
const AFTER: usize = 3;
const OP: usize = 4;
/// The keys of all envelopes, at the places above.
const KEYS: [&str; 10] =
    ["schema", "payload", "before", "after", "op", "source", "ts_ms", "ts_us", "ts_ns", "transaction"];

/// The names of the columns of a stream, and where their values are.
#[derive(Debug)]
pub(super) struct ObjectReader {
    envelope: Envelope,
    /// The keys of the envelope.
    outer: FieldNames,
    /// The names of the columns that are not in the envelope of Debezium.
    inner: FieldNames,
    /// Where each column is, and which name of `outer` or `inner` it has.
    columns: Vec<(ColumnPlace, usize)>,
    schemas: ConnectSchemas,
}

/// The values of one object.
#[derive(Debug)]
pub(super) struct ObjectValues<'a> {
    outer: FieldValues<'a>,
    inner: FieldValues<'a>,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundObject<'a> {
    /// A row, and the schema of Connect beside it.
    Row(Option<&'a str>),
    /// An envelope without a payload.
    Tombstone,
}

impl ObjectReader {
    pub(super) fn new(columns: &Fields, units: &TimestampUnits, options: JsonOptions) -> Self {
        let mut inner: Vec<Field> = Vec::new();
        let mut found = Vec::with_capacity(columns.len());
        for column in columns {
            let key = KEYS.iter().position(|key| key == column.name()).filter(|at| *at >= BEFORE);
            let place = match (options.envelope, key) {
                (Envelope::Debezium, Some(at)) => (ColumnPlace::Envelope, at),
                (Envelope::Debezium, None) => (ColumnPlace::Image, inner.len()),
                (Envelope::Connect | Envelope::None, _) => (ColumnPlace::Row, inner.len()),
            };
            if place.0 != ColumnPlace::Envelope {
                inner.push(column.as_ref().clone());
            }
            found.push(place);
        }
        let places: Vec<ColumnPlace> = found.iter().map(|(place, _)| *place).collect();
        let key = |name: &str| Field::new(name, DataType::Null, true);
        Self {
            envelope: options.envelope,
            outer: FieldNames::new(&KEYS.iter().map(|name| key(name)).collect()),
            inner: FieldNames::new(&Fields::from(inner)),
            columns: found,
            schemas: ConnectSchemas::new(columns, &places, units, options),
        }
    }

    /// No values.
    pub(super) fn values<'a>(&self) -> ObjectValues<'a> {
        let inner = self.columns.iter().filter(|(place, _)| *place != ColumnPlace::Envelope).count();
        ObjectValues { outer: FieldValues::new(KEYS.len()), inner: FieldValues::new(inner) }
    }

    /// The value of column `at`.
    pub(super) fn raw<'a>(&self, values: &ObjectValues<'a>, at: usize) -> Option<&'a str> {
        match self.columns[at] {
            (ColumnPlace::Row | ColumnPlace::Image, at) => values.inner.raw(at),
            (ColumnPlace::Envelope, at) => values.outer.raw(at),
        }
    }

    /// Fills `values` from `text`, one JSON object.
    ///
    /// Errors: why the object is a reject.
    pub(super) fn fill<'a>(&self, values: &mut ObjectValues<'a>, text: &'a str) -> Result<FoundObject<'a>, ValueError> {
        match self.envelope {
            Envelope::None => fill(&mut values.inner, &self.inner, text).map(|()| FoundObject::Row(None)),
            Envelope::Connect => {
                fill(&mut values.outer, &self.outer, text)?;
                let Some(payload) = values.outer.raw(PAYLOAD) else {
                    return Err("the message is not in the envelope of Connect: it has no `payload`".into());
                };
                if payload == "null" {
                    return Ok(FoundObject::Tombstone);
                }
                inside(&mut values.inner, &self.inner, payload, "payload")?;
                Ok(FoundObject::Row(values.outer.raw(SCHEMA)))
            }
            Envelope::Debezium => self.fill_change(values, text),
        }
    }

    fn fill_change<'a>(&self, values: &mut ObjectValues<'a>, text: &'a str) -> Result<FoundObject<'a>, ValueError> {
        fill(&mut values.outer, &self.outer, text)?;
        let mut schema = None;
        if let (None, Some(payload)) = (values.outer.raw(OP), values.outer.raw(PAYLOAD)) {
            if payload == "null" {
                return Ok(FoundObject::Tombstone);
            }
            schema = values.outer.raw(SCHEMA);
            inside(&mut values.outer, &self.outer, payload, "payload")?;
        }
        let deleted = match values.outer.raw(OP) {
            None | Some("null") => {
                return Err("the message is not a change event of Debezium: it has no `op`".into());
            }
            Some(op) => op == "\"d\"",
        };
        let (image, name) = if deleted { (BEFORE, "before") } else { (AFTER, "after") };
        match values.outer.raw(image).filter(|image| *image != "null") {
            Some(image) => inside(&mut values.inner, &self.inner, image, name)?,
            // A table that is emptied, or a deletion of which the database keeps nothing.
            None => values.inner = self.values().inner,
        }
        Ok(FoundObject::Row(schema))
    }

    /// Why the values cannot be read as the stream reads them, by what `schema` says of them.
    pub(super) fn contradiction(&self, values: &ObjectValues<'_>, schema: &str) -> Option<ValueError> {
        let found = self.schemas.contradictions(schema);
        let contradicted = found.iter().find(|found| match self.raw(values, found.column) {
            None | Some("null") => false,
            Some(raw) => !found.spares_numbers || raw.starts_with(['"', '{', '[']),
        });
        contradicted.map(|found| found.why.clone().into())
    }
}

/// Fills `values` from the object `text`.
fn fill<'a>(values: &mut FieldValues<'a>, names: &FieldNames, text: &'a str) -> Result<(), ValueError> {
    match values.fill(names, text) {
        Ok(None) => Ok(()),
        Ok(Some(at)) => Err(format!("`{}` occurs twice", names.name(at)).into()),
        Err(error) => Err(explain(text, &error)),
    }
}

/// Fills `values` from the value of the key `name`.
fn inside<'a>(values: &mut FieldValues<'a>, names: &FieldNames, text: &'a str, name: &str) -> Result<(), ValueError> {
    match text.starts_with('{') {
        true => fill(values, names, text),
        false => Err(format!("`{name}` is not an object").into()),
    }
}

/// The reason why `text` is not one JSON object.
fn explain(text: &str, error: &serde_json::Error) -> ValueError {
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
