//! One text, many statements: each with its own text and with places that count from the start of the whole.
//!
//! Invariant: the parser sees only tokens with their places in the whole text, so no error is ever off by a statement.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Diagnostic, Place, Span};
use crate::{Error, Result};

/// How deep brackets may nest, and how many type brackets there may be: the parser's own limit leaves types out.
const DEEPEST_NESTING: usize = 128;

/// The text and the tokens of one statement.
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    whole: &'a str,
    tokens: Vec<TokenWithSpan>,
    start: Location,
    end: Location,
}

/// Cuts `sql` at its semicolons; empty statements vanish.
pub(crate) fn split(sql: &str) -> Result<Vec<Piece<'_>>> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| syntax(e.message, starting_at(e.location)))?;
    let mut pieces = Vec::new();
    for run in tokens.split(|t| t.token == Token::SemiColon) {
        let mut words = run.iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
        let Some(first) = words.next() else { continue };
        let last = words.next_back().unwrap_or(first);
        let (start, end) = (first.span.start, last.span.end);
        pieces.push(Piece {
            text: &sql[byte(sql, start)..byte(sql, end)],
            whole: sql,
            tokens: run.to_vec(),
            start,
            end,
        });
    }
    Ok(pieces)
}

impl Piece<'_> {
    /// Errors: [`Error::ParseSql`].
    pub(crate) fn parse(&self) -> Result<Statement> {
        if nests_too_deep(&self.tokens) {
            return Err(syntax(format!("brackets nest deeper than {DEEPEST_NESTING}"), self.first_word()));
        }
        let mut statements = DFParserBuilder::new(self.tokens.clone())
            .build()
            .and_then(|mut parser| parser.parse_statements())
            .map_err(|e| self.explain(&e))?;
        match (statements.pop_front(), statements.pop_front()) {
            (Some(statement), None) => Ok(statement),
            _ => Err(syntax("expected one statement here".into(), self.first_word())),
        }
    }

    /// From its first word to its last.
    pub(crate) fn span(&self) -> Span {
        Span { start: self.start.into(), end: self.end.into() }
    }

    fn first_word(&self) -> Option<Span> {
        self.word_at(self.start.into())
    }

    fn word_at(&self, place: Place) -> Option<Span> {
        self.tokens.iter().find(|t| Place::from(t.span.start) == place).and_then(|t| Span::of_parser(t.span))
    }

    /// Its tokens without spaces and comments; there is at least one.
    pub(crate) fn words(&self) -> Vec<&TokenWithSpan> {
        let meaningful = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_) | Token::EOF);
        self.tokens.iter().filter(meaningful).collect()
    }

    /// The query of a view, after the first `AS` outside of brackets, moved by line ends and spaces to where it stands in the
    /// whole text: places in it are places in the whole.
    pub(crate) fn query_in_place(&self) -> Option<(String, Location)> {
        let words = self.words();
        let (mut depth, mut of_view) = (0usize, false);
        let at = words.iter().position(|t| {
            match &t.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word) if word.keyword == Keyword::VIEW => of_view = true,
                Token::Word(word) => return of_view && depth == 0 && word.keyword == Keyword::AS,
                _ => {}
            }
            false
        })?;
        let start = words.get(at + 1)?.span.start;
        let lines = "\n".repeat(usize::try_from(start.line).ok()?.saturating_sub(1));
        let spaces = " ".repeat(usize::try_from(start.column).ok()?.saturating_sub(1));
        let query = &self.whole[byte(self.whole, start)..byte(self.whole, self.end)];
        Some((format!("{lines}{spaces}{query}"), start))
    }

    /// The parser's sentence with its place taken out of it; errors at the end of the text have none of their own.
    fn explain(&self, error: &DataFusionError) -> Error {
        let text = match error.find_root() {
            DataFusionError::SQL(parser, _) => parser.to_string(),
            other => other.strip_backtrace(),
        };
        let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
        let (message, found) = match text.rsplit_once(" at Line: ") {
            Some((message, at)) => (message, read_location(at)),
            None => (text, None),
        };
        let span = match found {
            Some(place) => self.word_at(place).or(Some(Span::starting_at(place))),
            None if message.ends_with("found: EOF") => starting_at(self.end),
            None => self.first_word(),
        };
        syntax(message.replace("found: EOF", "found: the end of the statement"), span)
    }
}

/// `3, Column: 14`
fn read_location(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })
}

fn syntax(message: String, span: Option<Span>) -> Error {
    Error::ParseSql(Diagnostic::new(message).at(span))
}

fn starting_at(at: Location) -> Option<Span> {
    (at.line > 0).then(|| Span::starting_at(at.into()))
}

/// Where a location, which counts lines and characters from 1, lies in the text.
fn byte(sql: &str, at: Location) -> usize {
    let line_start: usize = sql.split_inclusive('\n').take(at.line.saturating_sub(1) as usize).map(str::len).sum();
    let before = at.column.saturating_sub(1) as usize;
    sql[line_start..].char_indices().nth(before).map_or(sql.len(), |(byte, _)| line_start + byte)
}

/// True if brackets nest so deep that a parser working by recursion could run out of stack.
fn nests_too_deep(tokens: &[TokenWithSpan]) -> bool {
    let (mut depth, mut of_types) = (0usize, 0usize);
    let mut before: Option<&Token> = None;
    for token in tokens.iter().map(|t| &t.token) {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBrace => depth = depth.saturating_sub(1),
            Token::RBracket => {
                depth = depth.saturating_sub(1);
                of_types += usize::from(before == Some(&Token::LBracket));
            }
            Token::Lt => {
                let word = before.map(ToString::to_string).unwrap_or_default();
                let opens = ["array", "struct", "map"].iter().any(|name| word.eq_ignore_ascii_case(name));
                of_types += usize::from(opens);
            }
            _ => {}
        }
        if depth.max(of_types) > DEEPEST_NESTING {
            return true;
        }
        before = Some(token);
    }
    false
}
