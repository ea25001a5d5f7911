//! The schemas that Kafka Connect's JsonConverter puts beside its payloads.
//!
//! A stream reads bytes, decimals and times by its own definition. Where the schema says that they are written in
//! another way, the value could be read as a wrong one: `"1234"` is a number and the base64 of three bytes.
//! Source: `org.apache.kafka.connect.json.JsonConverter`, `org.apache.kafka.connect.data`, and the package
//! `io.debezium.time` of Debezium.
//!
//! Invariant: a value whose schema contradicts the stream is refused, never read.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Fields};
use serde_json::Value;

use super::super::fields::FieldNames;
use crate::definition::message::{BytesForm, DecimalForm, JsonOptions, TimestampUnit, TimestampUnits};
use crate::definition::types::sql_name;

/// The schemas that are remembered. A topic has one, and another one while it changes.
const REMEMBERED: usize = 8;

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// What holds the value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnPlace {
    /// The object, or the payload of Connect.
    Row,
    /// The row of a table after its change, or before its deletion.
    Image,
    /// The envelope of Debezium.
    Envelope,
}

/// A column whose values contradict the stream's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contradiction {
    pub(super) column: usize,
    pub(super) why: String,
    /// True if a JSON number is read rightly all the same.
    pub(super) spares_numbers: bool,
}

/// Compares schemas of messages with a stream.
#[derive(Debug)]
pub(super) struct ConnectSchemas {
    columns: Fields,
    places: Vec<ColumnPlace>,
    units: TimestampUnits,
    options: JsonOptions,
    /// The newest last.
    known: Mutex<Vec<KnownSchema>>,
}

/// The text of a schema, and what it contradicts.
type KnownSchema = (Box<str>, Arc<Vec<Contradiction>>);

impl ConnectSchemas {
    /// `places` says where each of `columns` is in an envelope.
    pub(super) fn new(columns: &Fields, places: &[ColumnPlace], units: &TimestampUnits, options: JsonOptions) -> Self {
        let (columns, places) = (columns.clone(), places.to_vec());
        Self { columns, places, units: units.clone(), options, known: Mutex::default() }
    }

    /// What the schema `text` of a message contradicts. A schema that is not understood contradicts nothing.
    pub(super) fn contradictions(&self, text: &str) -> Arc<Vec<Contradiction>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.iter().rev().find(|(schema, _)| **schema == *text) {
            return Arc::clone(found);
        }
        let found = Arc::new(self.compare(text));
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        known.push((text.into(), Arc::clone(&found)));
        found
    }

    fn compare(&self, text: &str) -> Vec<Contradiction> {
        let schema: Value = serde_json::from_str(text).unwrap_or_default();
        let image = field(&schema, "after").or_else(|| field(&schema, "before"));
        let mut found = Vec::new();
        for (at, (column, place)) in self.columns.iter().zip(&self.places).enumerate() {
            let of = match place {
                ColumnPlace::Row => Some(&schema),
                ColumnPlace::Image => image,
                ColumnPlace::Envelope => Some(&schema),
            };
            let Some(declared) = of.and_then(|of| matching(of, column)) else { continue };
            if let Some((why, spares_numbers)) = self.contradiction(declared, column, column.name()) {
                let wanted = sql_name(column.data_type());
                let why = format!("`{}` is a {wanted}, and in the message's schema {why}", column.name());
                found.push(Contradiction { column: at, why, spares_numbers });
            }
        }
        found
    }

    /// What the `declared` schema of a value says against the `field` of the column `column`, and whether numbers are
    /// spared.
    fn contradiction(&self, declared: &Value, field: &Field, column: &str) -> Option<(String, bool)> {
        let (kind, name) = (&declared["type"], declared["name"].as_str().unwrap_or_default());
        match field.data_type() {
            DataType::Decimal128(_, scale) if name == DECIMAL => {
                let written: Option<i8> = declared["parameters"]["scale"].as_str().and_then(|scale| scale.parse().ok());
                match self.options.decimals {
                    DecimalForm::Number => Some(("it is in base64: add 'json.decimals' 'base64'".to_owned(), true)),
                    DecimalForm::Base64 if written == Some(*scale) => None,
                    DecimalForm::Base64 => {
                        let written = written.map_or_else(|| "no".to_owned(), |scale| scale.to_string());
                        Some((format!("it has {written} decimal places: declare that many"), true))
                    }
                }
            }
            DataType::Binary if kind == "bytes" && self.options.bytes == BytesForm::Hexadecimal => {
                Some(("it is in base64: add 'json.bytes' 'base64'".to_owned(), false))
            }
            DataType::Timestamp(..) => {
                let unit = match name {
                    "org.apache.kafka.connect.data.Timestamp" | "io.debezium.time.Timestamp" => {
                        TimestampUnit::Milliseconds
                    }
                    "io.debezium.time.MicroTimestamp" => TimestampUnit::Microseconds,
                    "io.debezium.time.NanoTimestamp" => TimestampUnit::Nanoseconds,
                    _ => return None,
                };
                let advice =
                    || format!("it counts {}: add 'timestamp_unit.{column}' '{}'", unit.plural(), unit.symbol());
                (unit != self.units.of(column)).then(|| (advice(), false))
            }
            DataType::List(item) => {
                let (why, _) = self.contradiction(&declared["items"], item, column)?;
                Some((format!("of its items {why}"), false))
            }
            DataType::Struct(fields) => fields.iter().find_map(|inner| {
                let (why, _) = self.contradiction(matching(declared, inner)?, inner, column)?;
                Some((format!("of its `{}` {why}", inner.name()), false))
            }),
            _ => None,
        }
    }
}

/// The schema of the field `name` of the struct `schema`.
fn field<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema["fields"].as_array()?.iter().find(|field| field["field"] == name)
}

/// The schema of the field that goes to `column`.
fn matching<'s>(schema: &'s Value, column: &Field) -> Option<&'s Value> {
    let names = FieldNames::new(&Fields::from(vec![column.clone()]));
    let fields = schema["fields"].as_array()?;
    let place = |field: &&Value| field["field"].as_str().and_then(|name| names.place(name));
    let exact = fields.iter().find(|field| place(field).is_some_and(|(_, exact)| exact));
    exact.or_else(|| fields.iter().find(|field| place(field).is_some()))
}
