//! Where statements end: tokens of SQL, and a text as statements and backslash commands.
//!
//! Invariant: the tokens of a text are the text, byte for byte; a semicolon inside quotes or a comment ends nothing.
//! What quotes and comments are is as DataFusion's own dialect has it.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    /// A keyword, a name or a number.
    Word,
    /// `"name"` or `` `name` ``.
    Name,
    /// `'text'`, `E'text'` or `$$text$$`.
    Text,
    Comment,
    /// One character of anything else.
    Symbol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Where it starts, in bytes.
    pub(super) at: usize,
    /// Quotes or a comment without their end.
    pub(super) open: bool,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    pub(super) fn is(&self, word: &str) -> bool {
        self.kind != Kind::Text && self.text.eq_ignore_ascii_case(word)
    }
}

/// A statement without its semicolon, or a command; and where it starts in the whole text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScriptPiece<'a> {
    pub(super) text: &'a str,
    pub(super) is_command: bool,
    /// False if the text ended before its semicolon.
    pub(super) ended: bool,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The token that starts at `at`; none at the end.
pub(super) fn token(text: &str, at: usize) -> Option<Token<'_>> {
    let rest = &text[at..];
    let first = rest.chars().next()?;
    let (kind, length, open) = match first {
        c if c.is_whitespace() => (Kind::Space, run(rest, char::is_whitespace), false),
        '\'' => quoted(rest, 1, '\'', false, Kind::Text),
        'e' | 'E' if rest[1..].starts_with('\'') => quoted(rest, 2, '\'', true, Kind::Text),
        '"' | '`' => quoted(rest, 1, first, false, Kind::Name),
        '-' if rest.starts_with("--") => (Kind::Comment, run(rest, |c| c != '\n'), false),
        '/' if rest.starts_with("/*") => block_comment(rest),
        '$' => dollars(rest).unwrap_or((Kind::Symbol, 1, false)),
        c if is_word(c) => (Kind::Word, run(rest, is_word), false),
        c => (Kind::Symbol, c.len_utf8(), false),
    };
    let text = &rest[..length];
    Some(Token { kind, text, at, open })
}

/// All tokens from `at` on.
pub(super) fn tokens(text: &str, at: usize) -> impl Iterator<Item = Token<'_>> {
    std::iter::successors(token(text, at), |last| token(text, last.end()))
}

/// Statements and commands, in order. Comments between them belong to none.
pub(super) fn split(text: &str) -> Vec<ScriptPiece<'_>> {
    let mut pieces = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(token) = token(text, at) {
        at = token.end();
        match (start, token.kind) {
            (None, Kind::Space) => {}
            // An open comment is not yet between statements.
            (None, Kind::Comment) if !token.open => {}
            // No SQL has a backslash outside of quotes: it ends a statement as a semicolon does.
            (begun, Kind::Symbol) if token.text == "\\" => {
                if let Some(begun) = begun {
                    pieces.push(piece(text, begun, token.at, false, true));
                }
                start = None;
                let end = token.at + run(&text[token.at..], |c| c != '\n');
                pieces.push(piece(text, token.at, end, true, true));
                at = end;
            }
            (begun, Kind::Symbol) if token.text == ";" => {
                if let Some(begun) = begun {
                    pieces.push(piece(text, begun, token.at, false, true));
                }
                start = None;
            }
            (None, _) => start = Some(token.at),
            (Some(_), _) => {}
        }
    }
    if let Some(begun) = start {
        pieces.push(piece(text, begun, text.len(), false, false));
    }
    pieces
}

fn piece(text: &str, start: usize, end: usize, is_command: bool, ended: bool) -> ScriptPiece<'_> {
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ScriptPiece {
        text: text[start..end].trim_end(),
        is_command,
        ended,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the longest prefix whose characters are all `wanted`.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

/// Quoted text whose quote ends at `from`. A doubled quote stands for itself, and a backslash if it `escapes`.
fn quoted(text: &str, from: usize, quote: char, escapes: bool, kind: Kind) -> (Kind, usize, bool) {
    let mut inside = text[from..].char_indices().peekable();
    while let Some((i, c)) = inside.next() {
        if c == '\\' && escapes {
            inside.next();
        } else if c == quote {
            match inside.peek() {
                Some((_, next)) if *next == quote => {
                    inside.next();
                }
                _ => return (kind, from + i + 1, false),
            }
        }
    }
    (kind, text.len(), true)
}

/// Block comments nest.
fn block_comment(text: &str) -> (Kind, usize, bool) {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (Kind::Comment, at, false);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    (Kind::Comment, text.len(), true)
}

/// `$$text$$` or `$tag$text$tag$`; none if this dollar opens nothing.
fn dollars(text: &str) -> Option<(Kind, usize, bool)> {
    let tag = run(&text[1..], is_word);
    let fence = text.get(..tag + 2).filter(|fence| fence.ends_with('$'))?;
    Some(match text[fence.len()..].find(fence) {
        Some(inside) => (Kind::Text, inside + 2 * fence.len(), false),
        None => (Kind::Text, text.len(), true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements as they are, commands in angle brackets, an unended statement with an ellipsis.
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
        let again: String = tokens(text, 0).map(|token| token.text).collect();
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
