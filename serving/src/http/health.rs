//! How the server is doing: for people, for orchestrators and for Prometheus.
//!
//! Invariant: nothing here waits for a query or for storage.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::engine::Engine;
use crate::status::{self, Process, Streams, Views};
use crate::{Error, Result, metrics as scrape};

pub(super) async fn streams(State(engine): State<Arc<Engine>>) -> Json<Streams> {
    Json(status::streams(&engine.sources))
}

pub(super) async fn views(State(engine): State<Arc<Engine>>) -> Json<Views> {
    Json(status::views(&engine.sources))
}

pub(super) async fn process(State(engine): State<Arc<Engine>>) -> Json<Process> {
    Json(status::process(&engine.sources))
}

/// The process answers.
pub(super) async fn alive() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// Every stream has caught up and every view is served.
pub(super) async fn ready(State(engine): State<Arc<Engine>>) -> Result<Response> {
    let reasons = status::not_ready(&engine.sources);
    if reasons.is_empty() {
        Ok(Json(json!({ "status": "ready" })).into_response())
    } else {
        Err(Error::NotReady {
            what: "the server".into(),
            reason: reasons.join("; "),
        })
    }
}

pub(super) async fn metrics(State(engine): State<Arc<Engine>>) -> Result<Response> {
    let text = scrape::encode(&engine.sources)
        .map_err(|error| Error::Serve(std::io::Error::other(error)))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
