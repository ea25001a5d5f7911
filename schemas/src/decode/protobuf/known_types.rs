//! Messages that stand for one value: times, decimals, wrapped values, and JSON.
//!
//! | message | column |
//! |---|---|
//! | `google.protobuf.Timestamp` | TIMESTAMP |
//! | `google.protobuf.Duration` | BIGINT, in microseconds; STRING, as `1.500s` |
//! | `google.protobuf.*Value`, which wrap one value | what the value fills; NULL without the message |
//! | `google.protobuf.Struct`, `Value`, `ListValue` | STRING, as JSON |
//! | `google.type.Date` | DATE |
//! | `confluent.type.Decimal`, `google.type.Decimal` | DECIMAL |
//!
//! Invariant: a message counts as one of these if it has the name and the fields.

use arrow::datatypes::DataType;
use chrono::{Datelike as _, NaiveDate};

use super::super::binary::{UNPLANNED, big_endian, decimal, fit, put, refuse, time};
use super::super::columns::{ColumnBuilder, ValueError};
use super::super::{numbers, texts, times};
use super::json_text;
use super::schema::{MessageId, ProtoSchema, ProtoType};
use super::skip::{form, within};
use super::whole::whole;
use super::wire::{RawValue, WireBytes, check_depth};
use crate::definition::message::TimestampUnit;

/// A message that stands for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownType {
    Timestamp,
    Duration,
    Date,
    /// Bytes in two's complement, and a scale.
    BinaryDecimal,
    /// A number as text.
    TextDecimal,
    JsonObject,
    JsonValue,
    JsonList,
}

/// Names, and the types of the fields 1, 2, …
const KNOWN: [(&str, KnownType, &[ProtoType]); 5] = [
    ("google.protobuf.Timestamp", KnownType::Timestamp, &[ProtoType::Int64, ProtoType::Int32]),
    ("google.protobuf.Duration", KnownType::Duration, &[ProtoType::Int64, ProtoType::Int32]),
    ("google.type.Date", KnownType::Date, &[ProtoType::Int32, ProtoType::Int32, ProtoType::Int32]),
    ("confluent.type.Decimal", KnownType::BinaryDecimal, &[ProtoType::Bytes, ProtoType::Uint32, ProtoType::Int32]),
    ("google.type.Decimal", KnownType::TextDecimal, &[ProtoType::Text]),
];

const JSON: [(&str, KnownType); 3] = [
    ("google.protobuf.Struct", KnownType::JsonObject),
    ("google.protobuf.Value", KnownType::JsonValue),
    ("google.protobuf.ListValue", KnownType::JsonList),
];

const WRAPPERS: [&str; 9] = ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"];

impl KnownType {
    /// The known type that a message is.
    pub(super) fn named(schema: &ProtoSchema, id: MessageId) -> Option<Self> {
        let message = schema.get(id);
        let json = JSON.iter().find(|(name, _)| *name == message.name).map(|(_, known)| *known);
        let found = KNOWN.iter().find(|(name, ..)| *name == message.name).filter(|(_, _, types)| {
            let fields = (1..)
                .zip(types.iter())
                .all(|(number, of)| message.field(number).is_some_and(|field| field.of == *of && !field.is_repeated));
            fields && message.fields.len() == types.len()
        });
        json.or(found.map(|(_, known, _)| *known))
    }

    /// The known type that a message is, if a column of type `wanted` takes it.
    pub(super) fn of(schema: &ProtoSchema, id: MessageId, wanted: &DataType) -> Option<Self> {
        use DataType as T;
        let known = Self::named(schema, id)?;
        let fits = match known {
            Self::Timestamp => matches!(wanted, T::Timestamp(..)),
            Self::Duration => matches!(wanted, T::Int64 | T::Utf8),
            Self::Date => *wanted == T::Date32,
            Self::BinaryDecimal | Self::TextDecimal => matches!(wanted, T::Decimal128(..)),
            Self::JsonObject | Self::JsonValue | Self::JsonList => *wanted == T::Utf8,
        };
        fits.then_some(known)
    }

