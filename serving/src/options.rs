//! What a request may ask for beside its SQL: a frontier that its answer must cover, answers below earlier ones, and
//! answers without the partitions that nobody holds.
//!
//! They stand in headers, in the JSON body or in `SET thalweg.…` in front of the query; what is nearer to the query
//! wins. Invariant: a text's `SET` statements are blanked, not cut out, so that places in it stay the user's.

use std::borrow::Cow;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use thalweg_schemas::Error as SharedError;
use thalweg_schemas::api::error::ErrorCode;
use thalweg_schemas::api::sql::Frontiers;
use thalweg_schemas::error::Place;

use crate::{Error, Result};

/// How one request wants to be answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    /// Answers must stand at or above this: reads that never go back, wherever they were answered, and that see what
    /// was produced below it.
    pub(crate) min_frontier: Frontiers,
    /// What nobody holds is answered as of the batch layer alone, and named in the answer.
    pub(crate) partial: bool,
    /// The answer may lie below earlier ones while this process has not caught up, as when Kafka is away; it says so.
    /// Never below `min_frontier`.
    pub(crate) stale: bool,
}

/// How a client allows stale answers.
pub(crate) const ALLOW_STALE: &str = "send the header `thalweg-stale: allow` or \"stale\": true beside \"sql\", or \
                                      use `thalweg sql --stale`";

impl Options {
    /// Takes one option over. `name` is its SQL name without `thalweg.`; a dash counts as an underscore.
    ///
    /// Errors: [`Error::ReadRequest`] for names and values that mean nothing.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name.replace('-', "_").as_str() {
            "min_frontier" => {
                self.min_frontier = serde_json::from_str(value).map_err(|e| {
                    refused(format!(
                        "min_frontier is the next offset per stream and partition, such as {{\"sensor_data\": {{\"0\": 123}}}}; `{value}` is not: {e}"
                    ))
                })?;
            }
            "partial" => self.partial = allows("partial", value)?,
            "stale" => self.stale = allows("stale", value)?,
            other => {
                return Err(refused(format!(
                    "there is no option `thalweg.{other}`; there are thalweg.min_frontier, thalweg.partial and thalweg.stale"
                )));
            }
        }
        Ok(())
    }

    /// Takes the `SET thalweg.…` statements of `sql` over and gives the text without them.
    ///
    /// Errors: as [`Self::set`]; [`Error::Shared`] if the text has no tokens or a `SET` is malformed.
    pub(crate) fn take<'a>(&mut self, sql: &'a str) -> Result<Cow<'a, str>> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|e| malformed(e.message, e.location))?;
        let (mut end, mut others) = (None, 0);
        for statement in tokens.split_inclusive(|t| t.token == Token::SemiColon) {
            let words: Vec<&TokenWithSpan> = statement
                .iter()
                .filter(|t| {
                    let space = matches!(t.token, Token::Whitespace(_) | Token::EOF);
                    !space && t.token != Token::SemiColon
                })
                .collect();
            match words.as_slice() {
                [] => {}
                [set, namespace, ..] if is_ours(set, namespace) => {
                    if others > 0 {
                        let late = "SET stands in front of the query that it is for";
                        return Err(malformed(late.into(), set.span.start));
                    }
                    let (name, value) = setting(&words)?;
                    self.set(&name, &value)?;
                    end = statement.last().map(|token| token.span.end);
                }
                _ => others += 1,
            }
        }
        let Some(end) = end else {
            return Ok(Cow::Borrowed(sql));
        };
        if others == 0 {
            return Err(refused(
                "SET holds for the query in the same request; put the query behind it: SET thalweg.partial = 'allow'; SELECT …".into(),
            ));
        }
        Ok(Cow::Owned(blank_below(sql, end)))
    }
}

fn allows(name: &str, value: &str) -> Result<bool> {
    match value {
        "allow" => Ok(true),
        "refuse" => Ok(false),
        other => Err(refused(format!("{name} is `allow` or `refuse`, not `{other}`"))),
    }
}

/// `SET thalweg …`.
fn is_ours(set: &TokenWithSpan, namespace: &TokenWithSpan) -> bool {
    matches!(&set.token, Token::Word(word) if word.keyword == Keyword::SET)
        && matches!(&namespace.token, Token::Word(word) if word.value.eq_ignore_ascii_case("thalweg"))
}

