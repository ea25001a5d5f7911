//! Running one stream: show what is archived, survey the topic, check that it continues the archive, read, and start
//! over when fenced.
//!
//! Invariant: origins are in the catalog before anything is read.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

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
use crate::source::{Feed, Source};
use crate::{Error, Result};

/// How long to wait before brokers that are away are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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

/// Where the stream's partitions begin. Kafka is asked only if the catalog does not know of any yet; a partition that
/// it does not know begins at 0 and is recorded when it is found. To be called before the archive is opened, which is
/// told the origin.
///
/// Errors: the topic does not exist, Kafka or the warehouse cannot be reached.
pub async fn record_origins(
    config: &SpeedConfig,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
) -> Result<Frontier> {
    let catalog = catalogs.load().await?;
    let known = recorded(&catalog, stream)?;
    if !known.is_empty() {
        return Ok(known);
    }
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

/// One assignment of all partitions, from the archive frontier on. What is archived is shown at once; Kafka is reached
/// beside it, which may take as long as it takes.
async fn session(
    config: &SpeedConfig,
    stream: &Arc<CatalogStream>,
    known: Arc<MasterVersion>,
    links: &mut Links,
    cancel: &CancellationToken,
) -> Result<Ended> {
    let topic = Topic::open(config, &stream.definition)?;
    let catalogs = links.catalogs.clone();
    let catalog = catalogs.load().await?;
    let origin = recorded(&catalog, stream)?;
    let newest = Arc::clone(&links.masters.borrow_and_update());
    let master = if newest.version > known.version {
        newest
    } else {
        known
    };
    check_origin(stream, &origin, &master)?;
    let (grown, partitions) = watch::channel(0);
    let (feed, source) = Source::new(partitions);
    let from = Reading {
        at: master.frontier.or(&origin),
        master: Arc::clone(&master),
    };
    let connecting = connect(config, topic, stream, &catalogs, from, grown, feed);
    let shown = links.snapshots.borrow().clone();
    let start = Start {
        stream: Arc::clone(stream),
        origin,
        master,
        floor: shown.map_or_else(Frontier::new, |s| s.frontier.clone()),
    };
    let mut ingesting = pin!(ingest(config, start, source, links, cancel));
    tokio::select! {
        ended = &mut ingesting => return ended,
        connected = connecting => connected?,
    }
    ingesting.await
}

/// What is read on from.
struct Reading {
    /// Partitions that are found only now are not in it: the loop assigns them.
    at: Frontier,
    master: Arc<MasterVersion>,
}

/// Finds the topic, checks that its log continues the archive, and starts reading it. While the brokers are away it
/// says so and tries again.
async fn connect(
    config: &SpeedConfig,
    topic: Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
    from: Reading,
    grown: watch::Sender<i32>,
    feed: Feed,
) -> Result<()> {
    let log = loop {
        match checked(&topic, stream, catalogs, &from.master).await {
            Ok(found) => break found,
            Err(error) if error.awaits_kafka() => {
                let reason = error.to_string();
                tracing::warn!(stream = %stream.definition.name, "waiting for Kafka: {reason}");
                feed.away(Some(reason));
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    };
    tracing::info!(stream = %stream.definition.name, topic = topic.name, from = %from.at, "reading");
    grown.send_replace(log.len() as i32);
    tokio::spawn(topic.clone().discover(grown));
    let limits = BatchLimits {
        rows: config.micro_batch_rows,
        wait: config.micro_batch_wait,
    };
    feed.assigned(log.iter().map(|(p, marks)| (*p, marks.high)).collect());
    consumer::start(topic, from.at, limits, feed)
}

/// The topic's watermarks, once it is certain that the log continues the archive.
async fn checked(
    topic: &Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
    master: &Arc<MasterVersion>,
) -> Result<BTreeMap<Partition, Watermarks>> {
    let (log, origin) = survey(topic, stream, catalogs).await?;
    check_watermarks(&topic.name, &log, &master.frontier.or(&origin))?;
    let (asked, archived, marks) = (topic.clone(), Arc::clone(master), log.clone());
    blocking(stream, move || asked.check_last(&marks, &archived.last)).await?;
    Ok(log)
}

/// The topic's watermarks, and the origins of all its partitions, recorded.
async fn survey(
    topic: &Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
) -> Result<(BTreeMap<Partition, Watermarks>, Frontier)> {
    let asked = topic.clone();
    let log = blocking(stream, move || asked.survey()).await?;
    // The newest catalog: an origin that is there must not be taken for a first sight.
    let mut catalog = catalogs.load().await?;
    let missing = new_origins(&recorded(&catalog, stream)?, &log);
    if !missing.is_empty() {
        let name = &stream.definition.name;
        catalog = catalogs.record_origin(name, &missing).await?;
    }
    Ok((log, recorded(&catalog, stream)?))
}

/// The origins that `catalog` knows of `stream`.
fn recorded(catalog: &Catalog, stream: &CatalogStream) -> Result<Frontier> {
    let name = &stream.definition.name;
    let stream = catalog.streams.get(name);
    let stream = stream.ok_or_else(|| SharedError::FindDefinition {
        kind: "stream",
        name: name.to_string(),
    })?;
    Ok(stream.origin.clone())
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
