//! A CREATE of a stream without columns: they are those of the topic's newest schema, or of a sample of its messages.
//!
//! Invariant: the catalog never holds such a statement. It holds the statement with its columns written into it, so a
//! stream means the same wherever and whenever its definition is read.

use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::Spanned;

use super::create_stream::{connection_of, format_of, topic_of};
use super::pieces::Piece;
use super::statement::{OpenStream, PlacedStatement, Statement, stream_name};
use super::stream::RecordFormat;
use super::tokens::{self, TokenKind};
use crate::error::TextSpan;
use crate::{Error, Result};

/// `create` has no columns, and was parsed from `piece`.
///
/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn open_stream(create: CreateExternalTable, piece: &Piece<'_>) -> Result<PlacedStatement> {
    let subject = TextSpan::of_parser(create.name.span());
    let name = stream_name(&create.name)?;
    let topic = topic_of(&create, piece)?;
    let format = format_of(&create);
    let of_envelope = piece.option("envelope").is_some() || piece.option("json.rows").is_some();
    let is_list = columns_of(piece.text).is_some_and(|list| list[1..].trim_start() == ")");
    let has_names = matches!(format, Some(RecordFormat::Avro | RecordFormat::Json | RecordFormat::Protobuf) | None);
    if !has_names || of_envelope || is_list {
        let help = "Declare those that you need: (name TYPE, …).";
        return Err(Error::refuse("The stream has no columns", help).at(subject));
    }
    let Some(at) = end_of_name(piece.text) else {
        return Err(Error::Broken(format!("`{}` names no table", piece.text)));
    };
    let open = OpenStream {
        name,
        topic,
        format: format.unwrap_or(RecordFormat::Json),
        connection: connection_of(&create),
        or_replace: create.or_replace,
        start: piece.text[..at].to_owned(),
        end: piece.text[at..].to_owned(),
    };
    Ok(PlacedStatement { statement: Statement::CreateOpenStream(open), subject, stream: None })
}

/// The end of the table's name in a CREATE.
fn end_of_name(create: &str) -> Option<usize> {
    let solid = |token: &tokens::SqlToken<'_>| !matches!(token.kind, TokenKind::Space | TokenKind::Comment);
    let words: Vec<_> = tokens::tokens(create, 0).into_iter().filter(solid).collect();
    let table = words.iter().position(|word| word.is("TABLE"))?;
    let is_condition = |at: usize, word: &str| words.get(at).is_some_and(|found| found.is(word));
    let condition =
        is_condition(table + 1, "IF") && is_condition(table + 2, "NOT") && is_condition(table + 3, "EXISTS");
    let name = if condition { table + 4 } else { table + 1 };
    words.get(name).map(tokens::SqlToken::end)
}

/// The columns of a CREATE with their brackets: the first brackets.
pub fn columns_of(create: &str) -> Option<&str> {
    let (mut depth, mut start) = (0usize, 0);
    for token in tokens::tokens(create, 0) {
        match (token.kind, token.text) {
            (TokenKind::Symbol, "(") => {
                if depth == 0 {
                    start = token.at;
                }
                depth += 1;
            }
            (TokenKind::Symbol, ")") if depth == 1 => return Some(&create[start..token.end()]),
            (TokenKind::Symbol, ")") => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::parse;

    fn open(sql: &str) -> OpenStream {
        match parse(sql).unwrap().remove(0) {
            Statement::CreateOpenStream(open) => open,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn columns_are_written_behind_the_name() {
        let end = "STORED AS KAFKA LOCATION 't' OPTIONS ('format' 'avro')";
        for start in [
            "CREATE EXTERNAL TABLE s",
            "CREATE OR REPLACE EXTERNAL TABLE \"s\"",
            "create external table if not exists /* TABLE x */ s",
            "CREATE EXTERNAL TABLE IF NOT EXISTS -- (a comment)\n s",
        ] {
            let open = open(&format!("{start} {end}"));
            assert_eq!((open.name.as_str(), open.topic.as_str(), open.format), ("s", "t", RecordFormat::Avro));
            let sql = open.text_with("(a INT, b STRING[])");
            let Statement::CreateStream { definition, .. } = parse(&sql).unwrap().remove(0) else { panic!("{sql}") };
            assert_eq!(definition.sql, format!("{start} (a INT, b STRING[]) {end}"));
            assert_eq!(definition.columns.fields().len(), 2);
            assert_eq!(columns_of(&definition.sql).unwrap(), "(a INT, b STRING[])");
        }
    }

    #[test]
    fn formats_without_names_need_columns() {
        for options in ["'format' 'csv'", "'format' 'raw'", "'envelope' 'connect'", "'json.rows' 'lines'"] {
            let refused = parse(&format!("CREATE EXTERNAL TABLE s STORED AS KAFKA LOCATION 't' OPTIONS ({options})"));
            assert!(refused.unwrap_err().to_string().contains("has no columns"), "{options}");
        }
        assert_eq!(open("CREATE EXTERNAL TABLE s STORED AS KAFKA LOCATION 't'").format, RecordFormat::Json);
    }
}
