//! `thalweg batch`: the schedule of runs, and no calls from clients.
//!
//! Invariant: several such processes are safe: only the holder of a view's lease computes the view.

use std::sync::Arc;

use thalweg_batch::run_requests;
use thalweg_serving::{Metrics, Probes, probe};
use tokio::sync::{Notify, watch};

use super::calls::Runs;
use super::parts::{Part, Platform};
use super::process::{Opened, spill_folder, threads};
use crate::config::Settings;

impl Platform {
    /// Starts the schedule of runs and the probes, as `thalweg batch` does. It neither logs nor prints.
    ///
    /// Errors: the port is taken, the warehouse cannot be opened, or its catalog cannot be read.
    pub async fn batch(settings: &Settings) -> anyhow::Result<Self> {
        batch(settings, Opened::probed(settings).await?).await
    }
}

/// Starts the schedule and the probes.
///
/// Errors: a token cannot be looked up, or the catalog cannot be read.
pub(crate) async fn batch(settings: &Settings, opened: Opened) -> anyhow::Result<Platform> {
    let access = settings.probe_access()?;
    spill_folder(settings)?;
    let (announced, published) = watch::channel(Arc::default());
    let (shared, following) = opened.share(published).await?;
    let (metrics, wake) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
    let runs = Runs::new(&shared, &metrics, threads(settings)?, settings.batch());
    let requests = run_requests::watch(opened.warehouse, Arc::clone(&wake), run_requests::POLL);
    let probes = Probes { shared, metrics, streams: None, access, http: settings.http_limits() };
    Ok(Platform {
        addresses: opened.addresses,
        parts: vec![
            runs.schedule(wake, announced),
            Part::endless("requests for runs", requests),
            Part::spawn("probes", |end| probe(opened.http, probes, end)),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}
