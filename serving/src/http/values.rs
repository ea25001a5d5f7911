//! JSON values as values for placeholders.
//!
//! | JSON | value |
//! |---|---|
//! | `true`, `false` | BOOLEAN |
//! | a whole number | BIGINT, or BIGINT UNSIGNED above; a DECIMAL beyond 64 bits |
//! | another number | DOUBLE if a double has every digit of it, otherwise a DECIMAL |
//! | a text | read as a value of the type that the query expects |
//! | `null` | NULL |
//! | a list of numbers, of texts, of booleans | a list |
//!
//! Invariant: no digit is lost, and a value that would lose one is refused.

use arrow::datatypes::{DataType, i256};
use datafusion::common::ScalarValue;
use serde_json::value::RawValue;
use thalweg_schemas::api::SqlValue;

use crate::parameters::Parameter;
use crate::{Error, Result};

/// Digits of a DECIMAL.
const DIGITS_128: usize = 38;
const DIGITS_256: usize = 76;

/// Digits that a double always has.
const DIGITS_DOUBLE: usize = 15;

/// The values for `$1`, `$2`, ….
///
/// Errors: [`Error::BindParameters`], which names the value.
pub(super) fn parameters(values: &[SqlValue]) -> Result<Vec<Parameter>> {
    let numbered = values.iter().enumerate();
    numbered
        .map(|(at, value)| {
            let read = parameter(value.text().trim());
            read.map_err(|reason| Error::BindParameters { reason: format!("${}: {reason}", at + 1) })
        })
        .collect()
}

/// The values in the text of a JSON array.
///
/// Errors: [`Error::ReadRequest`], and those of [`parameters`].
pub(super) fn of_text(text: &str) -> Result<Vec<Parameter>> {
    let values: Vec<SqlValue> = serde_json::from_str(text)
        .map_err(|e| Error::ReadRequest { reason: format!("params is a JSON array, such as [1, \"a\"]: {e}") })?;
    parameters(&values)
}

fn parameter(text: &str) -> std::result::Result<Parameter, String> {
    match text.as_bytes().first() {
        Some(b'n') => Ok(Parameter::Null),
        Some(b'"') => Ok(Parameter::Text(string(text)?)),
        Some(b'[') => list(text).map(Parameter::Typed),
        Some(b'{') => Err("an object is no value; give its fields one by one, or a text".to_owned()),
        _ => scalar(text).map(Parameter::Typed),
    }
}

fn string(text: &str) -> std::result::Result<String, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

fn scalar(text: &str) -> std::result::Result<ScalarValue, String> {
    match text {
        "true" => Ok(ScalarValue::Boolean(Some(true))),
        "false" => Ok(ScalarValue::Boolean(Some(false))),
        number => self::number(number),
    }
}

/// A number as the planner reads a literal, unless digits would be lost.
fn number(text: &str) -> std::result::Result<ScalarValue, String> {
    if !text.contains(['.', 'e', 'E']) {
        if let Ok(value) = text.parse::<i64>() {
            return Ok(ScalarValue::Int64(Some(value)));
        }
        if let Ok(value) = text.parse::<u64>() {
            return Ok(ScalarValue::UInt64(Some(value)));
        }
        return decimal(text);
    }
    let digits = text.split(['e', 'E']).next().unwrap_or_default().bytes().filter(u8::is_ascii_digit);
    let significant = digits.skip_while(|digit| *digit == b'0').count();
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && (significant <= DIGITS_DOUBLE || keeps_digits(text, value)) => {
            // A number so small that a double has nothing of it.
            match value == 0.0 && significant > 0 {
                true => Err(format!("the number {} is smaller than a double can be", shown(text))),
                false => Ok(ScalarValue::Float64(Some(value))),
            }
        }
        _ => decimal(text),
    }
}

/// True if the shortest text of `value` has the digits of `text`.
fn keeps_digits(text: &str, value: f64) -> bool {
    match (Written::read(text), Written::read(&format!("{value:e}"))) {
        (Some(text), Some(value)) => text == value,
        _ => false,
    }
}

fn decimal(text: &str) -> std::result::Result<ScalarValue, String> {
    let too_long =
        || format!("the number {} has more digits than a DECIMAL; give it as a text and CAST it", shown(text));
    let Written { negative, digits, exponent } = Written::read(text).ok_or_else(too_long)?;
    // Zeros behind the digits of a large number; digits behind the point of a small one.
    let zeros = usize::try_from(exponent.max(0)).map_err(|_| too_long())?;
    let scale = usize::try_from((-exponent).max(0)).map_err(|_| too_long())?;
    let precision = digits.len().saturating_add(zeros).max(scale).max(1);
    if precision > DIGITS_256 {
        return Err(too_long());
    }
    let sign = if negative { "-" } else { "" };
    let whole = format!("{sign}{digits}{}", "0".repeat(zeros));
    let (Ok(precision_byte), Ok(scale)) = (u8::try_from(precision), i8::try_from(scale)) else {
        return Err(too_long());
    };
    if precision <= DIGITS_128 {
        let value = whole.parse::<i128>().map_err(|_| too_long())?;
        return Ok(ScalarValue::Decimal128(Some(value), precision_byte, scale));
    }
    let value = i256::from_string(&whole).ok_or_else(too_long)?;
    Ok(ScalarValue::Decimal256(Some(value), precision_byte, scale))
}

/// A number as it is written: its digits without zeros around them, and the power of ten that they are multiplied by.
#[derive(Debug, PartialEq)]
struct Written {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Written {
    /// `None` if the exponent is beyond all use.
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i64 = exponent.parse::<i32>().ok()?.into();
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{part}");
        let behind = all.trim_end_matches('0');
        let zeros = i64::try_from(all.len() - behind.len()).ok()?;
        let digits = behind.trim_start_matches('0').to_owned();
        let exponent = match digits.is_empty() {
            true => 0,
            false => exponent - i64::try_from(part.len()).ok()? + zeros,
        };
        Some(Self { negative, digits: if digits.is_empty() { "0".to_owned() } else { digits }, exponent })
    }
}

