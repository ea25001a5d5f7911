//! Values for placeholders, in the text and the binary format of PostgreSQL.

mod moments;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use bytes::{Buf, Bytes};
use datafusion::common::ScalarValue;
use pgwire::api::Type;

use super::types;
use super::values::times::{EPOCH_DAYS, EPOCH_MICROS};
use crate::parameters::{MOST_DIGITS, Parameter, arrays, beginning, decimal};

/// Digits of one digit of a numeric.
const BASE: i16 = 10_000;

/// Reads a value of `given`; without a type, the query decides what the text means.
///
/// Errors: a sentence for bytes that are not a value of the type.
pub(super) fn read(given: Option<&Type>, is_binary: bool, bytes: &Bytes) -> Result<Parameter, String> {
    match (given, is_binary) {
        (None, false) => Ok(Parameter::Text(text(bytes)?.to_owned())),
        (None, true) => Err("a value in the binary format needs a type; declare the type, or send text".into()),
        (Some(given), false) => of_text(given, text(bytes)?).map(Parameter::Typed),
        (Some(given), true) => of_binary(given, bytes.clone()).map(Parameter::Typed),
    }
}

/// True for a text whose meaning depends on the type that the query expects.
pub(super) fn needs_type(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"{") || text.starts_with(b"\\x") || moments::may_have_zone(text)
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("the text is not UTF-8: {error}"))
}

fn of_text(given: &Type, text: &str) -> Result<ScalarValue, String> {
    let trimmed = text.trim();
    if let Some(item) = types::item(given) {
        let wanted = types::taken(&item).or((item == Type::NUMERIC).then_some(DataType::Null));
        let items = arrays::items(trimmed)?.into_iter().map(|text| match text {
            Some(text) => of_text(&item, &text).map(Some),
            None => Ok(None),
        });
        return list(wanted, items.collect::<Result<_, String>>()?, given);
    }
    match *given {
        Type::NUMERIC => decimal(trimmed),
        Type::BYTEA => match trimmed.strip_prefix("\\x") {
            Some(digits) => hex(digits).map(|bytes| ScalarValue::Binary(Some(bytes))),
            None => Ok(ScalarValue::Binary(Some(text.as_bytes().to_vec()))),
        },
        Type::BOOL => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Ok(ScalarValue::Boolean(Some(true))),
            "f" | "false" | "n" | "no" | "off" | "0" => Ok(ScalarValue::Boolean(Some(false))),
            _ => Err(format!("`{}` is not a boolean", beginning(text))),
        },
        _ => match types::taken(given) {
            Some(DataType::Utf8) => Ok(ScalarValue::Utf8(Some(text.to_owned()))),
            Some(wanted) => {
                let plain = moments::plain(given, trimmed)?.unwrap_or_else(|| trimmed.to_owned());
                let cast = ScalarValue::Utf8(Some(plain)).cast_to(&wanted);
                cast.map_err(|_| format!("`{}` is not a value of the type {given}", beginning(text)))
            }
            None => Err(format!("values of the type {given} are not supported; send text")),
        },
    }
}

fn of_binary(given: &Type, mut bytes: Bytes) -> Result<ScalarValue, String> {
    if let Some(item) = types::item(given) {
        return array(given, &item, bytes);
    }
    let wrong = || format!("the bytes are not a value of the type {given}");
    let width = |width: usize| if bytes.len() == width { Ok(()) } else { Err(wrong()) };
    Ok(match *given {
        Type::BOOL => width(1).map(|()| ScalarValue::Boolean(Some(bytes[0] != 0)))?,
        Type::INT2 => width(2).map(|()| ScalarValue::Int16(Some(bytes.get_i16())))?,
        Type::INT4 => width(4).map(|()| ScalarValue::Int32(Some(bytes.get_i32())))?,
        Type::INT8 => width(8).map(|()| ScalarValue::Int64(Some(bytes.get_i64())))?,
        Type::OID => width(4).map(|()| ScalarValue::Int64(Some(bytes.get_u32().into())))?,
        Type::FLOAT4 => width(4).map(|()| ScalarValue::Float32(Some(bytes.get_f32())))?,
        Type::FLOAT8 => width(8).map(|()| ScalarValue::Float64(Some(bytes.get_f64())))?,
        Type::DATE => {
            width(4)?;
            let days = match bytes.get_i32() {
                i32::MIN | i32::MAX => return Err(moments::INFINITE.to_owned()),
                days => days,
            };
            ScalarValue::Date32(Some(days.checked_add(EPOCH_DAYS).ok_or_else(wrong)?))
        }
        Type::TIME => {
            width(8)?;
            ScalarValue::Time64Nanosecond(Some(bytes.get_i64().checked_mul(1000).ok_or_else(wrong)?))
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            width(8)?;
            let micros = match bytes.get_i64() {
                i64::MIN | i64::MAX => return Err(moments::INFINITE.to_owned()),
                micros => micros.checked_add(EPOCH_MICROS).ok_or_else(wrong)?,
            };
            let zone = (*given == Type::TIMESTAMPTZ).then(|| "UTC".into());
            ScalarValue::TimestampMicrosecond(Some(micros), zone)
        }
        Type::INTERVAL => {
            width(16)?;
            let nanoseconds = bytes.get_i64().checked_mul(1000).ok_or_else(wrong)?;
            let (days, months) = (bytes.get_i32(), bytes.get_i32());
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))
        }
        Type::NUMERIC => decimal(&digits_of(bytes).ok_or_else(wrong)??)?,
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::UUID => {
            width(16)?;
            let id: [u8; 16] = bytes.as_ref().try_into().map_err(|_| wrong())?;
            ScalarValue::Utf8(Some(hyphenated(&id)))
        }
        Type::JSONB => {
            let rest = bytes.strip_prefix(&[1]).ok_or_else(wrong)?;
            ScalarValue::Utf8(Some(text(rest)?.to_owned()))
        }
        _ if types::taken(given) == Some(DataType::Utf8) => ScalarValue::Utf8(Some(text(&bytes)?.to_owned())),
        _ => return Err(format!("values of the type {given} are not supported; send text")),
    })
}

