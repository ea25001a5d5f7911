//! The tables of `information_schema` that have rows. Their columns and the names of types are PostgreSQL's.
//!
//! `columns` has one more column, `thalweg_type`: the type as CREATE EXTERNAL TABLE takes it. PostgreSQL has no name
//! for a STRUCT.

use arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;
use thalweg_schemas::definition::types::sql_name;

use super::objects::Object;
use super::rows::{CatalogRows, Cell};
use super::snapshot::{INFORMATION_SCHEMA, OWNER, PG_CATALOG, Snapshot};
use super::types::{pg_type, precision_and_scale};
use crate::names::CATALOG;

/// The tables that [`rows`] makes.
pub(super) const HAVE_ROWS: [&str; 8] = [
    "information_schema_catalog_name",
    "schemata",
    "tables",
    "views",
    "columns",
    "enabled_roles",
    "applicable_roles",
    "character_sets",
];

/// The rows of `information_schema.<name>`.
pub(super) fn rows(name: &str, snapshot: &Snapshot) -> EngineResult<Option<RecordBatch>> {
    let Some(table) = snapshot.system.table(INFORMATION_SCHEMA, name) else { return Ok(None) };
    let mut rows = CatalogRows::of(table);
    match name {
        "information_schema_catalog_name" => rows.push([("catalog_name", CATALOG.into())])?,
        "schemata" => {
            for (name, _) in snapshot.schemas() {
                rows.push([
                    ("catalog_name", CATALOG.into()),
                    ("schema_name", name.into()),
                    ("schema_owner", OWNER.into()),
                ])?;
            }
        }
        "tables" => {
            for object in &snapshot.objects().list {
                table_row(&mut rows, object.schema, &object.name, type_of(object))?;
            }
            for table in snapshot.system.tables() {
                let kind = if table.kind == "r" { "BASE TABLE" } else { "VIEW" };
                table_row(&mut rows, table.schema, table.name, kind)?;
            }
        }
        "views" => {
            for object in snapshot.objects().list.iter().filter(|object| object.kind != "r") {
                rows.push([
                    ("table_catalog", CATALOG.into()),
                    ("table_schema", object.schema.into()),
                    ("table_name", object.name.as_str().into()),
                    ("view_definition", object.definition.as_str().into()),
                    ("definition", object.definition.as_str().into()),
                    ("check_option", "NONE".into()),
                    ("is_updatable", "NO".into()),
                    ("is_insertable_into", "NO".into()),
                ])?;
            }
        }
        "columns" => columns(&mut rows, snapshot)?,
        "enabled_roles" | "applicable_roles" => rows.push([("role_name", OWNER.into())])?,
        "character_sets" => rows.push([("character_set_name", "UTF8".into()), ("form_of_use", "UTF8".into())])?,
        _ => return Ok(None),
    }
    rows.finish().map(Some)
}

fn type_of(object: &Object) -> &'static str {
    if object.kind == "r" { "BASE TABLE" } else { "VIEW" }
}

fn table_row(rows: &mut CatalogRows<'_>, schema: &str, name: &str, kind: &str) -> EngineResult<()> {
    rows.push([
        ("table_catalog", CATALOG.into()),
        ("table_schema", schema.into()),
        ("table_name", name.into()),
        ("table_type", kind.into()),
        ("is_insertable_into", "NO".into()),
        ("is_typed", "NO".into()),
    ])
}

fn columns(rows: &mut CatalogRows<'_>, snapshot: &Snapshot) -> EngineResult<()> {
    for object in &snapshot.objects().list {
        for (at, field) in object.columns.fields().iter().enumerate() {
            let found = pg_type(field.data_type());
            let column = ColumnEntry {
                schema: object.schema,
                table: &object.name,
                name: field.name(),
                number: at + 1,
                type_oid: found.oid,
                modifier: found.modifier,
                not_null: !field.is_nullable(),
                own_type: Some(sql_name(field.data_type())),
            };
            column.push(rows, snapshot)?;
        }
    }
    for table in snapshot.system.tables() {
        for (at, (name, type_name, not_null)) in table.columns.iter().enumerate() {
            let column = ColumnEntry {
                schema: table.schema,
                table: table.name,
                name,
                number: at + 1,
                type_oid: snapshot.system.type_names.get(*type_name).copied().unwrap_or(super::types::TEXT),
                modifier: -1,
                not_null: *not_null,
                own_type: None,
            };
            column.push(rows, snapshot)?;
        }
    }
    Ok(())
}

struct ColumnEntry<'a> {
    schema: &'a str,
    table: &'a str,
    name: &'a str,
    number: usize,
    type_oid: i32,
    modifier: i32,
    not_null: bool,
    own_type: Option<String>,
}

impl ColumnEntry<'_> {
    fn push(&self, rows: &mut CatalogRows<'_>, snapshot: &Snapshot) -> EngineResult<()> {
        let found = snapshot.system.types.get(&self.type_oid);
        let is_array = found.is_some_and(|found| found.item.is_some());
        let udt = found.map(|found| found.name.clone());
        let data_type = if is_array { "ARRAY".to_owned() } else { snapshot.type_name(self.type_oid, -1) };
        let decimal = precision_and_scale(self.modifier).filter(|_| !is_array);
        // Precision in digits or bits, and scale, as PostgreSQL gives them.
        let (precision, radix, scale) = match (self.type_oid, decimal) {
            (1700, Some((precision, scale))) => (precision.into(), 10.into(), scale.into()),
            (21, _) => (16.into(), 2.into(), 0.into()),
            (23, _) => (32.into(), 2.into(), 0.into()),
            (20, _) => (64.into(), 2.into(), 0.into()),
            (700, _) => (24.into(), 2.into(), Cell::Null),
            (701, _) => (53.into(), 2.into(), Cell::Null),
            _ => (Cell::Null, Cell::Null, Cell::Null),
        };
        let time: Option<i32> = match self.type_oid {
            1082 => Some(0),
            1083 | 1114 | 1184 | 1186 => Some(6),
            _ => None,
        };
        let octets: Option<i32> = (self.type_oid == super::types::TEXT).then_some(1_073_741_824);
        rows.push([
            ("table_catalog", CATALOG.into()),
            ("table_schema", self.schema.into()),
            ("table_name", self.table.into()),
            ("column_name", self.name.into()),
            ("ordinal_position", self.number.into()),
            ("is_nullable", if self.not_null { "NO" } else { "YES" }.into()),
            ("data_type", data_type.into()),
            ("character_octet_length", octets.into()),
            ("numeric_precision", precision),
            ("numeric_precision_radix", radix),
            ("numeric_scale", scale),
            ("datetime_precision", time.into()),
            ("udt_catalog", CATALOG.into()),
            ("udt_schema", PG_CATALOG.into()),
            ("udt_name", udt.into()),
            ("dtd_identifier", self.number.to_string().into()),
            ("is_self_referencing", "NO".into()),
            ("is_identity", "NO".into()),
            ("identity_cycle", "NO".into()),
            ("is_generated", "NEVER".into()),
            ("is_updatable", "NO".into()),
            ("thalweg_type", self.own_type.clone().into()),
        ])
    }
}
