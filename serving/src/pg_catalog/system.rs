//! The tables of PostgreSQL's own catalog: their columns, and the rows that are the same in every database, such as
//! types and functions.
//!
//! `tables.txt` lists the columns. The rows come with the crate datafusion-pg-catalog, whose arrays are texts; a table
//! here has them as arrays. Invariant: a table that has no rows there and none of its own in [`super::live`] is empty
//! in every answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListBuilder, StringBuilder, new_empty_array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList, TableFunctionImpl};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::{ArrowTable, PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable};

use super::types;

/// The columns of all tables.
const TABLES: &str = include_str!("tables.txt");

/// Tables whose rows are those of a database, so that the rows of another database are left out. There are no indexes,
/// so nothing says how they would be kept.
const OF_A_DATABASE: [&str; 20] = [
    "pg_amop",
    "pg_amproc",
    "pg_opclass",
    "pg_opfamily",
    "pg_attrdef",
    "pg_auth_members",
    "pg_authid",
    "pg_constraint",
    "pg_depend",
    "pg_description",
    "pg_extension",
    "pg_index",
    "pg_init_privs",
    "pg_rewrite",
    "pg_shdescription",
    "pg_statistic",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
];

/// One table of PostgreSQL.
#[derive(Debug)]
pub(super) struct SystemTable {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) oid: i32,
    /// `r` or `v`.
    pub(super) kind: &'static str,
    /// Names, names of types, NOT NULL.
    pub(super) columns: Vec<(&'static str, &'static str, bool)>,
    pub(super) arrow: SchemaRef,
    /// The rows of every database.
    fixed: Option<RecordBatch>,
}

/// A type of PostgreSQL.
#[derive(Debug)]
pub(super) struct SystemType {
    pub(super) name: String,
    /// The type of the items of an array.
    pub(super) item: Option<i32>,
}

/// A function of PostgreSQL.
#[derive(Debug)]
pub(super) struct SystemFunction {
    pub(super) name: String,
    pub(super) returns: i32,
    pub(super) returns_set: bool,
    pub(super) arguments: Vec<i32>,
}

/// All tables by schema and name, and what functions look up in them.
#[derive(Debug)]
pub(crate) struct SystemTables {
    tables: BTreeMap<&'static str, BTreeMap<&'static str, SystemTable>>,
    pub(super) types: BTreeMap<i32, SystemType>,
    pub(super) type_names: BTreeMap<String, i32>,
    pub(super) functions: BTreeMap<i32, SystemFunction>,
    /// Comments of types, functions and so on: (object, class) to text.
    pub(super) comments: BTreeMap<(i32, i32), String>,
    keywords: Arc<ArrowTable>,
}

impl SystemTables {
    /// Errors: the rows of the crate do not fit its columns, which a test excludes.
    pub(crate) fn load() -> EngineResult<Self> {
        let list: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        let rows = Arc::new(PgCatalogStaticTables::try_new()?);
        let keywords = Arc::clone(&rows.pg_get_keywords);
        let rows = PgCatalogSchemaProvider::try_new(list, rows, EmptyContextProvider)?;
        let mut tables: BTreeMap<&str, BTreeMap<&str, SystemTable>> = BTreeMap::new();
        for table in read_tables() {
            let mut table = table;
            if table.schema == "pg_catalog"
                && let Some(PgCatalogTable::Static(found)) = rows.build_table_by_name(table.name)?
                && (!OF_A_DATABASE.contains(&table.name) || table.name == "pg_description")
                && let Some(batch) = found.data().first()
            {
                table.fixed = Some(fitted(batch, &table.arrow)?);
            }
            tables.entry(table.schema).or_default().insert(table.name, table);
        }
        let mut system = Self {
            tables,
            types: BTreeMap::new(),
            type_names: BTreeMap::new(),
            functions: BTreeMap::new(),
            comments: BTreeMap::new(),
            keywords,
        };
        system.read_types()?;
        system.read_functions()?;
        system.read_comments()?;
        Ok(system)
    }

