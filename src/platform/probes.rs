//! What a process without queries says of itself: to orchestrators whether it is ready, to Prometheus how it is doing.
//!
//! Invariant: `/readyz` is about this process alone: whether it does its share, not whether the platform can answer.

use std::collections::HashMap;
use std::sync::Arc;

use thalweg_schemas::StreamName;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::realtime::snapshot::StreamHandle;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_serving::Probes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Base, Stopped};

type ProbeHandles = Arc<HashMap<StreamName, StreamHandle>>;

/// Of a speed worker: ready once all that it reads has caught up.
pub(super) fn of_streams(
    base: &Base,
    published: watch::Receiver<Arc<Published>>,
    streams: watch::Receiver<ProbeHandles>,
) -> Probes {
    let (catalog, handles) = (base.catalog.clone(), streams.clone());
    Probes {
        metrics: Arc::clone(&base.metrics),
        catalog: base.catalog.clone(),
        published,
        streams,
        not_ready: Arc::new(move || behind(&catalog.borrow(), &handles.borrow())),
    }
}

/// Of the schedule: it is ready once it runs.
pub(super) fn of_batch(base: &Base, published: watch::Receiver<Arc<Published>>) -> Probes {
    let (_, streams) = watch::channel(Arc::default());
    Probes {
        metrics: Arc::clone(&base.metrics),
        catalog: base.catalog.clone(),
        published,
        streams,
        not_ready: Arc::new(Vec::new),
    }
}

/// Answers at `listener`.
pub(super) async fn answer(listener: TcpListener, probes: Probes, end: CancellationToken) -> Result<(), Stopped> {
    Ok(thalweg_serving::probe(listener, probes, end).await?)
}

/// Why the worker does not do its share of each stream: one sentence for each that is stopped or behind.
fn behind(catalog: &Catalog, streams: &HashMap<StreamName, StreamHandle>) -> Vec<String> {
    let of = |name: &StreamName| {
        let Some(handle) = streams.get(name) else {
            return Some("starting".to_owned());
        };
        if let Some(failure) = handle.failure.borrow().clone() {
            return Some(failure);
        }
        match handle.snapshots.borrow().as_deref() {
            None => Some("starting".to_owned()),
            Some(snapshot) => {
                let mut behind = snapshot.frontier.partitions();
                behind.any(|partition| !snapshot.caught_up_partitions.contains(&partition)).then(|| {
                    match &snapshot.waiting {
                        Some(why) => format!("it waits for Kafka ({why})"),
                        None => "catching up".to_owned(),
                    }
                })
            }
        }
    };
    let told = catalog.streams.keys().filter_map(|name| {
        let reason = of(name)?;
        Some(format!("stream `{name}`: {reason}"))
    });
    told.collect()
}