    /// The type of the value that a message wraps.
    pub(super) fn wrapped(schema: &ProtoSchema, id: MessageId) -> Option<ProtoType> {
        let message = schema.get(id);
        let name = message.name.strip_prefix("google.protobuf.")?.strip_suffix("Value")?;
        let [field] = message.fields.as_slice() else { return None };
        (WRAPPERS.contains(&name) && field.number == 1 && !field.is_repeated).then_some(field.of)
    }
}

/// The field 1 of a message.
pub(super) fn only_field<'a>(
    schema: &ProtoSchema,
    id: MessageId,
    parts: &[&'a [u8]],
    depth: usize,
) -> Result<Option<RawValue<'a>>, ValueError> {
    first_fields(schema, id, parts, depth).map(|[field]| field)
}

/// The fields 1, 2, … of a message, the last value of each.
fn first_fields<'a, const N: usize>(
    schema: &ProtoSchema,
    id: MessageId,
    parts: &[&'a [u8]],
    depth: usize,
) -> Result<[Option<RawValue<'a>>; N], ValueError> {
    check_depth(depth)?;
    let mut found = [None; N];
    for part in parts {
        let mut bytes = WireBytes::new(part);
        while let Some(key) = bytes.key()? {
            let Some(field) = schema.get(id).field(key.number) else {
                bytes.value(key)?;
                continue;
            };
            let value = form(schema, field, key).and_then(|_| bytes.value(key));
            let value = value.map_err(|why| within(&field.name, &why))?;
            if let Some(slot) = found.get_mut(field.number as usize - 1) {
                *slot = Some(value);
            }
        }
    }
    Ok(found)
}

/// A whole number that is 0 if it is absent.
fn number<T: TryFrom<i128>>(of: ProtoType, value: Option<RawValue<'_>>) -> Result<T, ValueError> {
    value.map_or(Ok(0), |value| whole(of, value)).and_then(fit)
}

