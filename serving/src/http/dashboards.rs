//! `/v1/dashboards`: what the web console saves.
//!
//! Invariant: a change needs the right to change definitions; `http/guard.rs` refuses it before the body is read. A
//! limited number of calls reads or writes the warehouse at the same time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use thalweg_schemas::api::dashboards::{
    DashboardChange, DashboardDeletion, DashboardEntry, DashboardList, SavedDashboard,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::guard::Caller;
use crate::dashboards::Dashboards;
use crate::engine::Engine;
use crate::{Error, Result};

/// Calls that read or write dashboards at the same time.
const CALLS: usize = 8;

/// How long a call waits for others.
const WAIT: Duration = Duration::from_secs(5);

/// Permits for calls, of which each makes many requests to the object store.
#[derive(Debug, Clone)]
pub(super) struct DashboardPermits(Arc<Semaphore>);

impl Default for DashboardPermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CALLS)))
    }
}

impl DashboardPermits {
    /// Waits for a permit, which is given back when it is dropped.
    ///
    /// Errors: [`Error::TooManyDashboards`].
    async fn take(&self, wait: Duration) -> Result<OwnedSemaphorePermit> {
        match timeout(wait, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::TooManyDashboards { running: CALLS }),
        }
    }
}

/// The dashboards, and a permit for one call.
struct PermittedDashboards {
    dashboards: Dashboards,
    _permit: OwnedSemaphorePermit,
}

async fn permitted(engine: &Engine, permits: &DashboardPermits) -> Result<PermittedDashboards> {
    let permit = permits.take(WAIT).await?;
    Ok(PermittedDashboards { dashboards: Dashboards::of(&engine.sources.shared.warehouse), _permit: permit })
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

pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    Extension(permits): Extension<DashboardPermits>,
) -> Result<Json<DashboardList>> {
    permitted(&engine, &permits).await?.dashboards.list().await.map(Json)
}

pub(super) async fn read(
    State(engine): State<Arc<Engine>>,
    Extension(permits): Extension<DashboardPermits>,
    path: NamePath,
) -> Result<Json<SavedDashboard>> {
    let name = name(path)?;
    permitted(&engine, &permits).await?.dashboards.read(&name).await.map(Json)
}

pub(super) async fn save(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Extension(permits): Extension<DashboardPermits>,
    path: NamePath,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Json<DashboardEntry>> {
    may_change(caller)?;
    let body = body.map_err(|rejection| unreadable(rejection.body_text()))?;
    let change: DashboardChange = serde_json::from_slice(&body)
        .map_err(|e| unreadable(format!("the body is not a change of a dashboard: {e}")))?;
    let name = name(path)?;
    permitted(&engine, &permits).await?.dashboards.save(&name, change).await.map(Json)
}

pub(super) async fn delete(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    Extension(permits): Extension<DashboardPermits>,
    path: NamePath,
    asked: std::result::Result<Query<DashboardDeletion>, QueryRejection>,
) -> Result<StatusCode> {
    may_change(caller)?;
    let Query(asked) = asked.map_err(|rejection| unreadable(rejection.body_text()))?;
    let name = name(path)?;
    permitted(&engine, &permits).await?.dashboards.delete(&name, asked.version).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use thalweg_schemas::api::error::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn few_calls_run_at_the_same_time() {
        let permits = DashboardPermits::default();
        let mut held = Vec::new();
        for _ in 0..CALLS {
            held.push(permits.take(Duration::from_millis(1)).await.unwrap());
        }
        assert_eq!(permits.take(Duration::from_millis(1)).await.unwrap_err().code(), ErrorCode::TooBusy);
        held.pop();
        drop(permits.take(Duration::from_millis(1)).await.unwrap());
    }
}
