//! `POST /v1/sql`: SQL in, JSON or CSV out, streamed.
//!
//! Invariant: the head of every answer contains the frontier. An answer that fails after its head was sent ends
//! without its last chunk, so no client can mistake it for a complete one.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::{self, StreamExt};
use serde::Serialize;
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::{SqlAnswer, SqlRequest};

use super::encode::{AnswerFormat, Encoder, columns};
use super::guard::Caller;
use crate::answer::{Answer, Batches};
use crate::engine::Engine;
use crate::limits::slices::bytes;
use crate::options::Options;
use crate::{Error, Result};

/// Request headers that set an option, and the names of the options.
const OPTIONS: [(&str, &str); 3] =
    [(headers::STALE, "stale"), (headers::MIN_FRONTIER, "min_frontier"), (headers::PARTIAL, "partial")];

/// Size in bytes up to which an answer is completed before its head is sent, so that its errors still have a status.
const WHOLE_BYTES: usize = 256 << 10;

/// Bytes of a batch that is encoded where the request is served.
const ENCODED_HERE: usize = 64 << 10;

pub(super) async fn run(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    given: HeaderMap,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Response> {
    let body = body.map_err(unreadable)?;
    let format = accepted(given.get(header::ACCEPT))?;
    let mut options = from_headers(&given)?;
    options.definitions = caller.definitions;
    let sql = text(given.get(header::CONTENT_TYPE), &body, &mut options)?;
    let answer = engine.run(&sql, options).await?;
    respond(answer, format).await
}

fn bad_request(reason: String) -> Error {
    Error::ReadRequest { reason }
}

fn unreadable(rejection: BytesRejection) -> Error {
    let reason = rejection.body_text();
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::ReadLongRequest { reason },
        _ => Error::ReadRequest { reason },
    }
}

fn from_headers(given: &HeaderMap) -> Result<Options> {
    let mut options = Options::default();
    for (header, name) in OPTIONS {
        if let Some(value) = given.get(header) {
            let value = value.to_str().map_err(|_| bad_request(format!("the header {header} is not ASCII")))?;
            options.set(name, value)?;
        }
    }
    Ok(options)
}

/// Returns the SQL of a request: the whole body, or the field `sql` of a JSON body, whose other fields are options.
fn text(content_type: Option<&HeaderValue>, body: &[u8], options: &mut Options) -> Result<String> {
    let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or("");
    if content_type.trim_start().starts_with("application/json") {
        let request: SqlRequest = serde_json::from_slice(body)
            .map_err(|e| bad_request(format!("the body is not {{\"sql\": \"…\"}}: {e}")))?;
        if let Some(stale) = request.stale {
            options.stale = stale;
        }
        if let Some(frontier) = request.min_frontier {
            options.set("min_frontier", &frontier.to_string())?;
        }
        if let Some(partial) = request.partial {
            options.set("partial", &partial)?;
        }
        return Ok(request.sql);
    }
    match std::str::from_utf8(body) {
        Ok(sql) => Ok(sql.to_owned()),
        Err(e) => Err(bad_request(format!("the body is not UTF-8: {e}"))),
    }
}

/// Returns the first format in `Accept` that the server can write; JSON if `Accept` allows any.
fn accepted(accept: Option<&HeaderValue>) -> Result<AnswerFormat> {
    let accept = accept.and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    for range in accept.split(',') {
        match range.split(';').next().unwrap_or("").trim() {
            "application/json" | "application/*" | "*/*" | "" => return Ok(AnswerFormat::Json),
            "text/csv" | "text/*" => return Ok(AnswerFormat::Csv),
            _ => {}
        }
    }
    Err(Error::ChooseFormat { accept: accept.to_owned() })
}

/// Sends small answers whole and streams large ones.
async fn respond(answer: Answer, format: AnswerFormat) -> Result<Response> {
    let Answer { schema, frontier, stale, partial, mut batches, memory } = answer;
    let head = SqlAnswer { columns: columns(&schema), frontier, stale, partial, rows: Vec::new() };
    let memory = memory.map(|memory| MemoryConsumer::new("an encoded answer").register(&memory));
    let mut encoder = Encoder::new(format, schema);
    let mut first = Encoded { bytes: Vec::new(), held: memory };
    encoder.begin(&head, &mut first.bytes)?;
    let mut ended = false;
    while first.bytes.len() < WHOLE_BYTES {
        match batches.next().await {
            Some(batch) => (encoder, first) = encode(encoder, batch?, first).await?,
            None => {
                encoder.end(&mut first.bytes)?;
                ended = true;
                break;
            }
        }
    }
    let body = if ended { Body::from(first.into_bytes()) } else { stream_rest(first, encoder, batches) };
    let mut response = body.into_response();
    let given = response.headers_mut();
    given.insert(headers::FRONTIER, header_of(&head.frontier)?);
    if head.stale {
        given.insert(headers::STALE, HeaderValue::from_static(headers::TRUE));
    }
    if !head.partial.is_empty() {
        given.insert(headers::PARTIAL, header_of(&head.partial)?);
    }
    given.insert(header::CONTENT_TYPE, format.content_type());
    Ok(response)
}

/// A part of an answer, and its part of the query's memory until the client has it.
struct Encoded {
    bytes: Vec<u8>,
    held: Option<MemoryReservation>,
}

