//! JSON files: an object per line, or objects one after the other and lists of objects.
//!
//! Invariant: nothing but whitespace and the punctuation of lists is between objects. What is inside of an object is
//! checked where it is decoded.

use std::io::{BufRead, BufReader, Read};

use super::format::FileRows;
use super::rows::RowReader;
use crate::Result;

/// What is read from a file at once.
const CHUNK: usize = 1 << 20;
/// The longest object. No message of Kafka is longer.
const LONGEST: usize = 128 << 20;
/// Rows that are encoded together.
const ROWS: usize = 4096;
/// The size at which rows are encoded although they are few.
const BYTES: usize = 16 << 20;

/// Reads a file with one object per line.
///
/// Errors: the file cannot be read, or a row does not fit.
pub(super) fn read_lines(bytes: impl Read, mut rows: RowReader, pass: &mut dyn FnMut(FileRows) -> bool) -> Result<()> {
    let mut bytes = BufReader::with_capacity(CHUNK, bytes);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limit = LONGEST as u64 + 1;
        let read = bytes.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|e| rows.bad().failed(e))?;
        if read > LONGEST {
            return Err(rows.bad().refuse_row(number, format!("it is longer than {} MiB", LONGEST >> 20)));
        }
        let object = if number == 1 { without_mark(&line) } else { &line };
        let object = object.trim_ascii();
        let wants_more = object.is_empty() || rows.add(number, object);
        // Rows of a pipe go on their way when nothing more has come.
        let is_full = rows.added() >= ROWS || rows.bytes() >= BYTES || !bytes.buffer().contains(&b'\n');
        if rows.added() > 0 && (is_full || read == 0 || !wants_more) && !pass(rows.take()?) {
            return Ok(());
        }
        if read == 0 || !wants_more {
            return Ok(());
        }
    }
    Ok(())
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Where a byte of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonPlace {
    /// Between objects that are in no list.
    Outside,
    /// Behind the `[` of a list.
    ListStart,
    /// Behind an object of a list.
    ListItem,
    /// Behind a comma.
    ListComma,
    /// In an object, within so many braces.
    Object { depth: usize },
    /// In a string of an object.
    Text { depth: usize, escaped: bool },
}

/// Reads objects one after the other, and lists of objects.
///
/// Errors: the file cannot be read, something is between objects, or a row does not fit.
pub(super) fn read(bytes: impl Read, mut rows: RowReader, pass: &mut dyn FnMut(FileRows) -> bool) -> Result<()> {
    let mut bytes = BufReader::with_capacity(CHUNK, bytes);
    let mut object: Vec<u8> = Vec::new();
    let (mut place, mut in_list, mut number, mut at_start) = (JsonPlace::Outside, false, 0, true);
    loop {
        let chunk = bytes.fill_buf().map_err(|e| rows.bad().failed(e))?;
        let (length, whole) = (chunk.len(), chunk);
        let chunk = if at_start { without_mark(whole) } else { whole };
        at_start = false;
        for byte in chunk {
            let was = place;
            place = step(place, *byte, in_list)
                .ok_or_else(|| rows.bad().refuse_row(number + 1, "something else than a JSON object is here"))?;
            match (was, place) {
                (_, JsonPlace::ListStart) => in_list = true,
                (JsonPlace::ListStart | JsonPlace::ListItem, JsonPlace::Outside) => in_list = false,
                _ => {}
            }
            let was_inside = matches!(was, JsonPlace::Object { .. } | JsonPlace::Text { .. });
            let is_inside = matches!(place, JsonPlace::Object { .. } | JsonPlace::Text { .. });
            if was_inside || is_inside {
                object.push(*byte);
            }
            if object.len() > LONGEST {
                return Err(rows.bad().refuse_row(number + 1, format!("it is longer than {} MiB", LONGEST >> 20)));
            }
            if was_inside && !is_inside {
                number += 1;
                let wants_more = rows.add(number, &object);
                object.clear();
                let is_full = rows.added() >= ROWS || rows.bytes() >= BYTES;
                if rows.added() > 0 && (is_full || !wants_more) && !pass(rows.take()?) {
                    return Ok(());
                }
                if !wants_more {
                    return Ok(());
                }
            }
        }
        bytes.consume(length);
        if rows.added() > 0 && !pass(rows.take()?) {
            return Ok(());
        }
        if length == 0 {
            break;
        }
    }
    match place {
        JsonPlace::Outside => Ok(()),
        JsonPlace::Object { .. } | JsonPlace::Text { .. } => {
            Err(rows.bad().refuse_row(number + 1, "the JSON object is not complete"))
        }
        _ => Err(rows.bad().refuse_row(number + 1, "the list is not complete")),
    }
}

/// The place behind `byte`; `None` if the byte cannot be there.
fn step(place: JsonPlace, byte: u8, in_list: bool) -> Option<JsonPlace> {
    let behind = if in_list { JsonPlace::ListItem } else { JsonPlace::Outside };
    Some(match (place, byte) {
        (JsonPlace::Text { depth, escaped: true }, _) => JsonPlace::Text { depth, escaped: false },
        (JsonPlace::Text { depth, .. }, b'\\') => JsonPlace::Text { depth, escaped: true },
        (JsonPlace::Text { depth, .. }, b'"') => JsonPlace::Object { depth },
        (text @ JsonPlace::Text { .. }, _) => text,
        (JsonPlace::Object { depth }, b'"') => JsonPlace::Text { depth, escaped: false },
        (JsonPlace::Object { depth }, b'{') => JsonPlace::Object { depth: depth + 1 },
        (JsonPlace::Object { depth: 1 }, b'}') => behind,
        (JsonPlace::Object { depth }, b'}') => JsonPlace::Object { depth: depth - 1 },
        (object @ JsonPlace::Object { .. }, _) => object,
        (between, b' ' | b'\t' | b'\r' | b'\n') => between,
        (JsonPlace::Outside | JsonPlace::ListStart | JsonPlace::ListComma, b'{') => JsonPlace::Object { depth: 1 },
        (JsonPlace::Outside, b'[') => JsonPlace::ListStart,
        (JsonPlace::ListItem, b',') => JsonPlace::ListComma,
        (JsonPlace::ListStart | JsonPlace::ListItem, b']') => JsonPlace::Outside,
        _ => return None,
    })
}
