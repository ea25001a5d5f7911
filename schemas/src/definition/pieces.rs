//! Splits a text into its statements: each has its own text, and places that count from the start of the whole text.
//!
//! The texts of requests, files and the shell are split here. A text is split once, and all later steps read the same
//! tokens. Invariant: the parser sees only tokens with places in the whole text, so errors have places in the whole
//! text.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::definition::depth;
use crate::definition::tokens::{self, SqlToken};
use crate::error::{Diagnostic, Place, TextSpan};
use crate::{Error, Result};

/// One statement of a text.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The text from the first word to the last word.
    pub text: &'a str,
    /// The start in the whole text, in bytes.
    pub at: usize,
    /// The end in the whole text, in bytes, behind the semicolon if there is one.
    pub end: usize,
    /// Whether the statement ends with a semicolon.
    pub ended: bool,
    whole: &'a str,
    /// The tokens from the first word to the last word; at least one.
    tokens: Vec<SqlToken<'a>>,
}

/// The statements of `sql` without the empty ones.
///
/// Errors: [`Error::ParseSql`] if quotes or a comment are not closed.
pub fn split(sql: &str) -> Result<Vec<Piece<'_>>> {
    match tokens::read(sql, 0) {
        (tokens, None) => Ok(cut(sql, &tokens)),
        (_, Some(e)) => Err(syntax(e.message, starting_at(e.location))),
    }
}

/// Splits `tokens` of the text `whole` at the semicolons. Empty statements are left out.
pub fn cut<'a>(whole: &'a str, tokens: &[SqlToken<'a>]) -> Vec<Piece<'a>> {
    let is_end = |t: &SqlToken<'_>| t.parsed.token == Token::SemiColon;
    let mut pieces = Vec::new();
    for run in tokens.split_inclusive(is_end) {
        let ended = run.last().is_some_and(is_end);
        let part = |t: &SqlToken<'_>| t.is_solid() && !is_end(t);
        let (Some(first), Some(last)) = (run.iter().position(part), run.iter().rposition(part)) else { continue };
        let tokens = run[first..=last].to_vec();
        let (start, end) = (run[first].at, run[last].end());
        let behind = run.last().map_or(end, SqlToken::end);
        pieces.push(Piece { text: &whole[start..end], at: start, end: behind, ended, whole, tokens });
    }
    pieces
}

impl Piece<'_> {
    /// Parses the statement.
    ///
    /// Errors: [`Error::ParseSql`].
    pub(crate) fn parse(&self) -> Result<Statement> {
        let tokens = self.tokens.iter().map(|t| (&t.parsed.token, TextSpan::of_parser(t.parsed.span)));
        depth::check(tokens).map_err(|deep| syntax(deep.reason, deep.span.or_else(|| self.first_word())))?;
        let mut statements = DFParserBuilder::new(self.parsed_tokens())
            .build()
            .and_then(|mut parser| parser.parse_statements())
            .map_err(|e| self.explain(&e))?;
        match (statements.pop_front(), statements.pop_front()) {
            (Some(statement), None) => Ok(statement),
            _ => Err(syntax("expected one statement here".into(), self.first_word())),
        }
    }

    /// True if the first word is this one.
    pub(crate) fn begins_with(&self, keyword: Keyword) -> bool {
        let first = self.tokens.first().map(|token| &token.parsed.token);
        matches!(first, Some(Token::Word(word)) if word.keyword == keyword)
    }

    /// The tokens as the parser takes them: it would read `STRUCT<a STRUCT<b INT>>[]` as a STRUCT that holds a list, so
    /// two brackets before a list are two tokens.
    pub(crate) fn parsed_tokens(&self) -> Vec<TokenWithSpan> {
        let mut parsed = Vec::with_capacity(self.tokens.len());
        for (at, token) in self.tokens.iter().enumerate() {
            let next = self.tokens[at + 1..].iter().find(|next| next.is_solid());
            let closes = token.parsed.token == Token::ShiftRight;
            if closes && next.is_some_and(|next| next.parsed.token == Token::LBracket) {
                let bracket = TokenWithSpan { token: Token::Gt, span: token.parsed.span };
                parsed.extend([bracket.clone(), bracket]);
            } else {
                parsed.push(token.parsed.clone());
            }
        }
        parsed
    }

    /// The span from the first word to the last word.
    pub(crate) fn span(&self) -> Option<TextSpan> {
        let words = self.words();
        TextSpan::of_parser(words.first()?.span.union(&words.last()?.span))
    }

    fn first_word(&self) -> Option<TextSpan> {
        self.words().first().and_then(|t| TextSpan::of_parser(t.span))
    }

    fn word_at(&self, place: Place) -> Option<TextSpan> {
        self.words().iter().find(|t| Place::from(t.span.start) == place).and_then(|t| TextSpan::of_parser(t.span))
    }

    /// The tokens without spaces and comments; at least one.
    pub fn words(&self) -> Vec<&TokenWithSpan> {
        self.solid().map(|t| &t.parsed).collect()
    }

    fn solid(&self) -> impl Iterator<Item = &SqlToken<'_>> {
        self.tokens.iter().filter(|t| t.is_solid())
    }

    /// The query of a view and its start. The query begins after the first `AS` outside of brackets. Line breaks and
    /// spaces are put in front of the query, so that places in the returned text are places in the whole text.
    pub(crate) fn query_in_place(&self) -> Option<(String, Location)> {
        let (mut depth, mut of_view) = (0usize, false);
        let mut words = self.solid();
        words.find(|t| {
            match &t.parsed.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word) if word.keyword == Keyword::VIEW => of_view = true,
                Token::Word(word) => return of_view && depth == 0 && word.keyword == Keyword::AS,
                _ => {}
            }
            false
        })?;
        let first = words.next()?;
        let start = first.parsed.span.start;
        let lines = "\n".repeat(usize::try_from(start.line).ok()?.saturating_sub(1));
        let spaces = " ".repeat(usize::try_from(start.column).ok()?.saturating_sub(1));
        let query = &self.whole[first.at..self.at + self.text.len()];
        Some((format!("{lines}{spaces}{query}"), start))
    }

    /// Moves the place from the parser's message into the span. The parser gives no place for errors at the end of the
    /// text; these get the end of the last word.
    pub(crate) fn explain(&self, error: &DataFusionError) -> Error {
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
            Some(place) => self.word_at(place).or(Some(TextSpan::starting_at(place))),
            None if message.ends_with("found: EOF") => self.words().last().and_then(|t| starting_at(t.span.end)),
            None => self.first_word(),
        };
        syntax(message.replace("found: EOF", "found: the end of the statement"), span)
    }
}

/// Reads `3, Column: 14`.
fn read_location(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })
}

fn syntax(message: String, span: Option<TextSpan>) -> Error {
    Error::ParseSql(Diagnostic::new(message).at(span))
}

fn starting_at(at: Location) -> Option<TextSpan> {
    (at.line > 0).then(|| TextSpan::starting_at(at.into()))
}
