//! Running one stream: show the archived rows, survey the topic, check that the topic continues the archive, read,
//! and start again when fenced.
//!
//! Invariant: origins are in the catalog before anything is read. A membership lasts longer than a fenced session:
//! this process does not leave the group because it lost a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::{CatalogStore, CatalogStream};
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::config::{Assignment, SpeedConfig};
use crate::group::handover::{Handover, check, check_origin, high, recorded, survey};
use crate::group::membership::Membership;
use crate::ingest::ingest;
use crate::kafka::channel::{BatchSender, Source};
use crate::kafka::consumer::{self, BatchLimits};
use crate::kafka::identity::{Watermarks, check_watermarks};
use crate::kafka::topic::Topic;
use crate::liveness::works;
use crate::session::{Ended, Start, Upstream};

/// The time after which users are told that the brokers have not answered yet.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// The pause before brokers that did not answer are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The origins of the stream's partitions. Kafka is asked only if the catalog has no origin yet; a partition without
/// an origin in the catalog begins at 0 and is recorded when it is found. Call this function before opening the
/// archive, which needs the origins.
///
/// `failure` says that Kafka does not answer, as soon as a user waits for a word.
///
/// Errors: the topic does not exist; Kafka or the warehouse cannot be reached.
pub async fn record_origins(
    config: &SpeedConfig,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
    failure: &watch::Sender<Option<String>>,
) -> Result<Frontier> {
    let catalog = catalogs.load().await?;
    let known = recorded(&catalog, stream)?;
    if !known.is_empty() {
        return Ok(known);
    }
    let topic = Topic::open(config, &stream.definition)?;
    let mut asking = pin!(survey(&topic, stream, catalogs, None));
    if let Ok(found) = tokio::time::timeout(FIRST_WORD, &mut asking).await {
        return Ok(found?.1);
    }
    let reason = topic.silence();
    if failure.send_replace(Some(reason.clone())).is_none() {
        tracing::warn!(stream = %stream.definition.name, "waiting for Kafka: {reason}");
    }
    Ok(asking.await?.1)
}

/// Ingests `stream` until `cancel`, then archives its rows in memory. The archive of `upstream` must have been opened
/// with the origins that [`record_origins`] returns.
///
/// Errors: see [`Error`]. After a transient error, call this function again.
pub async fn run(
    config: SpeedConfig,
    stream: Arc<CatalogStream>,
    mut upstream: Upstream,
    cancel: CancellationToken,
) -> Result<()> {
    let mut membership = match &config.assignment {
        Assignment::Group { .. } => Some(Membership::join(&config, &stream.definition)?),
        Assignment::All | Assignment::Static(_) => None,
    };
    let (snapshots, failure) = (upstream.snapshots.subscribe(), upstream.failure.clone());
    let outcome = {
        let mut sessions = pin!(sessions(&config, &stream, &mut upstream, &mut membership, &cancel));
        tokio::select! {
            outcome = &mut sessions => outcome,
            () = works(snapshots) => {
                failure.send_replace(None);
                sessions.await
            }
        }
    };
    // All rows are archived now, so other members may have the partitions.
    if let Some(membership) = membership {
        membership.leave().await;
    }
    outcome
}

