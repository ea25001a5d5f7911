//! Column definitions: declared columns become a schema of canonical types.
//!
//! Invariant: DataFusion's planner translates the name of a type; this file only accepts or refuses the resulting type.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::planner::{ContextProvider, ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, ColumnDef, ColumnOption, DataType as SqlType, Ident};

use crate::definition::statement::normal;
use crate::definition::types::{NOT_IN_NAMES, canonical, sql_name};
use crate::engine::session;
use crate::error::{Diagnostic, TextSpan};
use crate::{Error, Result};

/// The schema of the declared columns, with canonical types. Columns are nullable unless `NOT NULL`.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn schema(columns: Vec<ColumnDef>) -> Result<SchemaRef> {
    if columns.is_empty() {
        return Err(Error::refuse("The stream has no columns", "Declare those that you need: (name TYPE, …)."));
    }
    let places: Vec<FieldPlace> = columns.iter().map(|c| FieldPlace::of(Some(&c.name), &c.data_type)).collect();
    let fields = columns.into_iter().zip(&places);
    let fields: Vec<Field> =
        fields.map(|(column, place)| read_column(column).map_err(|e| e.at(place.name))).collect::<Result<_>>()?;
    let fields = Fields::from(fields);
    check_names(&fields, None, &places)?;
    Ok(Arc::new(Schema::new(fields)))
}

/// The place of a column's name, or of the name of a field within its type, and the places of the inner fields.
struct FieldPlace {
    name: Option<TextSpan>,
    inner: Vec<FieldPlace>,
}

impl FieldPlace {
    fn of(name: Option<&Ident>, data_type: &SqlType) -> Self {
        Self { name: name.and_then(|name| TextSpan::of_parser(name.span)), inner: Self::within(data_type) }
    }

    fn within(data_type: &SqlType) -> Vec<Self> {
        match data_type {
            SqlType::Struct(fields, _) => {
                fields.iter().map(|field| Self::of(field.field_name.as_ref(), &field.field_type)).collect()
            }
            SqlType::Array(
                ArrayElemTypeDef::AngleBracket(item)
                | ArrayElemTypeDef::SquareBracket(item, _)
                | ArrayElemTypeDef::Parenthesis(item),
            ) => Self::within(item),
            _ => Vec::new(),
        }
    }
}

fn read_column(column: ColumnDef) -> Result<Field> {
    let name = normal(&column.name);
    let mut required = false;
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => required = true,
            ColumnOption::PrimaryKey(_) => return Err(no_primary_key()),
            other => {
                return Err(Error::refuse(
                    format!("Column `{name}`: `{other}` is not supported"),
                    "Only NOT NULL can be asked of a column.",
                ));
            }
        }
    }
    let spelled = column.data_type.to_string();
    let found = arrow_type(column).map_err(|_| {
        Error::refuse(
            format!("Column `{name}`: the type {spelled} is not known"),
            "Types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, REAL, DOUBLE, DECIMAL(p, s), STRING, BYTEA, DATE, \
             TIMESTAMP, TIMESTAMP WITH TIME ZONE, <type>[] and STRUCT<name type, …>.",
        )
    })?;
    let data_type = canonical(&found).map_err(|e| match e {
        Error::RefuseDefinition(refusal) => {
            let message = format!("Column `{name}`: {}", refusal.message);
            Error::RefuseDefinition(Diagnostic { message, ..refusal })
        }
        other => other,
    })?;
    if levels(&data_type) > MOST_LEVELS {
        return Err(Error::refuse(
            format!("Column `{name}`: STRUCTs and lists are nested too deep"),
            "Delta Lake keeps about forty STRUCTs within each other; declare fewer.",
        ));
    }
    Ok(Field::new(name, data_type, !required))
}

/// The levels of JSON that a schema in Delta's log may have within a column. Its reader takes 128 in all.
const MOST_LEVELS: usize = 115;

/// The levels of JSON that Delta's log needs for a type.
fn levels(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) => 1 + levels(item.data_type()),
        DataType::Struct(fields) => 3 + fields.iter().map(|field| levels(field.data_type())).max().unwrap_or(0),
        _ => 0,
    }
}

/// Refuses PRIMARY KEY: messages are not de-duplicated by key, and accepting the words would promise that.
pub(super) fn no_primary_key() -> Error {
    Error::refuse(
        "PRIMARY KEY promises that no key occurs twice, and messages are not de-duplicated",
        "Leave it out, and count distinct keys in the view if that is what you need.",
    )
}

/// The planner's type for the declared type. Timestamps with a time zone are in UTC.
fn arrow_type(column: ColumnDef) -> EngineResult<DataType> {
    let types = Types::new();
    let options = ParserOptions::from(&types.0.sql_parser);
    let schema = SqlToRel::new_with_options(&types, options).build_schema(vec![column])?;
    Ok(schema.field(0).data_type().clone())
}

/// Checks names, which must differ in more than case, as Delta ignores case. Names that begin with `_` belong to the
/// platform. `places` holds the known places of the fields.
fn check_names(fields: &Fields, within: Option<&str>, places: &[FieldPlace]) -> Result<()> {
    let mut seen = HashSet::new();
    for (at, field) in fields.iter().enumerate() {
        let place = places.get(at);
        let name = match within {
            Some(outer) => format!("{outer}.{}", field.name()),
            None => field.name().clone(),
        };
        let checked = check_name(field.name(), &name, within.is_none()).and_then(|()| {
            if !seen.insert(field.name().to_lowercase()) {
                return Err(Error::refuse(
                    format!("Column `{name}` is declared twice (upper and lower case are one)"),
                    "Choose another name for one of them.",
                ));
            }
            check_inner(field.data_type(), &name, place.map_or(&[][..], |place| &place.inner))
        });
        checked.map_err(|e| e.at(place.and_then(|place| place.name)))?;
    }
    Ok(())
}

/// `path` is the name behind the names of the enclosing fields.
fn check_name(name: &str, path: &str, outermost: bool) -> Result<()> {
    if outermost && name.starts_with('_') {
        return Err(Error::refuse(
            format!("Column `{path}`: names that begin with an underscore are reserved"),
            "Choose another name.",
        ));
    }
    if name.is_empty() || name.contains(|c| NOT_IN_NAMES.contains(c)) {
        return Err(Error::refuse(
            format!("Column `{path}`: the archive's format does not take this name"),
            "Use a name without spaces, commas, semicolons, equals signs and brackets.",
        ));
    }
    Ok(())
}

fn check_inner(data_type: &DataType, name: &str, places: &[FieldPlace]) -> Result<()> {
    match data_type {
        DataType::Struct(fields) if fields.is_empty() => Err(Error::refuse(
            format!("Column `{name}`: {} has no fields", sql_name(data_type)),
            "Name those that you need.",
        )),
        DataType::Struct(fields) => check_names(fields, Some(name), places),
        DataType::List(item) => check_inner(item.data_type(), name, places),
        _ => Ok(()),
    }
}

/// The minimal catalog with which the planner translates types.
struct Types(ConfigOptions);

impl Types {
    fn new() -> Self {
        let mut options = session::config(1).options().as_ref().clone();
        options.execution.time_zone = Some("UTC".into());
        Self(options)
    }
}

impl ContextProvider for Types {
    fn get_table_source(&self, name: TableReference) -> EngineResult<Arc<dyn TableSource>> {
        Err(DataFusionError::Plan(format!("there is no table {name}")))
    }

    fn get_function_meta(&self, _: &str) -> Option<Arc<ScalarUDF>> {
        None
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.0
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
