//! The tokens of SQL text, complete or still being typed.
//!
//! The parser's own tokenizer finds the tokens, in DataFusion's dialect, so requests, files and the shell agree on
//! quotes and comments. A quote that is not closed makes the rest of the text one open token.
//! Invariant: the concatenated tokens are the text, byte for byte.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{
    Location, Span as ParserSpan, Token, TokenWithSpan, Tokenizer, TokenizerError, Whitespace,
};

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Space,
    /// A keyword, a name or a number.
    Word,
    /// `"name"` or `` `name` ``.
    QuotedName,
    /// `'text'`, `E'text'` or `$$text$$`.
    Literal,
    Comment,
    /// All other tokens: brackets, operators, punctuation.
    Symbol,
}

#[derive(Debug, Clone)]
pub struct SqlToken<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// The start in the text, in bytes.
    pub at: usize,
    /// True for quotes or a comment that are not closed.
    pub open: bool,
    pub(super) parsed: TokenWithSpan,
}

impl SqlToken<'_> {
    pub fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// Whether the token is this keyword, name or symbol.
    pub fn is(&self, word: &str) -> bool {
        self.kind != TokenKind::Literal && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether the token belongs to a statement. An open comment does, because it may hide a part of the statement.
    pub(super) fn is_solid(&self) -> bool {
        self.open || !matches!(self.parsed.token, Token::Whitespace(_))
    }
}

/// All tokens of `text` from byte `at` onward.
pub fn tokens(text: &str, mut at: usize) -> Vec<SqlToken<'_>> {
    let mut found = Vec::new();
    loop {
        let (read, error) = read(text, at);
        found.extend(read);
        match found.last_mut() {
            Some(rest) if error.is_some() && opening(rest.text).is_none() => {
                // A character that starts no token becomes one token, and reading continues behind it.
                let length = rest.text.chars().next().map_or(1, char::len_utf8);
                *rest = SqlToken { text: &rest.text[..length], open: false, ..rest.clone() };
                at = rest.end();
            }
            _ => return found,
        }
    }
}

/// The tokens of `text` from byte `at` onward. After an error the last token is open, and is the text that the
/// tokenizer did not understand.
pub(super) fn read(text: &str, at: usize) -> (Vec<SqlToken<'_>>, Option<TokenizerError>) {
    let mut parsed = Vec::new();
    let error = Tokenizer::new(&GenericDialect {}, &text[at..]).tokenize_with_location_into_buf(&mut parsed).err();
    let mut cursor = Cursor { text, at, line: 1, column: 1 };
    let mut found = Vec::with_capacity(parsed.len() + 1);
    let mut rest = parsed.into_iter().peekable();
    while let Some(token) = rest.next() {
        let start = cursor.at;
        // A token ends at the start of the next token. The token's own text is not used, because the tokenizer
        // splits some comments and drops their delimiters.
        match rest.peek() {
            Some(next) => cursor.go_to(next.span.start),
            None if error.is_some() => cursor.go_to(token.span.end),
            None => cursor.at = text.len(),
        }
        push(&mut found, text, start, cursor.at, token);
    }
    if error.is_some() {
        let open = &text[cursor.at..];
        let kind = opening(open).unwrap_or(TokenKind::Symbol);
        let place = cursor.location();
        let parsed = TokenWithSpan::new(Token::EOF, ParserSpan::new(place, place));
        found.push(SqlToken { kind, text: open, at: cursor.at, open: true, parsed });
    }
    (found, error)
}

fn push<'a>(found: &mut Vec<SqlToken<'a>>, text: &'a str, start: usize, end: usize, parsed: TokenWithSpan) {
    let mut part = |kind, start: usize, end: usize, parsed| {
        found.push(SqlToken { kind, text: &text[start..end], at: start, open: false, parsed });
    };
    let kind = kind(&parsed.token, &text[start..end]);
    // The line break behind a comment is a token of its own.
    if kind == TokenKind::Comment && text[start..end].ends_with('\n') {
        let line_end = TokenWithSpan::new(Token::Whitespace(Whitespace::Newline), parsed.span);
        part(kind, start, end - 1, parsed);
        part(TokenKind::Space, end - 1, end, line_end);
    } else {
        part(kind, start, end, parsed);
    }
}

