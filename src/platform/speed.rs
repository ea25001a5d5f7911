//! `thalweg speed`: reads the partitions assigned to this worker, and serves replicas over Arrow Flight.
//!
//! | part | ends |
//! |---|---|
//! | archive and speed layer of every stream | first: what is held is archived, then the worker leaves the group |
//! | Flight | second: until then replicas read what is held |
//! | batch versions, probes, catalog follower | last |
//!
//! Invariant: other machines reach the worker only with a token.

use std::sync::Arc;

use thalweg_batch::{follow_published, run_requests};
use thalweg_serving::{Metrics, Probes, probe};
use thalweg_speed::flight::{self, FlightConfig, ServerTls};
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::parts::{Part, Platform};
use super::process::{Opened, listen, spill_folder, stream_threads};
use super::streams::StreamRunner;
use crate::config::{Settings, advertised};

impl Platform {
    /// Starts a worker and its probes, as `thalweg speed` does. It neither logs nor prints.
    ///
    /// Returns also the address by which replicas reach the worker.
    ///
    /// Errors: a port is taken, or the warehouse, its catalog or a certificate cannot be read.
    pub async fn speed(settings: &Settings) -> anyhow::Result<(Self, String)> {
        speed(settings, Opened::probed(settings).await?).await
    }
}

/// Starts a worker and its probes. Also returns the address by which replicas reach the worker.
///
/// Errors: the catalog or a certificate cannot be read; the port for replicas is taken.
pub(crate) async fn speed(settings: &Settings, opened: Opened) -> anyhow::Result<(Platform, String)> {
    spill_folder(settings)?;
    let listener = listen("flight_addr", settings.flight_addr).await?;
    let address = listener.local_addr()?;
    let cluster = settings.cluster()?;
    let tls = cluster.identity()?;
    if tls.is_none() && !address.ip().is_loopback() {
        warn!("rows and the cluster_token cross the network in clear text; tls_cert and tls_key change that");
    }
    let me = advertised(&settings.flight_advertise, address);
    let config = FlightConfig {
        worker: me.clone(),
        token: cluster.token(),
        tls: tls.map(|(cert_pem, key_pem)| ServerTls { cert_pem, key_pem }),
        threads: settings.query_threads,
        spill: Some(settings.spill_dir()),
    };
    let (announced, published) = watch::channel(Arc::default());
    let (shared, following) = opened.share(published).await?;
    let (metrics, pressure) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
    let requests = run_requests::request(opened.warehouse.clone(), Arc::clone(&pressure), run_requests::POLL);
    let streams = StreamRunner {
        config: settings.speed(settings.assignment(me.clone())),
        shared: shared.clone(),
        pressure,
        metrics: Arc::clone(&metrics),
        end_within: settings.shutdown_timeout,
        threads: stream_threads()?,
    };
    let (shown, handles) = watch::channel(Arc::default());
    let (access, http) = (settings.probe_access()?, settings.http_limits());
    let probes = Probes { shared: shared.clone(), metrics, streams: Some(handles.clone()), access, http };
    let (warehouse, catalog) = (opened.warehouse, shared.catalog.clone());
    let platform = Platform {
        addresses: opened.addresses,
        parts: vec![
            Part::spawn("the speed layer", |end| streams.run(shown, end)),
            Part::spawn("Flight", |end| flight::serve(listener, config, shared.catalog, handles, end)),
            Part::endless("requests for runs", requests),
            Part::restarted("batch versions", move |end| {
                follow_published(warehouse.clone(), catalog.clone(), announced.clone(), end)
            }),
            Part::spawn("probes", |end| probe(opened.http, probes, end)),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    };
    Ok((platform, me))
}
