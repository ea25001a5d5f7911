//! The tables of `pg_catalog` whose rows are streams, views and what belongs to them.
//!
//! Invariant: an object has the same oid in every table, and every oid that a row refers to is the oid of a row.

use arrow::record_batch::RecordBatch;
use datafusion::error::Result as EngineResult;

use super::objects::Object;
use super::rows::{CatalogRows, Cell};
use super::settings::SETTINGS;
use super::snapshot::{CLASS_OF_RELATIONS, OWNER, OWNER_OID, PG_CATALOG, Snapshot};
use super::types::pg_type;
use crate::names::CATALOG;

/// The tables that [`rows`] makes.
pub(super) const HAVE_ROWS: [&str; 16] = [
    "pg_class",
    "pg_attribute",
    "pg_namespace",
    "pg_description",
    "pg_database",
    "pg_tables",
    "pg_views",
    "pg_matviews",
    "pg_stat_user_tables",
    "pg_stat_all_tables",
    "pg_stat_database",
    "pg_roles",
    "pg_authid",
    "pg_user",
    "pg_shadow",
    "pg_settings",
];

/// The oid of the only database.
const DATABASE_OID: i32 = 16_000;
/// The collation of texts in every database of PostgreSQL.
const DEFAULT_COLLATION: i32 = 100;
/// The method by which tables are stored.
const HEAP: i32 = 2;
const DEFAULT_TABLESPACE: i32 = 1663;

/// The rows of `pg_catalog.<name>` that are not those of every database.
pub(super) fn rows(name: &str, snapshot: &Snapshot) -> EngineResult<Option<RecordBatch>> {
    let Some(table) = snapshot.system.table(PG_CATALOG, name) else { return Ok(None) };
    let mut rows = CatalogRows::of(table);
    match name {
        "pg_class" => relations(&mut rows, snapshot)?,
        "pg_attribute" => columns(&mut rows, snapshot)?,
        "pg_namespace" => {
            for (name, oid) in snapshot.schemas() {
                rows.push([("oid", oid.into()), ("nspname", name.into()), ("nspowner", OWNER_OID.into())])?;
            }
        }
        "pg_description" => comments(&mut rows, snapshot)?,
        "pg_database" => rows.push([
            ("oid", DATABASE_OID.into()),
            ("datname", CATALOG.into()),
            ("datdba", OWNER_OID.into()),
            ("encoding", 6.into()),
            ("datlocprovider", "c".into()),
            ("datallowconn", true.into()),
            ("datconnlimit", (-1).into()),
            ("dattablespace", DEFAULT_TABLESPACE.into()),
            ("datcollate", "C".into()),
            ("datctype", "C".into()),
        ])?,
        "pg_tables" => {
            for object in of_kind(snapshot, "r") {
                rows.push([
                    ("schemaname", object.schema.into()),
                    ("tablename", object.name.as_str().into()),
                    ("tableowner", OWNER.into()),
                    ("hasindexes", false.into()),
                    ("hasrules", false.into()),
                    ("hastriggers", false.into()),
                    ("rowsecurity", false.into()),
                ])?;
            }
        }
        "pg_views" => {
            for object in of_kind(snapshot, "v") {
                rows.push([
                    ("schemaname", object.schema.into()),
                    ("viewname", object.name.as_str().into()),
                    ("viewowner", OWNER.into()),
                    ("definition", object.definition.as_str().into()),
                ])?;
            }
        }
        "pg_matviews" => {
            for object in of_kind(snapshot, "m") {
                rows.push([
                    ("schemaname", object.schema.into()),
                    ("matviewname", object.name.as_str().into()),
                    ("matviewowner", OWNER.into()),
                    ("hasindexes", false.into()),
                    ("ispopulated", true.into()),
                    ("definition", object.definition.as_str().into()),
                ])?;
            }
        }
        "pg_stat_user_tables" | "pg_stat_all_tables" => {
            for object in &snapshot.objects().list {
                rows.push([
                    ("relid", object.oid.into()),
                    ("schemaname", object.schema.into()),
                    ("relname", object.name.as_str().into()),
                ])?;
            }
        }
        "pg_stat_database" => {
            rows.push([("datid", DATABASE_OID.into()), ("datname", CATALOG.into()), ("numbackends", 1.into())])?;
        }
        "pg_roles" | "pg_authid" => rows.push([
            ("oid", OWNER_OID.into()),
            ("rolname", OWNER.into()),
            ("rolinherit", true.into()),
            ("rolcanlogin", true.into()),
            ("rolsuper", false.into()),
            ("rolcreaterole", false.into()),
            ("rolcreatedb", false.into()),
            ("rolreplication", false.into()),
            ("rolbypassrls", false.into()),
            ("rolconnlimit", (-1).into()),
        ])?,
        "pg_user" | "pg_shadow" => rows.push([
            ("usename", OWNER.into()),
            ("usesysid", OWNER_OID.into()),
            ("usecreatedb", false.into()),
            ("usesuper", false.into()),
            ("userepl", false.into()),
            ("usebypassrls", false.into()),
        ])?,
        "pg_settings" => {
            for (name, value, description) in SETTINGS {
                rows.push([
                    ("name", name.into()),
                    ("setting", value.into()),
                    ("category", "Thalweg".into()),
                    ("short_desc", description.into()),
                    ("context", "internal".into()),
                    ("vartype", "string".into()),
                    ("source", "default".into()),
                    ("boot_val", value.into()),
                    ("reset_val", value.into()),
                    ("pending_restart", false.into()),
                ])?;
            }
        }
        _ => return Ok(None),
    }
    rows.finish().map(Some)
}

