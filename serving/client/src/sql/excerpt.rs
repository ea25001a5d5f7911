//! Errors for display: the message, the line of SQL with a caret under the position that the server names, and advice
//! about flags and files, which the server does not know.
//!
//! Invariant: the first line contains the whole reason; a position outside the text adds nothing.

use thalweg_schemas::api::error::ErrorCode;

use super::split;
use crate::http::Refused;
use crate::terminal;

/// The number of characters shown around the position.
const WINDOW: usize = 100;

/// The position of a statement in a script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) name: &'a str,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Returns `error: …`, with the excerpt of `sql` at the position.
pub(super) fn explain(error: &anyhow::Error, sql: &str, origin: Option<Origin<'_>>) -> String {
    let refused = error.downcast_ref::<Refused>();
    let place = refused.and_then(|refused| refused.place);
    let sentence = match (refused, origin) {
        // The line and column in the script replace those in the statement.
        (Some(refused), Some(_)) => refused.message.split_whitespace().collect::<Vec<_>>().join(" "),
        _ => terminal::sentence(error.chain()),
    };
    let mut text = match origin {
        Some(origin) => format!("error: {}: {sentence}", located(origin, place)),
        None => format!("error: {sentence}"),
    };
    if let Some(lines) = place.and_then(|(line, column)| excerpt(sql, line, column)) {
        text.push('\n');
        text.push_str(&lines);
    }
    if let Some(help) = refused.and_then(|refused| help(refused.code, sql)) {
        text.push_str("\nhelp: ");
        text.push_str(help);
    }
    text
}

/// Returns advice of the command line for a server that refuses `sql` with `code`.
fn help(code: ErrorCode, sql: &str) -> Option<&'static str> {
    match (code, split::first_word(sql)?.to_lowercase().as_str()) {
        (ErrorCode::NotReady, _) => {
            Some("with `thalweg sql --stale`, an answer may lie below earlier ones while a stream has not caught up")
        }
        (ErrorCode::Refused, "copy") => {
            Some("`thalweg sql --format csv` prints CSV, and so does `\\format csv` in the shell")
        }
        (ErrorCode::Refused, "set" | "reset") => Some("limits are set in the thalweg.toml of the server"),
        _ => None,
    }
}

/// Returns `FILE:LINE:COLUMN` of the position, or of the statement's start.
fn located(origin: Origin<'_>, place: Option<(usize, usize)>) -> String {
    let (line, column) = match place {
        Some((1, column)) => (origin.line, origin.column + column - 1),
        Some((line, column)) => (origin.line + line - 1, column),
        None => return format!("{}:{}", origin.name, origin.line),
    };
    format!("{}:{line}:{column}", origin.name)
}

/// Returns the line and a caret under its column; line and column count from 1.
fn excerpt(sql: &str, line: usize, column: usize) -> Option<String> {
    let line: Vec<char> = sql.lines().nth(line.checked_sub(1)?)?.chars().collect();
    let at = column.checked_sub(1)?;
    if at > line.len() {
        return None;
    }
    let from = at.saturating_sub(WINDOW / 2);
    let to = line.len().min(from + WINDOW);
    let before = if from > 0 { "…" } else { "" };
    let after = if to < line.len() { "…" } else { "" };
    // Replace a control character by one space: a tab would have different widths in the two lines.
    let shown: String = line[from..to].iter().map(|c| if c.is_control() { ' ' } else { *c }).collect();
    let gap = " ".repeat(before.chars().count() + at - from);
    Some(format!("  {before}{shown}{after}\n  {gap}^"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(place: Option<(usize, usize)>, sql: &str, origin: Option<(usize, usize)>, expect: &str) {
        let error = Refused { code: ErrorCode::InvalidQuery, message: "no\n column x".to_owned(), place };
        let name = "a.sql";
        let origin = origin.map(|(line, column)| Origin { name, line, column });
        assert_eq!(explain(&error.into(), sql, origin), expect);
    }

    #[test]
    fn the_place_is_shown() {
        check(None, "SELECT x", None, "error: no column x");
        check(Some((1, 8)), "SELECT x", None, "error: no column x (line 1, column 8)\n  SELECT x\n         ^");
        check(Some((2, 2)), "SELECT\n\tx", None, "error: no column x (line 2, column 2)\n   x\n   ^");
        check(Some((1, 2)), "ü", None, "error: no column x (line 1, column 2)\n  ü\n   ^");
    }

    #[test]
    fn a_script_is_named() {
        check(None, "x", Some((3, 5)), "error: a.sql:3: no column x");
        check(Some((1, 1)), "x", Some((3, 5)), "error: a.sql:3:5: no column x\n  x\n  ^");
        check(Some((2, 1)), "a\nx", Some((3, 5)), "error: a.sql:4:1: no column x\n  x\n  ^");
    }

    #[test]
    fn flags_and_files_are_named_where_they_help() {
        for (code, sql, word) in [
            (ErrorCode::NotReady, "SELECT 1", Some("--stale")),
            (ErrorCode::Refused, "/* all */ COPY v TO 'x'", Some("--format csv")),
            (ErrorCode::Refused, "SET x = 1", Some("thalweg.toml")),
            (ErrorCode::Refused, "DROP TABLE x CASCADE", None),
            (ErrorCode::Syntax, "COPY", None),
        ] {
            let found = help(code, sql);
            assert_eq!(found.is_some(), word.is_some(), "{code:?} {sql}");
            assert!(found.unwrap_or_default().contains(word.unwrap_or_default()), "{code:?} {sql}");
        }
        let error = Refused { code: ErrorCode::NotReady, message: "not yet".to_owned(), place: None };
        let shown = explain(&error.into(), "SELECT 1", None);
        assert!(shown.starts_with("error: not yet\nhelp: with"), "{shown}");
    }

    #[test]
    fn places_outside_add_nothing() {
        for place in [(2, 1), (1, 9), (0, 1), (1, 0)] {
            assert_eq!(excerpt("SELECT", place.0, place.1), None, "{place:?}");
        }
        assert_eq!(excerpt("", 1, 1), None);
    }

    #[test]
    fn long_lines_are_cut_around_it() {
        let sql = format!("{}x{}", "a".repeat(200), "b".repeat(200));
        let shown = excerpt(&sql, 1, 201).unwrap();
        let expect = format!("  …{}x{}…\n  {}^", "a".repeat(50), "b".repeat(49), " ".repeat(51));
        assert_eq!(shown, expect);
    }
}
