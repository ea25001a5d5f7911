//! Prepares a statement for the planner: the words of PostgreSQL, the functions that it calls, and the two schemas.
//!
//! Invariant: a statement is rewritten by [`super::statements`] only if each of its tables is in `pg_catalog` or
//! `information_schema`, and it names such a table or calls a function of PostgreSQL.

use std::sync::{Arc, OnceLock};

use datafusion::catalog::SchemaProvider;
use datafusion::common::TableReference;
use datafusion::error::Result as EngineResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::sql::parser::{DFParser, Statement as Parsed};
use datafusion::sql::sqlparser::ast::Statement;
use thalweg_schemas::catalog::Catalog;

use super::snapshot::{INFORMATION_SCHEMA, PG_CATALOG, Snapshot};
use super::statements::{self, Subqueries};
use super::system::SystemTables;
use super::{calls, functions, schemas, words};

/// A table function of PostgreSQL.
const KEYWORDS: &str = "pg_get_keywords";

/// SHOW TABLES, which lists what users have defined.
const SHOW_TABLES: &str = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables \
                           WHERE table_schema NOT IN ('pg_catalog', 'information_schema')";

/// PostgreSQL's own tables, which are read when the first statement needs them.
#[derive(Debug, Default)]
pub(crate) struct PgCatalog {
    system: OnceLock<Arc<SystemTables>>,
}

/// What a statement needs besides its tables.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) schemas: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    /// The statement without the subqueries that the planner may not take, if it reads PostgreSQL's tables alone.
    pub(crate) instead: Option<Parsed>,
}

impl PgCatalog {
    fn system(&self) -> EngineResult<Arc<SystemTables>> {
        if let Some(system) = self.system.get() {
            return Ok(Arc::clone(system));
        }
        let loaded = Arc::new(SystemTables::load()?);
        Ok(Arc::clone(self.system.get_or_init(|| loaded)))
    }

    /// Rewrites `statement` and registers the functions that it calls.
    ///
    /// Errors: those of reading the tables that come with the program.
    pub(crate) fn prepare(
        &self,
        parsed: &mut Parsed,
        catalog: &Arc<Catalog>,
        state: &mut SessionState,
    ) -> EngineResult<Prepared> {
        let Some(statement) = inner(parsed) else { return Ok(Prepared::default()) };
        if matches!(statement, Statement::ShowTables { .. })
            && statement.to_string() == "SHOW TABLES"
            && let Some(Parsed::Statement(query)) = DFParser::parse_sql(SHOW_TABLES)?.pop_front()
        {
            *statement = *query;
        }
        words::rewrite(statement);
        let called = calls::names(statement);
        let known = called.iter().any(|name| functions::is_known(name) || name == KEYWORDS);
        let mut references = state.resolve_table_references(parsed)?;
        // A function in FROM is listed as well.
        let is_ours = |name: &str| {
            catalog.streams.keys().any(|known| known.as_str() == name)
                || catalog.views.keys().any(|known| known.as_str() == name)
        };
        references.retain(|name| name.schema().is_some() || !called.contains(name.table()) || is_ours(name.table()));
        if !known && !references.iter().any(may_be_of_postgres) {
            return Ok(Prepared::default());
        }
        let snapshot = Arc::new(Snapshot::new(self.system()?, Arc::clone(catalog)));
        let mut prepared = Prepared { schemas: schemas::all(&snapshot), instead: None };
        let own = references.iter().filter(|name| is_of_postgres(name, &snapshot)).count();
        let Some(statement) = inner(parsed) else { return Ok(prepared) };
        if own == references.len() && (own > 0 || known) {
            let before = statement.clone();
            statements::rewrite(statement, &snapshot, Subqueries::Max);
            let mut instead = parsed.clone();
            if let Some(statement) = inner(&mut instead) {
                *statement = before;
                statements::rewrite(statement, &snapshot, Subqueries::Null);
                prepared.instead = (instead != *parsed).then_some(instead);
            }
        } else if own > 0 {
            statements::qualify(statement, &snapshot);
        }
        let statements = [Some(&mut *parsed), prepared.instead.as_mut()];
        for statement in statements.into_iter().flatten().filter_map(inner) {
            for name in calls::names(statement) {
                if let Some(function) = functions::find(&name, &snapshot) {
                    state.register_udf(Arc::new(function))?;
                } else if name == KEYWORDS {
                    state.register_udtf(KEYWORDS, snapshot.system.keywords());
                }
            }
        }
        Ok(prepared)
    }
}

/// False for the name of a table that is certainly none of PostgreSQL's.
fn may_be_of_postgres(name: &TableReference) -> bool {
    match name.schema() {
        Some(schema) => [PG_CATALOG, INFORMATION_SCHEMA].contains(&schema),
        None => name.table().starts_with("pg_"),
    }
}

/// True for a table of one of the two schemas. A stream or view of the same plain name goes first.
fn is_of_postgres(name: &TableReference, snapshot: &Snapshot) -> bool {
    match name.schema() {
        Some(schema) => [PG_CATALOG, INFORMATION_SCHEMA].contains(&schema),
        None => snapshot.is_of_postgres(name.table()),
    }
}

fn inner(parsed: &mut Parsed) -> Option<&mut Statement> {
    match parsed {
        Parsed::Statement(statement) => Some(statement),
        Parsed::Explain(explain) => inner(&mut explain.statement),
        _ => None,
    }
}
