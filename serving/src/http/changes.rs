//! `GET /v1/views/{view}/changes`: the changes of a view as server-sent events.
//!
//! ```text
//!  event: reset     {"view": …, "view_id": …}      forget all rows
//!  event: delete    {"key": {…}, "row": {…}}       the group is gone; its last row
//!  event: upsert    {"key": {…}, "row": {…}}       the row of the group
//!  event: frontier  {"frontier": {…}}              complete up to here; its id is what a client resumes from
//!  event: failure   {"error": {…}}                 the stream ends
//! ```
//!
//! Source of the format: "Server-sent events", HTML Living Standard, section 9.2.
//!
//! Invariant: only the event `frontier` has an id. A client that was cut off between two of them resumes from the
//! first, and is sent the rows after it again.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde_json::json;
use serde_json::value::RawValue;
use thalweg_schemas::algebra::key_name;
use thalweg_schemas::{Error as SharedError, ViewName};

use super::encode::Encoder;
use super::format::AnswerFormat;
use super::request::{self, bad, take};
use super::rows::RowsRequest;
use super::sql::PathName;
use crate::changes::{ChangeEvent, ChangeFeeds, ChangeKind, ListenRequest, ResumeToken, Selection, listen};
use crate::engine::{ASSEMBLED, Engine};
use crate::{Error, Result};

/// The parameters of changes.
pub(super) const PARAMETERS: [&str; 3] = ["where", "columns", "since"];

/// The header in which a browser sends the id of the last event.
const LAST_EVENT_ID: &str = "last-event-id";

/// Rows that are written at a time.
const ROWS: usize = 256;

/// The time after which a comment is sent, so that proxies and clients know that the stream lives.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

pub(super) async fn changes(
    State(engine): State<Arc<Engine>>,
    Extension(feeds): Extension<Arc<ChangeFeeds>>,
    name: PathName,
    uri: Uri,
    given: HeaderMap,
) -> Result<Response> {
    let Path(name) = name.map_err(|rejection| bad(rejection.body_text()))?;
    let view = ViewName::new(&name).map_err(SharedError::from)?;
    let mut parameters = request::only_parameters(&uri, &PARAMETERS)?;
    let since = since(&mut parameters, &given)?;
    let rows = RowsRequest::read(Vec::new(), &mut parameters)?;
    let selection: Option<Selection> = (!rows.is_whole()).then(|| -> Selection {
        Arc::new(move |table, keys| {
            let keys = (0..keys).map(key_name).collect();
            rows.over(vec![ASSEMBLED.to_owned(), table.to_owned()], keys).statement()
        })
    });
    let request = ListenRequest { view: view.clone(), selection, since };
    let received = listen(&feeds, &engine, request).await?.events;
    let events = stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) });
    let texts = events.flat_map(move |event| texts(&view, event));
    let alive = KeepAlive::new().interval(COMMENT_EVERY);
    let mut response = Sse::new(texts).keep_alive(alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds answers back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where the client stands. The header is newer than the address with which a browser began.
fn since(parameters: &mut Vec<(String, String)>, given: &HeaderMap) -> Result<Option<ResumeToken>> {
    let asked = take(parameters, "since");
    let last = given.get(LAST_EVENT_ID).map(|id| id.to_str().map(str::to_owned));
    let last = last.transpose().map_err(|_| bad(format!("the header {LAST_EVENT_ID} is not ASCII")))?;
    last.or(asked).filter(|token| !token.is_empty()).map(|token| token.parse()).transpose()
}

type EventResult = Result<Event>;

/// The events of the protocol that one event becomes.
fn texts(view: &ViewName, event: Result<ChangeEvent>) -> stream::BoxStream<'static, EventResult> {
    let one = |event: EventResult| stream::iter([event]).boxed();
    match event {
        Ok(ChangeEvent::Reset { view_id }) => {
            one(Event::default().event("reset").json_data(json!({"view": view, "view_id": view_id})).map_err(unwritten))
        }
        Ok(ChangeEvent::Frontier(token)) => {
            let event = Event::default().event("frontier").id(token.to_string());
            one(event.json_data(json!({"frontier": token.frontier})).map_err(unwritten))
        }
        Ok(ChangeEvent::Rows { kind, rows, keys }) => rows_as_texts(kind, rows, keys).boxed(),
        Err(error) => {
            let event = Event::default().event("failure").json_data(json!({"error": error.body()}));
            one(event.map_err(unwritten))
        }
    }
}

fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Serve(std::io::Error::other(error))
}

/// One event for each row, a few rows at a time, so that others are served between.
fn rows_as_texts(kind: ChangeKind, rows: RecordBatch, keys: RecordBatch) -> impl Stream<Item = EventResult> {
    let starts = stream::iter((0..rows.num_rows()).step_by(ROWS));
    let pieces = starts.then(move |from| {
        let length = ROWS.min(rows.num_rows() - from);
        let piece = (rows.slice(from, length), keys.slice(from, length));
        async move {
            tokio::task::yield_now().await;
            events(kind, &piece.0, &piece.1).map(|events| stream::iter(events.into_iter().map(Ok)))
        }
    });
    pieces.try_flatten()
}

/// The data of an event. Values are written as in every other answer, in the order of the columns.
#[derive(serde::Serialize)]
struct ChangedRow<'r> {
    key: &'r RawValue,
    row: &'r RawValue,
}

fn events(kind: ChangeKind, rows: &RecordBatch, keys: &RecordBatch) -> Result<Vec<Event>> {
    let name = match kind {
        ChangeKind::Upsert => "upsert",
        ChangeKind::Delete => "delete",
    };
    let (rows, keys) = (objects(rows)?, objects(keys)?);
    let events = rows
        .iter()
        .zip(&keys)
        .map(|(row, key)| Event::default().event(name).json_data(ChangedRow { key, row }).map_err(unwritten));
    events.collect()
}

/// The rows of `batch` as JSON objects.
fn objects(batch: &RecordBatch) -> Result<Vec<Box<RawValue>>> {
    if batch.num_columns() == 0 {
        let empty = || RawValue::from_string("{}".to_owned()).map_err(unwritten);
        return (0..batch.num_rows()).map(|_| empty()).collect();
    }
    let mut encoder = Encoder::new(AnswerFormat::Ndjson, batch.schema(), None)?;
    let mut lines = Vec::new();
    encoder.batch(batch, &mut lines)?;
    let lines = String::from_utf8(lines).map_err(unwritten)?;
    lines.lines().map(|line| RawValue::from_string(line.to_owned()).map_err(unwritten)).collect()
}
