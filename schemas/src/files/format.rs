//! The formats of files, opened files, and rows of them.
//!
//! Invariant: a format is told by the end of a name or by its own name, never by what a file holds.

use std::fs::File;
use std::io::Read;

use arrow::record_batch::RecordBatch;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// An object container file.
    Avro,
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
            "avro" => Self::Avro,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }

    /// What a row is called by its number.
    pub(super) fn place(self) -> &'static str {
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

/// Rows of a file with the stream's columns, all nullable.
#[derive(Debug, Clone)]
pub struct FileRows {
    /// The number of each row, or of its line.
    pub numbers: Vec<u64>,
    pub rows: RecordBatch,
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
            ("a.avro", Some(FileFormat::Avro)),
            ("a.csv.gz", None),
            ("csv", None),
        ] {
            assert_eq!(FileFormat::of_name(name), expect, "{name}");
        }
    }
}
