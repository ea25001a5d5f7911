//! JSON strings, and values without a JSON form of their own that are written as text: bytes, numbers.
//!
//! Invariant: no part of a text is skipped. A part that the type cannot hold makes the whole text invalid.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The text of the JSON string `raw`; `None` if half of a surrogate pair is missing.
pub(super) fn unquote(raw: &str) -> Option<Cow<'_, str>> {
    let inside = &raw[1..raw.len() - 1];
    if inside.as_bytes().contains(&b'\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

/// `text` as a JSON string.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// True if `text` is a number by JSON's grammar and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len())
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

    #[test]
    fn bytes_are_pairs_of_digits() {
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
