//! JSON objects: one field for each column that has a value.
//!
//! | column | is written as |
//! |---|---|
//! | numbers | a number with all of its digits; `"NaN"`, `"Infinity"` and `"-Infinity"` as text |
//! | BYTEA | hexadecimal digits, or base64 if the stream says so |
//! | DATE | `2024-05-01` |
//! | TIMESTAMP | a number, if the stream says that its numbers are `s`, `ms` or `ns`; otherwise ISO 8601 |
//! | lists, STRUCT | lists, with null for items without a value; objects |
//!
//! Invariant: what [`crate::decode`] reads from an object equals what was written.

use std::fmt;
use std::io::Write;

use arrow::array::{Array, AsArray, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Datelike, NaiveDate, Timelike};

use crate::decode::times::{self, TIMES};
use crate::definition::message::{BytesForm, TimestampUnit, TimestampUnits};
use crate::definition::types::sql_name;

/// Writes the rows of a batch.
#[derive(Debug)]
pub(super) struct JsonWriter {
    /// By column: the key with its colon, and the form of its values.
    columns: Vec<(Vec<u8>, WrittenForm)>,
    names: Vec<String>,
}

/// The forms of values that a stream chooses.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrittenForm {
    /// The unit of numbers that are times.
    pub(super) unit: TimestampUnit,
    pub(super) bytes: BytesForm,
}

impl JsonWriter {
    pub(super) fn new(fields: &Fields, units: &TimestampUnits, bytes: BytesForm) -> Self {
        let column = |name: &String| (key(name), WrittenForm { unit: units.of(name), bytes });
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        Self { columns: names.iter().map(column).collect(), names }
    }

    /// Appends the object of a row.
    ///
    /// Errors: a value has no form that would be read back.
    pub(super) fn write(&self, rows: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let mut separator = b'{';
        for (at, (array, (key, form))) in rows.columns().iter().zip(&self.columns).enumerate() {
            if array.is_null(row) {
                continue;
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(key);
            write(array, row, *form, out).map_err(|why| refusal(&self.names[at], array.data_type(), &why))?;
        }
        close(separator, out);
        Ok(())
    }
}

fn refusal(name: &str, data_type: &DataType, why: &str) -> String {
    format!("the value of `{name}` is not a valid {}: {why}", sql_name(data_type))
}

fn close(separator: u8, out: &mut Vec<u8>) {
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// The key of an object, with its colon.
fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    quote(name, &mut key);
    key.push(b':');
    key
}

fn quote(text: &str, out: &mut Vec<u8>) {
    // As in `put`.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a text. Memory takes every byte, so there is no error.
fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Appends a value with a canonical type.
///
/// Errors: why the value has no form that would be read back, as a clause.
pub(super) fn write(array: &dyn Array, row: usize, form: WrittenForm, out: &mut Vec<u8>) -> Result<(), String> {
    use DataType as T;
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        T::Boolean => put(out, format_args!("{}", array.as_boolean().value(row))),
        T::Int8 => put(out, format_args!("{}", array.as_primitive::<Int8Type>().value(row))),
        T::Int16 => put(out, format_args!("{}", array.as_primitive::<Int16Type>().value(row))),
        T::Int32 => put(out, format_args!("{}", array.as_primitive::<Int32Type>().value(row))),
        T::Int64 => put(out, format_args!("{}", array.as_primitive::<Int64Type>().value(row))),
        T::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            match serde_json::to_writer(&mut *out, &value) {
                Ok(()) if value.is_finite() => {}
                _ => put_special(f64::from(value), out),
            }
        }
        T::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            match serde_json::to_writer(&mut *out, &value) {
                Ok(()) if value.is_finite() => {}
                _ => put_special(value, out),
            }
        }
        T::Decimal128(_, scale) => {
            put_decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, out);
        }
        T::Utf8 => quote(array.as_string::<i32>().value(row), out),
        T::Binary => {
            let bytes = array.as_binary::<i32>().value(row);
            out.push(b'"');
            match form.bytes {
                BytesForm::Hexadecimal => bytes.iter().for_each(|byte| put(out, format_args!("{byte:02x}"))),
                BytesForm::Base64 => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
            }
            out.push(b'"');
        }
        T::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let date = times::in_range(days.into()).ok().and_then(date).ok_or(RANGE)?;
            put(out, format_args!("\"{:04}-{:02}-{:02}\"", date.year(), date.month(), date.day()));
        }
        T::Timestamp(..) => put_time(array.as_primitive::<TimestampMicrosecondType>().value(row), form.unit, out)?,
        T::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push(b'[');
            for at in 0..items.len() {
                if at > 0 {
                    out.push(b',');
                }
                write(&items, at, form, out).map_err(|why| format!("item {}: {why}", at + 1))?;
            }
            out.push(b']');
        }
        T::Struct(fields) => put_object(array.as_struct(), fields, row, form, out)?,
        other => return Err(format!("{other} is no type of a stream")),
    }
    Ok(())
}

