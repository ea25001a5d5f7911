//! What a request asks, from its body, its query string and its headers.
//!
//! Invariant: a value never becomes a part of SQL. The place nearest to the query wins: SQL before the body, the body
//! before the query string, and that before a header.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::SqlRequest;

use super::format::AnswerFormat;
use super::values;
use crate::options::Options;
use crate::parameters::Parameter;
use crate::{Error, Result};

/// Headers and parameters that set an option, and the names of the options.
const OPTIONS: [(&str, &str); 6] = [
    (headers::STALE, "stale"),
    (headers::MIN_FRONTIER, "min_frontier"),
    (headers::PARTIAL, "partial"),
    (headers::SOURCE, "source"),
    (headers::CERTIFICATE, "certificate"),
    (headers::ROLLUPS, "rollups"),
];

/// The parameter that names the format.
const FORMAT: &str = "format";

/// The parameters of a query string that every query takes.
pub(super) const EVERY: [&str; 7] = ["format", "stale", "min_frontier", "partial", "source", "certificate", "rollups"];

/// What every query has beside its text.
#[derive(Debug)]
pub(super) struct QueryWishes {
    pub(super) format: AnswerFormat,
    pub(super) options: Options,
}

/// Takes the wishes out of a query string and of headers, and leaves the other parameters in `parameters`.
///
/// Errors: [`Error::SetOption`], [`Error::ReadRequest`], [`Error::ChooseFormat`].
pub(super) fn wishes(parameters: &mut Vec<(String, String)>, given: &HeaderMap) -> Result<QueryWishes> {
    let asked = take(parameters, FORMAT);
    let format = AnswerFormat::of_request(asked.as_deref(), given)?;
    let mut options = Options::default();
    for (header, name) in OPTIONS {
        if let Some(value) = given.get(header) {
            let value = value.to_str().map_err(|_| bad(format!("the header {header} is not ASCII")))?;
            options.set(name, value)?;
        }
    }
    for (_, name) in OPTIONS {
        if let Some(value) = take(parameters, name) {
            options.set(name, &value)?;
        }
    }
    Ok(QueryWishes { format, options })
}

/// The parameters of a query string, in their order: those of `known`, and the options of queries.
///
/// Errors: [`Error::ReadRequest`] for one that is not known or occurs twice.
pub(super) fn parameters(uri: &Uri, known: &[&str]) -> Result<Vec<(String, String)>> {
    only_parameters(uri, &[known, &EVERY].concat())
}

/// The parameters of a query string, in their order.
///
/// Errors: [`Error::ReadRequest`] for one that is not in `known` or occurs twice.
pub(super) fn only_parameters(uri: &Uri, known: &[&str]) -> Result<Vec<(String, String)>> {
    let read = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let list = read.map_err(|rejection| bad(rejection.body_text()))?.0;
    for (at, (name, _)) in list.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let shown: String = name.chars().take(64).collect();
            let all = known.join(", ");
            return Err(bad(format!("there is no parameter `{}` here; there are {all}", shown.escape_debug())));
        }
        if list[..at].iter().any(|(before, _)| before == name) {
            return Err(bad(format!("the parameter `{name}` is given twice")));
        }
    }
    Ok(list)
}

/// Takes the parameter `name` out.
pub(super) fn take(parameters: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = parameters.iter().position(|(given, _)| given == name)?;
    Some(parameters.remove(at).1)
}

/// Returns the SQL and the values of a request: the whole body, or the fields of a JSON body, whose other fields are
/// options.
///
/// Errors: [`Error::ReadRequest`], [`Error::BindParameters`], [`Error::SetOption`].
pub(super) fn body(
    content_type: Option<&HeaderValue>,
    body: &[u8],
    options: &mut Options,
) -> Result<(String, Vec<Parameter>)> {
    let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or("");
    if content_type.trim_start().starts_with("application/json") {
        let request: SqlRequest =
            serde_json::from_slice(body).map_err(|e| bad(format!("the body is not {{\"sql\": \"…\"}}: {e}")))?;
        if let Some(stale) = request.stale {
            options.stale = stale;
        }
        if let Some(frontier) = request.min_frontier {
            options.set("min_frontier", &frontier.to_string())?;
        }
        if let Some(partial) = request.partial {
            options.set("partial", &partial)?;
        }
        if let Some(source) = request.source {
            options.set("source", &source)?;
        }
        if let Some(certificate) = request.certificate {
            options.certificate = certificate;
        }
        options.rollups = request.rollups.or(options.rollups);
        return Ok((request.sql, values::parameters(&request.params)?));
    }
    match std::str::from_utf8(body) {
        Ok(sql) => Ok((sql.to_owned(), Vec::new())),
        Err(e) => Err(bad(format!("the body is not UTF-8: {e}"))),
    }
}

