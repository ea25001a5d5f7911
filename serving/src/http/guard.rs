//! The door: every request passes here before a handler sees it.
//!
//! ```text
//!  host ─▶ preflight, origin ─▶ token ─▶ body, in time and within its limit ─▶ handler
//! ```
//!
//! Invariant: no body is read for a client without the right to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use thalweg_schemas::api::paths;
use thalweg_schemas::error::innermost;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origins;
use crate::access::{Access, AccessDenied, Right, bearer};
use crate::{Error, Result};

/// The longest request body, in bytes.
pub(super) const REQUEST_BYTES: usize = 4 << 20;

/// The folder of [`paths::ASSET`].
const ASSETS: &str = "/assets/";

/// Bytes of all bodies under way, beside the small part of each that is free.
const BODIES_BYTES: usize = 64 << 20;

/// Bytes of a body that are not counted, so that long bodies keep no short one out.
const FREE_BYTES: usize = 64 << 10;

/// What the guard needs of the configuration, and what it counts.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) access: Arc<Access>,
    pub(super) receive_within: Duration,
    pub(super) bodies: Bodies,
}

/// The bytes of the bodies of all requests under way; clones share the sum.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bodies(Arc<AtomicUsize>);

impl Bodies {
    /// The part of a body that has no bytes yet.
    pub(crate) fn held(&self) -> HeldBytes {
        HeldBytes { all: self.clone(), bytes: 0 }
    }
}

/// The part of the sum that one body has.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    all: Bodies,
    bytes: usize,
}

impl HeldBytes {
    /// Counts a body that has `length` bytes by now.
    ///
    /// Errors: [`Error::TooManyBytes`].
    pub(crate) fn grow_to(&mut self, length: usize) -> Result<()> {
        let more = length.saturating_sub(FREE_BYTES).saturating_sub(self.bytes);
        let within = |now: usize| now.checked_add(more).filter(|sum| *sum <= BODIES_BYTES);
        let added = self.all.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        added.map_err(|_| Error::TooManyBytes { mib: BODIES_BYTES >> 20 })?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the guard found out about a client, for handlers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// Why the client may not change definitions.
    pub(super) definitions: Option<AccessDenied>,
}

/// True for a client that may query: a probe tells it why something is not ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct MayQuery(pub(super) bool);

/// Lets a request pass to its handler, or answers it.
pub(super) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    let mut held = door.bodies.held();
    let known = origins::known(&door.access.origins, request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match pass(&door, request, &mut held).await {
        // The handler returns once its query has started, and the text is no longer needed then.
        Ok(Some(request)) => next.run(request).await,
        Ok(None) => origins::preflight(),
        Err(error) => error.into_response(),
    };
    origins::allow(known, origin, &door.access.origins, response.headers_mut());
    response
}

/// Returns a request that may pass; `None` if a browser asks what a page of another site may do, and the page may ask.
async fn pass(door: &Door, mut request: Request, held: &mut HeldBytes) -> Result<Option<Request>> {
    let right = right(request.method(), request.uri().path());
    if right == Right::Probe {
        let token = text(request.headers(), header::AUTHORIZATION).and_then(bearer);
        let may_query = MayQuery(door.access.check(Right::Query, token).is_ok());
        request.extensions_mut().insert(may_query);
        return Ok(Some(request));
    }
    let headers = request.headers();
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = text(headers, header::HOST).or(authority).unwrap_or_default();
    if !door.access.serves(host) {
        return Err(Error::AskOtherHost { host: host.to_owned() });
    }
    let other_site = if same_site(headers, host) { None } else { origins::known(&door.access.origins, headers) };
    if other_site.is_some() && origins::is_preflight(request.method(), headers) {
        return Ok(None);
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_foreign = if reads { origins::is_fetched_elsewhere(headers) } else { !same_site(headers, host) };
    if is_foreign && other_site.is_none() {
        return Err(Error::AskFromOtherSite);
    }
    let token = text(headers, header::AUTHORIZATION).and_then(bearer);
    door.access.check(right, token).map_err(Error::Deny)?;
    let of_origin = other_site.map_or(Ok(()), |origin| door.access.check_origin(origin));
    if right == Right::Change {
        of_origin.map_err(Error::Deny)?;
    }
    let definitions = door.access.check_definitions(token).and(of_origin).err();
    let caller = Caller { definitions };
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(caller);
    let received = tokio::time::timeout(door.receive_within, receive(body, held)).await;
    let body = received.map_err(|_| Error::ReadSlowRequest { seconds: door.receive_within.as_secs_f64() })??;
    Ok(Some(Request::from_parts(parts, Body::from(body))))
}

/// The right that a request needs. `/v1/sql` also takes definitions, which are known once the SQL is read.
fn right(method: &Method, path: &str) -> Right {
    match path {
        paths::HEALTHZ | paths::READYZ => Right::Probe,
        paths::CONSOLE => Right::Page,
        path if path.starts_with(ASSETS) => Right::Page,
        paths::METRICS => Right::Metrics,
        paths::AUDIT | paths::BATCH_RUN => Right::Change,
        _ if [Method::PUT, Method::DELETE].contains(method) => Right::Change,
        _ => Right::Query,
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// False for requests of pages from other sites, which must not make a browser change or read anything here.
fn same_site(headers: &HeaderMap, host: &str) -> bool {
    match headers.get(header::ORIGIN).map(|origin| origin.to_str()) {
        None => true,
        Some(Ok(origin)) => origin.split_once("://").is_some_and(|(_, origin_host)| origin_host == host),
        Some(Err(_)) => false,
    }
}

/// Reads the whole body.
///
/// Errors: [`Error::ReadLongRequest`], [`Error::ReadRequest`], [`Error::TooManyBytes`].
async fn receive(body: Body, held: &mut HeldBytes) -> Result<Bytes> {
    let mut chunks = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|e| Error::ReadRequest { reason: format!("the body broke off: {}", innermost(&e)) })?;
        if whole.len() + chunk.len() > REQUEST_BYTES {
            let reason = format!("the body is longer than {} MiB; send less at a time", REQUEST_BYTES >> 20);
            return Err(Error::ReadLongRequest { reason });
        }
        held.grow_to(whole.len() + chunk.len())?;
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// Permits for audits and runs, which take memory and cores for long.
#[derive(Debug, Clone)]
pub(super) struct CallPermits {
    permits: Arc<Semaphore>,
    most: usize,
}

impl CallPermits {
    pub(super) fn new(most: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(most)), most }
    }

    /// Takes a permit, which is given back when it is dropped.
    ///
    /// Errors: [`Error::TooManyCalls`].
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Error::TooManyCalls { running: self.most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_one_sum_and_short_ones_need_none_of_it() {
        let all = Bodies::default();
        let held = || HeldBytes { all: all.clone(), bytes: 0 };
        let mut long: Vec<HeldBytes> = (0..16).map(|_| held()).collect();
        for body in &mut long {
            body.grow_to(1 << 20).unwrap();
            body.grow_to(REQUEST_BYTES).unwrap();
        }
        let mut further = held();
        assert!(matches!(further.grow_to(REQUEST_BYTES), Err(Error::TooManyBytes { .. })));
        further.grow_to(FREE_BYTES).unwrap();
        drop(long.pop());
        further.grow_to(REQUEST_BYTES).unwrap();
        drop((long, further));
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
