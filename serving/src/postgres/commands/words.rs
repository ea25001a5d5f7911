//! The words of a statement, without spaces and comments.

use std::ops::Range;

use thalweg_schemas::definition::tokens::{SqlToken, TokenKind, tokens};

use super::literals::{literal, text_of};

/// The words of one statement; at least one.
pub(super) struct StatementWords<'a>(Vec<SqlToken<'a>>);

/// The statements of `text`, without empty ones.
pub(super) fn statements(text: &str) -> Vec<StatementWords<'_>> {
    let mut statements = Vec::new();
    let mut words = Vec::new();
    for token in tokens(text, 0) {
        match token.kind {
            TokenKind::Symbol if token.text == ";" => statements.push(std::mem::take(&mut words)),
            // An open comment may hide a part of the statement; the engine says so.
            TokenKind::Space | TokenKind::Comment if !token.open => {}
            _ => words.push(token),
        }
    }
    statements.push(words);
    statements.into_iter().filter(|words| !words.is_empty()).map(StatementWords).collect()
}

impl StatementWords<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn start(&self) -> usize {
        self.0.first().map_or(0, |word| word.at)
    }

    pub(super) fn end(&self) -> usize {
        self.0.last().map_or(0, SqlToken::end)
    }

    pub(super) fn at(&self, at: usize) -> Option<Range<usize>> {
        self.0.get(at).map(|word| word.at..word.end())
    }

    /// The text of a word; empty behind the last one.
    pub(super) fn text(&self, at: usize) -> &str {
        self.0.get(at).map_or("", |word| word.text)
    }

    /// A word that is not in quotes, in upper case; empty for anything else.
    pub(super) fn keyword(&self, at: usize) -> String {
        match self.0.get(at) {
            Some(word) if word.kind == TokenKind::Word => word.text.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    pub(super) fn starts(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.0.get(at).is_some_and(|token| token.is(word)))
    }

    /// True if these are all words.
    pub(super) fn is(&self, words: &[&str]) -> bool {
        self.len() == words.len() && self.starts(words)
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.position(word).is_some()
    }

    /// The number of the first word that is this keyword.
    pub(super) fn position(&self, word: &str) -> Option<usize> {
        self.0.iter().position(|token| token.kind == TokenKind::Word && token.is(word))
    }

    /// The start of the word behind this keyword, outside of brackets.
    pub(super) fn behind(&self, word: &str) -> Option<usize> {
        let mut depth = 0_usize;
        let found = self.0.iter().position(|token| {
            match token.text {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && token.kind == TokenKind::Word && token.is(word)
        });
        self.0.get(found? + 1).map(|token| token.at)
    }

    /// A name: as it is in quotes, in lower case otherwise.
    pub(super) fn name(&self, at: usize) -> Option<String> {
        let word = self.0.get(at).filter(|word| matches!(word.kind, TokenKind::Word | TokenKind::QuotedName))?;
        Some(match word.kind {
            TokenKind::QuotedName => unquoted(word.text),
            _ => word.text.to_ascii_lowercase(),
        })
    }

    /// A name of parts with points between them, and the number of the word behind.
    pub(super) fn dotted(&self, at: usize) -> Option<(String, usize)> {
        let mut name = self.name(at)?;
        let mut next = at + 1;
        while self.text(next) == "." {
            name = format!("{name}.{}", self.name(next + 1)?);
            next += 2;
        }
        Some((name, next))
    }

    /// The name from a word to the end.
    pub(super) fn rest_of_name(&self, at: usize) -> Option<String> {
        if self.keyword(at) == "TIME" && self.keyword(at + 1) == "ZONE" {
            return Some("TimeZone".into());
        }
        self.dotted(at).map(|(name, _)| name)
    }

    /// A value from a word to the end: constants and names with commas between them.
    pub(super) fn value(&self, at: usize) -> Option<String> {
        let parts = self.0.get(at..)?;
        let text = |word: &SqlToken<'_>| match word.kind {
            TokenKind::Literal => literal(word.text),
            TokenKind::QuotedName => unquoted(word.text),
            _ => word.text.to_owned(),
        };
        let joined: String =
            parts.iter().map(|word| if word.text == "," { ", ".to_owned() } else { text(word) }).collect();
        (!parts.is_empty()).then_some(joined)
    }

    /// The ranges of words between commas, up to the bracket that closes the list which begins at word `at`.
    pub(super) fn list(&self, at: usize) -> Vec<Range<usize>> {
        let (mut found, mut start, mut depth) = (Vec::new(), at, 0_usize);
        for next in at..self.len() {
            match self.text(next) {
                "(" => depth += 1,
                ")" if depth > 0 => depth -= 1,
                ")" => {
                    if next > start || !found.is_empty() {
                        found.push(start..next);
                    }
                    return found;
                }
                "," if depth == 0 => {
                    found.push(start..next);
                    start = next + 1;
                }
                _ => {}
            }
        }
        found
    }

    /// The text of a constant: `Some(None)` is NULL, `None` is something else.
    pub(super) fn constant(&self, range: Range<usize>) -> Option<Option<String>> {
        let at = range.start;
        match (range.len(), self.text(at)) {
            (2, sign @ ("-" | "+")) if self.text(at + 1).starts_with(|c: char| c.is_ascii_digit()) => {
                Some(Some(format!("{sign}{}", self.text(at + 1))))
            }
            (1, text) => match self.0.get(at)?.kind {
                TokenKind::Literal => text_of(text).map(Some),
                TokenKind::Word if text.eq_ignore_ascii_case("NULL") => Some(None),
                TokenKind::Word if text.eq_ignore_ascii_case("TRUE") => Some(Some("true".into())),
                TokenKind::Word if text.eq_ignore_ascii_case("FALSE") => Some(Some("false".into())),
                _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => Some(Some(text.to_owned())),
                _ => None,
            },
            _ => None,
        }
    }
}

fn unquoted(text: &str) -> String {
    let quote = text.chars().next().unwrap_or('"');
    let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)).unwrap_or(text);
    inner.replace(&format!("{quote}{quote}"), &quote.to_string())
}
