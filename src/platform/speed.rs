//! `thalweg speed`: the streams' partitions that fall to this worker, and an answer to replicas over Arrow Flight.
//!
//! | part | ends |
//! |---|---|
//! | archive and speed layer of every stream | first: what is held is archived, then the worker leaves the group |
//! | Flight | second: until then replicas read what is held |
//! | batch versions, probes, catalog follower | last |
//!
//! Invariant: other machines reach it only with a token.

use std::collections::HashMap;
use std::sync::Arc;

use thalweg_batch::run_requests;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_speed::Assignment;
use thalweg_speed::flight::{FlightConfig, ServerTls};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::{Base, Part, Platform, probes, streams};
use crate::config::{Settings, advertised};

/// Starts a worker that answers replicas at `flight`, and probes at `http`.
///
/// Errors: the catalog cannot be read, or a certificate.
pub(crate) async fn speed(
    settings: &Settings,
    warehouse: Warehouse,
    http: TcpListener,
    flight: TcpListener,
) -> anyhow::Result<Platform> {
    let cluster = settings.cluster();
    let address = flight.local_addr()?;
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
    };
    let (base, following) = Base::open(warehouse).await?;
    let (published, following_published) = base.published();
    let (handles_sender, handles) = watch::channel(Arc::new(HashMap::new()));
    let here = Handle::current();
    let short = Arc::new(Notify::new());
    let requesting = run_requests::request(base.warehouse.clone(), Arc::clone(&short));
    let wiring = streams::Wiring {
        config: super::speed_config(settings, assignment(settings, me)),
        warehouse: base.warehouse.clone(),
        catalogs: base.catalogs.clone(),
        catalog: base.catalog.clone(),
        published: published.clone(),
        pressure: Arc::clone(&short),
        metrics: Arc::clone(&base.metrics),
        end_within: settings.shutdown_timeout,
    };
    let answering = probes::of_streams(&base, published, handles.clone());
    let catalog = base.catalog.clone();
    Ok(Platform {
        parts: vec![
            Part::spawn("the speed layer", &here, |end| streams::run(wiring, handles_sender, end)),
            Part::spawn("Flight", &here, |end| async move {
                Ok(thalweg_speed::flight::serve(flight, config, catalog, handles, end).await?)
            }),
            Part::spawn("requests for runs", &here, |end| async move {
                end.run_until_cancelled(requesting).await;
                Ok(())
            }),
            following_published,
            Part::spawn("probes", &here, |end| probes::answer(http, answering, end)),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}

/// Which partitions the worker reads that is reached at `me`.
fn assignment(settings: &Settings, me: String) -> Assignment {
    match &settings.partitions {
        Some(partitions) => Assignment::Static(partitions.clone()),
        None => group(settings, me),
    }
}

/// The consumer groups by which workers share the streams, for the one that is reached at `me`.
pub(super) fn group(settings: &Settings, me: String) -> Assignment {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Assignment::Group { id: given(&settings.group_id), instance: given(&settings.group_instance), advertise: me }
}
