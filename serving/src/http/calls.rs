//! Actions that other layers run on request: the audit and a recomputation.
//!
//! Invariant: serving implements neither; it checks the names and passes the reports on. A limited number of calls run
//! at the same time.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use thalweg_schemas::api::audits::{AuditList, AuditQuery};
use thalweg_schemas::api::runs::{RunList, RunQuery};
use thalweg_schemas::{Error as SharedError, ViewName};

use super::guard::CallPermits;
use crate::engine::Engine;
use crate::sources::{BatchRequest, CallError};
use crate::{Error, Result};

/// The parameters of a call, or the reason why they are malformed.
type CallQuery<T> = std::result::Result<Query<T>, QueryRejection>;

pub(super) async fn audit(
    State(engine): State<Arc<Engine>>,
    Extension(permits): Extension<CallPermits>,
    asked: CallQuery<AuditQuery>,
) -> Result<Json<AuditList>> {
    let Query(asked) = asked.map_err(unreadable)?;
    let view = known(&engine, asked.view.as_deref())?;
    let _permit = permits.take()?;
    let audited = (engine.sources.audit)(view).await;
    if let Ok(list) = &audited {
        engine.sources.metrics.record_audits(list);
    }
    answer(audited)
}

pub(super) async fn batch(
    State(engine): State<Arc<Engine>>,
    Extension(permits): Extension<CallPermits>,
    asked: CallQuery<RunQuery>,
) -> Result<Json<RunList>> {
    let Query(asked) = asked.map_err(unreadable)?;
    let request = BatchRequest { view: known(&engine, asked.view.as_deref())?, full: asked.full };
    let _permit = permits.take()?;
    answer((engine.sources.batch)(request).await)
}

fn unreadable(rejection: QueryRejection) -> Error {
    Error::ReadRequest { reason: rejection.body_text() }
}

/// Returns the name of an existing view.
fn known(engine: &Engine, name: Option<&str>) -> Result<Option<ViewName>> {
    let Some(name) = name else { return Ok(None) };
    let name = ViewName::new(name).map_err(thalweg_schemas::Error::from)?;
    if engine.sources.shared.catalog.borrow().views.contains_key(&name) {
        return Ok(Some(name));
    }
    Err(Error::Shared(SharedError::FindDefinition { kind: "view", name: name.to_string() }))
}

fn answer<T>(called: std::result::Result<T, CallError>) -> Result<Json<T>> {
    called.map(Json).map_err(|CallError { fault, message }| Error::Call { fault, message })
}
