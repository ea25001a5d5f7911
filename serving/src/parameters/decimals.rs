//! Decimals with exactly the digits that are written, and casts that lose none.

use arrow::datatypes::{DataType, i256};
use datafusion::common::ScalarValue;

/// Digits that a decimal may have.
pub(crate) const MOST_DIGITS: usize = 76;

/// Characters of a wrong text that an error repeats.
const SHOWN: usize = 100;

/// The text, or its beginning and a mark if it is long.
pub(crate) fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A decimal with exactly the digits of the text.
pub(crate) fn decimal(text: &str) -> Result<ScalarValue, String> {
    let wrong = || format!("`{}` is not a number of fixed digits", beginning(text));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| wrong())?),
        None => (text, 0),
    };
    let (negative, unsigned) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let long = || format!("`{}` has more than {MOST_DIGITS} digits", beginning(text));
    let scale = i32::try_from(fraction.len()).map_err(|_| long())?.checked_sub(exponent).ok_or_else(long)?;
    let mut digits = digits.trim_start_matches('0').to_owned();
    if scale < 0 {
        if scale < -(MOST_DIGITS as i32) {
            return Err(long());
        }
        digits.push_str(&"0".repeat(scale.unsigned_abs() as usize));
    }
    let scale = usize::try_from(scale).unwrap_or(0);
    let precision = digits.len().max(scale).max(1);
    if precision > MOST_DIGITS {
        return Err(long());
    }
    let sign = if negative { "-" } else { "" };
    let value: i256 = format!("{sign}0{digits}").parse().map_err(|_| wrong())?;
    let (precision, scale) = (precision as u8, scale as i8);
    match (precision, value.to_i128()) {
        (..=38, Some(value)) => Ok(ScalarValue::Decimal128(Some(value), precision, scale)),
        _ => Ok(ScalarValue::Decimal256(Some(value), precision, scale)),
    }
}

/// `value` in the type `wanted`. A number that has more digits than the type stays as it is: a comparison with it is
/// decided by all of them.
///
/// Errors: a sentence for a value that is none of the type.
pub(crate) fn exactly(value: ScalarValue, wanted: &DataType) -> Result<ScalarValue, String> {
    let cast = value.cast_to(wanted);
    if !has_digits(&value.data_type()) || !has_digits(wanted) {
        return cast.map_err(|error| error.strip_backtrace());
    }
    match cast {
        Ok(cast) if cast.cast_to(&value.data_type()).is_ok_and(|back| back == value) => Ok(cast),
        _ => Ok(value),
    }
}

fn has_digits(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => has_digits(item.data_type()),
        other => other.is_decimal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_digit_is_lost() {
        let check = |text: &str, wanted: DataType, expect: &str| {
            let value = exactly(decimal(text).unwrap(), &wanted).unwrap();
            assert_eq!(format!("{value} {}", value.data_type()), expect, "{text}");
        };
        let money = DataType::Decimal128(10, 2);
        check("1.5", money.clone(), "1.50 Decimal128(10, 2)");
        check("1.500", money.clone(), "1.50 Decimal128(10, 2)");
        check("1.005", money.clone(), "1.005 Decimal128(4, 3)");
        check("-0.001", money.clone(), "-0.001 Decimal128(3, 3)");
        check("123456789012", money.clone(), "123456789012 Decimal128(12, 0)");
        check("99999999.99", money.clone(), "99999999.99 Decimal128(10, 2)");
        check(&"9".repeat(60), money, &format!("{} Decimal256(60, 0)", "9".repeat(60)));
        check("0", DataType::Decimal128(38, 38), "0.00000000000000000000000000000000000000 Decimal128(38, 38)");
    }
}
