//! JSON numbers, read exactly or refused.
//!
//! A number is computed from its digits, never through a float, so `9007199254740993`, `1.10` and `12e-1` keep their
//! exact values. Only DOUBLE and REAL round, to the nearest value of the type. Numbers beyond the range of DOUBLE or
//! REAL are refused.
//!
//! Invariant: the returned value equals the written number; for floats it is the value nearest to the written number.

use std::str::FromStr;

/// Why a number is not a value of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// The number has more decimal places than the type.
    Fraction,
    /// The number is outside the range of the type.
    Range,
}

/// The reason for a user, as the end of a sentence.
pub(super) fn explain(error: NumberError) -> &'static str {
    match error {
        NumberError::Fraction => "it has more decimal places",
        NumberError::Range => "it is out of range",
    }
}

/// The number in two's complement, the highest byte first; zero in no bytes.
pub(super) fn big_endian(digits: &[u8]) -> Result<i128, NumberError> {
    let sign = if digits.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let (above, kept) = digits.split_at(digits.len().saturating_sub(16));
    let mut number = [sign; 16];
    number[16 - kept.len()..].copy_from_slice(kept);
    let number = i128::from_be_bytes(number);
    match above.iter().all(|byte| *byte == sign) && (number < 0) == (sign == 0xff) {
        true => Ok(number),
        false => Err(NumberError::Range),
    }
}

/// The value of `text`, a whole number by JSON's grammar: `1`, `1.0`, `12e2`.
pub(super) fn whole<T: TryFrom<i64>>(text: &str) -> Result<T, NumberError> {
    let value = match short(text) {
        Some(value) => value,
        None => i64::try_from(scaled(text, 0)?).map_err(|_| NumberError::Range)?,
    };
    T::try_from(value).map_err(|_| NumberError::Range)
}

/// Fast path for up to 18 digits and a sign, the form of nearly all whole numbers. 18 digits cannot overflow.
fn short(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    if digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if text.len() > digits.len() { -value } else { value })
}

/// The representation of a DECIMAL: `text`, a number by JSON's grammar, times 10 to the power of `scale`. The product
/// must be a whole number.
pub(super) fn scaled(text: &str, scale: i8) -> Result<i128, NumberError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, mut power) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])),
        None => (text, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    power += i64::from(scale) - fraction.len() as i64;

    // Zeros are applied only when another digit follows, so that `1000e-3` is 1 with any number of zeros.
    let mut value = 0i128;
    let mut zeros = 0u32;
    let mut overflow = false;
    for digit in integer.bytes().chain(fraction.bytes()) {
        match digit {
            b'0' if value == 0 => {}
            b'0' => zeros += 1,
            _ => {
                let longer = 10i128
                    .checked_pow(zeros + 1)
                    .and_then(|shift| value.checked_mul(shift))
                    .and_then(|value| value.checked_add(i128::from(digit - b'0')));
                overflow |= longer.is_none();
                value = longer.unwrap_or(i128::MAX / 10);
                zeros = 0;
            }
        }
    }
    if value == 0 {
        return Ok(0);
    }
    power += i64::from(zeros);
    if power < 0 {
        return Err(NumberError::Fraction);
    }
    if overflow {
        return Err(NumberError::Range);
    }
    let shift = u32::try_from(power).ok().and_then(|p| 10i128.checked_pow(p));
    let value = shift.and_then(|shift| value.checked_mul(shift)).ok_or(NumberError::Range)?;
    Ok(if negative { -value } else { value })
}

/// As [`scaled`], with the largest whole number that is not above the product.
pub(super) fn floored(text: &str, scale: i8) -> Result<i128, NumberError> {
    match scaled(text, scale) {
        Err(NumberError::Fraction) => {}
        found => return found,
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, power) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])),
        None => (text, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let kept = integer.len() as i64 + power + i64::from(scale);
    let kept = usize::try_from(kept).unwrap_or(0);
    let digits = integer.bytes().chain(fraction.bytes()).take(kept);
    let add = |value: i128, digit: u8| value.checked_mul(10)?.checked_add(i128::from(digit - b'0'));
    let whole = digits.into_iter().try_fold(0, add).ok_or(NumberError::Range)?;
    // A digit behind is not zero, because the number would be whole otherwise.
    Ok(if negative { -whole - 1 } else { whole })
}

/// `value` with `from` decimal places, with `to` of them. Only zeros are cut.
pub(super) fn rescaled(value: i128, from: u32, to: u32) -> Result<i128, NumberError> {
    let factor = 10i128.checked_pow(from.abs_diff(to));
    match (factor, from <= to) {
        _ if value == 0 => Ok(0),
        (Some(factor), true) => value.checked_mul(factor).ok_or(NumberError::Range),
        (Some(factor), false) if value % factor == 0 => Ok(value / factor),
        (None, true) => Err(NumberError::Range),
        (_, false) => Err(NumberError::Fraction),
    }
}

