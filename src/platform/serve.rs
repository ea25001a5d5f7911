//! `thalweg serve`: a stateless replica. It answers SQL from the warehouse and from speed workers, and holds nothing.
//!
//! | part | ends |
//! |---|---|
//! | HTTP | first: no new queries |
//! | discovery of workers, archives, batch versions | second |
//! | catalog follower | last |
//!
//! Invariant: what it answers is exact whichever workers it finds: a worker that is missing makes an answer fail or wait.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use thalweg_schemas::Fault;
use thalweg_schemas::api::runs::RunList;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_serving::{BatchRequest, Call, CallError, Realtime, ServingConfig, Sources, Workers, WorkersConfig};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::audit::Audits;
use super::{Base, Part, Platform, Stopped, calls, discover, follow};
use crate::config::Settings;

/// How long a worker may take to say what it holds. A stream is read without one that takes longer, if others hold its
/// partitions.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// Starts a replica that answers at `http`.
///
/// Errors: the catalog cannot be read, or the authority of the workers' certificates.
pub(crate) async fn serve(settings: &Settings, warehouse: Warehouse, http: TcpListener) -> anyhow::Result<Platform> {
    super::spill_folder(settings)?;
    let cluster = settings.cluster();
    let config = WorkersConfig { token: cluster.token(), tls_ca: cluster.authority()?, ask_within: ASK_WITHIN };
    let (base, following) = Base::open(warehouse).await?;
    let (published, following_published) = base.published();
    let here = Handle::current();
    let (masters_sender, masters) = watch::channel(Arc::default());
    let following_masters = {
        let (warehouse, catalog) = (base.warehouse.clone(), base.catalog.clone());
        Part::spawn("archives", &here, |end| follow::masters(warehouse, catalog, masters_sender, end))
    };
    let (addresses_sender, addresses) = watch::channel(Vec::new());
    let discovering = {
        let at = settings.workers.clone();
        let kafka = super::speed_config(settings, super::speed::group(settings, String::new()));
        let catalog = base.catalog.clone();
        Part::spawn("discovery", &here, |end| discover::run(at, kafka, catalog, addresses_sender, end))
    };
    let realtime = Realtime::Remote(Workers::new(addresses, config));
    let audits = Audits {
        base: base.clone(),
        threads: calls::threads(settings)?,
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
        batch: no_runs(),
        metrics: Arc::clone(&base.metrics),
    };
    let config = super::serving_config(settings);
    Ok(Platform {
        parts: vec![
            Part::spawn("serving", &here, |end| answer(http, config, sources, end)),
            discovering,
            following_masters,
            following_published,
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}

/// A replica is there for queries: a run would take their memory and their cores.
fn no_runs() -> Call<BatchRequest, RunList> {
    Arc::new(|_| {
        std::future::ready(Err(CallError {
            fault: Fault::User,
            message: "a replica does not recompute views; `thalweg batch` does on its interval, and \
                      `thalweg batch run` at once"
                .to_owned(),
        }))
        .boxed()
    })
}

/// Answers clients at `listener`.
pub(super) async fn answer(
    listener: TcpListener,
    config: ServingConfig,
    sources: Sources,
    end: CancellationToken,
) -> Result<(), Stopped> {
    Ok(thalweg_serving::serve(listener, config, sources, end).await?)
}
