//! `thalweg up`: all layers in one process; what the other roles send over a network is handed over in memory here.
//!
//! | part | ends |
//! |---|---|
//! | HTTP | first: no new queries |
//! | archive and speed layer of every stream | second: the last epoch is archived, as a mark |
//! | schedule of runs | third: a run that is cut off publishes nothing |
//! | catalog follower | last |
//!
//! Invariant: the layers are wired as in the other roles, only nearer to each other.

use std::collections::HashMap;
use std::sync::Arc;

use thalweg_schemas::warehouse::Warehouse;
use thalweg_serving::{Realtime, Sources};
use thalweg_speed::Assignment;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::audit::Audits;
use super::calls::{self, Batch};
use super::{Base, Part, Platform, Stopped, streams};
use crate::config::Settings;

/// Starts every layer on an opened warehouse.
///
/// Errors: the catalog cannot be read.
pub(crate) async fn up(settings: &Settings, warehouse: Warehouse, listener: TcpListener) -> Result<Platform, Stopped> {
    super::spill_folder(settings)?;
    let (base, following) = Base::open(warehouse).await?;
    let (published_sender, published) = watch::channel(Arc::default());
    let (handles_sender, handles) = watch::channel(Arc::new(HashMap::new()));
    let wake = Arc::new(Notify::new());
    let here = Handle::current();
    let computing = calls::threads(settings)?;

    let wiring = streams::Wiring {
        config: super::speed_config(settings, Assignment::All),
        warehouse: base.warehouse.clone(),
        catalogs: base.catalogs.clone(),
        catalog: base.catalog.clone(),
        published: published.clone(),
        pressure: Arc::clone(&wake),
        metrics: Arc::clone(&base.metrics),
        end_within: settings.shutdown_timeout,
    };
    let batch = Batch::new(&base, Arc::clone(&computing), super::batch_config(settings));
    let realtime = Realtime::Local(handles);
    // Snapshots of this process bring their own master dataset.
    let (_, masters) = watch::channel(Arc::default());
    let audits = Audits {
        base: base.clone(),
        threads: Arc::clone(&computing),
        realtime: realtime.clone(),
        published: published.clone(),
        masters: masters.clone(),
        memory: settings.batch_memory,
    };
    let sources = Sources {
        catalog: base.catalog.clone(),
        catalogs: base.catalogs.clone(),
        published,
        realtime,
        masters,
        warehouse: base.warehouse.clone(),
        changed: Arc::clone(&base.changed),
        audit: audits.call(),
        batch: batch.run_call(),
        metrics: Arc::clone(&base.metrics),
    };
    let config = super::serving_config(settings);
    Ok(Platform {
        parts: vec![
            Part::spawn("serving", &here, |end| super::serve::answer(listener, config, sources, end)),
            Part::spawn("the speed layer", &here, |end| streams::run(wiring, handles_sender, end)),
            Part::spawn("the batch layer", computing.handle(), |end| batch.schedule(wake, published_sender, end)),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}
