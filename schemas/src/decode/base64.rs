//! Values of JSON strings in base64, as Kafka Connect's JsonConverter writes bytes and decimals.
//!
//! Invariant: a decimal is the exact value, at the scale of its column, or it is refused.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{numbers, texts};

const NOT_BASE64: &str = "it is not base64";

/// The bytes of `text`.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| NOT_BASE64)
}

/// A decimal that has a scale of its own: `io.debezium.data.VariableScaleDecimal`.
#[derive(Debug, Deserialize)]
struct VariableScaleDecimal {
    scale: i32,
    value: String,
}

/// The decimal in `raw`, a JSON string or object, times 10 to the power of `scale`. A string is such a product already.
pub(super) fn decimal(raw: &str, scale: i8) -> Result<i128, &'static str> {
    let whole = |text: &str| numbers::big_endian(&bytes(text)?).map_err(numbers::explain);
    if raw.starts_with('"') {
        return whole(&texts::unquote(raw).ok_or(NOT_BASE64)?);
    }
    let decimal: VariableScaleDecimal = serde_json::from_str(raw).map_err(|_| "it is an object")?;
    let digits = format!("{}e{}", whole(&decimal.value)?, -i64::from(decimal.scale));
    numbers::scaled(&digits, scale).map_err(numbers::explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, scale: i8, expect: Result<i128, &str>) {
        assert_eq!(decimal(raw, scale), expect, "{raw}");
    }

    #[test]
    fn a_string_is_the_unscaled_value() {
        check(r#""AA==""#, 2, Ok(0));
        check(r#""BNI=""#, 2, Ok(1234));
        check(r#""/w==""#, 2, Ok(-1));
        check(r#""AP8=""#, 2, Ok(255));
        check(r#""gAAAAAAAAAAAAAAAAAAAAA==""#, 0, Ok(i128::MIN));
        check(r#""/4AAAAAAAAAAAAAAAAAAAAA=""#, 0, Ok(i128::MIN));
        check(r#""AICAAAAAAAAAAAAAAAAAAAA=""#, 0, Err("it is out of range"));
        check(r#""AQAAAAAAAAAAAAAAAAAAAAA=""#, 0, Err("it is out of range"));
        check(r#""""#, 2, Ok(0));
        check(r#""BNI""#, 2, Err("it is not base64"));
        check(r#""1.5""#, 2, Err("it is not base64"));
    }

    #[test]
    fn an_object_has_its_own_scale() {
        check(r#"{"scale":2,"value":"BNI="}"#, 2, Ok(1234));
        check(r#"{"scale":1,"value":"BNI="}"#, 2, Ok(12340));
        check(r#"{"scale":-1,"value":"BNI="}"#, 0, Ok(12340));
        check(r#"{"scale":3,"value":"BNI="}"#, 2, Err("it has more decimal places"));
        check(r#"{"scale":2000000000,"value":"BNI="}"#, 2, Err("it has more decimal places"));
        check(r#"{"scale":-2000000000,"value":"BNI="}"#, 2, Err("it is out of range"));
        check(r#"{"scale":2}"#, 2, Err("it is an object"));
    }
}
