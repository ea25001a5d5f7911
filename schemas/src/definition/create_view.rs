//! `CREATE MATERIALIZED VIEW … AS SELECT …` as a view definition.
//!
//! Invariant: parsing the stored text of the query gives the given query again. The query's meaning is checked later,
//! when the view is compiled.

use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParser, Statement as Parsed};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    CreateTableOptions, CreateView, ObjectName, ObjectNamePart, Query, Spanned, Statement as Sql, visit_relations,
};
use datafusion::sql::sqlparser::keywords::Keyword;

use crate::definition::pieces::Piece;
use crate::definition::statement::{PlacedStatement, Statement, normal, view_name};
use crate::definition::view::ViewDefinition;
use crate::error::TextSpan;
use crate::{Error, Result, StreamName};

/// `piece` is the statement that `create` was parsed from.
///
/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn create_view(create: CreateView, piece: &Piece<'_>) -> Result<PlacedStatement> {
    let name = view_name(&create.name)?;
    refuse_clauses(&create, piece)?;
    let query = create.query.to_string();
    if parse_query(&query).as_ref() != Some(&*create.query) {
        return Err(Error::refuse(
            "The query cannot be kept: the parser does not read back what it prints",
            "Write it in plainer SQL.",
        ));
    }
    let (stream, read_at) = the_stream(create.query)?;
    let statement = Statement::CreateView {
        definition: ViewDefinition { name, stream, query, sql: piece.text.to_owned() },
        or_replace: create.or_replace,
        if_not_exists: create.if_not_exists,
    };
    Ok(PlacedStatement { statement, subject: TextSpan::of_parser(create.name.span()), stream: read_at })
}

fn refuse_clauses(create: &CreateView, piece: &Piece<'_>) -> Result<()> {
    if !create.materialized {
        return Err(Error::refuse(
            "A plain view is only a name for a query; it keeps no state",
            "Use CREATE MATERIALIZED VIEW.",
        )
        .at(piece.clause(&[Keyword::VIEW])));
    }
    if create.or_replace && create.if_not_exists {
        let refusal = Error::refuse("OR REPLACE and IF NOT EXISTS contradict each other", "Use one of them.");
        return Err(refusal.at(piece.clause(&[Keyword::OR, Keyword::REPLACE])));
    }
    if let Some(column) = create.columns.first() {
        return Err(Error::refuse(
            "A list of column names after the view's name is not supported",
            "Name the columns in the query: SELECT … AS name.",
        )
        .at(TextSpan::of_parser(column.name.span)));
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
            "The view has clauses that are not supported",
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

/// The one stream that the query reads, and the place of its name.
fn the_stream(query: Box<Query>) -> Result<(StreamName, Option<TextSpan>)> {
    let relations = relations(&query);
    let place_of = |table: &str| {
        let found = relations.iter().find(|(name, _)| name == table);
        found.and_then(|(_, span)| *span)
    };
    let statement = Parsed::Statement(Box::new(Sql::Query(query)));
    let (tables, _) = resolve_table_references(&statement, true).map_err(|e| {
        Error::refuse(
            format!("What the query reads cannot be found out: {}", e.strip_backtrace()),
            "Write FROM with the stream's name.",
        )
    })?;
    match tables.as_slice() {
        [TableReference::Bare { table }] => {
            let span = place_of(table);
            let name = StreamName::new(table).map_err(|e| Error::from(e).at(span))?;
            Ok((name, span))
        }
        [other] => Err(Error::refuse(
            format!("The query reads `{other}`, and a view is kept from a stream alone"),
            "Write FROM with the stream's plain name.",
        )
        .at(place_of(&other.to_string()))),
        [] => Err(Error::refuse(
            "The query reads no stream, so there is nothing to keep",
            "Write FROM with the stream's name.",
        )),
        [.., last] => {
            let names: Vec<String> = tables.iter().map(|t| format!("`{t}`")).collect();
            Err(Error::refuse(
                format!("The query reads {}; joins of streams are not kept", names.join(" and ")),
                "Define a view for each stream, and join the views when you query.",
            )
            .at(place_of(&last.to_string())))
        }
    }
}

/// Every relation that the query names, with its place.
fn relations(query: &Query) -> Vec<(String, Option<TextSpan>)> {
    let mut found = Vec::new();
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => normal(ident),
        other => other.to_string(),
    };
    let _ = visit_relations(query, |name: &ObjectName| {
        let parts: Vec<String> = name.0.iter().map(part).collect();
        found.push((parts.join("."), TextSpan::of_parser(name.span())));
        ControlFlow::<()>::Continue(())
    });
    found
}
