//! HTTP: routes, errors as JSON, and graceful shutdown.
//!
//! Invariant: every answer that is not 2xx has the body `{"error": {"code", "message", …}}`, whichever layer produced
//! it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::serve::ListenerExt;
use thalweg_schemas::Fault;
use thalweg_schemas::api::error::Refusal;
use thalweg_schemas::api::paths;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::sources::{ServingConfig, Sources};
use crate::{Error, Result};

mod calls;
mod encode;
mod health;
mod probes;
mod sql;

pub use self::probes::{Probes, probe};

/// The longest request body, in bytes.
const REQUEST_BYTES: usize = 4 << 20;

/// Serves until `cancel`; after that, running queries have the configured grace time to end.
///
/// Errors: [`Error::Serve`] if the listener fails, [`Error::Shared`] if the spill folder cannot be used,
/// [`Error::StartThreads`].
pub async fn serve(
    listener: TcpListener,
    config: ServingConfig,
    sources: Sources,
    cancel: CancellationToken,
) -> Result<()> {
    let grace = config.shutdown_grace;
    let engine = Arc::new(Engine::new(config, sources)?);
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let server = axum::serve(listener, routes(engine)).with_graceful_shutdown(cancel.clone().cancelled_owned());
    let overdue = async {
        cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = server.into_future() => ended.map_err(Error::Serve),
        () = overdue => {
            tracing::info!("queries were cut off by the shutdown");
            Ok(())
        }
    }
}

/// Method, path, and the handler for both.
type Route = (Method, &'static str, MethodRouter<Arc<Engine>>);

fn answer_get<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Engine>>) -> Route {
    (Method::GET, path, get(handler))
}

fn answer_post<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<Engine>>) -> Route {
    (Method::POST, path, post(handler))
}

/// All routes; a test compares `docs/http.md` with them.
fn table() -> [Route; 9] {
    [
        answer_post(paths::SQL, sql::run),
        answer_get(paths::STREAMS, health::streams),
        answer_get(paths::VIEWS, health::views),
        answer_get(paths::PROCESS, health::process),
        answer_post(paths::AUDIT, calls::audit),
        answer_post(paths::BATCH_RUN, calls::batch),
        answer_get(paths::HEALTHZ, health::alive),
        answer_get(paths::READYZ, health::ready),
        answer_get(paths::METRICS, health::metrics),
    ]
}

fn routes(engine: Arc<Engine>) -> Router {
    let router = table().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .layer(middleware::from_fn(refuse_other_sites))
        .with_state(engine)
}

async fn no_such_path(request: Request) -> Error {
    Error::FindPath { path: request.uri().path().to_owned() }
}

async fn no_such_method(request: Request) -> Error {
    Error::FindMethod { path: request.uri().path().to_owned(), method: request.method().to_string() }
}

/// Refuses requests other than GET from pages of other sites, which must not make a browser change or read anything
/// here.
async fn refuse_other_sites(request: Request, next: Next) -> Response {
    if request.method() == Method::GET || same_site(request.headers()) {
        return next.run(request).await;
    }
    Error::AskFromOtherSite.into_response()
}

fn same_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, origin_host)| origin_host == host),
        (Some(_), None) => false,
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if matches!(self.fault(), Fault::Engine | Fault::Bug) {
            tracing::error!(error = %self, "a request failed by a fault of the server");
        }
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(Refusal { error: self.body() })).into_response()
    }
}

#[cfg(test)]
mod tests;