    /// The rows of the table function `pg_get_keywords`.
    pub(super) fn keywords(&self) -> Arc<dyn TableFunctionImpl> {
        Arc::<ArrowTable>::clone(&self.keywords)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &SystemTable> {
        self.tables.values().flat_map(BTreeMap::values)
    }

    pub(super) fn table(&self, schema: &str, name: &str) -> Option<&SystemTable> {
        self.tables.get(schema)?.get(name)
    }

    /// The type of the first column of this name, for columns that have lost their table.
    pub(super) fn type_of_column(&self, name: &str) -> Option<&'static str> {
        let mut columns = self.tables().flat_map(|table| &table.columns);
        columns.find(|(column, ..)| *column == name).map(|(_, type_name, _)| *type_name)
    }

    fn read_types(&mut self) -> EngineResult<()> {
        let Some(rows) = self.table("pg_catalog", "pg_type").and_then(|table| table.fixed.clone()) else {
            return Ok(());
        };
        let rows = Columns(&rows);
        for row in 0..rows.0.num_rows() {
            let (oid, name) = (rows.int("oid", row)?, rows.text("typname", row)?);
            let item = (rows.text("typcategory", row)? == "A").then_some(rows.int("typelem", row)?);
            self.type_names.insert(name.clone(), oid);
            self.types.insert(oid, SystemType { name, item });
        }
        Ok(())
    }

    fn read_functions(&mut self) -> EngineResult<()> {
        let Some(rows) = self.table("pg_catalog", "pg_proc").and_then(|table| table.fixed.clone()) else {
            return Ok(());
        };
        let rows = Columns(&rows);
        for row in 0..rows.0.num_rows() {
            let arguments = match rows.value("proargtypes", row)? {
                ScalarValue::List(list) => {
                    let items = list.value(0);
                    items.as_primitive::<arrow::datatypes::Int32Type>().iter().flatten().collect()
                }
                _ => Vec::new(),
            };
            let function = SystemFunction {
                name: rows.text("proname", row)?,
                returns: rows.int("prorettype", row)?,
                returns_set: matches!(rows.value("proretset", row)?, ScalarValue::Boolean(Some(true))),
                arguments,
            };
            self.functions.insert(rows.int("oid", row)?, function);
        }
        Ok(())
    }

    fn read_comments(&mut self) -> EngineResult<()> {
        let Some(rows) = self.table("pg_catalog", "pg_description").and_then(|table| table.fixed.clone()) else {
            return Ok(());
        };
        let rows = Columns(&rows);
        for row in 0..rows.0.num_rows() {
            if rows.int("objsubid", row)? == 0 {
                let key = (rows.int("objoid", row)?, rows.int("classoid", row)?);
                self.comments.insert(key, rows.text("description", row)?);
            }
        }
        Ok(())
    }
}

/// The columns of a batch by name.
struct Columns<'a>(&'a RecordBatch);

impl Columns<'_> {
    fn value(&self, column: &str, row: usize) -> EngineResult<ScalarValue> {
        let column = self.0.column_by_name(column);
        column.map_or(Ok(ScalarValue::Null), |column| ScalarValue::try_from_array(column, row))
    }

    fn int(&self, column: &str, row: usize) -> EngineResult<i32> {
        match self.value(column, row)? {
            ScalarValue::Int32(Some(value)) => Ok(value),
            _ => Ok(0),
        }
    }

    fn text(&self, column: &str, row: usize) -> EngineResult<String> {
        Ok(self.value(column, row)?.try_as_str().flatten().unwrap_or_default().to_owned())
    }
}

impl SystemTable {
    /// The rows of every database.
    pub(super) fn fixed(&self) -> Option<&RecordBatch> {
        self.fixed.as_ref().filter(|batch| batch.num_rows() > 0)
    }
}

