//! `thalweg batch`: the schedule of runs, and nothing that is asked.
//!
//! Invariant: several of them do no harm: a view is computed by whoever holds its lease.

use std::sync::Arc;

use thalweg_batch::run_requests;
use thalweg_schemas::warehouse::Warehouse;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::calls::{self, Batch};
use super::{Base, Part, Platform, Stopped, probes};
use crate::config::Settings;

/// Starts the schedule, and probes at `http`.
///
/// Errors: the catalog cannot be read.
pub(crate) async fn batch(settings: &Settings, warehouse: Warehouse, http: TcpListener) -> Result<Platform, Stopped> {
    super::spill_folder(settings)?;
    let (base, following) = Base::open(warehouse).await?;
    let (published_sender, published) = watch::channel(Arc::default());
    let computing = calls::threads(settings)?;
    let batch = Batch::new(&base, Arc::clone(&computing), super::batch_config(settings));
    let answering = probes::of_batch(&base, published);
    let wake = Arc::new(Notify::new());
    let requests = run_requests::watch(base.warehouse.clone(), Arc::clone(&wake));
    Ok(Platform {
        parts: vec![
            Part::spawn("the batch layer", computing.handle(), |end| batch.schedule(wake, published_sender, end)),
            Part::spawn("requests for runs", &Handle::current(), |end| async move {
                end.run_until_cancelled(requests).await;
                Ok(())
            }),
            Part::spawn("probes", &Handle::current(), |end| probes::answer(http, answering, end)),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}
