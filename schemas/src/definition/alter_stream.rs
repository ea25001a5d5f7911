//! `ALTER TABLE … ADD COLUMN`: a stream gets columns while its messages flow.
//!
//! Invariant: a stream is what its CREATE statement says. A column is added to the text of the statement, so the
//! catalog holds one text that defines all of the stream.

use datafusion::sql::sqlparser::ast::{AlterTable, AlterTableOperation, Spanned};
use datafusion::sql::sqlparser::keywords::Keyword;

use super::column;
use super::pieces::Piece;
use super::statement::{AddedColumn, PlacedStatement, Statement, stream_name};
use super::tokens::{self, TokenKind};
use crate::error::TextSpan;
use crate::{Error, Result};

/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn alter_stream(alter: AlterTable, piece: &Piece<'_>) -> Result<PlacedStatement> {
    let subject = TextSpan::of_parser(alter.name.span());
    let name = stream_name(&alter.name)?;
    let refuse = |what: &str| {
        let help = "ALTER TABLE stream ADD COLUMN name TYPE adds columns; for all else use CREATE OR REPLACE with the \
                    whole definition.";
        Err(Error::refuse(format!("ALTER TABLE does not {what}"), help).at(piece.clause(&[Keyword::ALTER])))
    };
    if alter.only || alter.on_cluster.is_some() || alter.location.is_some() || alter.table_type.is_some() {
        return refuse("take words before or behind what it adds");
    }
    let mut columns = Vec::new();
    for operation in alter.operations {
        let AlterTableOperation::AddColumn { if_not_exists, column_def, column_position, .. } = operation else {
            return refuse(&format!("do `{operation}`"));
        };
        if column_position.is_some() {
            return refuse("take places of columns: new ones are the last");
        }
        let text = column_def.to_string();
        let field = column::schema(vec![column_def])?.field(0).clone();
        if !field.is_nullable() {
            let message = format!("The new column `{}` is NOT NULL, and archived rows have no value", field.name());
            return Err(Error::refuse(message, "Leave out NOT NULL.").at(subject));
        }
        columns.push(AddedColumn { name: field.name().clone(), text, if_not_exists });
    }
    let statement = Statement::AddColumns { stream: name, columns, if_exists: alter.if_exists };
    Ok(PlacedStatement { statement, subject, stream: None })
}

/// The text of a CREATE statement with one more column; `None` if the text has no list of columns.
pub(crate) fn with_column(create: &str, column: &str) -> Option<String> {
    let mut depth = 0usize;
    for token in tokens::tokens(create, 0) {
        match (token.kind, token.text) {
            (TokenKind::Symbol, "(") => depth += 1,
            (TokenKind::Symbol, ")") if depth == 1 => {
                let (before, rest) = create.split_at(token.at);
                return Some(format!("{}, {column}{rest}", with_line_end(before)));
            }
            (TokenKind::Symbol, ")") => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The text up to its last word. What is behind goes, unless a comment needs the line break behind it.
fn with_line_end(text: &str) -> &str {
    let last = tokens::tokens(text, 0).into_iter().rfind(|token| token.kind != TokenKind::Space);
    match last {
        Some(token) if token.kind == TokenKind::Comment => text,
        _ => text.trim_end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::parse;

    fn columns(sql: &str) -> Vec<String> {
        match parse(sql).unwrap().remove(0) {
            Statement::CreateStream { definition, .. } => {
                definition.columns.fields().iter().map(|field| field.name().clone()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_column_is_added_to_the_text() {
        let end = "STORED AS KAFKA LOCATION 't' OPTIONS ('format' 'json')";
        for (list, expect) in [
            ("(a INT)", "(a INT, n BIGINT)"),
            ("(a DECIMAL(10, 2) NOT NULL )", "(a DECIMAL(10, 2) NOT NULL, n BIGINT)"),
            (
                "(\n  a INT,\n  \"B\" STRUCT<x INT, y INT[]>\n)",
                "(\n  a INT,\n  \"B\" STRUCT<x INT, y INT[]>, n BIGINT)",
            ),
            ("(a INT -- the last (\n)", "(a INT -- the last (\n, n BIGINT)"),
            ("(a INT /* ) */)", "(a INT /* ) */, n BIGINT)"),
        ] {
            let create = format!("CREATE EXTERNAL TABLE s {list} {end}");
            let added = with_column(&create, "n BIGINT").unwrap();
            assert_eq!(added, format!("CREATE EXTERNAL TABLE s {expect} {end}"));
            let mut names = columns(&create);
            names.push("n".to_owned());
            assert_eq!(columns(&added), names);
        }
        assert_eq!(with_column("CREATE EXTERNAL TABLE s STORED AS KAFKA", "n INT"), None);
    }
}
