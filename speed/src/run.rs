//! Running one stream: survey the topic, check that it continues the archive, read, and start over when fenced.
//!
//! Invariant: origins are in the catalog before anything is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_schemas::catalog::{Catalog, CatalogStore, CatalogStream};
use thalweg_schemas::dataset::{MasterVersion, Published};
use thalweg_schemas::epoch::EpochRequest;
use thalweg_schemas::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Error as SharedError, Frontier, Partition};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::assignment::Topic;
use crate::config::SpeedConfig;
use crate::consumer::{self, BatchLimits};
use crate::identity::{Watermarks, check_watermarks, new_origins};
use crate::ingest::{Ended, Start, ingest};
use crate::source::Source;
use crate::{Error, Result};

/// What connects a stream to the other layers.
pub struct Links {
    pub catalogs: CatalogStore,
    pub catalog: watch::Receiver<Arc<Catalog>>,
    pub published: watch::Receiver<Arc<Published>>,
    pub warehouse: Warehouse,
    /// Where epochs go.
    pub archive: mpsc::Sender<EpochRequest>,
    /// The newest version of the master dataset.
    pub masters: watch::Receiver<Arc<MasterVersion>>,
    /// What readers see.
    pub snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    /// Asks for an early batch run when memory is short.
    pub pressure: Arc<Notify>,
}

/// Writes the origins of partitions that the catalog does not know yet, and gives those of all partitions. To be
/// called before the archive is opened, which is told the origin.
///
/// Errors: the topic does not exist, Kafka or the warehouse cannot be reached.
pub async fn record_origins(
    config: &SpeedConfig,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
) -> Result<Frontier> {
    let topic = Topic::open(config, &stream.definition)?;
    Ok(survey(&topic, stream, catalogs).await?.1)
}

/// Ingests `stream` until `cancel`, then archives what it holds. `masters` must be of an archive that was opened with
/// the origins that [`record_origins`] gives.
///
/// Errors: see [`Error`]; after a transient one, call it again.
#[expect(
    clippy::too_many_arguments,
    reason = "it is where all layers meet, and is called once"
)]
pub async fn run(
    config: SpeedConfig,
    stream: Arc<CatalogStream>,
    catalogs: CatalogStore,
    catalog: watch::Receiver<Arc<Catalog>>,
    published: watch::Receiver<Arc<Published>>,
    warehouse: Warehouse,
    archive: mpsc::Sender<EpochRequest>,
    masters: watch::Receiver<Arc<MasterVersion>>,
    snapshots: watch::Sender<Option<Arc<StreamSnapshot>>>,
    pressure: Arc<Notify>,
    cancel: CancellationToken,
) -> Result<()> {
    let mut links = Links {
        catalogs,
        catalog,
        published,
        warehouse,
        archive,
        masters,
        snapshots,
        pressure,
    };
    let mut known = Arc::clone(&links.masters.borrow());
    loop {
        let session = session(&config, &stream, known, &mut links, &cancel);
        match session.await? {
            Ended::ShutDown => return Ok(()),
            Ended::Fenced(version) => {
                tracing::warn!(
                    stream = %stream.definition.name,
                    at = %version.frontier,
                    "another process archives this stream: resuming from the table"
                );
                known = version;
            }
        }
    }
}

/// One assignment of all partitions, from the archive frontier on.
async fn session(
    config: &SpeedConfig,
    stream: &Arc<CatalogStream>,
    known: Arc<MasterVersion>,
    links: &mut Links,
    cancel: &CancellationToken,
) -> Result<Ended> {
    let topic = Topic::open(config, &stream.definition)?;
    let surveyed = tokio::select! {
        () = cancel.cancelled() => return Ok(Ended::ShutDown),
        surveyed = survey(&topic, stream, &links.catalogs) => surveyed?,
    };
    let (log, origin) = surveyed;
    let newest = Arc::clone(&links.masters.borrow_and_update());
    let master = if newest.version > known.version {
        newest
    } else {
        known
    };
    check_origin(stream, &origin, &master)?;
    let next = master.frontier.or(&origin);
    check_watermarks(&topic.name, &log, &next)?;
    let (checked, archived) = (topic.clone(), Arc::clone(&master));
    let marks = log.clone();
    let checking = blocking(stream, move || checked.check_last(&marks, &archived.last));
    tokio::select! {
        () = cancel.cancelled() => return Ok(Ended::ShutDown),
        checked = checking => checked?,
    }
    tracing::info!(stream = %stream.definition.name, topic = topic.name, from = %next, "reading");

    let (grown, partitions) = watch::channel(log.len() as i32);
    tokio::spawn(topic.clone().discover(grown));
    let (feed, source) = Source::new(partitions);
    let limits = BatchLimits {
        rows: config.micro_batch_rows,
        wait: config.micro_batch_wait,
    };
    consumer::start(topic, next, limits, feed)?;
    let shown = links.snapshots.borrow().clone();
    let start = Start {
        stream: Arc::clone(stream),
        origin,
        master,
        high: log.iter().map(|(p, marks)| (*p, marks.high)).collect(),
        floor: shown.map_or_else(Frontier::new, |s| s.frontier.clone()),
    };
    ingest(config, start, source, links, cancel).await
}

/// The topic's watermarks, and the origins of all its partitions, recorded.
async fn survey(
    topic: &Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
) -> Result<(BTreeMap<Partition, Watermarks>, Frontier)> {
    let asked = topic.clone();
    let log = blocking(stream, move || asked.survey()).await?;
    let name = &stream.definition.name;
    // The newest catalog: an origin that is there must not be taken for a first sight.
    let mut catalog = catalogs.load().await?;
    let origin = |catalog: &Catalog| -> Result<Frontier> {
        let stream = catalog.streams.get(name);
        let stream = stream.ok_or_else(|| SharedError::FindDefinition {
            kind: "stream",
            name: name.to_string(),
        })?;
        Ok(stream.origin.clone())
    };
    let missing = new_origins(&origin(&catalog)?, &log);
    if !missing.is_empty() {
        catalog = catalogs.record_origin(name, &missing).await?;
    }
    Ok((log, origin(&catalog)?))
}

/// An archive that was opened before the origins were known would take partitions to start at 0.
fn check_origin(stream: &CatalogStream, origin: &Frontier, master: &MasterVersion) -> Result<()> {
    let unknown = origin
        .iter()
        .find(|(p, start)| master.frontier.get(*p) < *start);
    match unknown {
        None => Ok(()),
        Some((partition, start)) => Err(Error::Origin {
            stream: stream.definition.name.clone(),
            partition,
            start,
        }),
    }
}

async fn blocking<T: Send + 'static>(
    stream: &CatalogStream,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|source| Error::Task {
        stream: stream.definition.name.clone(),
        source,
    })?
}
