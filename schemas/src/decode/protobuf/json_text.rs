//! The JSON that `google.protobuf.Struct`, `Value` and `ListValue` hold, as text.
//!
//! Keys are in the order in which they came first; of a key that comes twice, the last value counts. A whole number has
//! no decimal point, as in JSON that people write.
//!
//! Invariant: the text is JSON, or the value is refused.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::columns::ValueError;
use super::super::texts;
use super::wire::{RawValue, WireBytes, WireKey, check_depth};

/// Floats up to here hold all whole numbers.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Calls `take` with every value and its field's number.
fn each<'a>(
    parts: &[&'a [u8]],
    depth: usize,
    mut take: impl FnMut(u32, RawValue<'a>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    check_depth(depth)?;
    for part in parts {
        let mut bytes = WireBytes::new(part);
        while let Some(key) = bytes.key()? {
            let WireKey { number, .. } = key;
            take(number, bytes.value(key)?)?;
        }
    }
    Ok(())
}

fn mismatch() -> Result<(), ValueError> {
    Err("a part of its JSON is written in another type than it has".into())
}

fn utf8(bytes: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(bytes).map_err(|_| "a text of its JSON is not UTF-8".into())
}

/// Appends a `Struct`.
pub(super) fn object(parts: &[&[u8]], depth: usize, text: &mut String) -> Result<(), ValueError> {
    let mut entries: Vec<(&str, Vec<&[u8]>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    each(parts, depth, |number, found| match (number, found) {
        (1, RawValue::Bytes(entry)) => {
            let (mut key, mut held) = ("", Vec::new());
            each(&[entry], depth + 1, |number, found| match (number, found) {
                (1, RawValue::Bytes(bytes)) => {
                    key = utf8(bytes)?;
                    Ok(())
                }
                (2, RawValue::Bytes(bytes)) => {
                    held.push(bytes);
                    Ok(())
                }
                (1 | 2, _) => mismatch(),
                _ => Ok(()),
            })?;
            let place = *places.entry(key).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(entry) => {
                    let replaced = std::mem::replace(&mut entry.1, held);
                    value(&replaced, depth + 2, &mut String::new())?;
                }
                None => entries.push((key, held)),
            }
            Ok(())
        }
        (1, _) => mismatch(),
        _ => Ok(()),
    })?;
    text.push('{');
    for (at, (key, held)) in entries.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(&texts::quote(key));
        text.push(':');
        value(held, depth + 2, text)?;
    }
    text.push('}');
    Ok(())
}

/// Appends a `ListValue`.
pub(super) fn list(parts: &[&[u8]], depth: usize, text: &mut String) -> Result<(), ValueError> {
    let mut is_first = true;
    text.push('[');
    each(parts, depth, |number, found| match (number, found) {
        (1, RawValue::Bytes(item)) => {
            text.push_str(if std::mem::take(&mut is_first) { "" } else { "," });
            value(&[item], depth + 1, text)
        }
        (1, _) => mismatch(),
        _ => Ok(()),
    })?;
    text.push(']');
    Ok(())
}

/// Appends a `Value`: the member of its oneof that came last, with the parts of it that came since another did.
pub(super) fn value(parts: &[&[u8]], depth: usize, text: &mut String) -> Result<(), ValueError> {
    let mut last: (u32, Option<RawValue<'_>>) = (0, None);
    let mut inner: Vec<&[u8]> = Vec::new();
    each(parts, depth, |number, found| {
        if last.0 != number && (1..=6).contains(&number) {
            // What is replaced must be JSON, too.
            nested(last.0, &inner, depth, &mut String::new())?;
            inner.clear();
        }
        match (number, found) {
            (1 | 4, RawValue::Varint(_)) | (2, RawValue::Fixed64(_)) => {}
            (3, RawValue::Bytes(bytes)) => drop(utf8(bytes)?),
            (5 | 6, RawValue::Bytes(part)) => inner.push(part),
            (1..=6, _) => return mismatch(),
            _ => return Ok(()),
        }
        last = (number, Some(found));
        Ok(())
    })?;
    match last {
        (0, _) | (1, Some(RawValue::Varint(_))) => text.push_str("null"),
        (2, Some(RawValue::Fixed64(bits))) => {
            let number = f64::from_bits(bits);
            if !number.is_finite() {
                return Err(format!("JSON has no number {number}").into());
            }
            let written = match number.fract() == 0.0 && number.abs() < WHOLE {
                true => write!(text, "{number:.0}"),
                false => write!(text, "{number:?}"),
            };
            return written.map_err(|error| error.to_string().into());
        }
        (3, Some(RawValue::Bytes(bytes))) => text.push_str(&texts::quote(utf8(bytes)?)),
        (4, Some(RawValue::Varint(number))) => text.push_str(if number == 0 { "false" } else { "true" }),
        (number, _) => return nested(number, &inner, depth, text),
    }
    Ok(())
}

/// Appends a member of a `Value` that is a message; nothing for others.
fn nested(number: u32, parts: &[&[u8]], depth: usize, text: &mut String) -> Result<(), ValueError> {
    match number {
        5 => object(parts, depth + 1, text),
        6 => list(parts, depth + 1, text),
        _ => Ok(()),
    }
}
