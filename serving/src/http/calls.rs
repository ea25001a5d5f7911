//! What other layers do on request: the audit and a recomputation.
//!
//! Invariant: serving knows neither; it checks the names and passes their JSON on.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::Value;
use thalweg_schemas::{Error as SharedError, ViewName};

use crate::engine::Engine;
use crate::sources::{BatchRequest, CallError};
use crate::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    view: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchQuery {
    view: Option<String>,
    #[serde(default)]
    full: bool,
}

type CallQuery<T> = std::result::Result<Query<T>, QueryRejection>;

pub(super) async fn audit(State(engine): State<Arc<Engine>>, asked: CallQuery<AuditQuery>) -> Result<Json<Value>> {
    let Query(asked) = asked.map_err(unreadable)?;
    let view = known(&engine, asked.view.as_deref())?;
    answer((engine.sources.audit)(view).await)
}

pub(super) async fn batch(State(engine): State<Arc<Engine>>, asked: CallQuery<BatchQuery>) -> Result<Json<Value>> {
    let Query(asked) = asked.map_err(unreadable)?;
    let request = BatchRequest { view: known(&engine, asked.view.as_deref())?, full: asked.full };
    answer((engine.sources.batch)(request).await)
}

fn unreadable(rejection: QueryRejection) -> Error {
    Error::ReadRequest { reason: rejection.body_text() }
}

/// The view of that name.
fn known(engine: &Engine, name: Option<&str>) -> Result<Option<ViewName>> {
    let Some(name) = name else { return Ok(None) };
    let name = ViewName::new(name).map_err(thalweg_schemas::Error::from)?;
    if engine.sources.catalog.borrow().views.contains_key(&name) {
        return Ok(Some(name));
    }
    Err(Error::Shared(SharedError::FindDefinition { kind: "view", name: name.to_string() }))
}

fn answer(called: std::result::Result<Value, CallError>) -> Result<Json<Value>> {
    called.map(Json).map_err(|CallError { fault, message }| Error::Call { fault, message })
}