/// The error of a body that did not arrive.
pub(super) fn received(body: std::result::Result<Bytes, BytesRejection>) -> Result<Bytes> {
    body.map_err(|rejection| {
        let reason = rejection.body_text();
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Error::ReadLongRequest { reason },
            _ => Error::ReadRequest { reason },
        }
    })
}

pub(super) fn bad(reason: String) -> Error {
    Error::ReadRequest { reason }
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;
    use crate::options::SourceLayer;

    #[test]
    fn the_place_nearest_to_the_query_wins() {
        let mut headers = HeaderMap::new();
        headers.insert("thalweg-partial", HeaderValue::from_static("allow"));
        headers.insert("thalweg-stale", HeaderValue::from_static("allow"));
        headers.insert("thalweg-source", HeaderValue::from_static("batch"));
        headers.insert("thalweg-certificate", HeaderValue::from_static("true"));
        headers.insert("thalweg-rollups", HeaderValue::from_static("false"));
        let frontier = HeaderValue::from_static(r#"{"s":{"0":7}}"#);
        headers.insert("thalweg-min-frontier", frontier);
        let mut options = wishes(&mut Vec::new(), &headers).unwrap().options;
        assert!(options.partial && options.stale && options.certificate && options.rollups == Some(false));
        assert_eq!((options.min_frontier.len(), options.source), (1, SourceLayer::Batch));
        let mut given = vec![("source".to_owned(), "speed".to_owned()), ("query".to_owned(), "SELECT 1".to_owned())];
        assert_eq!(wishes(&mut given, &headers).unwrap().options.source, SourceLayer::Speed);
        assert_eq!(given.len(), 1);
        let json = HeaderValue::from_static("application/json");
        let text = br#"{"sql": "SELECT 1", "stale": false, "partial": "refuse", "min_frontier": {}, "source": "merged",
            "certificate": false, "rollups": true}"#;
        body(Some(&json), text, &mut options).unwrap();
        assert_eq!(options, Options { rollups: Some(true), ..Options::default() });
        for (name, _) in OPTIONS {
            let name = header::HeaderName::from_static(name);
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("perhaps"))]);
            assert!(wishes(&mut Vec::new(), &headers).is_err(), "{name}");
        }
    }

    #[test]
    fn sql_is_the_body_or_a_field_of_it() {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let check = |kind: Option<&HeaderValue>, text: &[u8], expect: Option<(&str, bool)>| {
            let mut options = Options::default();
            let sql = body(kind, text, &mut options).ok();
            let got = sql.as_ref().map(|(sql, _)| (sql.as_str(), options.stale));
            assert_eq!(got, expect, "{}", String::from_utf8_lossy(text));
        };
        let json = Some(&json);
        check(json, br#"{"sql": "SELECT 1"}"#, Some(("SELECT 1", false)));
        check(json, br#"{"sql": "SELECT $1", "params": [1]}"#, Some(("SELECT $1", false)));
        check(json, br#"{"sql": "SELECT 1", "stale": true}"#, Some(("SELECT 1", true)));
        check(json, br#"{"sql": "SELECT 1", "stale": "yes"}"#, None);
        check(json, br#"{"sql": "SELECT 1", "partial": "x"}"#, None);
        check(json, br#"{"sql": "SELECT 1", "source": "x"}"#, None);
        check(json, br#"{"sql": "SELECT 1", "params": 1}"#, None);
        check(json, br#"{"sql": "SELECT 1", "params": {"a": 1}}"#, None);
        check(json, br#"{"sql": "SELECT 1", "params": [{}]}"#, None);
        check(json, br#"{"sql": "SELECT 1", "sql": "SELECT 2"}"#, None);
        check(json, br#"{"query": "SELECT 1"}"#, None);
        check(json, br#"{"sql": "SELECT 1"} x"#, None);
        check(json, br#"["SELECT 1"]"#, None);
        check(json, b"", None);
        check(json, "[".repeat(100_000).as_bytes(), None);
        check(json, format!("{{\"sql\": {}", "[".repeat(100_000)).as_bytes(), None);
        check(json, format!("{{\"min_frontier\": {}", "{\"a\":".repeat(100_000)).as_bytes(), None);
        check(None, b"SELECT 1", Some(("SELECT 1", false)));
        check(None, b"SELECT '\xff'", None);
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let check = |query: &str, expect: Option<&[(&str, &str)]>| {
            let uri: Uri = format!("/v1/sql?{query}").parse().unwrap();
            let read = parameters(&uri, &["query"]).ok();
            let expect = expect.map(|list| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
            assert_eq!(read, expect, "{query}");
        };
        check("", Some(&[]));
        check("query=SELECT%201%3B&format=csv", Some(&[("query", "SELECT 1;"), ("format", "csv")]));
        check("query=a+b%2Bc", Some(&[("query", "a b+c")]));
        check("query=1&query=2", None);
        check("Query=1", None);
        check("query=1&limit=5", None);
        check("query=1&%0d%0aset-cookie=x", None);
    }
}
