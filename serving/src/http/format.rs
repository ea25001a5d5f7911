//! The formats of answers, and the choice among them: by `Accept` with its weights, or by `?format=`.
//!
//! Invariant: the choice depends on the request alone, so an error can be told before a query runs.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{Error, Result};

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AnswerFormat {
    /// A `SqlAnswer` with one row per line.
    Json,
    /// A line of names, then one line per row; nested values are JSON texts.
    Csv,
    /// One JSON object per row and line.
    Ndjson,
    /// Arrow's stream of messages.
    Arrow,
    Parquet,
}

impl AnswerFormat {
    /// Every format; the first one that a client accepts equally is taken.
    pub(super) const ALL: [Self; 5] = [Self::Json, Self::Csv, Self::Ndjson, Self::Arrow, Self::Parquet];

    /// The value of `?format=`.
    pub(super) fn name(self) -> &'static str {
        match self {
            AnswerFormat::Json => "json",
            AnswerFormat::Csv => "csv",
            AnswerFormat::Ndjson => "ndjson",
            AnswerFormat::Arrow => "arrow",
            AnswerFormat::Parquet => "parquet",
        }
    }

    /// The media type without parameters.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            AnswerFormat::Json => "application/json",
            AnswerFormat::Csv => "text/csv",
            AnswerFormat::Ndjson => "application/x-ndjson",
            AnswerFormat::Arrow => "application/vnd.apache.arrow.stream",
            AnswerFormat::Parquet => "application/vnd.apache.parquet",
        }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            AnswerFormat::Csv => "text/csv; charset=utf-8",
            other => other.media_type(),
        })
    }

    /// True if a reader cannot tell from the bytes alone that the end is missing. HTTP tells it, by the last chunk.
    pub(super) fn has_no_end(self) -> bool {
        matches!(self, AnswerFormat::Csv | AnswerFormat::Ndjson)
    }

    /// Returns the format that a request asks for: `asked` is the value of `?format=`.
    ///
    /// Errors: [`Error::ReadRequest`] for an unknown name, [`Error::ChooseFormat`].
    pub(super) fn of_request(asked: Option<&str>, headers: &HeaderMap) -> Result<Self> {
        if let Some(asked) = asked {
            return Self::ALL.into_iter().find(|format| format.name() == asked).ok_or_else(|| Error::ReadRequest {
                reason: format!(
                    "format is json, csv, ndjson, arrow or parquet, not `{}`",
                    asked.chars().take(64).collect::<String>().escape_debug()
                ),
            });
        }
        let lines: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let accept = lines.join(",");
        Self::accepted(&accept).ok_or(Error::ChooseFormat { accept })
    }

    /// The format of the highest weight. Of equal ones, the first that `accept` names.
    fn accepted(accept: &str) -> Option<Self> {
        if accept.trim().is_empty() {
            return Some(AnswerFormat::Json);
        }
        let ranges: Vec<Range<'_>> = accept.split(',').filter_map(Range::read).collect();
        let rated = Self::ALL.into_iter().filter_map(|format| {
            // The most specific range decides about a format, wherever it stands.
            let of_format = ranges.iter().enumerate().filter_map(|(at, range)| Some((range.fits(format)?, at, range)));
            let (_, at, range) = of_format.max_by_key(|(specific, at, _)| (*specific, std::cmp::Reverse(*at)))?;
            (range.weight > 0).then_some((range.weight, at, format))
        });
        rated
            .enumerate()
            .max_by_key(|(order, (weight, at, _))| (*weight, std::cmp::Reverse(*at), std::cmp::Reverse(*order)))
            .map(|(_, (_, _, format))| format)
    }
}

