//! The handover of an assigned partition from its previous owner to the ingest loop: the checks against Kafka, the
//! catalog and the archive before the partition is read. The handover also passes the group's events to the loop, in
//! order.
//!
//! A session with the group that ends in silence changes nothing at first: its partitions are read and served until the
//! group answers again, because while the brokers are away nobody else reads them. If another member has read on
//! meanwhile, the archive fences this process, as it does at any time.
//!
//! Invariant: a partition is read only after its origin is in the catalog, the archive's log has been read again
//! since the assignment, and Kafka's log has been found to continue the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::{Catalog, CatalogStore, CatalogStream};
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome, EpochRequest};
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Error as SharedError, Fault, Frontier, Partition};
use tokio::sync::{mpsc, oneshot, watch};

use crate::group::change::{Assigned, AssignmentChange, Revoked};
use crate::group::membership::{GroupEvent, Membership};
use crate::kafka::identity::{Watermarks, check_watermarks, new_origins};
use crate::kafka::topic::Topic;
use crate::{Error, Result};

/// The pause between two attempts while Kafka or the warehouse does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Everything that a handover needs.
pub(crate) struct Handover {
    pub(crate) stream: Arc<CatalogStream>,
    pub(crate) catalogs: CatalogStore,
    /// The client that consumes the topic.
    pub(crate) reader: Topic,
    /// A separate client: reading back messages must not disturb the reader.
    pub(crate) probe: Topic,
    pub(crate) archive: mpsc::Sender<EpochRequest>,
    pub(crate) masters: watch::Receiver<Arc<MasterVersion>>,
    pub(crate) changes: mpsc::Sender<AssignmentChange>,
}

impl Handover {
    /// Passes the group's events on, one after the other, beginning with the partitions that this process owns
    /// already.
    ///
    /// Errors: the end of the membership, and every failure that a retry cannot repair.
    pub(crate) async fn follow(mut self, membership: &mut Membership) -> Result<Infallible> {
        let owned = membership.owned().clone();
        self.assign(owned).await?;
        let mut lost = BTreeSet::new();
        loop {
            let event = tokio::select! {
                event = membership.next() => event,
                Ok(()) = self.masters.changed() => {
                    let archived = self.masters.borrow_and_update().frontier.of_topic();
                    membership.commit_offsets(&archived);
                    continue;
                }
            };
            match event {
                GroupEvent::Assigned(partitions) => {
                    let Regained { gone, new } = Regained::of(&std::mem::take(&mut lost), &partitions);
                    self.revoke(gone).await?;
                    self.assign(new).await?;
                }
                GroupEvent::Lost(partitions) => lost.extend(partitions),
                GroupEvent::Revoked { partitions, acknowledge } => {
                    self.revoke(partitions).await?;
                    drop(acknowledge);
                }
                GroupEvent::Failed(error) => return Err(error),
            }
        }
    }