/// The number behind the `e`. Beyond 32 bits only the sign matters, so a large placeholder is returned.
fn exponent(text: &str) -> i64 {
    match text.parse::<i32>() {
        Ok(exponent) => i64::from(exponent),
        Err(_) if text.starts_with('-') => i64::MIN / 4,
        Err(_) => i64::MAX / 4,
    }
}

/// A float type: `f64` or `f32`.
pub(super) trait Float: FromStr + Copy {
    fn is_finite(self) -> bool;
}

impl Float for f64 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f32 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

/// The float nearest to `text`, a number by JSON's grammar. A number too small for the type becomes zero.
pub(super) fn nearest<T: Float>(text: &str) -> Result<T, NumberError> {
    match text.parse::<T>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(NumberError::Range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, scale: i8, expect: Result<i128, NumberError>) {
        assert_eq!(scaled(text, scale), expect, "{text} at scale {scale}");
        if scale == 0 {
            let expect = expect.and_then(|v| i64::try_from(v).map_err(|_| NumberError::Range));
            assert_eq!(whole::<i64>(text), expect, "{text}");
        }
    }

    const FRACTION: Result<i128, NumberError> = Err(NumberError::Fraction);
    const RANGE: Result<i128, NumberError> = Err(NumberError::Range);

    #[test]
    fn whole_numbers_are_exact() {
        check("0", 0, Ok(0));
        check("-0", 0, Ok(0));
        check("-0.000e99", 0, Ok(0));
        check("0e99999999999999999999", 0, Ok(0));
        check("1.0", 0, Ok(1));
        check("1e3", 0, Ok(1000));
        check("1E+3", 0, Ok(1000));
        check("-1200e-2", 0, Ok(-12));
        check("12.50e1", 0, Ok(125));
        check("9007199254740993", 0, Ok(9_007_199_254_740_993));
        check("9007199254740993.0", 0, Ok(9_007_199_254_740_993));
        check("9223372036854775807", 0, Ok(i64::MAX.into()));
        check("-9223372036854775808", 0, Ok(i64::MIN.into()));
        check("9223372036854775808", 0, Ok(i128::from(i64::MAX) + 1));
        check(&format!("1{}e-60", "0".repeat(60)), 0, Ok(1));
        check(&format!("1.{}", "0".repeat(500)), 0, Ok(1));
        check("1.5", 0, FRACTION);
        check("12e-1", 0, FRACTION);
        check("1e-99999999999999999999", 0, FRACTION);
        check("1e99999999999999999999", 0, RANGE);
        check("1e39", 0, RANGE);
        check("1e65537", 0, RANGE);
        check(&"9".repeat(300), 0, RANGE);
        check(&format!("0.{}", "3".repeat(300)), 0, FRACTION);
        assert_eq!(whole::<i8>("127"), Ok(127));
        assert_eq!(whole::<i8>("128"), Err(NumberError::Range));
        assert_eq!(whole::<i32>("-2147483649"), Err(NumberError::Range));
    }

    #[test]
    fn decimals_are_exact() {
        check("1.10", 2, Ok(110));
        check("-12.5", 2, Ok(-1250));
        check("1.5e3", 2, Ok(150_000));
        check("123e-2", 2, Ok(123));
        check("1.2300000", 2, Ok(123));
        check("1.239", 2, FRACTION);
        check("1e-3", 2, FRACTION);
        check("1e36", 2, Ok(10i128.pow(38)));
        check("1e37", 2, RANGE);
        check("99999999999999999999999999999999999999", 0, Ok(10i128.pow(38) - 1));
    }

    #[test]
    fn floats_are_the_nearest() {
        assert_eq!(nearest("0.1"), Ok(0.1f64));
        assert_eq!(nearest("9007199254740993"), Ok(9_007_199_254_740_992f64));
        assert_eq!(nearest("1.7976931348623157e308"), Ok(f64::MAX));
        assert_eq!(nearest("5e-324"), Ok(5e-324f64));
        assert_eq!(nearest("1e-400"), Ok(0.0f64));
        assert_eq!(nearest::<f64>("1e999"), Err(NumberError::Range));
        assert_eq!(nearest::<f64>("-1.8e308"), Err(NumberError::Range));
        assert_eq!(nearest::<f32>("3.5e38"), Err(NumberError::Range));
        assert_eq!(nearest("16777217"), Ok(16_777_216f32));
    }
}
