//! The PostgreSQL type of every Arrow type, and the Arrow types of values that clients send.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use pgwire::api::Type;
use pgwire::messages::data::{FieldDescription, RowDescription};

use super::failure::Failure;

/// Bytes of the head of a numeric's modifier.
const MODIFIER_HEAD: i32 = 4;

/// The type in which values of `found` are encoded.
pub(super) fn encoded(found: &DataType) -> DataType {
    use DataType as T;
    match found {
        T::Int8 | T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) => T::Decimal128(*precision, *scale),
        T::Date64 => T::Date32,
        T::Time32(_) | T::Time64(_) => T::Time64(TimeUnit::Microsecond),
        T::Timestamp(_, zone) => T::Timestamp(TimeUnit::Microsecond, zone.clone()),
        T::Duration(_) | T::Interval(_) => T::Interval(IntervalUnit::MonthDayNano),
        T::Dictionary(_, values) => encoded(values),
        T::RunEndEncoded(_, values) => encoded(values.data_type()),
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
            T::List(Arc::new(Field::new_list_field(encoded(item.data_type()), true)))
        }
        other => other.clone(),
    }
}

/// The PostgreSQL type of a column. Lists of scalars are arrays; what no array can hold (lists of lists, which may
/// differ in length, structs and maps) is JSON.
pub(super) fn shown(found: &DataType) -> Type {
    use DataType as T;
    match encoded(found) {
        T::List(item) => array(&scalar(item.data_type())).unwrap_or(Type::JSON),
        other => scalar(&other),
    }
}

fn scalar(encoded: &DataType) -> Type {
    use DataType as T;
    match encoded {
        T::Boolean => Type::BOOL,
        T::Int16 => Type::INT2,
        T::Int32 => Type::INT4,
        T::Int64 => Type::INT8,
        T::Float32 => Type::FLOAT4,
        T::Float64 => Type::FLOAT8,
        T::Decimal128(_, _) | T::Decimal256(_, _) => Type::NUMERIC,
        T::Date32 => Type::DATE,
        T::Time64(_) => Type::TIME,
        T::Timestamp(_, None) => Type::TIMESTAMP,
        T::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        T::Interval(_) => Type::INTERVAL,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => Type::BYTEA,
        nested if nested.is_nested() => Type::JSON,
        _ => Type::TEXT,
    }
}

/// Scalars with their arrays.
const ARRAYS: [(Type, Type); 20] = [
    (Type::BOOL, Type::BOOL_ARRAY),
    (Type::INT2, Type::INT2_ARRAY),
    (Type::INT4, Type::INT4_ARRAY),
    (Type::INT8, Type::INT8_ARRAY),
    (Type::FLOAT4, Type::FLOAT4_ARRAY),
    (Type::FLOAT8, Type::FLOAT8_ARRAY),
    (Type::NUMERIC, Type::NUMERIC_ARRAY),
    (Type::DATE, Type::DATE_ARRAY),
    (Type::TIME, Type::TIME_ARRAY),
    (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
    (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
    (Type::INTERVAL, Type::INTERVAL_ARRAY),
    (Type::BYTEA, Type::BYTEA_ARRAY),
    (Type::TEXT, Type::TEXT_ARRAY),
    // Types of values only.
    (Type::VARCHAR, Type::VARCHAR_ARRAY),
    (Type::BPCHAR, Type::BPCHAR_ARRAY),
    (Type::NAME, Type::NAME_ARRAY),
    (Type::UUID, Type::UUID_ARRAY),
    (Type::OID, Type::OID_ARRAY),
    (Type::CHAR, Type::CHAR_ARRAY),
];

fn array(item: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(scalar, _)| scalar == item).map(|(_, array)| array.clone())
}

/// The type of the items of an array.
pub(super) fn item(array: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(_, of)| of == array).map(|(scalar, _)| scalar.clone())
}

/// The Arrow type of a value of `given`; `None` for a type whose values decide, or that is not known.
pub(super) fn taken(given: &Type) -> Option<DataType> {
    use DataType as T;
    Some(match *given {
        Type::BOOL => T::Boolean,
        Type::INT2 => T::Int16,
        Type::INT4 => T::Int32,
        Type::INT8 | Type::OID => T::Int64,
        Type::FLOAT4 => T::Float32,
        Type::FLOAT8 => T::Float64,
        Type::DATE => T::Date32,
        Type::TIME => T::Time64(TimeUnit::Nanosecond),
        Type::TIMESTAMP => T::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => T::Interval(IntervalUnit::MonthDayNano),
        Type::BYTEA => T::Binary,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::UUID => T::Utf8,
        Type::JSON | Type::JSONB | Type::XML => T::Utf8,
        ref other => T::List(Arc::new(Field::new_list_field(taken(&item(other)?)?, true))),
    })
}

/// The Arrow type for which a query with a value of `given` is planned before the value is known.
pub(super) fn planned(given: &Type) -> Option<DataType> {
    const DECIMAL: DataType = DataType::Decimal128(38, 10);
    match *given {
        Type::NUMERIC => Some(DECIMAL),
        Type::NUMERIC_ARRAY => Some(DataType::List(Arc::new(Field::new_list_field(DECIMAL, true)))),
        ref other => taken(other),
    }
}

/// Errors: a failure for more columns than the protocol can number.
pub(super) fn check_count(schema: &Schema) -> Result<(), Failure> {
    let (count, most) = (schema.fields().len(), usize::from(i16::MAX.unsigned_abs()));
    match count <= most {
        true => Ok(()),
        false => Err(Failure::new("54011", format!("an answer has at most {most} columns here, not {count}"))),
    }
}

/// The columns of an answer; a column without a format has the text format.
pub(super) fn description(schema: &Schema, formats: &Formats) -> RowDescription {
    let fields = schema.fields().iter().enumerate().map(|(at, field)| {
        let shown = shown(field.data_type());
        FieldDescription::new(
            // A zero would end the name.
            field.name().replace('\0', "\u{fffd}"),
            0,
            0,
            shown.oid(),
            size(&shown),
            modifier(field.data_type()),
            i16::from(formats.is_binary(at)),
        )
    });
    RowDescription::new(fields.collect())
}

/// Bytes of a value; -1 for types of variable width.
fn size(shown: &Type) -> i16 {
    match *shown {
        Type::BOOL => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// Precision and scale of a numeric.
pub(super) fn modifier(found: &DataType) -> i32 {
    match encoded(found) {
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) if scale >= 0 => {
            ((i32::from(precision) << 16) | i32::from(scale)) + MODIFIER_HEAD
        }
        // That of an array is the one of its items.
        DataType::List(item) if !item.data_type().is_nested() => modifier(item.data_type()),
        _ => -1,
    }
}

/// The formats that a client asks for: none is text, one is for all columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Formats(pub(super) Vec<i16>);

impl Formats {
    pub(super) fn is_binary(&self, column: usize) -> bool {
        let format = if self.0.len() == 1 { self.0.first() } else { self.0.get(column) };
        format.is_some_and(|format| *format == 1)
    }

    /// True if there is a known format for each of `columns`.
    pub(super) fn fit(&self, columns: usize) -> bool {
        let counted = self.0.len() <= 1 || self.0.len() == columns;
        counted && self.0.iter().all(|format| matches!(format, 0 | 1))
    }
}
