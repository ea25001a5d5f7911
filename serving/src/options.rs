//! Options of a request beside its SQL: a frontier that the answer must cover, answers below earlier ones, answers
//! without the partitions that no process holds, answers of one layer alone, the certificate of the
//! answer, and answers without roll-ups.
//!
//! Clients set them in headers, in the JSON body, or by `SET thalweg.…` before the query; the place nearest to the
//! query takes precedence. Invariant: `SET` statements are replaced by spaces, not cut out, so that lines and columns
//! in errors match the user's text.

use std::borrow::Cow;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use thalweg_schemas::Error as SharedError;
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::Frontiers;
use thalweg_schemas::definition::pieces::Piece;
use thalweg_schemas::error::{Diagnostic, TextSpan};

use crate::access::AccessDenied;
use crate::activity::RequestClient;
use crate::{Error, Result};

/// The layers that answer for views that are named without a schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum SourceLayer {
    #[default]
    Merged,
    Batch,
    Speed,
}

impl SourceLayer {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SourceLayer::Merged => headers::MERGED,
            SourceLayer::Batch => headers::BATCH,
            SourceLayer::Speed => headers::SPEED,
        }
    }
}

/// The options of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    /// The lowest frontier of the answer. With it, reads never go back, whichever process answers, and a client reads
    /// its own writes below it.
    pub(crate) min_frontier: Frontiers,
    /// Partitions that no process holds are answered from the batch layer alone; the answer names them.
    pub(crate) partial: bool,
    /// The answer may lie below earlier ones while this process has not caught up, for example while Kafka is
    /// unreachable; such an answer is marked as stale. It never lies below `min_frontier`.
    pub(crate) stale: bool,
    pub(crate) source: SourceLayer,
    /// The answer brings its certificate.
    pub(crate) certificate: bool,
    /// Whether states of views answer aggregates of streams; `None` leaves that to the settings.
    pub(crate) rollups: Option<bool>,
    /// Why the client may not change definitions. Set by the server, not by the request.
    pub(crate) definitions: Option<AccessDenied>,
    /// Who asks. Set by the server, not by the request.
    pub(crate) client: RequestClient,
}

/// Advice in errors: how a client allows stale answers.
pub(crate) const ALLOW_STALE: &str = "send the header `thalweg-stale: allow` or \"stale\": true beside \"sql\", or \
                                      put SET thalweg.stale = 'allow'; in front of the query";

impl Options {
    /// Sets one option. `name` is the SQL name without `thalweg.`; a dash counts as an underscore.
    ///
    /// Errors: [`Error::SetOption`] for an unknown name or an invalid value.
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
            "source" => {
                let known = [SourceLayer::Merged, SourceLayer::Batch, SourceLayer::Speed];
                let source = known.into_iter().find(|source| source.as_str() == value);
                self.source = source.ok_or_else(|| {
                    refused(format!("source is `merged`, `batch` or `speed`, not `{}`", value.escape_debug()))
                })?;
            }
            "certificate" => self.certificate = is_true("certificate", value)?,
            "rollups" if value == "default" => self.rollups = None,
            "rollups" => self.rollups = Some(is_true("rollups", value)?),
            other => {
                return Err(refused(format!(
                    "there is no option `thalweg.{other}`; there are thalweg.min_frontier, thalweg.partial, thalweg.stale, \
                     thalweg.source, thalweg.certificate and thalweg.rollups"
                )));
            }
        }
        Ok(())
    }

    /// Sets the options in the `SET thalweg.…` statements at the head of `pieces`, which are the statements of `sql`,
    /// and returns the text without them.
    ///
    /// Errors: as [`Self::set`]; [`Error::Shared`] if a `SET` is malformed.
    pub(crate) fn take<'a>(&mut self, sql: &'a str, pieces: &mut Vec<Piece<'_>>) -> Result<Cow<'a, str>> {
        let mut taken = 0;
        for (at, piece) in pieces.iter().enumerate() {
            let words = piece.words();
            let [set, namespace, ..] = words.as_slice() else { continue };
            if !is_ours(set, namespace) {
                continue;
            }
            if at > taken {
                return Err(malformed("SET stands in front of the query that it is for", set));
            }
            let (name, value) = setting(&words)?;
            self.set(&name, &value)?;
            taken = at + 1;
        }
        let Some(last) = pieces.drain(..taken).next_back() else {
            return Ok(Cow::Borrowed(sql));
        };
        if pieces.is_empty() {
            return Err(refused(
                "SET holds for the query in the same request; put the query behind it: SET thalweg.partial = 'allow'; SELECT …".into(),
            ));
        }
        Ok(Cow::Owned(blank_below(sql, last.end)))
    }
}

