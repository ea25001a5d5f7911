//! The catalog calls: catalogs, schemas, tables and keys, from the names that queries can use.
//!
//! Invariant: what is listed here can be queried under its name. There are no keys: a stream keeps every message.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables};
use thalweg_schemas::catalog::Catalog;

use super::wire;
use crate::names::{self, CATALOG, Named};
use crate::{Error, Result};

const TABLE: &str = "TABLE";
const VIEW: &str = "MATERIALIZED VIEW";

/// Errors: [`Error::Encode`], never in practice, as of all functions here.
pub(super) fn catalogs() -> Result<RecordBatch> {
    let mut builder = GetCatalogsBuilder::new();
    builder.append(CATALOG);
    builder.build().map_err(encoding)
}

pub(super) fn schemas(catalog: &Catalog, command: CommandGetDbSchemas) -> Result<RecordBatch> {
    let mut builder = GetDbSchemasBuilder::from(command);
    for schema in names::all_names(catalog).keys() {
        builder.append(CATALOG, schema);
    }
    builder.build().map_err(encoding)
}

pub(super) fn table_types() -> Result<RecordBatch> {
    let schema = Arc::new(Schema::new(vec![Field::new("table_type", DataType::Utf8, false)]));
    let types: ArrayRef = Arc::new(StringArray::from(vec![VIEW, TABLE]));
    RecordBatch::try_new(schema, vec![types]).map_err(Error::Encode)
}

/// Streams are tables; views are materialized views, in `public` whole and in `batch` and `speed` by their sides.
pub(super) fn tables(catalog: &Catalog, mut command: CommandGetTables) -> Result<RecordBatch> {
    let wanted = |kind: &str| command.table_types.is_empty() || command.table_types.iter().any(|name| name == kind);
    let (wants_tables, wants_views) = (wanted(TABLE), wanted(VIEW));
    command.table_types = Vec::new();
    let include_schema = command.include_schema;
    let mut builder = GetTablesBuilder::from(command);
    for (schema, tables) in names::all_names(catalog) {
        for (table, named) in tables {
            let (kind, is_wanted) = match named {
                Named::Rows(_) | Named::Rejects(_) => (TABLE, wants_tables),
                Named::View(..) => (VIEW, wants_views),
            };
            if is_wanted {
                let columns = if include_schema { columns(schema, &table, &named) } else { Schema::empty() };
                builder.append(CATALOG, schema, table, kind, &columns).map_err(encoding)?;
            }
        }
    }
    builder.build().map_err(encoding)
}

/// The columns of a table as queries return them, with what drivers show of them.
fn columns(schema: &str, table: &str, named: &Named) -> Schema {
    let sent = wire::sent_schema(&named.schema(&names::Mentioned::new()));
    let fields = sent.fields().iter().map(|field| {
        let mut metadata = vec![
            ("CATALOG_NAME", CATALOG.to_owned()),
            ("SCHEMA_NAME", schema.to_owned()),
            ("TABLE_NAME", table.to_owned()),
            ("TYPE_NAME", sql_name(field.data_type())),
            ("IS_AUTO_INCREMENT", "0".to_owned()),
            ("IS_CASE_SENSITIVE", u8::from(field.data_type().is_string()).to_string()),
            ("IS_READ_ONLY", "1".to_owned()),
            ("IS_SEARCHABLE", "1".to_owned()),
        ];
        if let DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) = field.data_type() {
            metadata.extend([("PRECISION", precision.to_string()), ("SCALE", scale.to_string())]);
        }
        let metadata = metadata.into_iter().map(|(name, value)| (format!("ARROW:FLIGHT:SQL:{name}"), value));
        field.as_ref().clone().with_metadata(metadata.collect())
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The name of a type in SQL.
fn sql_name(of: &DataType) -> String {
    match of {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INTEGER UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Utf8 | DataType::LargeUtf8 => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "BYTEA".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("{}[]", sql_name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(..) => "MAP".into(),
        other => other.to_string(),
    }
}

/// No primary keys.
pub(super) fn primary_keys() -> RecordBatch {
    let mut fields = named(["catalog_name", "db_schema_name"], true);
    fields.extend(named(["table_name", "column_name"], false));
    fields.extend(named(["key_name"], true));
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    RecordBatch::new_empty(SchemaRef::new(Schema::new(fields)))
}

/// No foreign keys: exported, imported, or between two tables.
pub(super) fn foreign_keys() -> RecordBatch {
    let mut fields = Vec::new();
    for side in ["pk", "fk"] {
        let name = |part: &str| format!("{side}_{part}");
        fields.extend(["catalog_name", "db_schema_name"].map(|part| Field::new(name(part), DataType::Utf8, true)));
        fields.extend(["table_name", "column_name"].map(|part| Field::new(name(part), DataType::Utf8, false)));
    }
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    fields.extend(named(["fk_key_name", "pk_key_name"], true));
    fields.extend(["update_rule", "delete_rule"].map(|name| Field::new(name, DataType::UInt8, false)));
    RecordBatch::new_empty(SchemaRef::new(Schema::new(fields)))
}

fn named<const N: usize>(names: [&str; N], nullable: bool) -> Vec<Field> {
    names.map(|name| Field::new(name, DataType::Utf8, nullable)).into()
}

fn encoding(error: FlightError) -> Error {
    Error::Encode(arrow::error::ArrowError::ExternalError(Box::new(error)))
}
