//! `/v1/dashboards`: what the web console saves.
//!
//! Invariant: a change needs the right to change definitions; `http/guard.rs` refuses it before the body is read.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use thalweg_schemas::api::dashboards::{
    DashboardChange, DashboardDeletion, DashboardEntry, DashboardList, SavedDashboard,
};

use super::guard::Caller;
use crate::dashboards::Dashboards;
use crate::engine::Engine;
use crate::{Error, Result};

fn dashboards(engine: &Engine) -> Dashboards {
    Dashboards::of(&engine.sources.shared.warehouse)
}

/// The name in the path, or the reason why it is malformed.
type NamePath = std::result::Result<Path<String>, PathRejection>;

fn name(path: NamePath) -> Result<String> {
    path.map(|Path(name)| name).map_err(|rejection| unreadable(rejection.body_text()))
}

fn unreadable(reason: String) -> Error {
    Error::ReadRequest { reason }
}

/// Errors: why the client may not change anything.
fn may_change(caller: Caller) -> Result<()> {
    caller.definitions.map_or(Ok(()), |denied| Err(Error::Deny(denied)))
}

pub(super) async fn list(State(engine): State<Arc<Engine>>) -> Result<Json<DashboardList>> {
    dashboards(&engine).list().await.map(Json)
}

pub(super) async fn read(State(engine): State<Arc<Engine>>, path: NamePath) -> Result<Json<SavedDashboard>> {
    dashboards(&engine).read(&name(path)?).await.map(Json)
}

pub(super) async fn save(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    path: NamePath,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Json<DashboardEntry>> {
    may_change(caller)?;
    let body = body.map_err(|rejection| unreadable(rejection.body_text()))?;
    let change: DashboardChange = serde_json::from_slice(&body)
        .map_err(|e| unreadable(format!("the body is not a change of a dashboard: {e}")))?;
    dashboards(&engine).save(&name(path)?, change).await.map(Json)
}

pub(super) async fn delete(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    path: NamePath,
    asked: std::result::Result<Query<DashboardDeletion>, QueryRejection>,
) -> Result<StatusCode> {
    may_change(caller)?;
    let Query(asked) = asked.map_err(|rejection| unreadable(rejection.body_text()))?;
    dashboards(&engine).delete(&name(path)?, asked.version).await?;
    Ok(StatusCode::NO_CONTENT)
}
