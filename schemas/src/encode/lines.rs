//! Lines of values, with commas or tabs between: what [`crate::decode`] reads as CSV and TSV.
//!
//! Invariant: a line has a value for each column, and a value that a line cannot hold is refused.

use arrow::array::Array;
use arrow::datatypes::{DataType, Fields};
use arrow::record_batch::RecordBatch;

use super::json::{self, WrittenForm};
use crate::definition::message::{BytesForm, TimestampUnit, TimestampUnits};

/// Writes the rows of a batch.
#[derive(Debug)]
pub(super) struct LineWriter {
    separator: u8,
    /// By column: its name, and the unit of numbers that are times.
    columns: Vec<(String, TimestampUnit)>,
}

impl LineWriter {
    pub(super) fn new(fields: &Fields, units: &TimestampUnits, separator: u8) -> Self {
        let columns = fields.iter().map(|field| (field.name().clone(), units.of(field.name())));
        Self { separator, columns: columns.collect() }
    }

    /// Appends the line of a row.
    ///
    /// Errors: a value has no form that would be read back.
    pub(super) fn write(&self, rows: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        for (at, (array, (name, unit))) in rows.columns().iter().zip(&self.columns).enumerate() {
            if at > 0 {
                out.push(self.separator);
            }
            if array.is_valid(row) {
                let refused = |why: String| format!("the value of `{name}` cannot be written: {why}");
                let text = text(array, row, *unit).map_err(refused)?;
                self.put(&text, out).map_err(|why| refused(why.to_owned()))?;
            }
        }
        // A message without a byte is no line.
        if out.len() == start {
            out.push(b'\n');
        }
        Ok(())
    }

    fn put(&self, text: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let is_plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r']);
        match self.separator {
            b',' if is_plain => out.extend_from_slice(text.as_bytes()),
            b',' => {
                out.push(b'"');
                out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                out.push(b'"');
            }
            _ if text.is_empty() => return Err("between tabs, an empty text is NULL"),
            _ if text.contains(['\t', '\n', '\r']) => return Err("it has a tab or a line break"),
            _ => out.extend_from_slice(text.as_bytes()),
        }
        Ok(())
    }
}

/// A value as JSON has it, without the quotes around a text.
fn text(array: &dyn Array, row: usize, unit: TimestampUnit) -> Result<String, String> {
    let mut value = Vec::new();
    json::write(array, row, WrittenForm { unit, bytes: BytesForm::default() }, &mut value)?;
    let is_text = value.first() == Some(&b'"') && !matches!(array.data_type(), DataType::List(_) | DataType::Struct(_));
    let text = match is_text {
        true => serde_json::from_slice(&value).ok(),
        false => String::from_utf8(value).ok(),
    };
    text.ok_or_else(|| "it has no text".to_owned())
}
