//! Messages of one line of values: CSV by RFC 4180 (<https://www.rfc-editor.org/rfc/rfc4180>), or values with tabs
//! between.
//!
//! The first value is that of the first column, and so on: there are as many values as columns.
//!
//! | format | values |
//! |---|---|
//! | `csv` | with commas between. A value in quotes may hold commas, line breaks, and quotes, each written twice; other values hold no quotes |
//! | `tsv` | with tabs between; all other bytes are values as they are |
//!
//! | column | takes |
//! |---|---|
//! | any | nothing at all, which is NULL; `""` is an empty text |
//! | BOOLEAN | `true`, `false`, `t`, `f`, in any case |
//! | other types | what JSON has for the type, without quotes around texts: see [`super::json`] |
//! | lists, STRUCT | JSON |
//!
//! One line break may end the message.
//!
//! Invariant: no byte of a message is left out, so a message with two lines, a value too many or a quote too few is a
//! reject.

use std::borrow::Cow;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use super::columns::{ColumnBuilder, columns, refused_value};
use super::texts;
use super::{Messages, Parsed, Reason};
use crate::definition::message::TimestampUnits;

/// What is between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    Comma,
    Tab,
}

/// A value of a line; `None` for nothing at all.
type LineValue<'a> = Option<Cow<'a, str>>;

/// Reads lines into the columns of a schema.
#[derive(Debug)]
pub(super) struct CsvReader {
    /// The columns, all nullable.
    columns: SchemaRef,
    units: TimestampUnits,
    separator: Separator,
}

impl CsvReader {
    /// Errors: a column has a type that is not canonical.
    pub(super) fn new(schema: SchemaRef, units: &TimestampUnits, separator: Separator) -> Result<Self, ArrowError> {
        columns(schema.fields(), |name| units.of(name), 0)?;
        Ok(Self { columns: schema, units: units.clone(), separator })
    }

    /// Reads all `messages`.
    ///
    /// Errors: a bug in this program; no message can cause an error.
    pub(super) fn read(&self, messages: &Messages) -> Result<Parsed, ArrowError> {
        let mut columns = columns(self.columns.fields(), |name| self.units.of(name), messages.len())?;
        let mut reasons = Vec::with_capacity(messages.len());
        for at in 0..messages.len() {
            reasons.push(match self.values(messages.payload(at)) {
                Ok(values) => self.append(&mut columns, &values),
                Err(reason) => {
                    columns.iter_mut().for_each(ColumnBuilder::append_null);
                    Some(reason)
                }
            });
        }
        Parsed::new(&self.columns, columns, reasons)
    }

    /// The values of a message, one for each column.
    fn values<'a>(&self, payload: &'a [u8]) -> Result<Vec<LineValue<'a>>, Reason> {
        let text = std::str::from_utf8(payload).map_err(|_| "the message is not UTF-8 text")?;
        if text.is_empty() {
            return Err("the message is empty".into());
        }
        let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        let values = match self.separator {
            Separator::Comma => quoted_values(line)?,
            Separator::Tab if line.contains('\n') => return Err("the message holds more than one line".into()),
            Separator::Tab => {
                line.split('\t').map(|value| Some(value).filter(|v| !v.is_empty()).map(Cow::from)).collect()
            }
        };
        match (values.len(), self.columns.fields().len()) {
            (found, wanted) if found == wanted => Ok(values),
            (found, wanted) => Err(format!("the message has {found} values, and the stream {wanted} columns").into()),
        }
    }

    /// Appends a line. Returns why the first value that does not fit was refused.
    fn append(&self, columns: &mut [ColumnBuilder], values: &[LineValue<'_>]) -> Option<Reason> {
        let mut refused = None;
        for (field, (column, value)) in self.columns.fields().iter().zip(columns.iter_mut().zip(values)) {
            let value = value.as_deref().map(|value| as_json(value, field.data_type()));
            if let Err(why) = column.append(value.as_deref())
                && refused.is_none()
            {
                refused = Some(refused_value(field, &why));
            }
        }
        refused
    }
}

/// The values of a line of CSV.
fn quoted_values(line: &str) -> Result<Vec<LineValue<'_>>, Reason> {
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        let (value, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, behind) = quoted_value(quoted)?;
                (Some(value), behind)
            }
            None => {
                let (value, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if value.contains('"') {
                    return Err(
                        format!("value {} has a quote within; put all of it into quotes", values.len() + 1).into()
                    );
                }
                if value.contains(['\n', '\r']) {
                    return Err("the message holds more than one line".into());
                }
                (Some(value).filter(|value| !value.is_empty()).map(Cow::from), behind)
            }
        };
        values.push(value);
        rest = match behind.strip_prefix(',') {
            Some(next) => next,
            None if behind.is_empty() => return Ok(values),
            None if behind.starts_with(['\n', '\r']) => return Err("the message holds more than one line".into()),
            None => return Err(format!("something follows the quotes of value {}", values.len()).into()),
        };
    }
}

/// The value at the begin of `text`, which is behind an opening quote, and what is behind the closing one.
fn quoted_value(text: &str) -> Result<(Cow<'_, str>, &str), Reason> {
    let mut from = 0;
    let mut has_quotes = false;
    loop {
        let Some(end) = text[from..].find('"').map(|at| from + at) else {
            return Err("quotes are not closed".into());
        };
        if text[end + 1..].starts_with('"') {
            has_quotes = true;
            from = end + 2;
            continue;
        }
        let value = match has_quotes {
            true => Cow::from(text[..end].replace("\"\"", "\"")),
            false => Cow::from(&text[..end]),
        };
        return Ok((value, &text[end + 1..]));
    }
}

/// A value as JSON would have it for a column of type `wanted`.
fn as_json<'a>(value: &'a str, wanted: &DataType) -> Cow<'a, str> {
    use DataType as T;
    match wanted {
        T::Boolean => match value.to_ascii_lowercase().as_str() {
            "true" | "t" => "true".into(),
            "false" | "f" => "false".into(),
            _ => texts::quote(value).into(),
        },
        T::List(_) | T::Struct(_) => value.into(),
        T::Date32 | T::Timestamp(..) if texts::is_number(value) => value.into(),
        T::Utf8 | T::Binary | T::Date32 | T::Timestamp(..) => texts::quote(value).into(),
        _ if texts::is_number(value) => value.into(),
        _ => texts::quote(value).into(),
    }
}
