//! `COMMENT ON … IS '…'` as a definition.
//!
//! Invariant: a comment says what a stream, a view or a column means to people. No answer depends on it.

use datafusion::sql::sqlparser::ast::{CommentObject, Ident, ObjectName, ObjectNamePart, Spanned};

use crate::definition::statement::{CommentedKind, PlacedStatement, Statement, normal};
use crate::error::TextSpan;
use crate::{Error, Result};

/// Errors: [`Error::RefuseDefinition`].
pub(super) fn comment(
    object: CommentObject,
    name: &ObjectName,
    text: Option<String>,
    if_exists: bool,
) -> Result<PlacedStatement> {
    let subject = TextSpan::of_parser(name.span());
    let parts: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
    // The schema of all definitions may be written in front.
    let parts: Vec<String> = parts.unwrap_or_default().into_iter().map(normal).collect();
    let bare = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["public", ..] if parts.len() > usize::from(matches!(object, CommentObject::Column)) + 1 => &parts[1..],
        _ => &parts[..],
    };
    let (kind, on, column) = match (object, bare) {
        (CommentObject::Table, [name]) => (CommentedKind::Stream, name, None),
        (CommentObject::View | CommentObject::MaterializedView, [name]) => (CommentedKind::View, name, None),
        (CommentObject::Column, [name, column]) => (CommentedKind::Either, name, Some(column.clone())),
        (CommentObject::Table | CommentObject::View | CommentObject::MaterializedView | CommentObject::Column, _) => {
            return Err(Error::refuse(
                format!("`{name}` is not the name of a stream, a view or a column"),
                "Use COMMENT ON TABLE stream, ON MATERIALIZED VIEW view, or ON COLUMN name.column.",
            )
            .at(subject));
        }
        (other, _) => {
            return Err(Error::refuse(
                format!("COMMENT ON {other} is not supported"),
                "Streams (TABLE), views (MATERIALIZED VIEW) and their columns (COLUMN) have comments.",
            )
            .at(subject));
        }
    };
    // An empty comment is none, as in PostgreSQL.
    let text = text.filter(|text| !text.is_empty());
    let statement = Statement::Comment { kind, on: on.clone(), column, text, if_exists };
    Ok(PlacedStatement { statement, subject, stream: None })
}
