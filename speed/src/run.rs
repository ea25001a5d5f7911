//! Running one stream: survey the topic, check that it continues the archive, read, and start over when fenced.
//!
//! Invariant: origins are in the catalog before anything is read. A membership outlives what is fenced: the group is
//! not left because a commit was lost.

use std::sync::Arc;

use thalweg_schemas::Frontier;
use thalweg_schemas::catalog::{Catalog, CatalogStore, CatalogStream};
use thalweg_schemas::dataset::{MasterVersion, Published};
use thalweg_schemas::epoch::EpochRequest;
use thalweg_schemas::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::Warehouse;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::assignment::Topic;
use crate::config::{Assignment, SpeedConfig};
use crate::consumer::{self, BatchLimits};
use crate::gain::{Taker, check, high, survey};
use crate::identity::check_watermarks;
use crate::ingest::{Ended, Start, ingest};
use crate::membership::Membership;
use crate::source::Source;

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
    Ok(survey(&topic, stream, catalogs, None).await?.1)
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
    let mut membership = match &config.assignment {
        Assignment::Group { .. } => Some(Membership::join(&config, &stream.definition)?),
        Assignment::All | Assignment::Static(_) => None,
    };
    let outcome = sessions(&config, &stream, &mut links, &mut membership, &cancel).await;
    // What was held is archived: now others may have it.
    if let Some(membership) = membership {
        membership.leave().await;
    }
    outcome
}

async fn sessions(
    config: &SpeedConfig,
    stream: &Arc<CatalogStream>,
    links: &mut Links,
    membership: &mut Option<Membership>,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut known = Arc::clone(&links.masters.borrow());
    loop {
        let session = session(config, stream, known, links, membership.as_mut(), cancel);
        match session.await? {
            Ended::ShutDown => return Ok(()),
            Ended::Fenced(version) => {
                tracing::warn!(
                    stream = %stream.definition.name,
                    at = %version.frontier,
                    "another process archives what is read here: resuming from the table"
                );
                known = version;
            }
        }
    }
}

/// From the archive frontier on until the end, or until fenced: what is read from the start on, and what the group
/// gives and takes.
async fn session(
    config: &SpeedConfig,
    stream: &Arc<CatalogStream>,
    known: Arc<MasterVersion>,
    links: &mut Links,
    membership: Option<&mut Membership>,
    cancel: &CancellationToken,
) -> Result<Ended> {
    let topic = Topic::open(config, &stream.definition)?;
    let surveyed = tokio::select! {
        () = cancel.cancelled() => return Ok(Ended::ShutDown),
        surveyed = survey(&topic, stream, &links.catalogs, None) => surveyed?,
    };
    let (log, origin) = surveyed;
    let partitions = config.assignment.at_start(log.keys().copied());
    let newest = Arc::clone(&links.masters.borrow_and_update());
    let master = if newest.version > known.version {
        newest
    } else {
        known
    };
    let next = master.frontier.or(&origin);
    // Partitions that are archived and gone are everybody's concern, whoever read them.
    let gone = next.partitions().filter(|p| !log.contains_key(p));
    check_watermarks(&topic.name, &log, &next.within(gone))?;
    tokio::select! {
        () = cancel.cancelled() => return Ok(Ended::ShutDown),
        checked = check(&topic, stream, &log, &origin, &master, &partitions) => checked?,
    }
    let next = next.within(partitions.iter().copied());
    tracing::info!(stream = %stream.definition.name, topic = topic.name, from = %next, "reading");

    let (grown, found) = watch::channel(log.len() as i32);
    tokio::spawn(topic.clone().discover(grown));
    let (feed, source) = Source::new(found);
    let limits = BatchLimits {
        rows: config.micro_batch_rows,
        wait: config.micro_batch_wait,
    };
    consumer::start(topic, next, limits, feed)?;
    let shown = links.snapshots.borrow().clone();
    let (sender, changes) = mpsc::channel(1);
    let start = Start {
        stream: Arc::clone(stream),
        origin,
        master,
        partitions,
        changes,
        high: high(&log),
        floor: shown.map_or_else(Frontier::new, |s| s.frontier.clone()),
    };
    let Some(membership) = membership else {
        return ingest(config, start, source, links, cancel).await;
    };
    let taker = Taker {
        stream: Arc::clone(stream),
        catalogs: links.catalogs.clone(),
        probe: Topic::open(config, &stream.definition)?,
        archive: links.archive.clone(),
        masters: links.masters.clone(),
        changes: sender,
    };
    tokio::select! {
        ended = ingest(config, start, source, links, cancel) => ended,
        Err(failed) = taker.follow(membership) => Err(failed),
    }
}
