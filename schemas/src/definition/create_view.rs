//! `CREATE MATERIALIZED VIEW … AS SELECT …` as a view definition.
//!
//! Invariant: the query's text, parsed again, is the query that was given; what it means is judged when it is compiled.

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParser, Statement as Parsed};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{CreateTableOptions, CreateView, Query, Statement as Sql};

use crate::definition::statement::{Statement, bare_name};
use crate::definition::view::ViewDefinition;
use crate::{Error, Result, StreamName, ViewName};

/// `sql` is the statement's own text.
///
/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn create_view(create: CreateView, sql: &str) -> Result<Statement> {
    let name = ViewName::new(&bare_name(&create.name)?)?;
    refuse_clauses(&create)?;
    let query = create.query.to_string();
    if parse_query(&query).as_ref() != Some(&*create.query) {
        return Err(Error::refuse(
            "The query cannot be kept: the parser does not read back what it prints.",
            "Write it in plainer SQL.",
        ));
    }
    Ok(Statement::CreateView {
        definition: ViewDefinition { name, stream: the_stream(create.query)?, query, sql: sql.to_owned() },
        or_replace: create.or_replace,
        if_not_exists: create.if_not_exists,
    })
}

fn refuse_clauses(create: &CreateView) -> Result<()> {
    if !create.materialized {
        return Err(Error::refuse(
            "A plain view is only a name for a query; it keeps no state.",
            "Use CREATE MATERIALIZED VIEW.",
        ));
    }
    if create.or_replace && create.if_not_exists {
        return Err(Error::refuse("OR REPLACE and IF NOT EXISTS contradict each other.", "Use one of them."));
    }
    if !create.columns.is_empty() {
        return Err(Error::refuse(
            "A list of column names after the view's name is not supported.",
            "Name the columns in the query: SELECT … AS name.",
        ));
    }
    let plain = matches!(create.options, CreateTableOptions::None)
        && create.cluster_by.is_empty()
        && create.comment.is_none()
        && create.to.is_none()
        && create.params.is_none()
        && !(create.or_alter
            || create.secure
            || create.temporary
            || create.copy_grants
            || create.with_no_schema_binding);
    if !plain {
        return Err(Error::refuse(
            "The view has clauses that are not supported.",
            "Use CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name AS SELECT ….",
        ));
    }
    Ok(())
}

fn parse_query(text: &str) -> Option<Query> {
    let mut statements = DFParser::parse_sql(text).ok()?;
    match (statements.pop_front()?, statements.is_empty()) {
        (Parsed::Statement(statement), true) => match *statement {
            Sql::Query(query) => Some(*query),
            _ => None,
        },
        _ => None,
    }
}

/// The one stream that the query reads.
fn the_stream(query: Box<Query>) -> Result<StreamName> {
    let statement = Parsed::Statement(Box::new(Sql::Query(query)));
    let (tables, _) = resolve_table_references(&statement, true).map_err(|e| {
        Error::refuse(
            format!("What the query reads cannot be found out: {}.", e.strip_backtrace()),
            "Write FROM with the stream's name.",
        )
    })?;
    match tables.as_slice() {
        [TableReference::Bare { table }] => Ok(StreamName::new(table)?),
        [other] => Err(Error::refuse(
            format!("The query reads `{other}`, and a view is kept from a stream alone."),
            "Write FROM with the stream's plain name.",
        )),
        [] => Err(Error::refuse(
            "The query reads no stream, so there is nothing to keep.",
            "Write FROM with the stream's name.",
        )),
        several => {
            let names: Vec<String> = several.iter().map(|t| format!("`{t}`")).collect();
            Err(Error::refuse(
                format!("The query reads {}; joins of streams are not kept.", names.join(" and ")),
                "Define a view for each stream, and join the views when you query.",
            ))
        }
    }
}
