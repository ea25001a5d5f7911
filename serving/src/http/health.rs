//! How the server is doing: for people, for orchestrators and for Prometheus.
//!
//! Invariant: nothing here waits for a query or for storage; workers in other processes are asked within their bound.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::engine::Engine;
use crate::status::stream::stream_conditions;
use crate::status::{self, ProcessStatus, Streams, Views, exposition, readiness};
use crate::{Error, Result};

pub(super) async fn streams(State(engine): State<Arc<Engine>>) -> Json<Streams> {
    Json(status::streams(&engine.sources).await)
}

pub(super) async fn views(State(engine): State<Arc<Engine>>) -> Json<Views> {
    Json(status::views(&engine.sources).await)
}

pub(super) async fn process(State(engine): State<Arc<Engine>>) -> Json<ProcessStatus> {
    Json(status::process(&engine.sources))
}

/// The process answers.
pub(super) async fn alive() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// Everything that was ready before, or at first everything that the catalog serves, can be answered.
pub(super) async fn ready(State(engine): State<Arc<Engine>>) -> Result<Response> {
    let catalog = Arc::clone(&engine.sources.shared.catalog.borrow());
    let published = Arc::clone(&engine.sources.shared.published.borrow());
    let stream_conditions = stream_conditions(&engine.sources).await;
    let facts = readiness::facts(&catalog, &published, &stream_conditions);
    let reasons = engine.readiness.judge(facts);
    if reasons.is_empty() {
        Ok(Json(json!({ "status": "ready" })).into_response())
    } else {
        Err(Error::NotReady { what: "the server".into(), reason: reasons.join("; ") })
    }
}

pub(super) async fn metrics(State(engine): State<Arc<Engine>>) -> Result<Response> {
    let stream_conditions = stream_conditions(&engine.sources).await;
    openmetrics(exposition::encode(&engine.sources, &stream_conditions))
}

/// The answer to a scrape.
pub(super) fn openmetrics(text: std::result::Result<String, std::fmt::Error>) -> Result<Response> {
    let text = text.map_err(|error| Error::Serve(std::io::Error::other(error)))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
