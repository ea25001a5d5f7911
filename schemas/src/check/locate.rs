//! Where in a statement a sentence about it points to.
//!
//! Refusals quote what they refuse: a name in backticks, an option in quotes, a call as `now()`, a clause in capitals.
//! The first thing that a sentence quotes and that stands in the statement is the place. Invariant: a place is that of
//! tokens of the statement.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};

/// Something that a sentence quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Quote {
    /// In backticks or quotes: the text as it stands, or the last word of it.
    Text(String),
    /// `name(…)`; the arguments tell calls of one name apart.
    Call(String),
    /// Words in capitals.
    Clause(String),
}

/// The tokens of `statement` that `sentence` is about, if it quotes any.
pub(super) fn locate(sentence: &str, statement: &[&TokenWithSpan]) -> Option<Span> {
    quotes(sentence).iter().find_map(|quote| find(quote, statement))
}

/// What is quoted, the most telling kinds first.
fn quotes(sentence: &str) -> Vec<Quote> {
    let mut found: Vec<Quote> = enclosed(sentence).into_iter().map(Quote::Text).collect();
    found.extend(calls(sentence).into_iter().map(Quote::Call));
    found.extend(clauses(sentence).into_iter().map(Quote::Clause));
    found
}

/// Texts between backticks or single quotes. An apostrophe within a word is none.
fn enclosed(sentence: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = ' ';
    let mut rest = sentence;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let opens = c == '`' || c == '\'' && !before.is_alphanumeric();
        if opens && let Some(end) = rest.find(c) {
            found.push(rest[..end].to_owned());
            rest = &rest[end + 1..];
        }
        before = c;
    }
    found.retain(|text| !text.is_empty());
    found
}

fn calls(sentence: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, _) in sentence.match_indices('(') {
        let name_end = &sentence[..open];
        let name = name_end.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        if !name.is_empty() {
            let end = closing(&sentence[open..]).map_or(sentence.len(), |at| open + at + 1);
            found.push(sentence[open - name.len()..end].to_owned());
        }
    }
    found
}

/// Where the bracket that `text` starts with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Runs of words of at least two capitals.
fn clauses(sentence: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for word in sentence.split(' ') {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let capital = bare.len() > 1 && bare.chars().all(|c| c.is_ascii_uppercase());
        match found.last_mut() {
            Some(run) if capital && open => *run = format!("{run} {bare}"),
            _ if capital => found.push(bare.to_owned()),
            _ => {}
        }
        // Punctuation ends a run.
        open = capital && word.ends_with(bare);
    }
    found
}

fn find(quote: &Quote, statement: &[&TokenWithSpan]) -> Option<Span> {
    match quote {
        Quote::Text(text) => {
            let whole = |t: &&&TokenWithSpan| same(&text_of(&t.token), text);
            let single = statement.iter().find(whole).map(|t| t.span);
            single
                .or_else(|| {
                    let words = tokens(text);
                    let (at, _) = longest(&words, statement).filter(|(_, n)| *n == words.len())?;
                    Some(statement[at].span.union(&statement[at + words.len() - 1].span))
                })
                .or_else(|| {
                    let (_, last) = text.rsplit_once('.')?;
                    let inner = |t: &&&TokenWithSpan| same(&text_of(&t.token), last);
                    statement.iter().find(inner).map(|t| t.span)
                })
        }
        Quote::Call(text) => {
            let (at, _) = longest(&tokens(text), statement).filter(|(_, n)| *n >= 2)?;
            Some(statement[at].span)
        }
        Quote::Clause(text) => {
            let (at, n) = longest(&tokens(text), statement)?;
            Some(statement[at].span.union(&statement[at + n - 1].span))
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    tokens.retain(|t| !matches!(t, Token::Whitespace(_) | Token::EOF));
    tokens
}

/// Where the most tokens of `wanted`, from its first on, stand in `statement`, and how many; the first of equals.
fn longest(wanted: &[Token], statement: &[&TokenWithSpan]) -> Option<(usize, usize)> {
    let common = |at: usize| {
        let pairs = wanted.iter().zip(&statement[at..]);
        pairs.take_while(|(w, t)| same(&text_of(w), &text_of(&t.token))).count()
    };
    (0..statement.len()).map(|at| (at, common(at))).filter(|(_, n)| *n > 0).min_by_key(|(at, n)| (usize::MAX - n, *at))
}

/// A name without its quotes, a string without its own.
fn text_of(token: &Token) -> String {
    match token {
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) => text.clone(),
        other => other.to_string(),
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: &str = "CREATE MATERIALIZED VIEW v AS\n  SELECT count(*), count(DISTINCT device), now()\n  \
        FROM s GROUP BY GROUPING SETS ((a), (b)) ORDER BY 1";
    const STREAM: &str = "CREATE EXTERNAL TABLE s (a STRUCT<b INT>, \"Ä\" INT)\n  STORED AS CSV LOCATION 'x/y' \
        OPTIONS ('fromat' 'json')";

    /// `expect` is `line:column-column`.
    #[track_caller]
    fn check(statement: &str, sentence: &str, expect: &str) {
        let tokens = Tokenizer::new(&GenericDialect {}, statement).tokenize_with_location().unwrap();
        let words: Vec<&TokenWithSpan> =
            tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).collect();
        let found = locate(sentence, &words).map_or_else(
            || "nowhere".to_owned(),
            |span| format!("{}:{}-{}", span.start.line, span.start.column, span.end.column),
        );
        assert_eq!(found, expect, "{sentence}");
    }

    #[test]
    fn what_is_quoted_is_found() {
        check(VIEW, "now() gives another value.", "2:44-47");
        check(VIEW, "the state of count(DISTINCT device) grows", "2:20-25");
        check(VIEW, "GROUPING SETS, CUBE and ROLLUP are not", "3:19-32");
        check(VIEW, "ORDER BY: a view has no order", "3:44-52");
        check(VIEW, "stream `S` does not exist", "3:8-9");
        check(STREAM, "Column `a.b`: no", "1:35-36");
        check(STREAM, "Column `ä` is bad", "1:43-46");
        check(STREAM, "STORED AS CSV is not supported.", "2:3-16");
        check(STREAM, "There is no option 'fromat'.", "2:41-49");
        check(STREAM, "LOCATION 'x/y' is not the name of a topic.", "2:26-31");
    }

    #[test]
    fn what_does_not_stand_there_is_not() {
        check(VIEW, "The archive's format does not take the stream's name", "nowhere");
        check(VIEW, "first_value() is not `there`", "nowhere");
        check(VIEW, "", "nowhere");
        check(VIEW, "`` '' ( (x", "nowhere");
        check(STREAM, "an unmatched ` and ' and count(", "nowhere");
    }
}
