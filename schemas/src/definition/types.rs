//! Canonical types: the Arrow types whose values the archive returns bit for bit.
//!
//! Streams have only canonical types, and every scan is cast to them before the state algebra reads it. The hash of a
//! short `Utf8View` differs from the hash of the same `Utf8`, Delta has no unsigned integers, and Parquet files of
//! other writers differ in their use of nanoseconds.
//!
//! Invariant: [`canonical`] is idempotent, and every canonical type maps to one Delta type and back.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};

use crate::{Error, Result};

/// Characters that Delta and Parquet do not allow in the names of columns.
pub(crate) const NOT_IN_NAMES: &str = " ,;{}()\n\t=";

/// Delta's name for the items of a list.
const LIST_ITEM: &str = "element";

/// The time zone of every timestamp with a time zone.
const UTC: &str = "UTC";

/// The canonical type for `data_type`. It can hold every value of `data_type`; only timestamps are cut to microseconds.
///
/// Errors: [`Error::RefuseDefinition`] for types without a canonical type.
pub fn canonical(data_type: &DataType) -> Result<DataType> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean
        | T::Int8
        | T::Int16
        | T::Int32
        | T::Int64
        | T::Float32
        | T::Float64
        | T::Utf8
        | T::Binary
        | T::Date32
        | T::Decimal128(..) => data_type.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) => T::Decimal128(*precision, *scale),
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Timestamp(_, None) => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        T::Dictionary(_, values) => canonical(values)?,
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            T::List(Arc::new(Field::new(LIST_ITEM, canonical(item.data_type())?, true)))
        }
        T::Struct(fields) => T::Struct(fields.iter().map(canonical_field).collect::<Result<_>>()?),
        T::Time32(_) | T::Time64(_) => {
            return refuse(data_type, "Use STRING, or a TIMESTAMP with its date.");
        }
        T::Interval(_) | T::Duration(_) => {
            return refuse(data_type, "Use BIGINT with a unit of your choice.");
        }
        T::Decimal256(..) => return refuse(data_type, "Use DECIMAL with at most 38 digits."),
        T::Map(..) => {
            return refuse(data_type, "Use STRUCT with the keys that you need, or STRING.");
        }
        T::Date64 => return refuse(data_type, "Use DATE or TIMESTAMP."),
        T::Null => return refuse(data_type, "Cast it to the type that is meant."),
        T::Union(..) | T::RunEndEncoded(..) => return refuse(data_type, "Use STRING."),
    })
}

/// The field with its canonical type. The field is nullable, because the archive keeps rows and rejects in one table.
fn canonical_field(field: &FieldRef) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(field.name(), canonical(field.data_type())?, true)))
}

fn refuse<T>(data_type: &DataType, instead: &str) -> Result<T> {
    Err(Error::refuse(format!("Values of type {} cannot be archived", sql_name(data_type)), instead))
}

/// The SQL name of a type: `BIGINT`, `DECIMAL(10, 2)`, `INT[]`.
pub fn sql_name(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Boolean => "BOOLEAN".into(),
        T::Int8 => "TINYINT".into(),
        T::Int16 => "SMALLINT".into(),
        T::Int32 => "INT".into(),
        T::Int64 => "BIGINT".into(),
        T::UInt8 => "TINYINT UNSIGNED".into(),
        T::UInt16 => "SMALLINT UNSIGNED".into(),
        T::UInt32 => "INT UNSIGNED".into(),
        T::UInt64 => "BIGINT UNSIGNED".into(),
        T::Float32 => "REAL".into(),
        T::Float64 => "DOUBLE".into(),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "STRING".into(),
        T::Binary | T::LargeBinary => "BYTEA".into(),
        T::Date32 => "DATE".into(),
        T::Timestamp(_, None) => "TIMESTAMP".into(),
        T::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        T::Decimal128(precision, scale) | T::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        T::Time32(_) | T::Time64(_) => "TIME".into(),
        T::Interval(_) => "INTERVAL".into(),
        T::List(item) => format!("{}[]", sql_name(item.data_type())),
        T::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{} {}", f.name(), sql_name(f.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::IntervalUnit;

    #[track_caller]
    fn check(from: DataType, expect: Option<DataType>) {
        let found = canonical(&from).ok();
        assert_eq!(found, expect, "{from}");
        if let Some(found) = found {
            assert_eq!(canonical(&found).unwrap(), found, "{from} twice");
        }
    }

    fn list(item: &str, data_type: DataType) -> DataType {
        DataType::List(Arc::new(Field::new(item, data_type, true)))
    }

    #[test]
    fn every_type_has_one_form_or_none() {
        use DataType as T;
        let micros = T::Timestamp(TimeUnit::Microsecond, None);
        let utc = T::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for same in [T::Boolean, T::Int8, T::Int64, T::Float32, T::Utf8, T::Binary, T::Date32] {
            check(same.clone(), Some(same));
        }
        check(T::UInt8, Some(T::Int16));
        check(T::UInt16, Some(T::Int32));
        check(T::UInt32, Some(T::Int64));
        check(T::UInt64, Some(T::Decimal128(20, 0)));
        check(T::Decimal64(12, 2), Some(T::Decimal128(12, 2)));
        check(T::Utf8View, Some(T::Utf8));
        check(T::LargeUtf8, Some(T::Utf8));
        check(T::BinaryView, Some(T::Binary));
        check(T::Timestamp(TimeUnit::Nanosecond, None), Some(micros.clone()));
        check(T::Timestamp(TimeUnit::Second, None), Some(micros));
        check(T::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())), Some(utc));
        check(T::Dictionary(Box::new(T::Int8), Box::new(T::Utf8View)), Some(T::Utf8));
        check(list("item", T::UInt32), Some(list("element", T::Int64)));
        check(list("item", T::Null), None);
        check(T::Time64(TimeUnit::Nanosecond), None);
        check(T::Interval(IntervalUnit::MonthDayNano), None);
        check(T::Decimal256(50, 2), None);
        check(T::Null, None);
    }

    #[test]
    fn structs_become_nullable_all_through() {
        let inner = Field::new("n", DataType::UInt8, false);
        let found = canonical(&DataType::Struct(vec![inner].into())).unwrap();
        let expect = Field::new("n", DataType::Int16, true);
        assert_eq!(found, DataType::Struct(vec![expect].into()));
        assert_eq!(sql_name(&found), "STRUCT<n SMALLINT>");
    }
}