fn of_kind<'a>(snapshot: &'a Snapshot, kind: &str) -> impl Iterator<Item = &'a Object> {
    snapshot.objects().list.iter().filter(move |object| object.kind == kind)
}

fn relations(rows: &mut CatalogRows<'_>, snapshot: &Snapshot) -> EngineResult<()> {
    let mut push = |oid: i32, name: &str, schema: &str, kind: &str, columns: usize| {
        rows.push([
            ("oid", oid.into()),
            ("relname", name.into()),
            ("relnamespace", snapshot.schema_oid(schema).into()),
            ("relowner", OWNER_OID.into()),
            ("relam", if kind == "v" { 0 } else { HEAP }.into()),
            ("reltuples", Cell::Float(-1.0)),
            ("relpersistence", "p".into()),
            ("relkind", kind.into()),
            ("relnatts", columns.into()),
            ("relispopulated", true.into()),
            ("relreplident", "n".into()),
            ("relfrozenxid", "0".into()),
            ("relminmxid", "0".into()),
        ])
    };
    for object in &snapshot.objects().list {
        push(object.oid, &object.name, object.schema, object.kind, object.columns.fields().len())?;
    }
    for table in snapshot.system.tables() {
        push(table.oid, table.name, table.schema, table.kind, table.columns.len())?;
    }
    Ok(())
}

/// One column of `pg_attribute`.
struct Attribute<'a> {
    relation: i32,
    number: usize,
    name: &'a str,
    type_oid: i32,
    modifier: i32,
    length: i64,
    is_array: bool,
    not_null: bool,
}

fn columns(rows: &mut CatalogRows<'_>, snapshot: &Snapshot) -> EngineResult<()> {
    let texts = [super::types::TEXT, 19, 1042, 1043];
    let mut push = |column: Attribute<'_>| {
        rows.push([
            ("attrelid", column.relation.into()),
            ("attname", column.name.into()),
            ("atttypid", column.type_oid.into()),
            ("attlen", column.length.into()),
            ("attnum", column.number.into()),
            ("attcacheoff", (-1).into()),
            ("atttypmod", column.modifier.into()),
            ("attndims", i32::from(column.is_array).into()),
            ("attbyval", (column.length > 0 && column.length <= 8).into()),
            ("attalign", "i".into()),
            ("attstorage", if column.length < 0 { "x" } else { "p" }.into()),
            ("attnotnull", column.not_null.into()),
            ("attislocal", true.into()),
            ("attcollation", if texts.contains(&column.type_oid) { DEFAULT_COLLATION } else { 0 }.into()),
        ])
    };
    for object in &snapshot.objects().list {
        for (at, field) in object.columns.fields().iter().enumerate() {
            let found = pg_type(field.data_type());
            push(Attribute {
                relation: object.oid,
                number: at + 1,
                name: field.name(),
                type_oid: found.oid,
                modifier: found.modifier,
                length: found.length,
                is_array: snapshot.system.types.get(&found.oid).is_some_and(|found| found.item.is_some()),
                not_null: !field.is_nullable(),
            })?;
        }
    }
    for table in snapshot.system.tables() {
        for (at, (name, type_name, not_null)) in table.columns.iter().enumerate() {
            let type_oid = snapshot.system.type_names.get(*type_name).copied().unwrap_or(super::types::TEXT);
            push(Attribute {
                relation: table.oid,
                number: at + 1,
                name,
                type_oid,
                modifier: -1,
                length: -1,
                is_array: type_name.starts_with('_'),
                not_null: *not_null,
            })?;
        }
    }
    Ok(())
}

fn comments(rows: &mut CatalogRows<'_>, snapshot: &Snapshot) -> EngineResult<()> {
    let mut push = |oid: i32, column: usize, text: &str| {
        rows.push([
            ("objoid", oid.into()),
            ("classoid", CLASS_OF_RELATIONS.into()),
            ("objsubid", column.into()),
            ("description", text.into()),
        ])
    };
    for object in &snapshot.objects().list {
        if let Some(text) = &object.comments.object {
            push(object.oid, 0, text)?;
        }
        for (at, field) in object.columns.fields().iter().enumerate() {
            if let Some(text) = object.comments.columns.get(field.name()) {
                push(object.oid, at + 1, text)?;
            }
        }
    }
    Ok(())
}
