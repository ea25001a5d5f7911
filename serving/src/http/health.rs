//! The state of the server: for people, for orchestrators and for Prometheus.
//!
//! Invariant: no handler waits for a query or for storage; requests to workers in other processes have a time limit.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use thalweg_schemas::api::process::{ProbeAnswer, ProbeState, ProcessStatus};
use thalweg_schemas::api::streams::StreamList;
use thalweg_schemas::api::views::ViewList;

use super::guard::MayQuery;
use crate::engine::Engine;
use crate::status::readiness::Detail;
use crate::status::stream::stream_conditions;
use crate::status::{self, exposition, readiness};
use crate::{Error, Result};

/// The media type of a scrape.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn streams(State(engine): State<Arc<Engine>>) -> Json<StreamList> {
    Json(status::streams(&engine.sources).await)
}

pub(super) async fn views(State(engine): State<Arc<Engine>>) -> Json<ViewList> {
    Json(status::views(&engine.sources).await)
}

pub(super) async fn process(State(engine): State<Arc<Engine>>) -> Json<ProcessStatus> {
    Json(status::process(&engine.sources))
}

/// Liveness: the process answers requests.
pub(super) async fn alive() -> Json<ProbeAnswer> {
    Json(ProbeAnswer { status: ProbeState::Ok })
}

/// Readiness: everything that was ready before can still be answered. At first, everything that the catalog serves
/// counts. A client that may not query is told the phase of a stream, and not the reason.
pub(super) async fn ready(
    State(engine): State<Arc<Engine>>,
    Extension(MayQuery(may_query)): Extension<MayQuery>,
) -> Result<Json<ProbeAnswer>> {
    let catalog = Arc::clone(&engine.sources.shared.catalog.borrow());
    let published = Arc::clone(&engine.sources.shared.published.borrow());
    let stream_conditions = stream_conditions(&engine.sources).await;
    let detail = if may_query { Detail::Reason } else { Detail::Phase };
    let facts = readiness::facts(&catalog, &published, &stream_conditions, detail);
    let mut reasons = engine.readiness.judge(facts);
    reasons.extend(engine.overloaded().map(|error| error.to_string()));
    readiness_of("the server", &reasons)
}

/// Returns ready if `reasons` is empty, and an error with the reasons otherwise.
pub(super) fn readiness_of(what: &str, reasons: &[String]) -> Result<Json<ProbeAnswer>> {
    if reasons.is_empty() {
        Ok(Json(ProbeAnswer { status: ProbeState::Ready }))
    } else {
        Err(Error::NotReady { what: what.to_owned(), reason: reasons.join("; ") })
    }
}

pub(super) async fn metrics(State(engine): State<Arc<Engine>>) -> Result<Response> {
    let stream_conditions = stream_conditions(&engine.sources).await;
    openmetrics(exposition::encode(&engine.sources, &stream_conditions))
}

/// The answer to a scrape.
pub(super) fn openmetrics(text: std::result::Result<String, std::fmt::Error>) -> Result<Response> {
    let text = text.map_err(|error| Error::Serve(std::io::Error::other(error)))?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
