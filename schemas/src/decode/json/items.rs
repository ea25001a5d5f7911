//! Splits a message into the texts of its rows.
//!
//! Invariant: the number of a row depends on the bytes of its message only, so a message that is read again has the
//! same rows with the same numbers.

use std::ops::Range;

use serde_json::value::RawValue;

use super::super::columns::ValueError;
use crate::definition::message::MessageRows;

/// A byte order mark.
pub(super) const MARK: &str = "\u{feff}";

/// The bytes of each row in `payload`. A message has no rows if its array or all of its lines are empty.
///
/// Errors: the message cannot be split, so it is one reject.
pub(super) fn split(payload: &[u8], rows: MessageRows) -> Result<Vec<Range<usize>>, ValueError> {
    match rows {
        MessageRows::One => Ok(whole(payload)),
        MessageRows::Lines => Ok(lines(payload)),
        MessageRows::Array => array(payload),
    }
}

fn whole(payload: &[u8]) -> Vec<Range<usize>> {
    std::iter::once(0..payload.len()).collect()
}

/// The lines with anything but blanks.
fn lines(payload: &[u8]) -> Vec<Range<usize>> {
    let mut start = 0;
    let lines = payload.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = start;
        start += line.len() + 1;
        let text = line.strip_prefix(MARK.as_bytes()).filter(|_| at == 0).unwrap_or(line);
        (!text.trim_ascii().is_empty()).then_some(at..at + line.len())
    });
    lines.collect()
}

/// The items of an array. An object is the only item of an array of its own.
fn array(payload: &[u8]) -> Result<Vec<Range<usize>>, ValueError> {
    let text = std::str::from_utf8(payload).map_err(|_| "the message is not UTF-8 text")?;
    let items = text.strip_prefix(MARK).unwrap_or(text);
    match items.trim_ascii_start().as_bytes().first() {
        None => return Err("the message is empty".into()),
        Some(b'[') => {}
        Some(b'{') => return Ok(whole(payload)),
        Some(_) => return Err("the message is neither a JSON array nor a JSON object".into()),
    }
    let items: Vec<&RawValue> = serde_json::from_str(items).map_err(|error| match error.is_eof() {
        true => ValueError::from("the JSON array is not complete"),
        false => ValueError::from(format!("the message is not valid JSON: {error}")),
    })?;
    let start = |item: &RawValue| item.get().as_ptr() as usize - text.as_ptr() as usize;
    Ok(items.into_iter().map(|item| start(item)..start(item) + item.get().len()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(payload: &str, rows: MessageRows, expect: &[&str]) {
        let found = split(payload.as_bytes(), rows);
        let shown = match &found {
            Ok(ranges) => ranges.iter().map(|range| &payload[range.clone()]).collect(),
            Err(reason) => vec![reason.as_ref()],
        };
        assert_eq!(shown, expect, "{payload}");
    }

    #[test]
    fn lines_are_rows_unless_they_are_blank() {
        let lines = MessageRows::Lines;
        check("{}\n{\"a\":1}\n", lines, &["{}", "{\"a\":1}"]);
        check("{}\r\n\r\n  \n{}", lines, &["{}\r", "{}"]);
        check("x\n[", lines, &["x", "["]);
        check("", lines, &[]);
        check("\n\n", lines, &[]);
        check("\u{feff}\n{}", lines, &["{}"]);
        check("\u{feff}{}", lines, &["\u{feff}{}"]);
        check("{}\n\u{feff}", lines, &["{}", "\u{feff}"]);
    }

    #[test]
    fn items_of_an_array_are_rows() {
        let array = MessageRows::Array;
        check("[]", array, &[]);
        check(" [ {} , {\"a\":[1,{}]} ] ", array, &["{}", "{\"a\":[1,{}]}"]);
        check("\u{feff}[null,1,\"é\"]", array, &["null", "1", "\"é\""]);
        check("{\"a\":1}", array, &["{\"a\":1}"]);
        check("", array, &["the message is empty"]);
        check("  ", array, &["the message is empty"]);
        check("1", array, &["the message is neither a JSON array nor a JSON object"]);
        check("[{},", array, &["the JSON array is not complete"]);
        check("[{}", array, &["the JSON array is not complete"]);
        check("[{}]x", array, &["the message is not valid JSON: trailing characters at line 1 column 5"]);
        check("[{},]", array, &["the message is not valid JSON: trailing comma at line 1 column 5"]);
    }

    #[test]
    fn one_row_is_the_whole_message() {
        check("[1]\n", MessageRows::One, &["[1]\n"]);
        check("", MessageRows::One, &[""]);
    }
}
