//! Definitions in SQL: `CREATE EXTERNAL TABLE … STORED AS KAFKA` creates a stream, `ALTER TABLE` adds columns,
//! `CREATE MATERIALIZED VIEW` creates a view, `DROP` removes them, and `COMMENT ON` explains them. Queries are passed
//! on unchanged.
//!
//! DataFusion's parser reads all statements, so users learn no new syntax. Statements and clauses that the parser
//! understands and this platform does not support are refused, with advice in the message. Nothing is ignored silently.
//!
//! Invariant: parsing depends only on the text. The [`crate::catalog`] checks whether names exist.

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectType, Query, SetExpr, Spanned, Statement as Sql};
use datafusion::sql::sqlparser::keywords::Keyword;

use crate::definition::alter_stream::alter_stream;
use crate::definition::comment::comment;
use crate::definition::copy_from::copy_from;
use crate::definition::create_stream::create_stream;
use crate::definition::create_view::create_view;
use crate::definition::kafka_options;
use crate::definition::open_stream::open_stream;
use crate::definition::pieces::{self, Piece};
use crate::definition::statement::{PlacedStatement, Statement, stream_name, view_name};
use crate::error::TextSpan;
use crate::{Error, Result};

/// Reads statements separated by semicolons; comments are allowed anywhere.
///
/// Errors: [`Error::ParseSql`] with the place in the whole text `sql`, counted from 1; [`Error::RefuseDefinition`] and
/// [`Error::CheckName`] for statements that are understood but not accepted.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    parse_pieces(&pieces::split(sql)?)
}

/// Reads statements that [`pieces::split`] has split.
///
/// Errors: as [`parse`].
pub fn parse_pieces(pieces: &[Piece<'_>]) -> Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for piece in pieces {
        statements.extend(read(piece)?.into_iter().map(|placed| placed.statement));
    }
    Ok(statements)
}

/// Reads one new statement. `DROP` with several names becomes several statements.
///
/// Errors: as [`parse`].
pub(crate) fn read(piece: &Piece<'_>) -> Result<Vec<PlacedStatement>> {
    let statements = read_kept(piece)?;
    for placed in &statements {
        if let Statement::CreateStream { definition, .. } = &placed.statement {
            kafka_options::accept(&definition.kafka).map_err(|(property, error)| {
                let option = piece.option(&format!("{}{property}", kafka_options::KAFKA));
                error.at(option.and_then(|option| option.name))
            })?;
        }
    }
    Ok(statements)
}

/// Reads one statement that a catalog keeps. Its properties of Kafka were accepted when it was written, perhaps by an
/// older version; a client is made only from properties that are accepted today.
///
/// Errors: as [`parse`].
pub(crate) fn read_kept(piece: &Piece<'_>) -> Result<Vec<PlacedStatement>> {
    let query =
        || PlacedStatement { statement: Statement::Query(piece.text.to_owned()), subject: piece.span(), stream: None };
    if let Some(copied) = copy_from(piece)? {
        return Ok(vec![copied]);
    }
    let statement = match piece.parse()? {
        Parsed::CreateExternalTable(create) if create.columns.is_empty() => open_stream(create, piece)?,
        Parsed::CreateExternalTable(create) => create_stream(create, piece)?,
        Parsed::Statement(statement) => match *statement {
            Sql::CreateView(create) => create_view(create, piece)?,
            Sql::Drop { object_type, if_exists, names, cascade, purge, .. } => {
                if cascade || purge {
                    return Err(Error::refuse(
                        "DROP takes away exactly what it names",
                        "Leave out CASCADE and PURGE, and drop the views of a stream first.",
                    )
                    .at(piece.focus()));
                }
                let drop = |name| drop_one(object_type, name, if_exists, piece);
                return names.iter().map(drop).collect();
            }
            Sql::AlterTable(alter) => alter_stream(alter, piece)?,
            Sql::Comment { object_type, object_name, comment: text, if_exists } => {
                comment(object_type, &object_name, text, if_exists)?
            }
            statement => {
                accept_query(&statement)?;
                query()
            }
        },
        Parsed::Explain(explain) => {
            if !is_query(&explain.statement) {
                return Err(Error::refuse(
                    "EXPLAIN shows the plan of a query; a definition has none",
                    "Use EXPLAIN SELECT ….",
                ));
            }
            query()
        }
        Parsed::CopyTo(_) => {
            return Err(Error::refuse(
                "COPY TO writes no files here",
                "Send the query to POST /v1/sql with `Accept: text/csv`.",
            ));
        }
        Parsed::Reset(_) => return Err(settings_are_fixed()),
    };
    Ok(vec![statement])
}

