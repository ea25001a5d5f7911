//! `thalweg serve`: a stateless replica that answers SQL from the warehouse and from speed workers.
//!
//! | part | ends |
//! |---|---|
//! | HTTP | first: no new queries |
//! | discovery of workers, archives, batch versions, failures of runs | second |
//! | catalog follower | last |
//!
//! Invariant: an answer is exact whichever workers are found: a missing worker makes a query fail or wait.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use thalweg_batch::{failed_runs, follow_failures, follow_masters, follow_published};
use thalweg_schemas::api::runs::RunList;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::definition::statement::CopiedFiles;
use thalweg_schemas::{Fault, Shared};
use thalweg_serving::{
    Access, BatchRequest, Call, CallError, Metrics, Realtime, Workers, WorkersAt, WorkersConfig, discover,
};
use tokio::sync::watch;

use super::audit::Audits;
use super::calls::columns;
use super::parts::{Part, Platform};
use super::process::{Opened, spill_folder, threads};
use super::stopped::Stopped;
use crate::config::Settings;

/// Time that a worker may take to answer a pin. A slower worker is left out if others hold its partitions.
const ASK_WITHIN: Duration = Duration::from_secs(1);

impl Platform {
    /// Starts a replica, as `thalweg serve` does. It neither logs nor prints.
    ///
    /// Errors: the port is taken, the warehouse cannot be opened, or its catalog cannot be read.
    pub async fn serve(settings: &Settings) -> anyhow::Result<Self> {
        serve(settings, settings.access(settings.replica_definitions)?, Opened::serving(settings).await?).await
    }
}

/// Starts a replica.
///
/// Errors: the catalog cannot be read, or the authority of the workers' certificates cannot be read.
pub(crate) async fn serve(settings: &Settings, access: Access, opened: Opened) -> anyhow::Result<Platform> {
    spill_folder(settings)?;
    let cluster = settings.cluster()?;
    let tls_name = match &settings.workers {
        WorkersAt::Dns { host, .. } => Some(host.clone()),
        WorkersAt::List(_) | WorkersAt::Group => None,
    };
    let config =
        WorkersConfig { token: cluster.token(), tls_ca: cluster.authority()?, tls_name, ask_within: ASK_WITHIN };
    let (announced, published) = watch::channel(Arc::default());
    let (shared, following) = opened.share(published).await?;
    let (found, addresses) = watch::channel(Vec::new());
    let discovering = discovery(settings, &shared, found);
    let (shown, masters) = watch::channel(Arc::default());
    let audits = Audits {
        shared: shared.clone(),
        threads: threads(settings)?,
        realtime: Realtime::Remote { workers: Workers::new(addresses, config), masters },
        memory: settings.batch_memory,
        spill: settings.spill_dir(),
        settings: settings.shown.as_slice().into(),
    };
    let metrics = Arc::new(Metrics::new());
    let sources = audits.sources(no_runs(), no_loads(), columns(settings), Arc::clone(&metrics));
    let serving = settings.serving(access);
    let addresses = opened.addresses;
    let doors = opened.doors(settings)?;
    let Shared { warehouse, catalog, .. } = shared;
    let archives = (warehouse.clone(), catalog.clone());
    let failures = follow_failures(warehouse.clone(), failed_runs::POLL, move |failures| {
        metrics.record_failed_runs(failures);
    });
    Ok(Platform {
        addresses,
        parts: vec![
            Part::spawn("serving", |end| thalweg_serving::serve(doors, serving, sources, end)),
            discovering,
            Part::restarted("archives", move |end| {
                let (warehouse, catalog) = archives.clone();
                follow_masters(warehouse, catalog, shown.clone(), end)
            }),
            Part::endless("failures of runs", failures),
            Part::restarted("batch versions", move |end| {
                follow_published(warehouse.clone(), catalog.clone(), announced.clone(), end)
            }),
            following,
        ],
        shutdown_timeout: settings.shutdown_timeout,
    })
}

/// Starts the discovery of workers; Kafka is asked for the members of consumer groups.
fn discovery(settings: &Settings, shared: &Shared, found: watch::Sender<Vec<String>>) -> Part {
    let kafka = settings.speed(settings.group(String::new()));
    let members = move |catalog: Arc<Catalog>| {
        let kafka = kafka.clone();
        async move { thalweg_speed::workers(&kafka, &catalog).await.map_err(|e| e.to_string()) }
    };
    let (at, catalog) = (settings.workers.clone(), shared.catalog.clone());
    Part::spawn("discovery", |end| discover(at, members, catalog, found, end).map(Ok::<(), Stopped>))
}

/// Refuses runs on a replica: a run would take memory and cores from queries.
fn no_loads() -> Call<CopiedFiles, (String, Vec<String>)> {
    Arc::new(|_| {
        std::future::ready(Err(CallError {
            fault: Fault::User,
            message: "a replica loads no files; send COPY to `thalweg up`, or use `thalweg load`".to_owned(),
        }))
        .boxed()
    })
}

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
