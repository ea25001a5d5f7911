//! Splits a text of the shell or of a script into statements and backslash commands.
//!
//! Statements are split by the same code as requests. Commands exist only in the shell: the tokenizer knows the
//! backslash but not the rest of its line, which is not SQL (`\\i it's.sql`), so tokenizing restarts after each
//! command. Invariant: a semicolon inside quotes or a comment ends no statement.

use thalweg_schemas::definition::pieces;
use thalweg_schemas::definition::tokens::{TokenKind, tokens};

/// A statement without its semicolon, or a command; line and column of its start in the whole text count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScriptPiece<'a> {
    pub(super) text: &'a str,
    pub(super) is_command: bool,
    /// False if the text ended before the statement's semicolon.
    pub(super) ended: bool,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Returns statements and commands, in order, without the comments between them.
pub(super) fn split(text: &str) -> Vec<ScriptPiece<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let tokens = tokens(text, from);
        // A backslash outside of quotes is not SQL, so it ends a statement like a semicolon.
        let command = tokens.iter().position(|token| token.is("\\"));
        let statements = pieces::cut(text, &tokens[..command.unwrap_or(tokens.len())]);
        found.extend(statements.iter().map(|s| piece(text, s.at, s.text, false, s.ended || command.is_some())));
        let Some(start) = command.map(|at| tokens[at].at) else { return found };
        from = line_end(text, start);
        found.push(piece(text, start, &text[start..from], true, true));
    }
}

fn piece<'a>(whole: &str, at: usize, text: &'a str, is_command: bool, ended: bool) -> ScriptPiece<'a> {
    let before = &whole[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ScriptPiece {
        text: text.trim_end(),
        is_command,
        ended,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// Returns the end of the line that contains byte `at`, which is the end of a command that begins there.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length)
}

/// Returns the first keyword of a statement.
pub(super) fn first_word(sql: &str) -> Option<&str> {
    tokens(sql, 0).iter().find(|token| token.kind == TokenKind::Word).map(|token| token.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: statements unchanged, commands in angle brackets, an unended statement with an ellipsis.
    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let found: Vec<String> = split(text)
            .iter()
            .map(|piece| match (piece.is_command, piece.ended) {
                (true, _) => format!("<{}>", piece.text),
                (false, true) => piece.text.to_owned(),
                (false, false) => format!("{}…", piece.text),
            })
            .collect();
        assert_eq!(found, expect, "{text:?}");
        let again: String = tokens(text, 0).iter().map(|token| token.text).collect();
        assert_eq!(again, text);
    }

    #[test]
    fn statements_end_at_semicolons() {
        check("", &[]);
        check(" \n ; ;; ", &[]);
        check("a", &["a…"]);
        check("a;", &["a"]);
        check("a ; b", &["a", "b…"]);
        check("a\n b;c;", &["a\n b", "c"]);
        check("ü;é", &["ü", "é…"]);
    }

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        check("a ';' b;", &["a ';' b"]);
        check("a ''';' b;", &["a ''';' b"]);
        check("a \"x;\"\"\" b;", &["a \"x;\"\"\" b"]);
        check("a `;` b;", &["a `;` b"]);
        check("a '\\';", &["a '\\'"]);
        check("a E'\\';' b;", &["a E'\\';' b"]);
        check("a $$;'$$ b;", &["a $$;'$$ b"]);
        check("a $x$;$$;$x$ b;", &["a $x$;$$;$x$ b"]);
        check("a $1; b", &["a $1", "b…"]);
        check("a -- it's;\n b;", &["a -- it's;\n b"]);
        check("a /* ; /* ; */ ; */ b;", &["a /* ; /* ; */ ; */ b"]);
        check("a - b / c;", &["a - b / c"]);
    }

    #[test]
    fn what_is_open_has_not_ended() {
        check("a ';", &["a ';…"]);
        check("a \";", &["a \";…"]);
        check("a /* ;", &["a /* ;…"]);
        check("a $$;$", &["a $$;$…"]);
        check("/* ;", &["/* ;…"]);
        check("/* x */ ", &[]);
        check("-- x;", &[]);
        check("-- x\n a;", &["a"]);
    }

    #[test]
    fn commands_are_lines() {
        check("\\dt", &["<\\dt>"]);
        check("\\i it's;\na;", &["<\\i it's;>", "a"]);
        check(" a; \\watch 2\nb", &["a", "<\\watch 2>", "b…"]);
        check("a \\x", &["a", "<\\x>"]);
        check("a '\\x';", &["a '\\x'"]);
        check("-- x\n\\x", &["<\\x>"]);
    }

    #[test]
    fn pieces_know_their_place() {
        let places = |text| -> Vec<(usize, usize)> { split(text).iter().map(|p| (p.line, p.column)).collect() };
        assert_eq!(places("a; b;\n\n  c;\n-- d\n\\x"), [(1, 1), (1, 4), (3, 3), (5, 1)]);
        assert_eq!(places("'ü'; b"), [(1, 1), (1, 6)]);
    }
}