fn bytes(value: Option<RawValue<'_>>) -> &[u8] {
    match value {
        Some(RawValue::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

/// Appends the value that a message stands for.
pub(super) fn append_known(
    schema: &ProtoSchema,
    known: KnownType,
    id: MessageId,
    column: &mut ColumnBuilder,
    parts: &[&[u8]],
    depth: usize,
) -> Result<(), ValueError> {
    use ColumnBuilder as To;
    match (known, column) {
        (KnownType::Timestamp, To::Timestamp(builder, _)) => {
            put(builder, first_fields(schema, id, parts, depth).and_then(micros_since_1970))
        }
        (KnownType::Duration, To::Int64(builder)) => {
            let micros = first_fields(schema, id, parts, depth).and_then(duration);
            put(builder, micros.map(|(seconds, nanos)| seconds * 1_000_000 + i64::from(nanos / 1000)))
        }
        (KnownType::Duration, To::Text(builder)) => {
            let text = first_fields(schema, id, parts, depth).and_then(duration).map(duration_text);
            builder.append_option(text.as_ref().ok());
            text.map(drop)
        }
        (KnownType::Date, To::Date(builder)) => put(builder, first_fields(schema, id, parts, depth).and_then(date)),
        (KnownType::BinaryDecimal, To::Decimal(builder, precision, scale, _)) => {
            let found = first_fields(schema, id, parts, depth);
            put(builder, found.and_then(|found| binary_decimal(found, *precision, *scale)))
        }
        (KnownType::TextDecimal, To::Decimal(builder, precision, scale, _)) => {
            let found = only_field(schema, id, parts, depth);
            put(builder, found.and_then(|found| text_decimal(bytes(found), *precision, *scale)))
        }
        (KnownType::JsonObject | KnownType::JsonValue | KnownType::JsonList, To::Text(builder)) => {
            let write = match known {
                KnownType::JsonObject => json_text::object,
                KnownType::JsonList => json_text::list,
                _ => json_text::value,
            };
            let mut text = String::new();
            let text = write(parts, depth, &mut text).map(|()| text);
            builder.append_option(text.as_ref().ok());
            text.map(drop)
        }
        (_, column) => refuse(column, UNPLANNED),
    }
}

const SECOND: std::ops::Range<i32> = 0..1_000_000_000;

/// Microseconds since 1970; digits below a microsecond are cut.
fn micros_since_1970([seconds, nanos]: [Option<RawValue<'_>>; 2]) -> Result<i64, ValueError> {
    let (seconds, nanos) = (number::<i64>(ProtoType::Int64, seconds)?, number::<i32>(ProtoType::Int32, nanos)?);
    if !SECOND.contains(&nanos) {
        return Err("its nanos are no part of a second".into());
    }
    let second = time(times::micros_of_declared(seconds, TimestampUnit::Seconds), TimestampUnit::Seconds)?;
    Ok(second + i64::from(nanos / 1000))
}

/// The longest duration, in seconds: ten thousand years.
const LONGEST: i64 = 315_576_000_000;

/// Seconds and nanoseconds, of one sign.
fn duration([seconds, nanos]: [Option<RawValue<'_>>; 2]) -> Result<(i64, i32), ValueError> {
    let (seconds, nanos) = (number::<i64>(ProtoType::Int64, seconds)?, number::<i32>(ProtoType::Int32, nanos)?);
    let is_one_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if !(-LONGEST..=LONGEST).contains(&seconds) || !SECOND.contains(&nanos.saturating_abs()) || !is_one_sign {
        return Err("it is no duration of at most ten thousand years".into());
    }
    Ok((seconds, nanos))
}

/// As the canonical JSON of Protobuf: `1s`, `1.500s`, `-0.000000001s`.
fn duration_text((seconds, nanos): (i64, i32)) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    match nanos {
        0 => format!("{sign}{seconds}s"),
        _ if nanos % 1_000_000 == 0 => format!("{sign}{seconds}.{:03}s", nanos / 1_000_000),
        _ if nanos % 1000 == 0 => format!("{sign}{seconds}.{:06}s", nanos / 1000),
        _ => format!("{sign}{seconds}.{nanos:09}s"),
    }
}

/// Days since 1970.
fn date(fields: [Option<RawValue<'_>>; 3]) -> Result<i32, ValueError> {
    let [year, month, day] = fields.map(|field| number::<i32>(ProtoType::Int32, field));
    let (year, month, day) = (year?, u32::try_from(month?), u32::try_from(day?));
    let found = month.ok().zip(day.ok()).and_then(|(month, day)| NaiveDate::from_ymd_opt(year, month, day));
    let found = found.ok_or(ValueError::Borrowed("it is no full date"))?;
    /// The day 1970-01-01, if 0001-01-01 is day 1.
    const UNIX_EPOCH: i64 = 719_163;
    time(times::in_range(i64::from(found.num_days_from_ce()) - UNIX_EPOCH), TimestampUnit::default())
}

fn binary_decimal(fields: [Option<RawValue<'_>>; 3], precision: u8, to: i8) -> Result<i128, ValueError> {
    let [digits, _, scale] = fields;
    let (digits, scale) = (big_endian(bytes(digits))?, number::<i32>(ProtoType::Int32, scale)?);
    if scale >= 0 {
        return decimal(digits, scale.unsigned_abs(), precision, to);
    }
    let range = || ValueError::Borrowed(numbers::explain(numbers::NumberError::Range));
    let raised = if digits == 0 { Some(0) } else { 10i128.checked_pow(scale.unsigned_abs()) };
    let whole = raised.and_then(|factor| digits.checked_mul(factor)).ok_or_else(range)?;
    decimal(whole, 0, precision, to)
}

fn text_decimal(text: &[u8], precision: u8, to: i8) -> Result<i128, ValueError> {
    let text = std::str::from_utf8(text).ok().and_then(plain_number);
    let text = text.ok_or(ValueError::Borrowed("its text is not a number"))?;
    let value = numbers::scaled(&text, to).map_err(|error| ValueError::Borrowed(numbers::explain(error)))?;
    decimal(value, to.unsigned_abs().into(), precision, to)
}

/// The number in a `google.type.Decimal` by JSON's grammar. Its own grammar takes `+1`, `.5`, `5.`, `007`, and no text
/// for 0.
fn plain_number(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("0".to_owned());
    }
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = unsigned.split_at(unsigned.find(['e', 'E']).unwrap_or(unsigned.len()));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_some = !unsigned.starts_with('-') && (!whole.is_empty() || !fraction.is_empty());
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    let plain = format!("{sign}{whole}{fraction}{exponent}");
    (is_some && texts::is_number(&plain)).then_some(plain)
}