fn drop_one(kind: ObjectType, name: &ObjectName, if_exists: bool, piece: &Piece<'_>) -> Result<PlacedStatement> {
    let statement = match kind {
        ObjectType::Table => Statement::DropStream { name: stream_name(name)?, if_exists },
        ObjectType::View | ObjectType::MaterializedView => Statement::DropView { name: view_name(name)?, if_exists },
        other => {
            return Err(Error::refuse(
                format!("DROP {other} is not supported"),
                "Use DROP TABLE for a stream and DROP MATERIALIZED VIEW for a view.",
            )
            .at(piece.clause_and_next(&[Keyword::DROP])));
        }
    };
    Ok(PlacedStatement { statement, subject: TextSpan::of_parser(name.span()), stream: None })
}

fn is_query(statement: &Parsed) -> bool {
    match statement {
        Parsed::Statement(statement) => accept_query(statement).is_ok(),
        Parsed::Explain(inner) => is_query(&inner.statement),
        _ => false,
    }
}

/// Accepts statements that read data and change nothing.
fn accept_query(statement: &Sql) -> Result<()> {
    match statement {
        Sql::Query(query) if reads_only(query) => Ok(()),
        Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowVariable { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ExplainTable { .. }
        | Sql::Explain { .. } => Ok(()),
        Sql::CreateTable(_) => Err(Error::refuse(
            "A table of its own kind has no place here: data comes from Kafka",
            "Use CREATE EXTERNAL TABLE … STORED AS KAFKA LOCATION '<topic>'.",
        )),
        Sql::Insert(_) | Sql::Query(_) => Err(Error::refuse(
            "Streams are written through Kafka, and views are computed from them",
            "Produce messages to the stream's topic.",
        )),
        Sql::Update(_) | Sql::Delete(_) | Sql::Merge(_) | Sql::Truncate(_) => {
            Err(Error::refuse("Archived rows are never changed", "Filter them in the view or in the query (WHERE)."))
        }
        Sql::Set(_) => Err(settings_are_fixed()),
        Sql::AlterTable(_) => Err(Error::refuse(
            "ALTER TABLE is a definition, not a query",
            "Send ALTER TABLE stream ADD COLUMN name TYPE on its own.",
        )),
        Sql::AlterView { .. } => {
            Err(Error::refuse("ALTER is not supported", "Use CREATE OR REPLACE with the whole definition."))
        }
        Sql::StartTransaction { .. } | Sql::Commit { .. } | Sql::Rollback { .. } => Err(Error::refuse(
            "There are no transactions over several requests",
            "Send definitions that belong together in one request: they take effect together.",
        )),
        other => {
            let first = other.to_string();
            let first = first.split_whitespace().next().unwrap_or("This").to_owned();
            Err(Error::refuse(
                format!("{first} statements like this one are not supported"),
                "Use CREATE EXTERNAL TABLE, CREATE MATERIALIZED VIEW, ALTER TABLE, DROP, COMMENT, SELECT, EXPLAIN, SHOW or DESCRIBE.",
            ))
        }
    }
}

/// False for queries with a body that writes, such as `WITH … INSERT`.
fn reads_only(query: &Query) -> bool {
    fn body(expr: &SetExpr) -> bool {
        match expr {
            SetExpr::Select(select) => select.into.is_none(),
            SetExpr::Query(query) => reads_only(query),
            SetExpr::SetOperation { left, right, .. } => body(left) && body(right),
            SetExpr::Values(_) | SetExpr::Table(_) => true,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
        }
    }
    body(&query.body)
}

fn settings_are_fixed() -> Error {
    Error::refuse(
        "Settings cannot be changed per session: what a view means depends on them",
        "Limits are settings of the server.",
    )
}

#[cfg(test)]
mod tests;
