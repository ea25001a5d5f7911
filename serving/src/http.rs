//! HTTP: routes, errors as JSON, and graceful shutdown.
//!
//! Invariant: every answer that is not 2xx has the body `{"error": {"code", "message", …}}`, whichever layer produced
//! it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Extension, Router};
use thalweg_schemas::Fault;
use thalweg_schemas::api::error::{ErrorCode, Refusal};
use thalweg_schemas::api::paths;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

use crate::Error;
use crate::changes::ChangeFeeds;
use crate::engine::Engine;

mod pace;
mod socket;

mod connections;
mod origins;

mod guard;

mod calls;
mod console;
mod dashboards;
mod health;
mod probes;

mod format;

mod encode;
mod reply;

mod kept;

mod sending;

mod answers;

mod values;

mod request;

mod rows;

mod sql;

mod changes;

mod openapi;

use self::console::Console;
use self::dashboards::DashboardPermits;
use self::format::AnswerFormat;
use self::guard::{CallPermits, Door, REQUEST_BYTES};
use self::kept::KeptAnswers;

pub(crate) use self::connections::accept;
pub(crate) use self::guard::{Bodies, HeldBytes};
pub(crate) use self::pace::PacedStream;
pub use self::probes::{Probes, probe};

/// Bytes below which an answer is not compressed.
const COMPRESSED_BYTES: u16 = 1024;

/// Seconds after which a client that found no place may ask again.
const RETRY_AFTER: &str = "5";

/// Answers requests until `cancel`, and then until the last connection has ended.
pub(crate) async fn answer(
    listener: TcpListener,
    engine: Arc<Engine>,
    feeds: Arc<ChangeFeeds>,
    cancel: CancellationToken,
) {
    let limits = engine.config.http.clone();
    connections::answer(listener, routes(engine, feeds), limits, cancel).await;
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
fn table() -> [Route; 20] {
    [
        answer_post(paths::SQL, sql::run),
        answer_get(paths::SQL, sql::read),
        answer_get(paths::VIEW_ROWS, sql::view),
        answer_get(paths::VIEW_CHANGES, changes::changes),
        answer_get(paths::STREAM_ROWS, sql::stream),
        answer_get(paths::STREAMS, health::streams),
        answer_get(paths::VIEWS, health::views),
        answer_get(paths::PROCESS, health::process),
        answer_post(paths::AUDIT, calls::audit),
        answer_post(paths::BATCH_RUN, calls::batch),
        answer_get(paths::DASHBOARDS, dashboards::list),
        answer_get(paths::DASHBOARD, dashboards::read),
        (Method::PUT, paths::DASHBOARD, put(dashboards::save)),
        (Method::DELETE, paths::DASHBOARD, delete(dashboards::delete)),
        answer_get(paths::OPENAPI, openapi::document),
        answer_get(paths::HEALTHZ, health::alive),
        answer_get(paths::READYZ, health::ready),
        answer_get(paths::METRICS, health::metrics),
        answer_get(paths::CONSOLE, console::page),
        answer_get(paths::ASSET, console::asset),
    ]
}

fn routes(engine: Arc<Engine>, feeds: Arc<ChangeFeeds>) -> Router {
    let router = table().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    let calls = CallPermits::new(engine.config.max_calls);
    let kept = Arc::new(KeptAnswers::new(engine.config.kept_answers, engine.sources.metrics.kept_answers.clone()));
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(
        SizeAbove::new(COMPRESSED_BYTES)
            .and(NotForContentType::const_new(AnswerFormat::Parquet.media_type()))
            .and(NotForContentType::SSE),
    );
    let door = Door {
        access: Arc::new(engine.config.access.clone()),
        receive_within: engine.config.http.client_within,
        bodies: Bodies::default(),
    };
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(Extension(calls))
        .layer(Extension(DashboardPermits::default()))
        .layer(Extension(Console::embedded()))
        .layer(Extension(kept))
        .layer(Extension(feeds))
        .layer(compression)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .layer(middleware::from_fn_with_state(door, guard::guard))
        .with_state(engine)
}

async fn no_such_path(request: Request) -> Error {
    Error::FindPath { path: request.uri().path().to_owned() }
}

async fn no_such_method(request: Request) -> Error {
    Error::FindMethod { path: request.uri().path().to_owned(), method: request.method().to_string() }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if matches!(self.fault(), Fault::Engine | Fault::Bug) {
            tracing::error!(error = %self, "a request failed by a fault of the server");
        }
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(Refusal { error: self.body() })).into_response();
        let mut say = |name, text: &'static str| response.headers_mut().insert(name, HeaderValue::from_static(text));
        match self.code() {
            ErrorCode::Unauthorized => drop(say(header::WWW_AUTHENTICATE, "Bearer")),
            ErrorCode::TooBusy => drop(say(header::RETRY_AFTER, RETRY_AFTER)),
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests;