impl Encoded {
    /// An empty part that counts in the same memory.
    fn next(&self) -> Self {
        Self { bytes: Vec::new(), held: self.held.as_ref().map(MemoryReservation::new_empty) }
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes `batch` behind `out`. A large batch is encoded on a thread for blocking work, because the threads that serve
/// requests must not be held for long, and its bytes count in the query's memory.
async fn encode(mut encoder: Encoder, batch: RecordBatch, mut out: Encoded) -> Result<(Encoder, Encoded)> {
    if bytes(&batch) <= ENCODED_HERE {
        encoder.batch(&batch, &mut out.bytes)?;
        return Ok((encoder, out));
    }
    let work = move || {
        let more = encoder.bytes_of(&batch);
        if let Some(held) = &out.held {
            held.try_grow(more.saturating_add(bytes(&batch))).map_err(|source| Error::of_engine(source, false))?;
        }
        out.bytes.reserve_exact(more);
        encoder.batch(&batch, &mut out.bytes)?;
        out.bytes.shrink_to_fit();
        if let Some(held) = &out.held {
            held.resize(out.bytes.len());
        }
        Ok((encoder, out))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(encoded) => encoded,
        Err(panic) => Err(Error::Serve(std::io::Error::other(panic))),
    }
}

/// Returns JSON as a header value.
fn header_of(value: &impl Serialize) -> Result<HeaderValue> {
    let text = serde_json::to_string(value).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
    HeaderValue::from_str(&text).map_err(|e| Error::Serve(std::io::Error::other(e)))
}

/// Returns a body of `head` and one chunk per batch. Dropping the body drops the query.
fn stream_rest(head: Encoded, encoder: Encoder, batches: Batches) -> Body {
    let rest = stream::try_unfold(Some((encoder, batches, head.next())), |running| async move {
        let Some((mut encoder, mut batches, mut chunk)) = running else {
            return Ok(None);
        };
        match batches.next().await {
            Some(batch) => (encoder, chunk) = encode(encoder, batch?, chunk).await?,
            None => {
                encoder.end(&mut chunk.bytes)?;
                return Ok(Some((chunk.into_bytes(), None)));
            }
        }
        let next = chunk.next();
        Ok::<_, Error>(Some((chunk.into_bytes(), Some((encoder, batches, next)))))
    });
    let rest = rest.inspect(|chunk| {
        if let Err(error) = chunk {
            tracing::info!(%error, "an answer broke off");
        }
    });
    Body::from_stream(stream::iter([Ok(head.into_bytes())]).chain(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_accept(accept: Option<&str>, expect: Option<AnswerFormat>) {
        let header = accept.map(|a| HeaderValue::from_str(a).unwrap());
        assert_eq!(accepted(header.as_ref()).ok(), expect, "{accept:?}");
    }

    #[test]
    fn the_first_known_format_is_taken() {
        check_accept(None, Some(AnswerFormat::Json));
        check_accept(Some("*/*"), Some(AnswerFormat::Json));
        check_accept(Some("text/csv"), Some(AnswerFormat::Csv));
        check_accept(Some("text/html, text/csv;q=0.9"), Some(AnswerFormat::Csv));
        check_accept(Some("application/json, text/csv"), Some(AnswerFormat::Json));
        check_accept(Some("image/png"), None);
    }

    #[test]
    fn options_come_with_headers_and_with_the_body_which_wins() {
        let mut headers = HeaderMap::new();
        headers.insert("thalweg-partial", HeaderValue::from_static("allow"));
        headers.insert("thalweg-stale", HeaderValue::from_static("allow"));
        let frontier = HeaderValue::from_static(r#"{"s":{"0":7}}"#);
        headers.insert("thalweg-min-frontier", frontier);
        let mut options = from_headers(&headers).unwrap();
        assert!(options.partial && options.stale);
        assert_eq!(options.min_frontier.len(), 1);
        let json = HeaderValue::from_static("application/json");
        let body = br#"{"sql": "SELECT 1", "stale": false, "partial": "refuse", "min_frontier": {}}"#;
        text(Some(&json), body, &mut options).unwrap();
        assert_eq!(options, Options::default());
        for name in ["thalweg-partial", "thalweg-stale"] {
            let headers =
                HeaderMap::from_iter([(header::HeaderName::from_static(name), HeaderValue::from_static("perhaps"))]);
            assert!(from_headers(&headers).is_err(), "{name}");
        }
    }

    #[test]
    fn sql_is_the_body_or_a_field_of_it() {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let check = |kind: Option<&HeaderValue>, body: &[u8], expect: Option<(&str, bool)>| {
            let mut options = Options::default();
            let sql = text(kind, body, &mut options).ok();
            let got = sql.as_deref().map(|sql| (sql, options.stale));
            assert_eq!(got, expect, "{}", String::from_utf8_lossy(body));
        };
        let json = Some(&json);
        check(json, br#"{"sql": "SELECT 1"}"#, Some(("SELECT 1", false)));
        check(json, br#"{"sql": "SELECT 1", "stale": true}"#, Some(("SELECT 1", true)));
        check(json, br#"{"sql": "SELECT 1", "stale": "yes"}"#, None);
        check(json, br#"{"sql": "SELECT 1", "partial": "x"}"#, None);
        check(json, br#"{"query": "SELECT 1"}"#, None);
        check(None, b"SELECT 1", Some(("SELECT 1", false)));
        check(None, b"SELECT '\xff'", None);
    }
}
