//! Probes of a process that answers no queries: `/healthz`, `/readyz` and `/metrics`.
//!
//! Invariant: nothing here can be changed, and nothing of the data is shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use thalweg_schemas::StreamName;
use thalweg_schemas::api::paths;
use thalweg_schemas::api::process::ProbeAnswer;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::realtime::snapshot::StreamHandle;
use thalweg_schemas::warehouse::versions::Published;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::health::{alive, openmetrics, readiness_of};
use super::{no_such_method, no_such_path};
use crate::metrics::Metrics;
use crate::status::exposition::encode_of;
use crate::status::stream::local;
use crate::{Error, Result};

/// What a process shows of itself.
#[derive(Clone)]
pub struct Probes {
    pub metrics: Arc<Metrics>,
    pub catalog: watch::Receiver<Arc<Catalog>>,
    pub published: watch::Receiver<Arc<Published>>,
    /// Those that this process reads.
    pub streams: watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>,
    /// Why it does not do its work, one sentence for each reason; none if it does.
    pub not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// Answers probes until `cancel`.
///
/// Errors: [`Error::Serve`] if the listener fails.
pub async fn probe(listener: TcpListener, probes: Probes, cancel: CancellationToken) -> Result<()> {
    let server = axum::serve(listener, routes(probes)).with_graceful_shutdown(cancel.clone().cancelled_owned());
    tokio::select! {
        ended = server.into_future() => ended.map_err(Error::Serve),
        // A scraper that keeps its connection must not hold up the end.
        () = cancel.cancelled() => Ok(()),
    }
}

fn routes(probes: Probes) -> Router {
    Router::new()
        .route(paths::HEALTHZ, get(alive))
        .route(paths::READYZ, get(ready))
        .route(paths::METRICS, get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(probes)
}

async fn ready(State(probes): State<Probes>) -> Result<Json<ProbeAnswer>> {
    readiness_of("the process", &(probes.not_ready)())
}

async fn metrics(State(probes): State<Probes>) -> Result<Response> {
    let catalog = probes.catalog.borrow().clone();
    let published = probes.published.borrow().clone();
    let streams = probes.streams.borrow().clone();
    let mut stream_conditions = local(&catalog, &streams);
    // A stream that is not read here does not stand still here.
    stream_conditions.streams.retain(|name, _| streams.contains_key(name));
    openmetrics(encode_of(&probes.metrics, &catalog, &published, &stream_conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and body of a path of a process that is not ready for these reasons.
    async fn get(reasons: &'static [&'static str], path: &str) -> (u16, String) {
        let probes = Probes {
            metrics: Arc::default(),
            catalog: watch::channel(Arc::default()).1,
            published: watch::channel(Arc::default()).1,
            streams: watch::channel(Arc::default()).1,
            not_ready: Arc::new(|| reasons.iter().map(|&r| r.to_owned()).collect()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(probe(listener, probes, cancel.clone()));
        let answer = reqwest::get(url).await.unwrap();
        let told = (answer.status().as_u16(), answer.text().await.unwrap());
        cancel.cancel();
        serving.await.unwrap().unwrap();
        told
    }

    #[tokio::test]
    async fn probes_are_honest_and_show_nothing_else() {
        for (reasons, path, status, part) in [
            (&[][..], "/healthz", 200, "ok"),
            (&[], "/readyz", 200, "ready"),
            (&[], "/metrics", 200, "# EOF\n"),
            (&["stream `s`: catching up"], "/readyz", 503, "stream `s`: catching up"),
            (&["stream `s`: catching up"], "/healthz", 200, "ok"),
            (&[], "/v1/sql", 404, "no_such_path"),
            (&[], "/v1/streams", 404, "no_such_path"),
        ] {
            let (told, text) = get(reasons, path).await;
            assert_eq!(told, status, "{path}: {text}");
            assert!(text.contains(part), "{path}: {text}");
        }
    }
}