/// A list whose items have one type.
fn list(text: &str) -> std::result::Result<ScalarValue, String> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let item = item.get().trim();
        values.push(match item.as_bytes().first() {
            Some(b'n') => ScalarValue::Null,
            Some(b'"') => ScalarValue::Utf8(Some(string(item)?)),
            Some(b'[' | b'{') => return Err("a list has numbers, texts or booleans, and nothing that nests".to_owned()),
            _ => scalar(item)?,
        });
    }
    let mut types = values.iter().map(ScalarValue::data_type).filter(|found| !found.is_null());
    // The type of an empty list makes no difference: nothing is compared with its items.
    let first = types.next().unwrap_or(DataType::Utf8);
    if let Some(other) = types.find(|found| *found != first) {
        return Err(format!(
            "the items of a list have one type, and this one has {first} and {other}; write numbers alike, as in [1.0, 2.5]"
        ));
    }
    let typed = values.into_iter().map(|value| match value {
        ScalarValue::Null => ScalarValue::try_from(&first).map_err(|e| e.to_string()),
        value => Ok(value),
    });
    let typed = typed.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&typed, &first)))
}

/// The beginning of a long number.
fn shown(text: &str) -> String {
    match text.get(..40) {
        Some(begin) if text.len() > 40 => format!("{begin}…"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expect: std::result::Result<Parameter, &str>) {
        let read = parameters(&[SqlValue::new(json).unwrap()]).map(|mut values| values.remove(0));
        match (read, expect) {
            (Ok(read), Ok(expect)) => assert_eq!(read, expect, "{json}"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                assert!(error.to_string().starts_with("$1: ") && error.to_string().len() < 300, "{error}");
            }
            (read, expect) => panic!("{json}: {read:?}, not {expect:?}"),
        }
    }

    fn typed(value: ScalarValue) -> std::result::Result<Parameter, &'static str> {
        Ok(Parameter::Typed(value))
    }

    #[test]
    fn values_have_the_types_of_literals() {
        check("null", Ok(Parameter::Null));
        check("true", typed(ScalarValue::Boolean(Some(true))));
        check("\"a\\u00e9\\n'\"", Ok(Parameter::Text("aé\n'".into())));
        check("\"\"", Ok(Parameter::Text(String::new())));
        for (json, expect) in
            [("0", 0), ("-0", 0), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            check(json, typed(ScalarValue::Int64(Some(expect))));
        }
        check("9223372036854775808", typed(ScalarValue::UInt64(Some(1 << 63))));
        check("18446744073709551615", typed(ScalarValue::UInt64(Some(u64::MAX))));
        for (json, expect) in [
            ("0.1", 0.1),
            ("-0.0", -0.0),
            ("1.0", 1.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", 5e-324),
            ("0.30000000000000004", 0.1 + 0.2),
            ("123456789012345.6", 123_456_789_012_345.6),
        ] {
            check(json, typed(ScalarValue::Float64(Some(expect))));
        }
    }

    #[test]
    fn numbers_that_would_lose_digits_are_decimals() {
        let decimal = |value, precision, scale| typed(ScalarValue::Decimal128(Some(value), precision, scale));
        check("18446744073709551616", decimal(18_446_744_073_709_551_616, 20, 0));
        check("-9223372036854775809", decimal(-9_223_372_036_854_775_809, 19, 0));
        check("0.12345678901234567890123", decimal(12_345_678_901_234_567_890_123, 23, 23));
        check("12345678901234567.25", decimal(1_234_567_890_123_456_725, 19, 2));
        check("100000000000000000000", decimal(100_000_000_000_000_000_000, 21, 0));
        check("1.2345678901234567891e21", decimal(1_234_567_890_123_456_789_100, 22, 0));
        let long = "1".repeat(76);
        check(&long, typed(ScalarValue::Decimal256(i256::from_string(&long), 76, 0)));
        for json in
            ["1e400", "-1e400", "1e99999999999", "1e-99999999999999999999", &"1".repeat(77), &"9".repeat(100_000)]
        {
            check(json, Err("the number"));
        }
        check("1e-400", Err("smaller than a double"));
    }

    #[test]
    fn lists_have_one_type() {
        let list =
            |items: &[ScalarValue], of: &DataType| typed(ScalarValue::List(ScalarValue::new_list_nullable(items, of)));
        let int = |value| ScalarValue::Int64(value);
        check("[1, 2, null]", list(&[int(Some(1)), int(Some(2)), int(None)], &DataType::Int64));
        check("[\"a\", \"\"]", list(&[ScalarValue::from("a"), ScalarValue::from("")], &DataType::Utf8));
        check("[]", list(&[], &DataType::Utf8));
        check("[1, 2.5]", Err("one type"));
        check("[1, \"a\"]", Err("one type"));
        check("[[1]]", Err("nests"));
        check("[{}]", Err("nests"));
        check("{\"a\": 1}", Err("an object"));
        check(&("[".repeat(100_000) + &"]".repeat(100_000)), Err("nests"));
    }

    #[test]
    fn a_list_of_values_is_read() {
        assert_eq!(of_text("[1, \"a\", null]").unwrap().len(), 3);
        for wrong in ["", "1", "{}", "[1", "[1] x"] {
            assert_eq!(of_text(wrong).unwrap_err().status(), 400, "{wrong}");
        }
        assert_eq!(of_text("[{}]").unwrap_err().code().as_str(), "bad_parameter");
    }
}