/// Name and value of `SET thalweg.name = 'value'`; `TO` is as good as `=`.
fn setting(words: &[&TokenWithSpan]) -> Result<(String, String)> {
    let tokens: Vec<&Token> = words.iter().map(|word| &word.token).collect();
    if let [_, _, Token::Period, Token::Word(name), is, value] = tokens.as_slice() {
        let assigns = match is {
            Token::Eq => true,
            Token::Word(word) => word.keyword == Keyword::TO,
            _ => false,
        };
        let value = match value {
            Token::SingleQuotedString(text) => Some(text.clone()),
            Token::Word(word) => Some(word.value.clone()),
            _ => None,
        };
        if let (true, Some(value)) = (assigns, value) {
            return Ok((name.value.to_ascii_lowercase(), value));
        }
    }
    Err(malformed("an option is set as in SET thalweg.partial = 'allow'".into(), words[0].span.start))
}

/// Every character below `end` as a space; lines stay lines.
fn blank_below(sql: &str, end: Location) -> String {
    let (mut line, mut column) = (1, 1);
    let blanked = sql.chars().map(|c| {
        let below = (line, column) < (end.line, end.column);
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
        if below && c != '\n' { ' ' } else { c }
    });
    blanked.collect()
}

fn malformed(message: String, at: Location) -> Error {
    let place = (at.line > 0).then_some(Place { line: at.line, column: at.column });
    Error::Shared(SharedError::ParseSql { message, place })
}

fn refused(reason: String) -> Error {
    Error::ReadRequest { code: ErrorCode::BadOption, status: 400, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_schemas::{Frontier, StreamName};

    /// The text that is left, and the options, or a part of the error.
    #[track_caller]
    fn check(sql: &str, expect: std::result::Result<(&str, Options), &str>) {
        let mut options = Options::default();
        let left = options.take(sql).map(Cow::into_owned);
        match (left, expect) {
            (Ok(left), Ok((text, expected))) => {
                assert_eq!((left.as_str(), &options), (text, &expected), "{sql}");
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{sql}: {error}");
                assert_eq!(error.status(), 400, "{sql}");
            }
            (found, expect) => panic!("{sql}: {found:?}, not {expect:?}"),
        }
    }

    fn options(frontier: Option<i64>, partial: bool) -> Options {
        let at = |offset| (StreamName::new("s").unwrap(), Frontier::from([(0, offset)]));
        Options { min_frontier: frontier.map(at).into_iter().collect(), partial, stale: false }
    }

    #[test]
    fn settings_are_taken_and_the_query_stays_in_its_place() {
        check("SELECT 1", Ok(("SELECT 1", options(None, false))));
        check(
            "SET thalweg.partial = 'allow'; SELECT 1",
            Ok(("                               SELECT 1", options(None, true))),
        );
        check(
            "set Thalweg.PARTIAL to allow;\n-- é\nSELECT 'é; SET thalweg.x'",
            Ok(("                             \n-- é\nSELECT 'é; SET thalweg.x'", options(None, true))),
        );
        check(
            "SET thalweg.min_frontier='{\"s\":{\"0\":7}}';\nSET thalweg.partial='refuse';SELECT 1;",
            Ok((
                "                                         \n                             SELECT 1;",
                options(Some(7), false),
            )),
        );
        check(
            "SET thalweg.stale = 'allow'; SELECT 1",
            Ok(("                             SELECT 1", Options { stale: true, ..Options::default() })),
        );
        // Other settings are refused where statements are read.
        check("SET datafusion.x = 1; SELECT 1", Ok(("SET datafusion.x = 1; SELECT 1", options(None, false))));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        check("SET thalweg.partial = 'allow'", Err("put the query behind it"));
        check("SELECT 1; SET thalweg.partial = 'allow'", Err("in front of"));
        check("SET thalweg.partial = 'yes'; SELECT 1", Err("not `yes`"));
        check("SET thalweg.stale = 'yes'; SELECT 1", Err("not `yes`"));
        check("SET thalweg.parts = 'x'; SELECT 1", Err("no option `thalweg.parts`"));
        check("SET thalweg.partial; SELECT 1", Err("is set as in"));
        check("SET thalweg.min_frontier = '{'; SELECT 1", Err("is not:"));
        check("SET thalweg.min_frontier = '{\"s\":{\"0\":\"x\"}}'; SELECT 1", Err("is not:"));
        check("SELECT 'open", Err("Unterminated"));
    }

    #[test]
    fn headers_have_dashes() {
        let mut options = Options::default();
        options.set("min-frontier", "{\"s\":{\"0\":7}}").unwrap();
        options.set("partial", "allow").unwrap();
        assert_eq!(options, self::options(Some(7), true));
    }
}
