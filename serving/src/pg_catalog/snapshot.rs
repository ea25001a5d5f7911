//! What one statement sees: PostgreSQL's own tables, and the streams and views of one version of the catalog.
//!
//! Invariant: all tables and functions of a statement answer from one snapshot.

use std::sync::{Arc, OnceLock};

use thalweg_schemas::catalog::Catalog;

use super::objects::{Object, Objects};
use super::system::{SystemTable, SystemTables};
use super::types;

pub(super) const PG_CATALOG: &str = "pg_catalog";
pub(super) const INFORMATION_SCHEMA: &str = "information_schema";
/// The oids of these schemas in every database of PostgreSQL.
pub(super) const PG_CATALOG_OID: i32 = 11;
const INFORMATION_SCHEMA_OID: i32 = 13_283;

/// The owner of everything.
pub(super) const OWNER: &str = "thalweg";
pub(super) const OWNER_OID: i32 = 10;

/// The oid of `pg_class` itself, by which comments say that they are on a relation.
pub(super) const CLASS_OF_RELATIONS: i32 = 1259;

#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) system: Arc<SystemTables>,
    catalog: Arc<Catalog>,
    objects: OnceLock<Objects>,
}

/// A relation of any schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Relation<'a> {
    Object(&'a Object),
    System(&'a SystemTable),
}

impl Relation<'_> {
    pub(super) fn oid(&self) -> i32 {
        match self {
            Relation::Object(object) => object.oid,
            Relation::System(table) => table.oid,
        }
    }

    pub(super) fn schema(&self) -> &str {
        match self {
            Relation::Object(object) => object.schema,
            Relation::System(table) => table.schema,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Relation::Object(object) => &object.name,
            Relation::System(table) => table.name,
        }
    }

    /// True if the name needs no schema in front.
    pub(super) fn is_visible(&self) -> bool {
        [crate::names::PUBLIC, PG_CATALOG].contains(&self.schema())
    }
}

impl Snapshot {
    pub(super) fn new(system: Arc<SystemTables>, catalog: Arc<Catalog>) -> Self {
        Self { system, catalog, objects: OnceLock::new() }
    }

    /// True if a plain name is that of a table of PostgreSQL, and of no stream or view.
    pub(super) fn is_of_postgres(&self, name: &str) -> bool {
        let mut own = self.catalog.streams.keys().map(|name| name.as_str());
        self.system.table(PG_CATALOG, name).is_some()
            && !own.any(|own| own == name)
            && !self.catalog.views.keys().any(|own| own.as_str() == name)
    }

    pub(super) fn objects(&self) -> &Objects {
        self.objects.get_or_init(|| Objects::of(&self.catalog))
    }

    /// Names and oids of all schemas.
    pub(super) fn schemas(&self) -> Vec<(&'static str, i32)> {
        let own = self.objects().schemas.iter().map(|(name, oid)| (*name, *oid));
        own.chain([(PG_CATALOG, PG_CATALOG_OID), (INFORMATION_SCHEMA, INFORMATION_SCHEMA_OID)]).collect()
    }

    pub(super) fn schema_oid(&self, name: &str) -> Option<i32> {
        self.schemas().into_iter().find(|(known, _)| *known == name).map(|(_, oid)| oid)
    }

    pub(super) fn object(&self, oid: i32) -> Option<&Object> {
        self.objects().list.iter().find(|object| object.oid == oid)
    }

    pub(super) fn relation_at(&self, oid: i32) -> Option<Relation<'_>> {
        let object = self.object(oid).map(Relation::Object);
        object.or_else(|| self.system.tables().find(|table| table.oid == oid).map(Relation::System))
    }

    /// The relation that `text` names: `name`, `schema.name`, with or without quotes, or a number.
    pub(super) fn relation(&self, text: &str) -> Option<Relation<'_>> {
        if let Ok(oid) = text.trim().parse() {
            return self.relation_at(oid);
        }
        let parts = parts(text)?;
        let find = |schema: &str, name: &str| {
            let mut objects = self.objects().list.iter();
            let object = objects.find(|object| object.schema == schema && object.name == name);
            object.map(Relation::Object).or_else(|| self.system.table(schema, name).map(Relation::System))
        };
        match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [name] => find(PG_CATALOG, name).or_else(|| find(crate::names::PUBLIC, name)),
            [schema, name] | [_, schema, name] => find(schema, name),
            _ => None,
        }
    }

    /// The name of a relation as `regclass` shows it.
    pub(super) fn relation_name(&self, oid: i32) -> String {
        match self.relation_at(oid) {
            Some(relation) if relation.is_visible() => quoted(relation.name()),
            Some(relation) => format!("{}.{}", quoted(relation.schema()), quoted(relation.name())),
            None if oid == 0 => "-".to_owned(),
            None => oid.to_string(),
        }
    }

    /// The oid of the type that `text` names.
    pub(super) fn type_oid(&self, text: &str) -> Option<i32> {
        let text = text.trim();
        if let Ok(oid) = text.parse() {
            return Some(oid);
        }
        let plain = text.strip_prefix("pg_catalog.").unwrap_or(text);
        let plain = plain.split_once('(').map_or(plain, |(name, _)| name).trim().trim_matches('"');
        let (plain, is_array) = match text.strip_suffix("[]") {
            Some(_) => (plain.trim_end_matches("[]"), true),
            None => (plain, false),
        };
        let lower = plain.to_lowercase();
        let known = |name: &str| self.system.type_names.get(name).copied();
        let named = |(name, oid): (&String, &i32)| (types::sql_name(name) == Some(&lower)).then_some(*oid);
        let common = match lower.as_str() {
            "int" => known("int4"),
            "decimal" => known("numeric"),
            "string" => known("text"),
            _ => None,
        };
        let oid = known(&lower).or(common).or_else(|| self.system.type_names.iter().find_map(named))?;
        if !is_array {
            return Some(oid);
        }
        self.system.types.iter().find(|(_, array)| array.item == Some(oid)).map(|(array, _)| *array)
    }

    /// The name of a type as `format_type` shows it.
    pub(super) fn type_name(&self, oid: i32, modifier: i32) -> String {
        let Some(found) = self.system.types.get(&oid) else {
            return if oid == 0 { "-".to_owned() } else { "???".to_owned() };
        };
        if let Some(item) = found.item {
            return format!("{}[]", self.type_name(item, modifier));
        }
        let name = types::sql_name(&found.name).unwrap_or(&found.name);
        match found.name.as_str() {
            "numeric" => match types::precision_and_scale(modifier) {
                Some((precision, scale)) => format!("numeric({precision},{scale})"),
                None => name.to_owned(),
            },
            "varchar" | "bpchar" if modifier > 4 => format!("{name}({})", modifier - 4),
            _ => name.to_owned(),
        }
    }
}

/// The parts of a name: lower case unless quoted. `None` if a quote has no end.
pub(super) fn parts(text: &str) -> Option<Vec<String>> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            letter if quoted => part.push(letter),
            letter => part.extend(letter.to_lowercase()),
        }
    }
    parts.push(part);
    (!quoted).then_some(parts)
}

/// A name with quotes if it needs them.
pub(super) fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
