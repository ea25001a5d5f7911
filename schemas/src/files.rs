//! Files whose rows become rows of a stream: their formats, and readers that give the stream's columns.
//!
//! Invariant: memory does not grow with a file, and a row is passed on only if it fits the stream, under the rules by
//! which the stream takes JSON messages.

mod bad_rows;

mod rows;

mod csv;
mod json;
mod parquet;

use std::fs::File;
use std::io::Read;

pub use bad_rows::{BadRows, RowNotes};
pub use rows::{FileRows, RowReader};

use crate::Result;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    Tsv,
    /// Objects one after the other, or lists of them.
    Json,
    /// One object per line.
    Ndjson,
    Parquet,
}

impl FileFormat {
    /// The format that the end of a file's name tells.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        Self::parse(ending)
    }

    /// The format that users call `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }

    /// What a row is called by its number.
    fn place(self) -> &'static str {
        if self == Self::Ndjson { "line" } else { "row" }
    }
}

/// An opened file, or bytes that arrive.
pub enum OpenedRows {
    Bytes(Box<dyn Read + Send>),
    File(File),
}

impl std::fmt::Debug for OpenedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes(_) => "bytes",
            Self::File(_) => "a file",
        })
    }
}

/// Reads all rows. `pass` returns false if no more are wanted.
///
/// Errors: [`crate::Error::OpenRows`], [`crate::Error::MatchRows`], [`crate::Error::ReadRow`] for the first row that does
/// not fit, unless such rows are skipped.
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
        (OpenedRows::Bytes(bytes), FileFormat::Csv) => csv::read(bytes, b',', reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Tsv) => csv::read(bytes, b'\t', reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Json) => json::read(bytes, reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Ndjson) => json::read_lines(bytes, reader, pass),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_the_format() {
        for (name, expect) in [
            ("a.csv", Some(FileFormat::Csv)),
            ("a/b.c.TSV", Some(FileFormat::Tsv)),
            ("a.json", Some(FileFormat::Json)),
            ("a.jsonl", Some(FileFormat::Ndjson)),
            ("a.ndjson", Some(FileFormat::Ndjson)),
            ("a.parquet", Some(FileFormat::Parquet)),
            ("a.csv.gz", None),
            ("csv", None),
        ] {
            assert_eq!(FileFormat::of_name(name), expect, "{name}");
        }
    }
}