/// One part of `Accept`.
struct Range<'a> {
    name: &'a str,
    /// In thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    /// `None` for a part that is malformed.
    fn read(part: &'a str) -> Option<Self> {
        let mut pieces = part.split(';').map(str::trim);
        let name = pieces.next().filter(|name| !name.is_empty())?;
        let mut weight = 1000;
        for piece in pieces {
            if let Some(text) = piece.strip_prefix("q=").or_else(|| piece.strip_prefix("Q=")) {
                weight = thousandths(text)?;
            }
        }
        Some(Self { name, weight })
    }

    /// How exactly the range names `format`; `None` if it does not.
    fn fits(&self, format: AnswerFormat) -> Option<u8> {
        let media = format.media_type();
        if self.name.eq_ignore_ascii_case(media) {
            return Some(2);
        }
        if self.name == "*/*" {
            return Some(0);
        }
        let (kind, _) = media.split_once('/')?;
        let (wanted, rest) = self.name.split_once('/')?;
        (rest == "*" && wanted.eq_ignore_ascii_case(kind)).then_some(1)
    }
}

/// Reads a weight between 0 and 1 with at most three digits behind the point.
pub(super) fn thousandths(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{rest:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::AnswerFormat::{Arrow, Csv, Json, Ndjson, Parquet};
    use super::*;

    #[test]
    fn the_format_of_the_highest_weight_is_taken() {
        let check = |accept: &str, expect: Option<AnswerFormat>| {
            assert_eq!(AnswerFormat::accepted(accept), expect, "{accept}");
        };
        for accept in [
            "",
            "*/*",
            "application/json",
            "application/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json, text/csv",
            "text/csv;q=0.5, application/json",
            "text/csv;q=0.5, */*;q=0.5, application/json;q=0.9",
            "APPLICATION/JSON",
            "*/*, text/csv;q=0.9",
        ] {
            check(accept, Some(Json));
        }
        check("text/csv", Some(Csv));
        check("text/*", Some(Csv));
        check("text/csv; charset=utf-8; header=present", Some(Csv));
        check("text/html, text/csv;q=0.9", Some(Csv));
        check("text/csv, application/json", Some(Csv));
        check("application/json;q=0, */*", Some(Csv));
        check("application/json;q=0, text/*;q=0, */*;q=0.1", Some(Ndjson));
        check("application/x-ndjson", Some(Ndjson));
        check("application/vnd.apache.arrow.stream, */*;q=0.1", Some(Arrow));
        check("application/json;q=0.2, application/vnd.apache.parquet;q=0.3", Some(Parquet));
        check("*/*;q=0.1, application/vnd.apache.parquet", Some(Parquet));
        for accept in
            ["image/png", "text/html", "*/*;q=0", "application/json;q=0", "application/json;q=2", ";;;", "json"]
        {
            check(accept, None);
        }
    }

    #[test]
    fn a_parameter_names_the_format() {
        let of = |asked: Option<&str>, accept: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            AnswerFormat::of_request(asked, &headers)
        };
        for format in AnswerFormat::ALL {
            assert_eq!(of(Some(format.name()), "image/png").ok(), Some(format));
            assert_eq!(of(None, format.media_type()).ok(), Some(format));
        }
        for wrong in ["", "JSON", "xml", "csv\r\nset-cookie: a=b", &"x".repeat(100_000)] {
            let error = of(Some(wrong), "*/*").unwrap_err();
            assert_eq!(error.status(), 400);
            assert!(error.to_string().len() < 200 && !error.to_string().contains('\n'), "{error}");
        }
        assert_eq!(of(None, "image/png").unwrap_err().status(), 406);
    }

    #[test]
    fn weights_have_three_digits() {
        for (text, expect) in [
            ("1", Some(1000)),
            ("0", Some(0)),
            ("0.5", Some(500)),
            ("0.001", Some(1)),
            ("1.000", Some(1000)),
            ("1.", Some(1000)),
            ("1.1", None),
            ("0.0001", None),
            ("2", None),
            ("-0.5", None),
            ("0.+1", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(thousandths(text), expect, "{text}");
        }
    }
}
