//! One expression of SQL, read by itself, for requests that are put together from parts.
//!
//! Invariant: the text is one expression without a query in it, or an error; nothing behind it is read.

use std::ops::ControlFlow;

use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::ast::{Expr, Query, Value, Visit, Visitor};

use crate::definition::depth;
use crate::definition::tokens;
use crate::error::{Diagnostic, TextSpan};
use crate::{Error, Result};

/// Reads `text`, a condition on the columns of one table.
///
/// Errors: [`Error::ParseSql`] for anything but one expression, for a subquery in it, and for a placeholder.
pub fn condition(text: &str) -> Result<Expr> {
    let (tokens, unread) = tokens::read(text, 0);
    if let Some(error) = unread {
        return Err(syntax(error.message, None));
    }
    let parsed = tokens.iter().map(|t| (&t.parsed.token, TextSpan::of_parser(t.parsed.span)));
    depth::check(parsed).map_err(|deep| syntax(deep.reason, deep.span))?;
    let read = DFParserBuilder::new(tokens.iter().map(|t| t.parsed.clone()).collect::<Vec<_>>())
        .build()
        .and_then(|mut parser| parser.parse_into_expr())
        .map_err(|error| syntax(Diagnostic::sentence(&error), None))?;
    if let Some(alias) = read.alias {
        return Err(syntax(format!("expected one condition, found `AS {alias}`"), TextSpan::of_parser(alias.span)));
    }
    match read.expr.visit(&mut Refusing) {
        ControlFlow::Continue(()) => Ok(read.expr),
        ControlFlow::Break(reason) => Err(syntax(reason.to_owned(), None)),
    }
}

struct Refusing;

impl Visitor for Refusing {
    type Break = &'static str;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<&'static str> {
        ControlFlow::Break("a condition has no query in it; ask in SQL for that")
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<&'static str> {
        match expr {
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                ControlFlow::Break("a condition has no placeholders; write the values into it")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn syntax(message: String, span: Option<TextSpan>) -> Error {
    Error::ParseSql(Diagnostic::new(message).at(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_condition_is_read_and_nothing_else() {
        let check = |text: &str, expect: bool| {
            let read = condition(text);
            assert_eq!(read.is_ok(), expect, "{text}: {read:?}");
        };
        for text in [
            "a = 1",
            "device = 'd1' AND (peak > 5 OR peak IS NULL)",
            "a IN (1, 2) AND b BETWEEN 1 AND 2 AND c LIKE '%x;--%'",
            "upper(device) = 'D1' -- a comment",
            "true",
            "\"Odd name\" = ''''",
            "ts > TIMESTAMP '2026-01-01 00:00:00' - INTERVAL '1 day'",
        ] {
            check(text, true);
        }
        for text in [
            "",
            "   ",
            "a = 1; DROP TABLE s",
            "a = 1;",
            "a = 1 ORDER BY a",
            "a = 1 LIMIT 1",
            "a = 1 UNION SELECT 1",
            "a = 1 AS b",
            "a = 1, b = 2",
            "a = 1) OR (b = 2",
            "a IN (SELECT x FROM t)",
            "EXISTS (SELECT 1)",
            "a = (SELECT 1)",
            "a = ANY (SELECT 1)",
            "f(SELECT 1)",
            "a = $1",
            "a = ?",
            "a = 'open",
            "a = 1 /* open",
            "SELECT 1",
            "DROP TABLE s",
            &"(".repeat(100_000),
            &"NOT ".repeat(100_000),
            &"a + ".repeat(100_000),
        ] {
            check(text, false);
        }
    }
}