async fn sessions(
    config: &SpeedConfig,
    stream: &Arc<CatalogStream>,
    upstream: &mut Upstream,
    membership: &mut Option<Membership>,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut known = Arc::clone(&upstream.masters.borrow());
    loop {
        let session = session(config, stream, known, upstream, membership.as_mut(), cancel);
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

/// Runs one session from the archive frontier until the end, or until fenced. Archived rows are shown at once.
/// Connecting to Kafka, which may take any time, and following the group run beside the loop.
async fn session(
    config: &SpeedConfig,
    stream: &Arc<CatalogStream>,
    known: Arc<MasterVersion>,
    upstream: &mut Upstream,
    membership: Option<&mut Membership>,
    cancel: &CancellationToken,
) -> Result<Ended> {
    let topic = Topic::open(config, &stream.definition)?;
    let catalogs = upstream.shared.catalogs.clone();
    let catalog = catalogs.load().await?;
    let origin = recorded(&catalog, stream)?;
    let newest = Arc::clone(&upstream.masters.borrow_and_update());
    let master = if newest.version > known.version { newest } else { known };
    let next = master.frontier.or(&origin);
    let partitions = config.assignment.at_start(next.partitions());
    check_origin(stream, &origin, &master, &partitions)?;
    let (grown, found) = watch::channel(0);
    let (feed, source) = Source::new(found);
    let at = next.within(partitions.iter().copied()).of_topic();
    let from = ResumePoint { at, master: Arc::clone(&master) };
    let connecting = connect(config, topic.clone(), stream, &catalogs, from, grown, feed);
    let (sender, changes) = mpsc::channel(1);
    let following = match membership {
        None => None,
        Some(membership) => {
            let handover = Handover {
                stream: Arc::clone(stream),
                catalogs: catalogs.clone(),
                reader: topic.clone(),
                probe: Topic::open(config, &stream.definition)?,
                archive: upstream.archive.clone(),
                masters: upstream.masters.clone(),
                changes: sender,
            };
            Some(handover.follow(membership))
        }
    };
    // Ends only with an error; without a group, never ends.
    let following = async {
        match following {
            Some(following) => following.await,
            None => pending().await,
        }
    };
    let shown = upstream.snapshots.borrow().clone();
    let start = Start {
        stream: Arc::clone(stream),
        origin,
        master,
        partitions,
        changes,
        floor: shown.map_or_else(Frontier::new, |s| s.frontier.clone()),
    };
    let mut ingesting = pin!(ingest(config, start, source, upstream, cancel));
    let mut following = pin!(following);
    tokio::select! {
        ended = &mut ingesting => return ended,
        connected = connecting => connected?,
        Err(failed) = &mut following => return Err(failed),
    }
    tokio::select! {
        ended = ingesting => ended,
        Err(failed) = following => Err(failed),
    }
}

/// The point from which reading continues.
struct ResumePoint {
    /// Partitions that are found only now are not included; the loop assigns them.
    at: Frontier,
    master: Arc<MasterVersion>,
}

/// Finds the topic, checks that its log continues the archive, and starts reading. While the brokers are away,
/// reports that and tries again.
async fn connect(
    config: &SpeedConfig,
    topic: Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
    from: ResumePoint,
    grown: watch::Sender<i32>,
    feed: BatchSender,
) -> Result<()> {
    let partitions: BTreeSet<Partition> = from.at.partitions().collect();
    let mut told = Told::default();
    let log = loop {
        let mut asking = pin!(checked(&topic, stream, catalogs, &from.master, &partitions));
        let answer = match tokio::time::timeout(FIRST_WORD, &mut asking).await {
            Ok(answer) => answer,
            Err(_) => {
                if told.silence() {
                    tell_away(stream, &feed, topic.silence());
                }
                asking.await
            }
        };
        match answer {
            Ok(found) => break found,
            Err(error) if error.awaits_kafka() => {
                let reason = error.to_string();
                if told.error(&reason) {
                    tell_away(stream, &feed, reason);
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    };
    tracing::info!(stream = %stream.definition.name, topic = topic.name, from = %from.at, "reading");
    grown.send_replace(log.len() as i32);
    tokio::spawn(topic.clone().discover(grown));
    let limits = BatchLimits { rows: config.micro_batch_rows, wait: config.micro_batch_wait };
    let read = config.assignment.at_start(log.keys().copied());
    feed.assigned(high(&log).within(read));
    consumer::start(topic, from.at, limits, feed)
}

/// What users were told of brokers that do not answer, so that a reason is told once.
#[derive(Debug, Default)]
struct Told {
    anything: bool,
    /// The last error.
    error: Option<String>,
}

impl Told {
    /// True if users are to be told that there is no answer yet: an error that they were told says more.
    fn silence(&mut self) -> bool {
        !std::mem::replace(&mut self.anything, true)
    }

    /// True if users are to be told of an error: the last error was another one.
    fn error(&mut self, reason: &str) -> bool {
        self.anything = true;
        let is_new = self.error.as_deref() != Some(reason);
        self.error = Some(reason.to_owned());
        is_new
    }
}

/// Shows and logs why the brokers do not answer.
fn tell_away(stream: &CatalogStream, feed: &BatchSender, reason: String) {
    tracing::warn!(stream = %stream.definition.name, "waiting for Kafka: {reason}");
    feed.away(Some(reason));
}

/// The topic's watermarks, after checking that the log continues the archive in the partitions that this process
/// reads.
async fn checked(
    topic: &Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
    master: &Arc<MasterVersion>,
    partitions: &BTreeSet<Partition>,
) -> Result<BTreeMap<Partition, Watermarks>> {
    let (log, origin) = survey(topic, stream, catalogs, None).await?;
    let next = master.frontier.or(&origin);
    // Archived partitions that no longer exist are an error in every process, whichever process reads them.
    let next = next.of_topic();
    let gone = next.partitions().filter(|p| !log.contains_key(p));
    check_watermarks(&topic.name, &log, &next.within(gone))?;
    check(topic, stream, &log, &origin, master, partitions).await?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once() {
        // Each step is silence or an error, and whether users are told of it.
        let check = |steps: &[(Option<&str>, bool)]| {
            let mut told = Told::default();
            for (i, (step, expect)) in steps.iter().enumerate() {
                let is_told = match step {
                    None => told.silence(),
                    Some(reason) => told.error(reason),
                };
                assert_eq!(is_told, *expect, "step {i} of {steps:?}");
            }
        };
        // Every attempt is silent at first and fails in the end.
        check(&[(None, true), (Some("down"), true), (None, false), (Some("down"), false), (None, false)]);
        check(&[(Some("down"), true), (None, false), (Some("down"), false)]);
        check(&[(None, true), (Some("down"), true), (None, false), (Some("refused"), true), (Some("down"), true)]);
        check(&[(None, true), (None, false)]);
    }
}
