//! A record of every acknowledged message, against which any answer can be checked.
//!
//! The record has one JSON object per line: `{"stream":"stock_prices","partition":2,"offset":17,"row":{…}}`. The row
//! of a message that cannot be decoded is null.
//!
//! Invariant: a line is written only after Kafka has acknowledged its message.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::streams::{DemoStream, Message};
use crate::{Error, Result};

/// A file that several streams write to; cheap to clone.
#[derive(Clone)]
pub(super) struct Record {
    path: PathBuf,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl Record {
    /// Opens the file for appending and creates it if absent.
    ///
    /// Errors: [`Error::Write`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|source| Error::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(BufWriter::new(file))) })
    }

    pub(super) fn add(&self, stream: DemoStream, message: &Message, partition: i32, offset: i64) -> Result<()> {
        let row: &[u8] = if message.is_row { &message.payload } else { b"null" };
        self.with(|file| {
            write!(file, r#"{{"stream":"{stream}","partition":{partition},"offset":{offset},"row":"#)?;
            file.write_all(row)?;
            file.write_all(b"}\n")
        })
    }

    pub(super) fn flush(&self) -> Result<()> {
        self.with(BufWriter::flush)
    }

    fn with(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut file).map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::streams::{EventClock, Faults, Script, TimeSource};

    #[test]
    fn lines_are_json_and_are_appended() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("record.jsonl");
        let script = Script::new(DemoStream::StockPrices, 1, Faults::default());
        let mut clock = EventClock::new(TimeSource::Messages, DemoStream::StockPrices, None, 0);
        let row = script.message(0, &mut clock, 0);
        let broken = Message { is_row: false, payload: b"{".to_vec(), ..row.clone() };
        for message in [&row, &broken] {
            let record = Record::open(&path).unwrap();
            record.add(DemoStream::StockPrices, message, 2, 17).unwrap();
            record.flush().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let sent: Value = serde_json::from_slice(&row.payload).unwrap();
        let line = |row| json!({"stream": "stock_prices", "partition": 2, "offset": 17, "row": row});
        assert_eq!(lines, [line(sent), line(Value::Null)]);
        assert!(Record::open(root.path()).is_err());
    }
}
