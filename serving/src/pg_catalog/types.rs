//! PostgreSQL's types: the one that shows a column's values, and the names of all of them.
//!
//! Invariant: a column has the same type here and in the answers of the PostgreSQL door.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

/// The key of a field's metadata by which the PostgreSQL door sends numbers as oids.
const OID: &str = "pg.oid_alias";

/// The type of a column in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PgType {
    pub(crate) oid: i32,
    /// Precision and scale of a NUMERIC; -1 for all others.
    pub(crate) modifier: i32,
    /// Bytes of a value; -1 if they vary.
    pub(crate) length: i64,
}

const JSON: i32 = 114;
const NUMERIC: i32 = 1700;
pub(super) const TEXT: i32 = 25;

/// The types that columns have: oid, oid of the array, bytes of a value.
const TYPES: [(i32, i32, i64); 17] = [
    (16, 1000, 1),
    (17, 1001, -1),
    (20, 1016, 8),
    (21, 1005, 2),
    (23, 1007, 4),
    (TEXT, 1009, -1),
    (JSON, 199, -1),
    (700, 1021, 4),
    (701, 1022, 8),
    (1082, 1182, 4),
    (1083, 1183, 8),
    (1114, 1115, 8),
    (1184, 1185, 8),
    (1186, 1187, 16),
    (NUMERIC, 1231, -1),
    (26, 1028, 4),
    (19, 1003, 64),
];

/// The type that shows values of `data_type`.
pub(crate) fn pg_type(data_type: &DataType) -> PgType {
    use DataType as T;
    let (oid, modifier) = match data_type {
        T::Boolean => (16, -1),
        T::Int8 | T::Int16 | T::UInt8 => (21, -1),
        T::Int32 | T::UInt16 => (23, -1),
        T::Int64 | T::UInt32 => (20, -1),
        T::UInt64 => (NUMERIC, modifier_of(20, 0)),
        T::Float16 | T::Float32 => (700, -1),
        T::Float64 => (701, -1),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => {
            (NUMERIC, modifier_of(*p, *s))
        }
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => (17, -1),
        T::Date32 | T::Date64 => (1082, -1),
        T::Time32(_) | T::Time64(_) => (1083, -1),
        T::Timestamp(_, None) => (1114, -1),
        T::Timestamp(_, Some(_)) => (1184, -1),
        T::Interval(_) | T::Duration(_) => (1186, -1),
        T::Dictionary(_, values) => return pg_type(values),
        T::RunEndEncoded(_, values) => return pg_type(values.data_type()),
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) | T::FixedSizeList(item, _) => {
            let item = pg_type(item.data_type());
            // Lists of structs are JSON, as lists of lists are.
            match TYPES.iter().find(|(oid, ..)| *oid == item.oid && item.oid != JSON) {
                Some((_, array, _)) => (*array, item.modifier),
                None => (JSON, -1),
            }
        }
        T::Struct(_) | T::Map(..) | T::Union(..) => (JSON, -1),
        _ => (TEXT, -1),
    };
    let length = TYPES.iter().find(|(known, ..)| *known == oid).map_or(-1, |(_, _, length)| *length);
    PgType { oid, modifier, length }
}

fn modifier_of(precision: u8, scale: i8) -> i32 {
    ((i32::from(precision) << 16) | (i32::from(scale) & 0x7ff)) + 4
}

/// Precision and scale of a NUMERIC with this modifier.
pub(super) fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    (modifier >= 4).then(|| (((modifier - 4) >> 16) & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024))
}

/// The Arrow type for values of the type `name` in a table of the catalog.
pub(super) fn arrow_type(name: &str) -> DataType {
    if let Some(item) = name.strip_prefix('_') {
        return list(arrow_type(item));
    }
    match name {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" | "oid" | "regtype" => DataType::Int32,
        "int8" => DataType::Int64,
        "float4" => DataType::Float32,
        "float8" | "numeric" => DataType::Float64,
        "bytea" => DataType::Binary,
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        "int2vector" => list(DataType::Int16),
        "oidvector" => list(DataType::Int32),
        "anyarray" => list(DataType::Utf8),
        _ => DataType::Utf8,
    }
}

/// The field for a column of the catalog. A number that is an oid is marked.
pub(super) fn field(name: &str, type_name: &str, nullable: bool) -> Field {
    let field = Field::new(name, arrow_type(type_name), nullable);
    match type_name {
        "oid" | "regtype" => field.with_metadata([(OID.to_owned(), type_name.to_owned())].into()),
        _ => field,
    }
}

pub(super) fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// The name of a type in SQL, where PostgreSQL's own name is another.
pub(super) fn sql_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "bpchar" => "character",
        "varchar" => "character varying",
        "varbit" => "bit varying",
        "char" => "\"char\"",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data_type: &DataType, oid: i32, modifier: i32) {
        let found = pg_type(data_type);
        assert_eq!((found.oid, found.modifier), (oid, modifier), "{data_type}");
    }

    #[test]
    fn every_type_of_a_column_has_one_of_postgres() {
        check(&DataType::Boolean, 16, -1);
        check(&DataType::Int8, 21, -1);
        check(&DataType::UInt32, 20, -1);
        check(&DataType::UInt64, 1700, modifier_of(20, 0));
        check(&DataType::Decimal128(10, 2), 1700, 655_366);
        check(&DataType::Decimal128(38, -3), 1700, modifier_of(38, -3));
        check(&DataType::Utf8, 25, -1);
        check(&list(DataType::Int64), 1016, -1);
        check(&list(DataType::Decimal128(10, 2)), 1231, 655_366);
        check(&list(list(DataType::Int64)), 114, -1);
        check(&list(DataType::Struct(vec![Field::new("a", DataType::Int8, true)].into())), JSON, -1);
        check(&DataType::Null, 25, -1);
    }

    #[test]
    fn a_modifier_holds_precision_and_scale() {
        for (precision, scale) in [(10, 2), (38, 0), (38, 38), (5, -3)] {
            let modifier = modifier_of(precision, scale);
            assert_eq!(precision_and_scale(modifier), Some((i32::from(precision), i32::from(scale))));
        }
        assert_eq!(precision_and_scale(-1), None);
    }
}