fn allows(name: &str, value: &str) -> Result<bool> {
    match value {
        "allow" => Ok(true),
        "refuse" => Ok(false),
        other => Err(refused(format!("{name} is `allow` or `refuse`, not `{other}`"))),
    }
}

fn is_true(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        other => Err(refused(format!("{name} is `true` or `false`, not `{}`", other.escape_debug()))),
    }
}

/// True for `SET thalweg …`.
fn is_ours(set: &TokenWithSpan, namespace: &TokenWithSpan) -> bool {
    matches!(&set.token, Token::Word(word) if word.keyword == Keyword::SET)
        && matches!(&namespace.token, Token::Word(word) if word.value.eq_ignore_ascii_case("thalweg"))
}

/// Returns name and value of `SET thalweg.name = 'value'`; `TO` may replace `=`.
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
    Err(malformed("an option is set as in SET thalweg.partial = 'allow'", words[0]))
}

/// Replaces every character below byte `end` by a space; line breaks stay.
fn blank_below(sql: &str, end: usize) -> String {
    let (below, rest) = sql.split_at(end);
    below.chars().map(|c| if c == '\n' { c } else { ' ' }).chain(rest.chars()).collect()
}

fn malformed(message: &str, at: &TokenWithSpan) -> Error {
    Error::Shared(SharedError::ParseSql(Diagnostic::new(message).at(TextSpan::of_parser(at.span))))
}

fn refused(reason: String) -> Error {
    Error::SetOption { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_schemas::definition::pieces;
    use thalweg_schemas::{Frontier, StreamName};

    /// Checks the remaining text and the options, or a part of the error.
    #[track_caller]
    fn check(sql: &str, expect: std::result::Result<(&str, Options), &str>) {
        let mut options = Options::default();
        let pieces = pieces::split(sql).map_err(Error::from);
        let left = pieces.and_then(|mut pieces| Ok(options.take(sql, &mut pieces)?.into_owned()));
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
        Options { min_frontier: frontier.map(at).into_iter().collect(), partial, ..Options::default() }
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
        check(
            "SET thalweg.source = batch; SELECT 1",
            Ok(("                            SELECT 1", Options { source: SourceLayer::Batch, ..Options::default() })),
        );
        check(
            "SET thalweg.certificate = true; SELECT 1",
            Ok(("                                SELECT 1", Options { certificate: true, ..Options::default() })),
        );
        check(
            "SET thalweg.rollups = false; SELECT 1",
            Ok(("                             SELECT 1", Options { rollups: Some(false), ..Options::default() })),
        );
        // Other settings are left in the text; the statement parser refuses them.
        check("SET datafusion.x = 1; SELECT 1", Ok(("SET datafusion.x = 1; SELECT 1", options(None, false))));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        check("SET thalweg.partial = 'allow'", Err("put the query behind it"));
        check("SELECT 1; SET thalweg.partial = 'allow'", Err("in front of"));
        check("SET thalweg.partial = 'yes'; SELECT 1", Err("not `yes`"));
        check("SET thalweg.stale = 'yes'; SELECT 1", Err("not `yes`"));
        check("SET thalweg.source = 'both'; SELECT 1", Err("not `both`"));
        check("SET thalweg.certificate = 'allow'; SELECT 1", Err("not `allow`"));
        check("SET thalweg.rollups = 'allow'; SELECT 1", Err("rollups is `true` or `false`"));
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
