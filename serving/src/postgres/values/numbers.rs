//! Integers, floats and decimals.

use std::fmt::{Display, Write};

use arrow::array::{ArrowPrimitiveType, PrimitiveArray};
use arrow::datatypes::{DecimalType, Float32Type, Float64Type};
use bytes::{BufMut, BytesMut};

use super::value::EncodedValues;

/// The exponents from which floats are written with an exponent.
const SINGLE_EXPONENT: i32 = 6;
const DOUBLE_EXPONENT: i32 = 15;

/// Digits of one digit of a numeric.
const BASE_DIGITS: usize = 4;

pub(super) struct Integers<T: ArrowPrimitiveType>(pub(super) PrimitiveArray<T>);

impl<T> EncodedValues for Integers<T>
where
    T: ArrowPrimitiveType,
    T::Native: Display + Into<i64>,
{
    fn text(&self, row: usize, out: &mut BytesMut) {
        write(out, format_args!("{}", self.0.value(row)));
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let wide: i64 = self.0.value(row).into();
        out.put_slice(&wide.to_be_bytes()[8 - size_of::<T::Native>()..]);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        self.text(row, out);
    }
}

pub(super) struct Singles(pub(super) PrimitiveArray<Float32Type>);

impl EncodedValues for Singles {
    fn text(&self, row: usize, out: &mut BytesMut) {
        let value = self.0.value(row);
        write_float(f64::from(value), &format!("{value:e}"), SINGLE_EXPONENT, out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        out.put_f32(self.0.value(row));
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        let value = self.0.value(row);
        write_json_float(f64::from(value), format_args!("{value:?}"), out);
    }
}

pub(super) struct Doubles(pub(super) PrimitiveArray<Float64Type>);

impl EncodedValues for Doubles {
    fn text(&self, row: usize, out: &mut BytesMut) {
        let value = self.0.value(row);
        write_float(value, &format!("{value:e}"), DOUBLE_EXPONENT, out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        out.put_f64(self.0.value(row));
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        let value = self.0.value(row);
        write_json_float(value, format_args!("{value:?}"), out);
    }
}

/// Writes a float, whose shortest digits are in `shortest` (such as `1.5e-7`), as PostgreSQL does: with an exponent
/// below 1e-4 and from 10 to the power of `most`.
fn write_float(value: f64, shortest: &str, most: i32, out: &mut BytesMut) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { "Infinity".as_bytes() } else { "-Infinity".as_bytes() });
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    out.put_slice(sign.as_bytes());
    if (-4..most).contains(&exponent) {
        write_point(&digits, exponent + 1, out);
        return;
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    write(out, format_args!("{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs()));
}

/// Writes `digits` with a point behind the first `whole` of them.
fn write_point(digits: &str, whole: i32, out: &mut BytesMut) {
    let Ok(whole) = usize::try_from(whole) else {
        write(out, format_args!("0.{:0>width$}", digits, width = digits.len() + whole.unsigned_abs() as usize));
        return;
    };
    match digits.split_at_checked(whole) {
        Some((_, "")) => out.put_slice(digits.as_bytes()),
        Some(("", rest)) => write(out, format_args!("0.{rest}")),
        Some((whole, rest)) => write(out, format_args!("{whole}.{rest}")),
        None => write(out, format_args!("{digits:0<whole$}")),
    }
}

/// A number if JSON has one for the value.
fn write_json_float(value: f64, digits: std::fmt::Arguments<'_>, out: &mut BytesMut) {
    if value.is_finite() {
        write(out, digits);
    } else {
        out.put_u8(b'"');
        write_float(value, "", 0, out);
        out.put_u8(b'"');
    }
}

pub(super) struct Decimals<T: ArrowPrimitiveType> {
    values: PrimitiveArray<T>,
    /// Digits behind the point.
    scale: i8,
}

impl<T: DecimalType<Native: Display>> Decimals<T> {
    pub(super) fn new(values: PrimitiveArray<T>, scale: i8) -> Self {
        Self { values, scale }
    }

    /// True for a negative value; the digits before the point, and those behind.
    fn digits(&self, row: usize) -> (bool, String, String) {
        let text = self.values.value(row).to_string();
        let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        match usize::try_from(self.scale) {
            Ok(scale) => {
                let padded = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = padded.split_at(padded.len() - scale);
                (negative, whole.to_owned(), fraction.to_owned())
            }
            Err(_) if digits == "0" => (false, digits.to_owned(), String::new()),
            Err(_) => (negative, format!("{digits}{}", "0".repeat(self.scale.unsigned_abs().into())), String::new()),
        }
    }
}

impl<T: DecimalType<Native: Display>> EncodedValues for Decimals<T> {
    fn text(&self, row: usize, out: &mut BytesMut) {
        let (negative, whole, fraction) = self.digits(row);
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write(out, format_args!("{sign}{whole}{point}{fraction}"));
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let (negative, whole, fraction) = self.digits(row);
        let whole = whole.trim_start_matches('0');
        let before = whole.len().div_ceil(BASE_DIGITS);
        let whole = format!("{whole:0>width$}", width = before * BASE_DIGITS);
        let behind = fraction.len().div_ceil(BASE_DIGITS);
        let scale = fraction.len();
        let fraction = format!("{fraction:0<width$}", width = behind * BASE_DIGITS);
        let all = whole + &fraction;
        let groups = all.as_bytes().chunks(BASE_DIGITS).map(group).collect::<Vec<i16>>();
        let first = groups.iter().position(|digit| *digit != 0).unwrap_or(groups.len());
        let last = groups.iter().rposition(|digit| *digit != 0).map_or(first, |last| last + 1);
        let digits = &groups[first..last];
        let weight = if digits.is_empty() { 0 } else { before as i16 - 1 - first as i16 };
        out.put_i16(digits.len() as i16);
        out.put_i16(weight);
        out.put_u16(if negative && !digits.is_empty() { 0x4000 } else { 0 });
        out.put_u16(scale as u16);
        digits.iter().for_each(|digit| out.put_i16(*digit));
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        out.put_u8(b'"');
        self.text(row, out);
        out.put_u8(b'"');
    }
}

fn group(digits: &[u8]) -> i16 {
    digits.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0'))
}

/// Writes what is formatted; a buffer in memory takes everything.
pub(super) fn write(out: &mut BytesMut, what: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(what);
}
