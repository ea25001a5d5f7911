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
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::Serialize;
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::{SqlAnswer, SqlRequest};
use tokio::time::Instant;

use super::encode::size::encoded_bytes;
use super::encode::{AnswerFormat, Encoder, columns};
use super::guard::Caller;
use super::sending::Sending;
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

/// Encoded bytes of a batch that is encoded where the request is served.
const ENCODED_HERE: usize = 64 << 10;

/// Encoded bytes of a batch that is encoded at once, if it has more than one row.
const PIECE: usize = 1 << 20;

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
    let end = Instant::now() + engine.config.query_timeout + engine.config.http.client_within;
    let answer = engine.run(&sql, options).await?;
    respond(answer, format, end).await
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

/// Sends small answers whole and streams large ones, until `end`.
async fn respond(answer: Answer, format: AnswerFormat, end: Instant) -> Result<Response> {
    let Answer { schema, frontier, stale, partial, batches, memory } = answer;
    let mut batches = in_pieces(batches, format);
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
    let body = if ended && first.bytes.len() <= WHOLE_BYTES {
        Body::from(first.bytes)
    } else {
        let rest = (!ended).then(|| (encoder, batches, first.next()));
        stream_all(first, rest, end)
    };
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
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A part of a batch that is encoded at once.
struct EncodablePiece {
    batch: RecordBatch,
    /// The bytes that it becomes, at most; `None` if finding out takes long.
    bytes: Option<usize>,
}

/// The batches of an answer, cut so that a piece of several rows becomes few bytes: rows of a few bits may become
/// objects with long names.
fn in_pieces(batches: Batches, format: AnswerFormat) -> BoxStream<'static, Result<EncodablePiece>> {
    batches.map_ok(move |batch| stream::iter(cut(batch, format).into_iter().map(Ok::<_, Error>))).try_flatten().boxed()
}

fn cut(batch: RecordBatch, format: AnswerFormat) -> Vec<EncodablePiece> {
    let rows = batch.num_rows();
    if rows <= 1 && bytes(&batch) > ENCODED_HERE {
        return vec![EncodablePiece { batch, bytes: None }];
    }
    let size = encoded_bytes(&batch, format);
    if rows <= 1 || size <= PIECE {
        return vec![EncodablePiece { batch, bytes: Some(size) }];
    }
    let halves = [batch.slice(0, rows / 2), batch.slice(rows / 2, rows - rows / 2)];
    halves.into_iter().flat_map(|half| cut(half, format)).collect()
}

/// Writes a piece behind `out`. A large one is encoded on a thread for blocking work, because the threads that serve
/// requests must not be held for long, and its bytes count in the query's memory.
async fn encode(mut encoder: Encoder, piece: EncodablePiece, mut out: Encoded) -> Result<(Encoder, Encoded)> {
    let EncodablePiece { batch, bytes: more } = piece;
    if more.is_some_and(|more| more <= ENCODED_HERE) {
        encoder.batch(&batch, &mut out.bytes)?;
        return Ok((encoder, out));
    }
    let work = move || {
        let more = more.unwrap_or_else(|| encoder.bytes_of(&batch));
        if let Some(held) = &out.held {
            held.try_grow(more.saturating_add(bytes(&batch))).map_err(|source| Error::of_engine(source, false))?;
        }
        out.bytes.reserve_exact(more);
        encoder.batch(&batch, &mut out.bytes)?;
        out.bytes.shrink_to_fit();
        if let Some(held) = &out.held {
            held.try_resize(out.bytes.len()).map_err(|source| Error::of_engine(source, false))?;
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

/// The encoder, the pieces that were not encoded yet, and the part of the answer that they become.
type Rest = (Encoder, BoxStream<'static, Result<EncodablePiece>>, Encoded);

/// Returns a body of `head` and one part per piece, until `end`. Dropping the body drops the query.
fn stream_all(head: Encoded, rest: Option<Rest>, end: Instant) -> Body {
    let rest = stream::try_unfold(rest, |running| async move {
        let Some((mut encoder, mut pieces, mut part)) = running else {
            return Ok(None);
        };
        match pieces.next().await {
            Some(piece) => (encoder, part) = encode(encoder, piece?, part).await?,
            None => {
                encoder.end(&mut part.bytes)?;
                return Ok(Some((part, None)));
            }
        }
        let next = part.next();
        Ok::<_, Error>(Some((part, Some((encoder, pieces, next)))))
    });
    let parts = Sending::new(stream::iter([Ok(head)]).chain(rest), end);
    Body::from_stream(parts.inspect(|part| {
        if let Err(error) = part {
            tracing::info!(%error, "an answer broke off");
        }
    }))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BooleanArray, StructArray};
    use arrow::datatypes::{DataType, Field};

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
    fn rows_of_a_few_bits_that_become_long_objects_are_cut() {
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 100]));
        let field = Arc::new(Field::new("x".repeat(300_000), DataType::Boolean, true));
        let objects: ArrayRef = Arc::new(StructArray::from(vec![(field, flags)]));
        let batch = RecordBatch::try_from_iter([("a", objects)]).unwrap();
        let pieces = cut(batch.clone(), AnswerFormat::Json);
        assert_eq!(pieces.iter().map(|piece| piece.batch.num_rows()).sum::<usize>(), 100);
        assert!(pieces.iter().all(|piece| (1..=3).contains(&piece.batch.num_rows())));
        assert!(pieces.iter().all(|piece| piece.bytes.is_some_and(|bytes| (300_000..=PIECE).contains(&bytes))));
        assert_eq!(cut(batch.slice(0, 0), AnswerFormat::Csv).len(), 1);
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