fn array(given: &Type, item: &Type, mut bytes: Bytes) -> Result<ScalarValue, String> {
    let wrong = || format!("the bytes are not a value of the type {given}");
    let int = |bytes: &mut Bytes| if bytes.len() < 4 { Err(wrong()) } else { Ok(bytes.get_i32()) };
    let (dimensions, _has_null, _item) = (int(&mut bytes)?, int(&mut bytes)?, int(&mut bytes)?);
    let count = match dimensions {
        0 => 0,
        1 => {
            let (length, _first) = (int(&mut bytes)?, int(&mut bytes)?);
            usize::try_from(length).map_err(|_| wrong())?
        }
        _ => return Err("arrays of several dimensions are not supported".into()),
    };
    arrays::check_count(count)?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(match usize::try_from(int(&mut bytes)?) {
            Ok(length) if length <= bytes.len() => Some(of_binary(item, bytes.split_to(length))?),
            Ok(_) => return Err(wrong()),
            Err(_) => None,
        });
    }
    if !bytes.is_empty() {
        return Err(wrong());
    }
    list(types::taken(item).or((*item == Type::NUMERIC).then_some(DataType::Null)), items, given)
}

/// A list of `items`. Numerics have the widest precision and scale of all of them.
fn list(wanted: Option<DataType>, items: Vec<Option<ScalarValue>>, given: &Type) -> Result<ScalarValue, String> {
    let mut wanted = wanted.ok_or_else(|| format!("values of the type {given} are not supported; send text"))?;
    if wanted.is_null() {
        let sizes = items.iter().flatten().filter_map(|item| match item.data_type() {
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                Some((i16::from(precision) - i16::from(scale), scale))
            }
            _ => None,
        });
        let (whole, scale) = sizes.fold((1, 0), |(whole, scale), (w, s)| (whole.max(w), scale.max(s)));
        let precision = u8::try_from(whole + i16::from(scale)).unwrap_or(u8::MAX);
        wanted = match precision {
            ..=38 => DataType::Decimal128(precision, scale),
            39..=76 => DataType::Decimal256(precision, scale),
            _ => return Err(format!("the numbers of an array have more than {MOST_DIGITS} digits")),
        };
    }
    let null = ScalarValue::try_from(&wanted).map_err(|error| error.strip_backtrace())?;
    let items = items.into_iter().map(|item| match item {
        Some(item) if item.data_type() == wanted => Ok(item),
        Some(item) => item.cast_to(&wanted).map_err(|error| error.strip_backtrace()),
        None => Ok(null.clone()),
    });
    let items = items.collect::<Result<Vec<_>, String>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list(&items, &wanted, true)))
}

/// The digits of a binary numeric as text; `None` if the bytes are none.
fn digits_of(mut bytes: Bytes) -> Option<Result<String, String>> {
    if bytes.len() < 8 {
        return None;
    }
    let (count, weight) = (bytes.get_i16(), bytes.get_i16());
    let (sign, scale) = (bytes.get_u16(), usize::from(bytes.get_u16()));
    if sign & 0xc000 == 0xc000 {
        return Some(Err("NaN and infinity are no numbers of fixed digits; use a float".into()));
    }
    if bytes.len() != usize::try_from(count).ok()? * 2 || !matches!(sign, 0 | 0x4000) {
        return None;
    }
    if scale > MOST_DIGITS || weight.unsigned_abs() as usize > MOST_DIGITS {
        return Some(Err(format!("a number has more than {MOST_DIGITS} digits")));
    }
    let at = |place: i16| -> Option<i16> {
        let index = usize::try_from(weight - place).ok().filter(|index| *index < count as usize);
        let digit = index.map_or(0, |index| (&bytes[index * 2..]).get_i16());
        (0..BASE).contains(&digit).then_some(digit)
    };
    let mut text = String::from(if sign == 0 { "" } else { "-" });
    text.push('0');
    for place in (0..=weight.max(0)).rev() {
        text.push_str(&format!("{:04}", at(place)?));
    }
    let mut fraction = String::new();
    for place in 1..=(scale.div_ceil(4) as i16) {
        fraction.push_str(&format!("{:04}", at(-place)?));
    }
    fraction.truncate(scale);
    if scale > 0 {
        text.push('.');
        text.push_str(&fraction);
    }
    Some(Ok(text))
}

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || "a text of bytes is \\x and pairs of hexadecimal digits".to_owned();
    let digits = digits.as_bytes();
    if digits.len() % 2 == 1 {
        return Err(wrong());
    }
    let value = |digit: u8| char::from(digit).to_digit(16).ok_or_else(wrong);
    digits.chunks(2).map(|pair| Ok((value(pair[0])? * 16 + value(pair[1])?) as u8)).collect()
}

fn hyphenated(id: &[u8; 16]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// The type in which a client sends values that a query expects in `wanted`.
pub(super) fn expected(wanted: &DataType) -> Type {
    match wanted {
        DataType::Time64(TimeUnit::Nanosecond) => Type::TIME,
        // Queries expect such a list where they say `oid[]`; clients that look up types know how to write no other.
        DataType::List(item) if *item.data_type() == DataType::UInt32 => Type::OID_ARRAY,
        other => types::shown(other),
    }
}

#[cfg(test)]
mod tests;