const RANGE: &str = "it is out of range";

fn put_object(
    object: &StructArray,
    fields: &Fields,
    row: usize,
    form: WrittenForm,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut separator = b'{';
    for (field, array) in fields.iter().zip(object.columns()) {
        if array.is_null(row) {
            continue;
        }
        out.push(separator);
        separator = b',';
        quote(field.name(), out);
        out.push(b':');
        write(array, row, form, out).map_err(|why| format!("`{}`: {why}", field.name()))?;
    }
    close(separator, out);
    Ok(())
}

/// Replaces the `null` that JSON has for a float without digits.
fn put_special(value: f64, out: &mut Vec<u8>) {
    out.truncate(out.len() - b"null".len());
    let name = match (value.is_nan(), value > 0.0) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    };
    put(out, format_args!("\"{name}\""));
}

fn put_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let Ok(places) = usize::try_from(scale) else {
        return put(out, format_args!("{value}e{}", scale.unsigned_abs()));
    };
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", value.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let dot = if places > 0 { "." } else { "" };
    put(out, format_args!("{sign}{whole}{dot}{fraction}"));
}

fn date(days: i32) -> Option<NaiveDate> {
    /// Days from the first day of year 1, which is day 1, to 1970-01-01.
    const UNIX_EPOCH: i32 = 719_163;
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(UNIX_EPOCH)?)
}

fn put_time(micros: i64, unit: TimestampUnit, out: &mut Vec<u8>) -> Result<(), String> {
    if !TIMES.contains(&i128::from(micros)) {
        return Err(RANGE.to_owned());
    }
    if unit != TimestampUnit::default() {
        let mut number = Vec::new();
        match unit {
            TimestampUnit::Seconds => put_decimal(micros.into(), 6, &mut number),
            TimestampUnit::Milliseconds => put_decimal(micros.into(), 3, &mut number),
            TimestampUnit::Microseconds => put_decimal(micros.into(), 0, &mut number),
            TimestampUnit::Nanoseconds => put_decimal(i128::from(micros) * 1000, 0, &mut number),
        }
        let text = String::from_utf8(number).map_err(|e| e.to_string())?;
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        // A time of early 1970 is not read from a number.
        if times::micros_of_number(text, unit) == Ok(micros) {
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
    }
    let time = DateTime::from_timestamp_micros(micros).ok_or(RANGE)?.naive_utc();
    let (day, clock) = (time.date(), time.time());
    put(out, format_args!("\"{:04}-{:02}-{:02}T", day.year(), day.month(), day.day()));
    put(out, format_args!("{:02}:{:02}:{:02}", clock.hour(), clock.minute(), clock.second()));
    let below = clock.nanosecond() / 1000;
    match below {
        0 => put(out, format_args!("Z\"")),
        below if below.is_multiple_of(1000) => put(out, format_args!(".{:03}Z\"", below / 1000)),
        below => put(out, format_args!(".{below:06}Z\"")),
    }
    Ok(())
}
