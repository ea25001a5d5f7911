//! `POST /v1/sql`: SQL in, JSON or CSV out, streamed.
//!
//! Invariant: the frontier is in the head of every answer. An answer that breaks off after its head was sent ends
//! without its last chunk, so no client can take it for a whole one.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde::Deserialize;

use super::encode::{Encoder, Format};
use crate::engine::{Answer, Asked, Batches, Engine};
use crate::pin::Stale;
use crate::{Error, Result};

/// The answer's frontiers as JSON: `{"sensor_data":{"0":123}}`.
const FRONTIER: &str = "thalweg-frontier";
/// In a request, `allow`: an answer may lie below earlier ones while Kafka is away. In an answer, `true`: it may.
const STALE: &str = "thalweg-stale";

/// Answers up to this many bytes are complete before their head is sent, so their errors have a status.
const WHOLE_BYTES: usize = 256 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    sql: String,
    #[serde(default)]
    stale: bool,
}

pub(super) async fn run(
    State(engine): State<Arc<Engine>>,
    headers: HeaderMap,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = body.map_err(|rejection| Error::ReadRequest {
        code: "bad_request",
        status: rejection.status().as_u16(),
        reason: rejection.body_text(),
    })?;
    let format = accepted(headers.get(header::ACCEPT))?;
    let asked = read(headers.get(header::CONTENT_TYPE), &body)?;
    let allows = match asked.stale || allows_stale(headers.get(STALE))? {
        true => Stale::Allow,
        false => Stale::Refuse,
    };
    let sql = asked.sql.as_str();
    let answer = engine.run(Asked { sql, allows }).await?;
    respond(answer, format).await
}

fn bad_request(reason: String) -> Error {
    Error::ReadRequest {
        code: "bad_request",
        status: 400,
        reason,
    }
}

fn allows_stale(header: Option<&HeaderValue>) -> Result<bool> {
    match header.map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(b"allow") => Ok(true),
        Some(_) => Err(bad_request(format!("the header {STALE} can be `allow`"))),
    }
}

/// The SQL of a request: the body itself, or the `sql` of a JSON body.
fn read(content_type: Option<&HeaderValue>, body: &[u8]) -> Result<SqlRequest> {
    let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or("");
    if content_type.trim_start().starts_with("application/json") {
        return serde_json::from_slice(body)
            .map_err(|e| bad_request(format!("the body is not {{\"sql\": \"…\"}}: {e}")));
    }
    match std::str::from_utf8(body) {
        Ok(sql) => Ok(SqlRequest {
            sql: sql.to_owned(),
            stale: false,
        }),
        Err(e) => Err(bad_request(format!("the body is not UTF-8: {e}"))),
    }
}

/// The first format of `Accept` that can be given; JSON if anything goes.
fn accepted(accept: Option<&HeaderValue>) -> Result<Format> {
    let accept = accept.and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    for range in accept.split(',') {
        match range.split(';').next().unwrap_or("").trim() {
            "application/json" | "application/*" | "*/*" | "" => return Ok(Format::Json),
            "text/csv" | "text/*" => return Ok(Format::Csv),
            _ => {}
        }
    }
    Err(Error::ReadRequest {
        code: "not_acceptable",
        status: 406,
        reason: format!("answers are application/json or text/csv, not {accept}"),
    })
}

/// Small answers whole, large ones streamed.
async fn respond(answer: Answer, format: Format) -> Result<Response> {
    let frontier = serde_json::to_string(&answer.frontier)
        .map_err(|e| Error::Serve(std::io::Error::other(e)))?;
    let mut encoder = Encoder::new(format, answer.schema, &frontier, answer.stale)?;
    let mut batches = answer.batches;
    let mut head = Vec::new();
    encoder.begin(&mut head)?;
    let mut ended = false;
    while head.len() < WHOLE_BYTES {
        match batches.next().await {
            Some(batch) => encoder.batch(&batch?, &mut head)?,
            None => {
                encoder.end(&mut head)?;
                ended = true;
                break;
            }
        }
    }
    let body = if ended {
        Body::from(head)
    } else {
        stream_rest(head, encoder, batches)
    };
    let frontier =
        HeaderValue::from_str(&frontier).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(FRONTIER, frontier);
    if answer.stale {
        headers.insert(STALE, HeaderValue::from_static("true"));
    }
    headers.insert(header::CONTENT_TYPE, format.content_type());
    Ok(response)
}

/// `head`, then a chunk per batch. Dropping the body drops the query.
fn stream_rest(head: Vec<u8>, encoder: Encoder, batches: Batches) -> Body {
    let rest = stream::try_unfold(Some((encoder, batches)), |running| async move {
        let Some((mut encoder, mut batches)) = running else {
            return Ok(None);
        };
        let mut chunk = Vec::new();
        match batches.next().await {
            Some(batch) => encoder.batch(&batch?, &mut chunk)?,
            None => {
                encoder.end(&mut chunk)?;
                return Ok(Some((Bytes::from(chunk), None)));
            }
        }
        Ok::<_, Error>(Some((Bytes::from(chunk), Some((encoder, batches)))))
    });
    let rest = rest.inspect(|chunk| {
        if let Err(error) = chunk {
            tracing::info!(%error, "an answer broke off");
        }
    });
    Body::from_stream(stream::iter([Ok(Bytes::from(head))]).chain(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_accept(accept: Option<&str>, expect: Option<Format>) {
        let header = accept.map(|a| HeaderValue::from_str(a).unwrap());
        assert_eq!(accepted(header.as_ref()).ok(), expect, "{accept:?}");
    }

    #[test]
    fn the_first_known_format_is_taken() {
        check_accept(None, Some(Format::Json));
        check_accept(Some("*/*"), Some(Format::Json));
        check_accept(Some("text/csv"), Some(Format::Csv));
        check_accept(Some("text/html, text/csv;q=0.9"), Some(Format::Csv));
        check_accept(Some("application/json, text/csv"), Some(Format::Json));
        check_accept(Some("image/png"), None);
    }

    #[test]
    fn sql_is_the_body_or_a_field_of_it() {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let check = |kind: Option<&HeaderValue>, body: &[u8], expect: Option<(&str, bool)>| {
            let got = read(kind, body).ok();
            let got = got.as_ref().map(|asked| (asked.sql.as_str(), asked.stale));
            assert_eq!(got, expect, "{}", String::from_utf8_lossy(body));
        };
        let json = Some(&json);
        check(json, br#"{"sql": "SELECT 1"}"#, Some(("SELECT 1", false)));
        check(
            json,
            br#"{"sql": "SELECT 1", "stale": true}"#,
            Some(("SELECT 1", true)),
        );
        check(json, br#"{"sql": "SELECT 1", "stale": "yes"}"#, None);
        check(json, br#"{"query": "SELECT 1"}"#, None);
        check(None, b"SELECT 1", Some(("SELECT 1", false)));
        check(None, b"SELECT '\xff'", None);
    }

    #[test]
    fn stale_answers_are_allowed_by_one_word() {
        let check = |value: Option<&'static str>, expect: Option<bool>| {
            let header = value.map(HeaderValue::from_static);
            assert_eq!(allows_stale(header.as_ref()).ok(), expect, "{value:?}");
        };
        check(None, Some(false));
        check(Some("allow"), Some(true));
        check(Some("true"), None);
    }
}