fn kind(token: &Token, text: &str) -> TokenKind {
    match token {
        Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => TokenKind::Comment,
        _ if text.starts_with("/*") => TokenKind::Comment,
        Token::Whitespace(_) => TokenKind::Space,
        Token::Word(word) if word.quote_style.is_some() => TokenKind::QuotedName,
        Token::Word(_) | Token::Number(..) => TokenKind::Word,
        // The parser has a dozen kinds of literals, so the text decides.
        _ if text.ends_with(['\'', '"']) || text.len() > 1 && text.ends_with('$') => TokenKind::Literal,
        _ => TokenKind::Symbol,
    }
}

/// The kind of token that `text` opens and does not close; `None` if `text` has another error.
fn opening(text: &str) -> Option<TokenKind> {
    let prefix = |c: char| c.is_ascii_alphabetic() || c == '&';
    let bare = text.trim_start_matches(prefix);
    match bare.chars().next()? {
        '"' | '`' if bare.len() == text.len() => Some(TokenKind::QuotedName),
        '\'' | '"' | '$' => Some(TokenKind::Literal),
        '/' if bare.starts_with("/*") => Some(TokenKind::Comment),
        _ => None,
    }
}

/// A place in a text, in bytes and in the parser's lines and columns.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: u64,
    column: u64,
}

impl Cursor<'_> {
    fn location(&self) -> Location {
        Location { line: self.line, column: self.column }
    }

    fn go_to(&mut self, place: Location) {
        for c in self.text[self.at..].chars() {
            if (self.line, self.column) >= (place.line, place.column) {
                break;
            }
            self.at += c.len_utf8();
            (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first letter of each token's kind, with `!` for an open one; spaces are left out.
    #[track_caller]
    fn check(text: &str, expect: &str) {
        let found = tokens(text, 0);
        let shown: Vec<String> = found
            .iter()
            .filter(|token| token.kind != TokenKind::Space)
            .map(|token| format!("{:.1}{}", format!("{:?}", token.kind), if token.open { "!" } else { "" }))
            .collect();
        assert_eq!(shown.concat(), expect, "{text:?}");
        assert_eq!(found.iter().map(|token| token.text).collect::<String>(), text);
        let mut at = 0;
        for token in &found {
            assert_eq!(token.at, at, "{text:?}");
            at = token.end();
        }
    }

    #[test]
    fn kinds_are_those_of_the_dialect() {
        check("", "");
        check("a_1 <= 1.5e3", "WSW");
        check("\"ä b\".`c`", "QSQ");
        check("'it''s' E'\\'' N'x' X'0f' $$;$$ $t$;$t$ $1", "LLLLLLS");
        check("a -- b\n-- c\r\nd", "WCCW");
        check("a /* b /* c */ d */ e", "WCW");
        check("/*! a */ b", "WW");
        check("a\r\n\tü", "WW");
    }

    #[test]
    fn open_tokens_reach_the_end() {
        check("a ';", "WL!");
        check("a E'\\';", "WL!");
        check("a \";\n", "WQ!");
        check("a /* ; /* */", "WC!");
        check("a $t$ ; $$", "WL!");
    }

    #[test]
    fn invalid_characters_hide_no_tokens() {
        check("1 ._x; b", "WSWSW");
        check("._", "SW");
    }

    #[test]
    fn tokens_may_begin_later() {
        let found: Vec<(usize, &str)> = tokens("ä 'b", 2).iter().map(|token| (token.at, token.text)).collect();
        assert_eq!(found, [(2, " "), (3, "'b")]);
    }
}
