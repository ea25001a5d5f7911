//! Values without a JSON form of their own, written as text: times, dates, bytes, special floats.
//!
//! Invariant: no part of a text is skipped. A part that the type cannot hold makes the whole text invalid. Only the
//! digits of a time below a microsecond are cut, like the digits of a float beyond its precision.

use std::borrow::Cow;

use arrow::array::types::Date32Type;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use chrono::{Timelike, Utc};
use serde_json::value::RawValue;

/// The text of the JSON string `raw`; `None` if half of a surrogate pair is missing.
pub(super) fn unquote(raw: &str) -> Option<Cow<'_, str>> {
    let inside = &raw[1..raw.len() - 1];
    if inside.as_bytes().contains(&b'\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

/// True if `text` is a number by JSON's grammar and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len())
}

/// Microseconds since 1970 of a date, or of a date and time with or without a UTC offset. Without an offset the time is
/// in UTC.
pub(super) fn micros(text: &str) -> Option<i64> {
    match text.as_bytes().last() {
        Some(b'Z' | b'z') => {}
        Some(b'0'..=b'9') if !odd_offset(text) => {}
        // The meaning of a time zone's name depends on the version of a time zone database.
        _ => return None,
    }
    let time = string_to_datetime(&Utc, text).ok()?;
    // A leap second has no value of its own; it would become the following second.
    (time.nanosecond() < 1_000_000_000).then(|| time.timestamp_micros())
}

/// True for a UTC offset with more than 59 minutes. The parser would accept it and carry the minutes into the hours.
fn odd_offset(text: &str) -> bool {
    let Some(time) = text.as_bytes().get(10..) else {
        return false;
    };
    let Some(sign) = time.iter().rposition(|b| matches!(b, b'+' | b'-')) else {
        return false;
    };
    let digits: Vec<u8> = time[sign..].iter().copied().filter(u8::is_ascii_digit).collect();
    digits.len() == 4 && digits[2] > b'5'
}

/// Days since 1970 of a date in the only accepted form, `2024-05-01`.
pub(super) fn days(text: &str) -> Option<i32> {
    let plain = text.len() == 10 && text.as_bytes()[0].is_ascii_digit();
    plain.then(|| Date32Type::parse(text)).flatten()
}

/// The bytes of hexadecimal digits, two digits per byte.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    digits.chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<i64>) {
        assert_eq!(micros(text), expect, "{text}");
    }

    #[test]
    fn times() {
        const NOON: i64 = 1_714_564_800_000_000;
        check("2024-05-01T12:00:00Z", Some(NOON));
        check("2024-05-01t12:00:00z", Some(NOON));
        check("2024-05-01 12:00:00", Some(NOON));
        check("2024-05-01 120000", Some(NOON));
        check("2024-05-01T14:00:00+02:00", Some(NOON));
        check("2024-05-01T14:00:00 +0200", Some(NOON));
        check("2024-05-01T06:30:00-05:30", Some(NOON));
        check("2024-05-01", Some(NOON - 12 * 3_600_000_000));
        check("2024-05-01T12:00:00.000001Z", Some(NOON + 1));
        check("2024-05-01T12:00:00.000001999Z", Some(NOON + 1));
        check("1969-12-31T23:59:59.9999999Z", Some(-1));
        check("2024-02-30T12:00:00Z", None);
        check("2024-05-01T24:00:00Z", None);
        check("2024-05-01T12:60:00Z", None);
        check("2016-12-31T23:59:60Z", None);
        check("2016-12-31T23:59:60.5Z", None);
        check("2024-05-01T12:00:00+02:60", None);
        check("2024-05-01T12:00:00+02:99", None);
        check("2024-05-01T12:00:00+0299", None);
        check("2024-05-01T12:00:00+99", None);
        check("2024-05-01T12:00:00 Europe/Berlin", None);
        check("2024-05-01T12:00", None);
        check("2024-05-01T12:00:00.Z", None);
        check("2024-05-01T12:00:00Z ", None);
        check(" 2024-05-01T12:00:00Z", None);
        check("2024-05-01T12:00:00é", None);
        check("1714564800", None);
        check("", None);
    }

    #[test]
    fn dates_and_bytes() {
        assert_eq!(days("1970-01-02"), Some(1));
        for odd in [
            "2024-5-1",
            "20240501",
            "2024-13-01",
            "2024-02-30",
            "+02024-05-1",
            "2024-05-01T00:00:00Z",
            "2024-05-0é",
            "",
        ] {
            assert_eq!(days(odd), None, "{odd}");
        }
        assert_eq!(bytes("00fF"), Some(vec![0, 255]));
        assert_eq!(bytes(""), Some(vec![]));
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes("0g"), None);
        assert_eq!(bytes("éé"), None);
    }

    #[test]
    fn numbers_in_text() {
        for number in ["0", "-1.5e3", "12"] {
            assert!(is_number(number), "{number}");
        }
        for other in ["", "-", "01", "+1", " 1", "1 ", "1.", ".5", "1e", "NaN", "1 2", "0x1", "null"] {
            assert!(!is_number(other), "{other}");
        }
    }
}