/// Reads `tables.txt`.
fn read_tables() -> Vec<SystemTable> {
    let mut tables: Vec<SystemTable> = Vec::new();
    for line in TABLES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words = line.split_whitespace();
        match line.strip_prefix("  ") {
            None => {
                let mut words = words;
                let (Some(name), Some(oid), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
                let (Some((schema, name)), Ok(oid)) = (name.split_once('.'), oid.parse()) else { continue };
                let arrow = Arc::new(Schema::empty());
                tables.push(SystemTable { schema, name, oid, kind, columns: Vec::new(), arrow, fixed: None });
            }
            Some(_) => {
                let Some(table) = tables.last_mut() else { continue };
                table.columns.extend(words.filter_map(|word| {
                    let (name, type_name) = word.split_once(':')?;
                    let plain = type_name.trim_end_matches('!');
                    Some((name, plain, plain != type_name))
                }));
            }
        }
    }
    for table in &mut tables {
        let columns = table.columns.iter();
        let fields = columns.map(|(name, type_name, not_null)| types::field(name, type_name, !not_null));
        table.arrow = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    }
    tables
}

/// The rows of `batch` with the columns of `wanted`.
fn fitted(batch: &RecordBatch, wanted: &SchemaRef) -> EngineResult<RecordBatch> {
    let columns = wanted.fields().iter().map(|field| {
        let Some(column) = batch.column_by_name(field.name()) else {
            return Ok(new_null_array(field.data_type(), batch.num_rows()));
        };
        match (column.data_type(), field.data_type()) {
            (_, _) if batch.num_rows() == 0 => Ok(new_empty_array(field.data_type())),
            (DataType::Utf8, DataType::List(_)) => cast(&lists(column), field.data_type()),
            (_, wanted) => cast(column, wanted),
        }
        .map_err(DataFusionError::from)
    });
    let columns = columns.collect::<EngineResult<Vec<ArrayRef>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(wanted), columns)?)
}

/// Arrays as PostgreSQL writes them, as lists of texts.
fn lists(texts: &ArrayRef) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for text in texts.as_string::<i32>() {
        match text {
            Some(text) => {
                for item in items(text) {
                    lists.values().append_value(item);
                }
                lists.append(true);
            }
            None => lists.append(false),
        }
    }
    Arc::new(lists.finish())
}

/// The items of `{a,"b,c"}`, of `[a, b]` and of `1 2`.
pub(super) fn items(text: &str) -> Vec<String> {
    let text = text.trim();
    let braces = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inside) = braces.or_else(|| text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))) else {
        return text.split_whitespace().map(str::to_owned).collect();
    };
    let (mut items, mut item, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let push = |item: &mut String, was_quoted: bool, items: &mut Vec<String>| {
        let item = std::mem::take(item);
        items.push(if was_quoted { item } else { item.trim_end().to_owned() });
    };
    let mut letters = inside.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => item.extend(letters.next()),
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => push(&mut item, std::mem::take(&mut was_quoted), &mut items),
            // Blanks around an item are not part of the item.
            letter if letter.is_whitespace() && !quoted && (item.is_empty() || was_quoted) => {}
            letter => item.push(letter),
        }
    }
    if !items.is_empty() || !item.is_empty() || was_quoted {
        push(&mut item, was_quoted, &mut items);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_crate_fits_its_columns() {
        let system = SystemTables::load().unwrap();
        assert_eq!(system.types[&23].name, "int4");
        assert_eq!(system.types[&1007].item, Some(23));
        assert_eq!(system.functions[&870].arguments, [25]);
        let proc = system.table("pg_catalog", "pg_proc").unwrap();
        assert!(proc.fixed().unwrap().num_rows() > 3000);
        assert!(system.tables().count() > 200);
    }

    #[test]
    fn arrays_are_read_as_they_are_written() {
        let check = |text: &str, expect: &[&str]| assert_eq!(items(text), expect, "{text}");
        check("{}", &[]);
        check("{a}", &["a"]);
        check("{a,\"b,\\\"c\",d}", &["a", "b,\"c", "d"]);
        check("{\"\"}", &[""]);
        check("{ a , \"b\" , \" c \" }", &["a", "b", " c "]);
        check("{\"\", a b}", &["", "a b"]);
        check("20 21", &["20", "21"]);
        check("[1, 2]", &["1", "2"]);
        check("", &[]);
    }
}
