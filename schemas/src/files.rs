//! Files whose rows become rows of a stream: their formats, and readers that give the stream's columns.
//!
//! Invariant: memory does not grow with a file, and a row is passed on only if it fits the stream, under the rules by
//! which the stream takes JSON messages.

mod format;

mod bad_rows;

mod rows;

mod avro;
mod csv;
mod json;
mod parquet;

pub use bad_rows::{BadRows, RowNotes};
pub use format::{FileFormat, FileRows, OpenedRows};
pub use rows::RowReader;

use crate::Result;

/// Reads all rows. `pass` returns false if no more are wanted.
///
/// Errors: [`crate::Error::OpenRows`], [`crate::Error::MatchRows`], [`crate::Error::ReadRow`] for the first row that
/// does not fit, unless such rows are skipped.
pub fn read(
    opened: OpenedRows,
    format: FileFormat,
    reader: RowReader,
    pass: &mut dyn FnMut(FileRows) -> bool,
) -> Result<()> {
    match (opened, format) {
        (OpenedRows::File(file), FileFormat::Parquet) => parquet::read(file, reader, pass),
        (OpenedRows::Bytes(_), FileFormat::Parquet) => {
            let source = std::io::Error::other("Parquet is read from its end; give a file");
            Err(reader.bad().failed(source))
        }
        (OpenedRows::File(file), format) => read(OpenedRows::Bytes(Box::new(file)), format, reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Avro) => avro::read(bytes, reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Csv) => csv::read(bytes, b',', reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Tsv) => csv::read(bytes, b'\t', reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Json) => json::read(bytes, reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Ndjson) => json::read_lines(bytes, reader, pass),
    }
}
