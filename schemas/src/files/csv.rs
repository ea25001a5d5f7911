//! CSV files with the names of columns in their first line.
//!
//! A field is written into a JSON object as its column reads it: numbers and times as their text, lists and STRUCTs as
//! the JSON that they are. An empty field has no value.
//!
//! Invariant: memory does not grow with a quote that is never closed.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::{Decoder, Format};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use serde_json::value::RawValue;

use super::format::FileRows;
use super::rows::RowReader;
use crate::Result;

const CHUNK: usize = 1 << 20;
/// Rows that are read together.
const ROWS: usize = 512;
/// The most bytes of so many rows.
const LONGEST: usize = 256 << 20;

/// Reads a file.
///
/// Errors: the file cannot be read, or a row does not fit.
pub(super) fn read(
    bytes: impl Read,
    delimiter: u8,
    mut rows: RowReader,
    pass: &mut dyn FnMut(FileRows) -> bool,
) -> Result<()> {
    let mut bytes = BufReader::with_capacity(CHUNK, bytes);
    let head = first_line(&mut bytes, &rows)?;
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let (header, _) = format.infer_schema(head.as_slice(), Some(0)).map_err(|e| rows.bad().refuse(e.to_string()))?;
    let names: Vec<String> = header.fields().iter().map(|field| field.name().trim().to_owned()).collect();
    if names.is_empty() {
        return Err(rows.bad().refuse("it has no line with the names of columns"));
    }
    let matched = rows.match_names(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let columns = matched.iter().enumerate().filter_map(|(from, to)| Some((from, (*to)?)));
    let columns: Vec<FieldColumn> =
        columns.map(|(from, to)| FieldColumn::new(from, rows.columns().field(to))).collect();

    let texts = names.iter().map(|name| Field::new(name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(texts.collect::<Vec<_>>()));
    let builder = ReaderBuilder::new(schema).with_header(true).with_delimiter(delimiter).with_batch_size(ROWS);
    let mut decoder: Decoder = builder.build_decoder();
    let mut bytes = head.as_slice().chain(bytes);
    let (mut number, mut fed, mut place) = (0, 0, CsvPlace::Start);
    loop {
        let chunk = bytes.fill_buf().map_err(|e| rows.bad().failed(e))?;
        let is_end = chunk.is_empty();
        let taken = decoder.decode(chunk).map_err(|e| rows.bad().refuse(explain(&e.to_string())))?;
        for byte in &chunk[..taken] {
            place = place.behind(*byte, delimiter);
        }
        bytes.consume(taken);
        fed += taken;
        if is_end && place == CsvPlace::Quoted {
            return Err(rows.bad().refuse("a quote is opened in it and not closed until the end"));
        }
        if fed > LONGEST {
            let sentence =
                format!("{ROWS} rows from here are longer than {} MiB; is a quote not closed?", LONGEST >> 20);
            return Err(rows.bad().refuse_row(number + 1, sentence));
        }
        if decoder.capacity() > 0 && !is_end {
            continue;
        }
        fed = 0;
        match decoder.flush().map_err(|e| rows.bad().refuse(explain(&e.to_string())))? {
            Some(batch) => {
                let wants_more = add(&mut rows, &columns, &batch, number);
                number += batch.num_rows() as u64;
                if rows.added() > 0 && !pass(rows.take()?) || !wants_more {
                    return Ok(());
                }
            }
            None if is_end => return Ok(()),
            None => {}
        }
    }
}

/// Where a byte of a file is. The library takes the end of a file for the end of a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CsvPlace {
    /// At the start of a field.
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end of the field, or the first of two.
    Quote,
}

impl CsvPlace {
    fn behind(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) | (Self::Start | Self::Quote, b'"') => Self::Quoted,
            (_, b'\n' | b'\r') => Self::Start,
            (_, byte) if byte == delimiter => Self::Start,
            _ => Self::Plain,
        }
    }
}

/// The reason without the name of the library's error.
fn explain(error: &str) -> String {
    error.strip_prefix("Csv error: ").unwrap_or(error).to_owned()
}

/// The start of a file up to its first line break, at least.
fn first_line(bytes: &mut impl BufRead, rows: &RowReader) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = bytes.take(CHUNK as u64).read_until(b'\n', &mut head).map_err(|e| rows.bad().failed(e))?;
    if read == CHUNK {
        return Err(rows.bad().refuse("its first line, which names the columns, is longer than 1 MiB"));
    }
    Ok(head)
}

/// Adds the rows of a batch. Returns false if no more rows are wanted.
fn add(rows: &mut RowReader, columns: &[FieldColumn], batch: &RecordBatch, before: u64) -> bool {
    let mut object = Vec::new();
    for row in 0..batch.num_rows() {
        object.clear();
        let mut separator = b'{';
        for column in columns {
            let texts = batch.column(column.from).as_string::<i32>();
            if texts.is_valid(row) {
                object.push(separator);
                separator = b',';
                object.extend_from_slice(&column.key);
                column.write(texts.value(row), &mut object);
            }
        }
        if separator == b'{' {
            object.push(b'{');
        }
        object.push(b'}');
        if !rows.add(before + row as u64 + 1, &object) {
            return false;
        }
    }
    true
}

/// How the fields of a column are written into objects.
struct FieldColumn {
    from: usize,
    /// The key of an object, with its colon.
    key: Vec<u8>,
    data_type: DataType,
}

impl FieldColumn {
    fn new(from: usize, column: &Field) -> Self {
        let mut key = Vec::new();
        quote(column.name(), &mut key);
        key.push(b':');
        Self { from, key, data_type: column.data_type().clone() }
    }

    fn write(&self, text: &str, out: &mut Vec<u8>) {
        let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
        let is_number = |text: &str| text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && is_json(text);
        match &self.data_type {
            DataType::Boolean if text.eq_ignore_ascii_case("true") => out.extend_from_slice(b"true"),
            DataType::Boolean if text.eq_ignore_ascii_case("false") => out.extend_from_slice(b"false"),
            DataType::Float32 | DataType::Float64 => quote(special(text).unwrap_or(text), out),
            DataType::Binary => quote(text.strip_prefix("\\x").unwrap_or(text), out),
            DataType::List(_) | DataType::Struct(_) if is_json(text) => out.extend_from_slice(text.as_bytes()),
            DataType::Timestamp(..) | DataType::Date32 if is_number(text) => out.extend_from_slice(text.as_bytes()),
            // Columns of numbers take a text that is a number.
            _ => quote(text, out),
        }
    }
}

/// What JSON calls a float without digits.
fn special(text: &str) -> Option<&'static str> {
    let (sign, name) = match text.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_infinite = name.eq_ignore_ascii_case("inf") || name.eq_ignore_ascii_case("infinity");
    match (is_infinite, sign) {
        (true, true) => Some("-Infinity"),
        (true, false) => Some("Infinity"),
        (false, _) => text.eq_ignore_ascii_case("nan").then_some("NaN"),
    }
}

fn quote(text: &str, out: &mut Vec<u8>) {
    // Memory takes every byte.
    let _ = serde_json::to_writer(out, text);
}
