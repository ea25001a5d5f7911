//! `thalweg up`: all layers in one process; data that other roles send over a network is passed in memory.
//!
//! | part | ends |
//! |---|---|
//! | HTTP | first: no new queries |
//! | archive and speed layer of every stream | second: the last epoch is archived, as a mark |
//! | schedule of runs | third: a run that is cut off publishes nothing |
//! | catalog follower | last |
//!
//! Invariant: the layers are connected as in the other roles, only without a network between them.

use std::sync::Arc;

use thalweg_serving::{Access, Metrics, Realtime};
use thalweg_speed::Assignment;
use tokio::sync::{Notify, watch};

use super::audit::Audits;
use super::calls::{Runs, columns};
use super::loads::Loads;
use super::parts::{Part, Platform};
use super::process::{Opened, spill_folder, stream_threads, threads};
use super::stopped::Stopped;
use super::streams::StreamRunner;
use crate::config::Settings;

impl Platform {
    /// Starts every layer in this process, as `thalweg up` does. It neither logs nor prints.
    ///
    /// Errors: other machines reach the port and there is no token; the port is taken, the warehouse cannot be opened,
    /// or its catalog cannot be read.
    pub async fn up(settings: &Settings) -> anyhow::Result<Self> {
        let access = settings.access(true)?;
        Ok(up(settings, access, Opened::serving(settings).await?).await?)
    }
}

/// Starts every layer.
///
/// Errors: the catalog cannot be read.
pub(crate) async fn up(settings: &Settings, access: Access, opened: Opened) -> Result<Platform, Stopped> {
    spill_folder(settings)?;
    let (announced, published) = watch::channel(Arc::default());
    let (shared, following) = opened.share(published).await?;
    let (metrics, wake) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
    let threads = threads(settings)?;
    let streams = StreamRunner {
        config: settings.speed(Assignment::All),
        shared: shared.clone(),
        pressure: Arc::clone(&wake),
        metrics: Arc::clone(&metrics),
        end_within: settings.shutdown_timeout,
        threads: stream_threads()?,
    };
    let (shown, handles) = watch::channel(Arc::default());
    let runs = Runs::new(&shared, &metrics, Arc::clone(&threads), settings.batch());
    let (realtime, memory, spill) = (Realtime::Local(handles), settings.batch_memory, settings.spill_dir());
    let audits = Audits { shared, threads, realtime, memory, spill, settings: settings.shown.as_slice().into() };
    let sources = audits.sources(runs.call(), Loads::of(settings, &runs).call(), columns(settings), metrics);
    let serving = settings.serving(access);
    let addresses = opened.addresses;
    let doors = opened.doors(settings)?;
    Ok(Platform {
        addresses,
        parts: vec![
            Part::spawn("serving", |end| thalweg_serving::serve(doors, serving, sources, end)),
            Part::spawn("the speed layer", |end| streams.run(shown, end)),
            runs.schedule(wake, announced),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}
