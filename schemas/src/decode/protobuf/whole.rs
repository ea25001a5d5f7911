//! Whole numbers of all kinds, and the columns that take them.
//!
//! Invariant: a number of 32 bits that was written with more is refused, and never cut.

use super::super::binary::{UNPLANNED, decimal, fit, put, refuse, time};
use super::super::columns::{ColumnBuilder, ValueError};
use super::super::times;
use super::schema::ProtoType;
use super::wire::{RawValue, unzigzag};
use crate::definition::message::TimestampUnit;

const LOST_BITS: ValueError = ValueError::Borrowed("a number that is declared with 32 bits has more");

/// A number of 32 bits, which may be written with its sign in 64.
pub(super) fn narrow(number: u64) -> Result<i32, ValueError> {
    match (i32::try_from(number.cast_signed()), u32::try_from(number)) {
        (Ok(number), _) => Ok(number),
        (_, Ok(number)) => Ok(number.cast_signed()),
        _ => Err(LOST_BITS),
    }
}

/// A whole number, or that of an enum.
pub(super) fn whole(of: ProtoType, value: RawValue<'_>) -> Result<i128, ValueError> {
    Ok(match (of, value) {
        (ProtoType::Int32 | ProtoType::Enum(_), RawValue::Varint(number)) => narrow(number)?.into(),
        (ProtoType::Uint32, RawValue::Varint(number)) => u32::try_from(number).map_err(|_| LOST_BITS)?.into(),
        (ProtoType::Sint32, RawValue::Varint(number)) => {
            unzigzag(u32::try_from(number).map_err(|_| LOST_BITS)?.into()).into()
        }
        (ProtoType::Int64, RawValue::Varint(number)) => number.cast_signed().into(),
        (ProtoType::Uint64, RawValue::Varint(number)) | (ProtoType::Fixed64, RawValue::Fixed64(number)) => {
            number.into()
        }
        (ProtoType::Sint64, RawValue::Varint(number)) => unzigzag(number).into(),
        (ProtoType::Fixed32, RawValue::Fixed32(bits)) => bits.into(),
        (ProtoType::Sfixed32, RawValue::Fixed32(bits)) => bits.cast_signed().into(),
        (ProtoType::Sfixed64, RawValue::Fixed64(bits)) => bits.cast_signed().into(),
        _ => return Err(UNPLANNED),
    })
}

/// Appends a whole number to a column of numbers or times.
pub(super) fn append_whole(column: &mut ColumnBuilder, number: Result<i128, ValueError>) -> Result<(), ValueError> {
    use ColumnBuilder as To;
    let long = |number: i128| fit::<_, i64>(number);
    match column {
        To::Int8(builder) => put(builder, number.and_then(fit)),
        To::Int16(builder) => put(builder, number.and_then(fit)),
        To::Int32(builder) => put(builder, number.and_then(fit)),
        To::Int64(builder) => put(builder, number.and_then(fit)),
        // Nearest.
        To::Float32(builder) => put(builder, number.map(|n| n as f32)),
        To::Float64(builder) => put(builder, number.map(|n| n as f64)),
        To::Decimal(builder, precision, scale, _) => {
            put(builder, number.and_then(|n| decimal(n, 0, *precision, *scale)))
        }
        To::Timestamp(builder, unit) => {
            put(builder, number.and_then(long).and_then(|n| time(times::micros_of_whole(n, *unit), *unit)))
        }
        To::Date(builder) => {
            put(builder, number.and_then(long).and_then(|n| time(times::in_range(n), TimestampUnit::default())))
        }
        column => refuse(column, UNPLANNED),
    }
}
