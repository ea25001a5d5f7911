//! Probes of a process that answers no queries: `/healthz`, `/readyz` and `/metrics`.
//!
//! Invariant: no request changes anything, and no answer contains rows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use thalweg_schemas::api::paths;
use thalweg_schemas::api::process::ProbeAnswer;
use thalweg_schemas::api::streams::StreamPhase;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::realtime::snapshot::StreamHandle;
use thalweg_schemas::{Shared, StreamName};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::guard::{self, Bodies, Door, MayQuery};
use super::health::{alive, openmetrics, readiness_of};
use super::{connections, no_such_method, no_such_path};
use crate::Result;
use crate::access::{Access, HttpLimits};
use crate::metrics::Metrics;
use crate::status::exposition::encode_of;
use crate::status::readiness::Detail;
use crate::status::stream::local;

/// The state that a process shows in its probes.
#[derive(Clone)]
pub struct Probes {
    pub shared: Shared,
    pub metrics: Arc<Metrics>,
    /// The streams that this process reads; `None` for a process that reads none, which is ready as soon as it runs.
    pub streams: Option<watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>>,
    /// Who may read the metrics.
    pub access: Access,
    pub http: HttpLimits,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// Answers probes until `cancel`.
///
/// Errors: none so far.
pub async fn probe(listener: TcpListener, probes: Probes, cancel: CancellationToken) -> Result<()> {
    let (limits, router) = (probes.http.clone(), routes(probes));
    tokio::select! {
        () = connections::answer(listener, router, limits, cancel.clone()) => {}
        // A scraper that keeps its connection open must not delay the shutdown.
        () = cancel.cancelled() => {}
    }
    Ok(())
}

fn routes(probes: Probes) -> Router {
    let door = Door {
        access: Arc::new(probes.access.clone()),
        receive_within: probes.http.client_within,
        bodies: Bodies::default(),
    };
    Router::new()
        .route(paths::HEALTHZ, get(alive))
        .route(paths::READYZ, get(ready))
        .route(paths::METRICS, get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(door, guard::guard))
        .with_state(probes)
}

async fn ready(
    State(probes): State<Probes>,
    Extension(MayQuery(may_query)): Extension<MayQuery>,
) -> Result<Json<ProbeAnswer>> {
    let catalog = probes.shared.catalog.borrow().clone();
    let detail = if may_query { Detail::Reason } else { Detail::Phase };
    let reasons = probes.streams.map_or_else(Vec::new, |streams| behind(&catalog, &streams.borrow(), detail));
    readiness_of("the process", &reasons)
}

/// Returns one sentence for each stream that is stopped or behind in this process. Whether the whole platform can
/// answer does not matter here.
fn behind(catalog: &Catalog, streams: &HashMap<StreamName, StreamHandle>, detail: Detail) -> Vec<String> {
    let named = catalog.streams.keys().filter_map(|name| {
        let reason = streams.get(name).map_or_else(|| Some("starting".to_owned()), |handle| lag(handle, detail))?;
        Some(format!("stream `{name}`: {reason}"))
    });
    named.collect()
}

/// Returns why a stream is stopped or behind in the partitions that this process reads; `None` if it is neither.
fn lag(handle: &StreamHandle, detail: Detail) -> Option<String> {
    if let Some(failure) = handle.failure.borrow().clone() {
        return Some(match detail {
            Detail::Reason => failure,
            Detail::Phase => StreamPhase::Stopped.as_str().to_owned(),
        });
    }
    let Some(snapshot) = handle.snapshots.borrow().clone() else {
        return Some("starting".to_owned());
    };
    let mut read = snapshot.frontier.partitions();
    let behind = read.any(|partition| !snapshot.caught_up_partitions.contains(&partition));
    behind.then(|| match (&snapshot.waiting, detail) {
        (Some(why), Detail::Reason) => format!("it waits for Kafka ({why})"),
        (Some(_), Detail::Phase) => "it waits for Kafka".to_owned(),
        (None, _) => "catching up".to_owned(),
    })
}

async fn metrics(State(probes): State<Probes>) -> Result<Response> {
    let catalog = probes.shared.catalog.borrow().clone();
    let published = probes.shared.published.borrow().clone();
    let streams = probes.streams.map(|streams| streams.borrow().clone()).unwrap_or_default();
    let mut stream_conditions = local(&catalog, &streams);
    // A stream that this process does not read must not be reported as stopped.
    stream_conditions.streams.retain(|name, _| streams.contains_key(name));
    openmetrics(encode_of(&probes.metrics, &catalog, &published, &stream_conditions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, at};
    use crate::sources::Realtime;

    /// The probes of a process that reads the streams of `world`.
    fn reading(world: &World) -> Probes {
        let Realtime::Local(streams) = world.sources.realtime.clone() else { unreachable!("the world is local") };
        let (shared, metrics) = (world.sources.shared.clone(), Arc::clone(&world.sources.metrics));
        let (access, http) = (Access::default(), HttpLimits::default());
        Probes { shared, metrics, streams: Some(streams), access, http }
    }

    /// Returns status and body of a GET request.
    async fn get(probes: Probes, path: &str) -> (u16, String) {
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
        let world = World::new().await;
        let behind = || reading(&world);
        let idle = || Probes { streams: None, ..reading(&world) };
        for (probes, path, status, part) in [
            (idle(), "/healthz", 200, "ok"),
            (idle(), "/readyz", 200, "ready"),
            (idle(), "/metrics", 200, "# EOF\n"),
            (behind(), "/readyz", 503, "stream `sensor_data`: starting"),
            (behind(), "/healthz", 200, "ok"),
            (idle(), "/v1/sql", 404, "no_such_path"),
            (idle(), "/v1/streams", 404, "no_such_path"),
        ] {
            let (told, text) = get(probes, path).await;
            assert_eq!(told, status, "{path}: {text}");
            assert!(text.contains(part), "{path}: {text}");
        }
    }

    #[tokio::test]
    async fn a_worker_is_ready_once_all_that_it_reads_has_caught_up() {
        let world = World::standing(&at(2, 2), &at(1, 1), &at(3, 3)).await;
        let check = |expect: &[&str]| {
            let (catalog, streams) = (world.catalog.borrow(), world.streams.borrow());
            assert_eq!(behind(&catalog, &streams, Detail::Reason), expect);
            for told in behind(&catalog, &streams, Detail::Phase) {
                assert!(!told.contains("no broker") && !told.contains("no topic"), "{told}");
            }
        };
        check(&[]);
        world.alter(|snapshot| snapshot.caught_up_partitions.clear());
        check(&["stream `sensor_data`: catching up"]);
        world.alter(|snapshot| snapshot.waiting = Some("no broker".to_owned()));
        check(&["stream `sensor_data`: it waits for Kafka (no broker)"]);
        world.failure.send_replace(Some("no topic".to_owned()));
        check(&["stream `sensor_data`: no topic"]);
        world.streams.send_replace(Arc::default());
        check(&["stream `sensor_data`: starting"]);
    }
}
