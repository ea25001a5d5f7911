//! The places of a statement's clauses, options and names, for diagnostics.
//!
//! The syntax tree has the places of names and expressions, but not of keywords and options, so this file finds them
//! among the statement's tokens. Invariant: a span covers whole tokens of the statement.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::definition::pieces::Piece;
use crate::error::TextSpan;

/// An option of a stream: `'key' 'value'`.
pub(crate) struct OptionSpans {
    key: String,
    pub(crate) name: Option<TextSpan>,
    pub(crate) value: Option<TextSpan>,
}

impl Piece<'_> {
    /// The place for a diagnostic without one: the first word of a view's query, or of any other statement.
    pub(crate) fn focus(&self) -> Option<TextSpan> {
        let words = self.words();
        let query = self.query_in_place().and_then(|(_, start)| words.iter().find(|t| t.span.start == start));
        TextSpan::of_parser(query.or(words.first())?.span)
    }

    /// The span of these keywords in a row. Of several occurrences, the one within the fewest brackets counts.
    pub(crate) fn clause(&self, keywords: &[Keyword]) -> Option<TextSpan> {
        let words = self.words();
        let at = position(&words, keywords)?;
        TextSpan::of_parser(words[at].span.union(&words[at + keywords.len() - 1].span))
    }

    /// The span of these keywords and the word behind them.
    pub(crate) fn clause_and_next(&self, keywords: &[Keyword]) -> Option<TextSpan> {
        let words = self.words();
        let at = position(&words, keywords)?;
        TextSpan::of_parser(words[at].span.union(&words.get(at + keywords.len())?.span))
    }

    /// The span of the word behind these keywords.
    pub(crate) fn next_to(&self, keywords: &[Keyword]) -> Option<TextSpan> {
        let words = self.words();
        let at = position(&words, keywords)?;
        TextSpan::of_parser(words.get(at + keywords.len())?.span)
    }

    /// The first occurrence of this name.
    pub(crate) fn identifier(&self, name: &str) -> Option<TextSpan> {
        let words = self.words();
        TextSpan::of_parser(words.iter().find(|t| text_of(t).as_deref() == Some(name))?.span)
    }

    /// The name in a `CREATE` statement. The statement may be invalid otherwise.
    pub(crate) fn created_name(&self) -> Option<String> {
        let words = self.words();
        let kind = |t: &&TokenWithSpan| matches!(keyword(t), Keyword::TABLE | Keyword::VIEW);
        let at = words.iter().position(kind)?;
        let condition = [Keyword::IF, Keyword::NOT, Keyword::EXISTS];
        let name = words[at + 1..].iter().find(|t| !condition.contains(&keyword(t)))?;
        matches!(name.token, Token::Word(_)).then(|| text_of(name)).flatten()
    }

    /// The last option of this name in `OPTIONS (…)`.
    pub(crate) fn option(&self, key: &str) -> Option<OptionSpans> {
        self.options().into_iter().rfind(|option| option.key.eq_ignore_ascii_case(key))
    }

    fn options(&self) -> Vec<OptionSpans> {
        let words = self.words();
        let Some(at) = position(&words, &[Keyword::OPTIONS]) else { return Vec::new() };
        let inside = words[at + 1..].iter().skip(1).take_while(|t| t.token != Token::RParen);
        let inside: Vec<&TokenWithSpan> = inside.copied().collect();
        inside.split(|t| t.token == Token::Comma).filter_map(read_option).collect()
    }
}

fn read_option(words: &[&TokenWithSpan]) -> Option<OptionSpans> {
    let (value, name) = words.split_last()?;
    let (first, last) = (name.first()?, name.last()?);
    Some(OptionSpans {
        key: name.iter().map(|t| text_of(t).unwrap_or_else(|| t.token.to_string())).collect(),
        name: TextSpan::of_parser(first.span.union(&last.span)),
        value: TextSpan::of_parser(value.span),
    })
}

/// The index of these keywords in a row, within the fewest brackets; the first one of several.
fn position(words: &[&TokenWithSpan], keywords: &[Keyword]) -> Option<usize> {
    let mut depth = 0usize;
    let mut found: Option<(usize, usize)> = None;
    for (at, word) in words.iter().enumerate() {
        match word.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let here = words[at..].iter().map(|t| keyword(t)).take(keywords.len()).eq(keywords.iter().copied());
        if here && found.is_none_or(|(least, _)| depth < least) {
            found = Some((depth, at));
        }
    }
    found.map(|(_, at)| at)
}

fn keyword(token: &TokenWithSpan) -> Keyword {
    match &token.token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// The name, in lower case unless quoted, or the text in quotes.
fn text_of(token: &TokenWithSpan) -> Option<String> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
        Token::Word(word) => Some(word.value.clone()),
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) | Token::EscapedStringLiteral(text) => {
            Some(text.clone())
        }
        _ => None,
    }
}