    async fn assign(&self, partitions: BTreeSet<Partition>) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let mut told = None;
        let assigned = loop {
            match self.prepare(&partitions).await {
                Ok(assigned) => break assigned,
                // The caller must open the archive again.
                Err(error @ (Error::Disconnected { .. } | Error::Origin { .. })) => {
                    return Err(error);
                }
                Err(error) if error.fault() == Fault::Transient => {
                    let reason = error.to_string();
                    if told.as_ref() != Some(&reason) {
                        tracing::warn!(stream = %self.stream.definition.name, "partitions wait to be taken over: {reason}");
                    }
                    told = Some(reason);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        self.pass(AssignmentChange::Assign(assigned)).await
    }

    /// Waits until this process holds nothing of the partitions any more.
    async fn revoke(&self, partitions: BTreeSet<Partition>) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let (done, dropped) = oneshot::channel();
        self.pass(AssignmentChange::Revoke(Revoked { partitions, done })).await?;
        // The loop drops the sender and never sends a value.
        let _ = dropped.await;
        Ok(())
    }

    async fn pass(&self, change: AssignmentChange) -> Result<()> {
        self.changes.send(change).await.map_err(|_| Error::ConsumerStopped { topic: self.probe.name.clone() })
    }

    async fn prepare(&self, partitions: &BTreeSet<Partition>) -> Result<Assigned> {
        for client in [&self.reader, &self.probe] {
            let (client, asked) = (client.clone(), partitions.clone());
            blocking(&self.stream, move || client.learn(&asked)).await?;
        }
        let (log, origin) = survey(&self.probe, &self.stream, &self.catalogs, Some(partitions)).await?;
        let master = self.newest().await?;
        check(&self.probe, &self.stream, &log, &origin, &master, partitions).await?;
        let at = master.frontier.or(&origin).within(partitions.iter().copied());
        // Amendments go with partition 0.
        let amended = match partitions.contains(&Partition(0)) {
            true => master.frontier.of_amendments(),
            false => Frontier::new(),
        };
        Ok(Assigned { at: at.or(&amended), origin, master, high: high(&log) })
    }

    /// The newest version of the master dataset, read after this call began. The empty epoch makes the archive read
    /// its log again.
    async fn newest(&self) -> Result<Arc<MasterVersion>> {
        let stream = self.stream.definition.name.clone();
        let (reply, outcome) = oneshot::channel();
        let request = EpochRequest {
            epoch: Epoch {
                stream: stream.clone(),
                from: Frontier::new(),
                to: Frontier::new(),
                rows: Vec::new(),
                mark: false,
                last: Default::default(),
            },
            reply,
        };
        let what = "archive";
        let gone = || Error::Disconnected { stream, what };
        if self.archive.send(request).await.is_err() {
            return Err(gone());
        }
        match outcome.await {
            Ok(EpochOutcome::Landed(version) | EpochOutcome::Fenced(version)) => Ok(version),
            Err(_) => Err(gone()),
        }
    }
}

/// What an assignment means for the partitions of a session that ended in silence.
#[derive(Debug, PartialEq, Eq)]
struct Regained {
    /// Lost partitions that another member has now.
    gone: BTreeSet<Partition>,
    /// Partitions that were not here before.
    new: BTreeSet<Partition>,
}

impl Regained {
    fn of(lost: &BTreeSet<Partition>, assigned: &BTreeSet<Partition>) -> Self {
        Self { gone: lost - assigned, new: assigned - lost }
    }
}

/// The high watermarks of `log`.
pub(crate) fn high(log: &BTreeMap<Partition, Watermarks>) -> Frontier {
    log.iter().map(|(p, marks)| (*p, marks.high)).collect()
}

/// The watermarks of these partitions, or of all partitions, and all recorded origins. The survey records missing
/// origins of the surveyed partitions first.
pub(crate) async fn survey(
    topic: &Topic,
    stream: &CatalogStream,
    catalogs: &CatalogStore,
    partitions: Option<&BTreeSet<Partition>>,
) -> Result<(BTreeMap<Partition, Watermarks>, Frontier)> {
    let (asked, of) = (topic.clone(), partitions.cloned());
    let log = blocking(stream, move || asked.survey(of.as_ref())).await?;
    // Load the newest catalog: a partition whose origin is recorded must not be taken for a new one.
    let mut catalog = catalogs.load().await?;
    let missing = new_origins(&recorded(&catalog, stream)?, &log);
    if !missing.is_empty() {
        let name = &stream.definition.name;
        catalog = catalogs.record_origin(name, &missing).await?;
    }
    Ok((log, recorded(&catalog, stream)?))
}

/// The origins of `stream` in `catalog`.
pub(crate) fn recorded(catalog: &Catalog, stream: &CatalogStream) -> Result<Frontier> {
    let name = &stream.definition.name;
    let stream = catalog.streams.get(name);
    let stream = stream.ok_or_else(|| SharedError::FindDefinition { kind: "stream", name: name.to_string() })?;
    Ok(stream.origin.clone())
}

/// Checks that the logs of `partitions` continue the archive: watermarks, and the last archived messages.
pub(crate) async fn check(
    topic: &Topic,
    stream: &CatalogStream,
    log: &BTreeMap<Partition, Watermarks>,
    origin: &Frontier,
    master: &Arc<MasterVersion>,
    partitions: &BTreeSet<Partition>,
) -> Result<()> {
    check_origin(stream, origin, master, partitions)?;
    let next = master.frontier.or(origin);
    check_watermarks(&topic.name, log, &next.within(partitions.iter().copied()))?;
    let (checked, archived) = (topic.clone(), Arc::clone(master));
    let log = log.iter().filter(|(p, _)| partitions.contains(p));
    let log = log.map(|(p, marks)| (*p, *marks)).collect();
    blocking(stream, move || checked.check_last(&log, &archived.last)).await
}

/// Checks that the archive was opened with these origins. An archive that was opened before the origins were known
/// takes partitions to start at 0.
///
/// Errors: [`Error::Origin`].
pub(crate) fn check_origin(
    stream: &CatalogStream,
    origin: &Frontier,
    master: &MasterVersion,
    partitions: &BTreeSet<Partition>,
) -> Result<()> {
    let mut here = origin.iter().filter(|(p, _)| partitions.contains(p));
    match here.find(|(p, start)| master.frontier.get(*p) < *start) {
        None => Ok(()),
        Some((partition, start)) => Err(Error::Origin { stream: stream.definition.name.clone(), partition, start }),
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    stream: &CatalogStream,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|source| Error::Task { stream: stream.definition.name.clone(), source })?
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::set;

    use super::*;

    #[test]
    fn a_session_that_ended_in_silence_changes_only_what_moved() {
        let check = |lost: &[i32], assigned: &[i32], gone: &[i32], new: &[i32]| {
            let found = Regained::of(&set(lost), &set(assigned));
            assert_eq!(found, Regained { gone: set(gone), new: set(new) }, "{lost:?} {assigned:?}");
        };
        check(&[], &[], &[], &[]);
        check(&[], &[1, 2], &[], &[1, 2]);
        check(&[1, 2], &[1, 2], &[], &[]);
        check(&[1, 2], &[2, 3], &[1], &[3]);
        check(&[1, 2], &[], &[1, 2], &[]);
        check(&[1], &[2], &[1], &[2]);
    }
}
