//! The condition of streams, local or remote; the input of status, probes and metrics.
//!
//! Invariant: a partition counts as held only if a worker that answers has caught up with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use thalweg_schemas::api::streams::StreamPhase;
use thalweg_schemas::catalog::{Catalog, CatalogStream};
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::realtime::protocol::{WorkerStatus, WorkerStream};
use thalweg_schemas::realtime::snapshot::{PartitionHealth, StreamHandle};
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Offset, Partition, StreamName, ViewId};

use crate::sources::{Realtime, Sources};
use crate::workers::assign::describe_unheld;
use crate::workers::{Statuses, Workers};

/// One stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamCondition {
    /// Why the stream is stopped.
    pub(crate) failure: Option<String>,
    /// Why the brokers do not answer; `None` while they answer.
    pub(crate) waiting: Option<String>,
    /// Why rows are currently not archived.
    pub(crate) archive_failure: Option<String>,
    /// F; `None` while the stream is starting.
    pub(crate) frontier: Option<Frontier>,
    pub(crate) caught_up: bool,
    pub(crate) master: Option<Arc<MasterVersion>>,
    pub(crate) health: BTreeMap<Partition, PartitionHealth>,
    /// Views with a readable realtime side.
    pub(crate) views: BTreeMap<ViewId, HeldSegments>,
    /// Views that cannot go on.
    pub(crate) failed: BTreeMap<ViewId, Arc<ViewFailure>>,
    /// The views that are held, and whose rebuilds fail for reasons that may pass.
    pub(crate) delayed: BTreeMap<ViewId, Arc<ViewFailure>>,
    pub(crate) memory_bytes: usize,
    pub(crate) memory_budget: usize,
    pub(crate) paused: bool,
    /// `Some` if the realtime side is in other processes.
    pub(crate) holders: Option<Holders>,
}

/// The amount of a view's data that is held.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldSegments {
    pub(crate) count: usize,
    /// Known for this process only.
    pub(crate) bytes: Option<usize>,
}

/// Which worker holds which partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders {
    pub(crate) held: BTreeMap<Partition, String>,
    /// Partitions without a holder, with the reason.
    pub(crate) unheld: BTreeMap<Partition, String>,
}

impl StreamCondition {
    pub(crate) fn phase(&self) -> StreamPhase {
        let unheld = self.holders.as_ref().is_some_and(|h| !h.unheld.is_empty());
        match (&self.failure, &self.frontier) {
            (Some(_), _) => StreamPhase::Stopped,
            _ if unheld => StreamPhase::NotHeld,
            (None, None) => StreamPhase::Starting,
            (None, Some(_)) if self.waiting.is_some() => StreamPhase::WaitingForKafka,
            (None, Some(_)) if self.waits_for_schema().is_some() => StreamPhase::WaitingForSchema,
            (None, Some(_)) if !self.caught_up => StreamPhase::CatchingUp,
            (None, Some(_)) => StreamPhase::Running,
        }
    }

    /// Returns why the stream is stopped or waits, with advice.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.failure.as_deref().or(self.waiting.as_deref()).or(self.waits_for_schema())
    }

    fn waits_for_schema(&self) -> Option<&str> {
        self.health.values().find_map(|health| health.waiting.as_deref())
    }

    /// True if queries are answered, even if only at the frontier that was reached before Kafka became unreachable.
    pub(crate) fn answers(&self) -> bool {
        self.failure.is_none() && self.caught_up
    }

    /// Returns why the stream cannot be answered; `None` if it can.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match self.phase() {
            _ if self.answers() => None,
            StreamPhase::NotHeld => self.holders.as_ref().map(|h| describe_unheld(&h.unheld)),
            phase => Some(self.reason().unwrap_or(phase.as_str()).to_owned()),
        }
    }

    fn local(handle: &StreamHandle) -> Self {
        let failure = handle.failure.borrow().clone();
        let archive_failure = handle.archive_failure.borrow().clone();
        let Some(snapshot) = handle.snapshots.borrow().clone() else {
            return Self { failure, archive_failure, ..Self::default() };
        };
        let views = snapshot.views.iter().map(|(id, held)| {
            let held = HeldSegments { count: held.iter().count(), bytes: Some(held.bytes()) };
            (id.clone(), held)
        });
        Self {
            failure,
            waiting: snapshot.waiting.clone(),
            archive_failure,
            frontier: Some(snapshot.frontier.clone()),
            caught_up: snapshot.caught_up,
            master: Some(Arc::clone(&snapshot.master)),
            health: snapshot.health.clone(),
            views: views.collect(),
            failed: snapshot.failed.clone(),
            delayed: snapshot.delayed.clone(),
            memory_bytes: snapshot.memory_bytes,
            memory_budget: snapshot.memory_budget,
            paused: snapshot.paused,
            holders: None,
        }
    }

    fn remote(
        stream: &CatalogStream,
        statuses: &[(String, Result<WorkerStatus, String>)],
        master: Option<Arc<MasterVersion>>,
    ) -> Self {
        let name = &stream.definition.name;
        let of_stream: Vec<(&str, &WorkerStream)> = statuses
            .iter()
            .filter_map(|(address, status)| {
                let stream = status.as_ref().ok()?.streams.get(name)?;
                Some((address.as_str(), stream))
            })
            .collect();
        let named = of_stream.iter().flat_map(|(_, s)| &s.frontier);
        let partitions: BTreeSet<Partition> =
            stream.origin.partitions().chain(named.flat_map(Frontier::partitions)).collect();
        let mut standing = Self { master, ..Self::default() };
        let mut holders = Holders::default();
        let mut frontier = Frontier::new();
        let mut used: BTreeMap<&str, &WorkerStream> = BTreeMap::new();
        for partition in partitions {
            match holder(partition, &of_stream, statuses) {
                Ok((worker, status, offset)) => {
                    holders.held.insert(partition, worker.to_owned());
                    frontier.set(partition, offset);
                    let health = status.health.get(&partition).cloned();
                    standing.health.insert(partition, health.unwrap_or_default());
                    used.insert(worker, status);
                }
                Err(reason) => {
                    holders.unheld.insert(partition, reason);
                }
            }
        }
        standing.caught_up = holders.unheld.is_empty() && !holders.held.is_empty();
        standing.frontier = (!frontier.is_empty()).then_some(frontier);
        standing.holders = Some(holders);
        standing.waiting = said_by(&used, |status| status.waiting.as_ref());
        standing.archive_failure = said_by(&used, |status| status.archive_failure.as_ref());
        for (i, status) in used.values().enumerate() {
            standing.memory_bytes += status.memory_bytes;
            standing.memory_budget += status.memory_budget;
            standing.paused |= status.paused;
            let failed = status.failed.iter().map(|(id, failure)| (id.clone(), Arc::new(failure.clone())));
            standing.failed.extend(failed);
            let delayed = status.delayed.iter().map(|(id, failure)| (id.clone(), Arc::new(failure.clone())));
            standing.delayed.extend(delayed);
            standing.views.retain(|id, _| status.segments.contains_key(id));
            for (id, segments) in &status.segments {
                if i == 0 {
                    standing.views.insert(id.clone(), HeldSegments::default());
                }
                if let Some(held) = standing.views.get_mut(id) {
                    held.count += segments;
                }
            }
        }
        standing
    }
}

/// Joins the messages of the workers that have one.
fn said_by(workers: &BTreeMap<&str, &WorkerStream>, what: impl Fn(&WorkerStream) -> Option<&String>) -> Option<String> {
    let said = workers.iter().filter_map(|(worker, status)| Some(format!("worker {worker}: {}", what(status)?)));
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Returns the worker with the highest frontier among those that have caught up.
///
/// Errors: why no worker holds the partition.
fn holder<'a>(
    partition: Partition,
    of_stream: &[(&'a str, &'a WorkerStream)],
    statuses: &[(String, Result<WorkerStatus, String>)],
) -> Result<(&'a str, &'a WorkerStream, Offset), String> {
    let mut best: Option<(&str, &WorkerStream, Offset)> = None;
    let mut reasons = Vec::new();
    for (worker, status) in of_stream {
        let Some(offset) = status.frontier.as_ref().and_then(|f| f.named(partition)) else {
            continue;
        };
        if let Some(failure) = &status.failure {
            reasons.push(format!("worker {worker} has stopped: {failure}"));
        } else if !status.caught_up.contains(&partition) {
            let health = status.health.get(&partition);
            let lag = health.map_or(0, |health| health.lag);
            reasons.push(match (&status.waiting, health.and_then(|health| health.waiting.as_ref())) {
                (Some(why), _) => format!("worker {worker} waits for Kafka ({why})"),
                (None, Some(why)) => format!("worker {worker}: {why}"),
                (None, None) => format!("worker {worker} is catching up with Kafka, {lag} messages are left"),
            });
        } else if best.is_none_or(|(.., highest)| offset > highest) {
            best = Some((worker, status, offset));
        }
    }
    if let Some(best) = best {
        return Ok(best);
    }
    if reasons.is_empty() {
        let silent = statuses.iter().filter_map(|(address, status)| {
            let reason = status.as_ref().err()?;
            Some(format!("worker {address} {reason}"))
        });
        let failed = of_stream.iter().filter_map(|(worker, status)| {
            let failure = status.failure.as_ref()?;
            Some(format!("worker {worker} has stopped: {failure}"))
        });
        reasons = std::iter::once("no worker reads it".to_owned()).chain(silent).chain(failed).collect();
    }
    Err(reasons.join(", "))
}

/// All streams of the catalog, and the workers if there are any.
#[derive(Default)]
pub(crate) struct StreamConditions {
    pub(crate) streams: BTreeMap<StreamName, StreamCondition>,
    pub(crate) workers: Option<(Workers, Statuses)>,
}

/// Returns the condition of the streams that this process reads.
pub(crate) fn local(catalog: &Catalog, handles: &HashMap<StreamName, StreamHandle>) -> StreamConditions {
    let stand = |name: &StreamName| {
        let handle = handles.get(name);
        (name.clone(), handle.map(StreamCondition::local).unwrap_or_default())
    };
    StreamConditions { streams: catalog.streams.keys().map(stand).collect(), workers: None }
}

/// Returns the current condition of all streams; information from workers is at most a second old.
pub(crate) async fn stream_conditions(sources: &Sources) -> StreamConditions {
    let catalog = sources.shared.catalog.borrow().clone();
    match &sources.realtime {
        Realtime::Local(streams) => local(&catalog, &streams.borrow()),
        Realtime::Remote { workers, masters } => {
            let statuses = workers.statuses().await;
            let masters = masters.borrow().clone();
            let stand = |(name, stream): (&StreamName, &Arc<CatalogStream>)| {
                let master = masters.get(name).cloned();
                (name.clone(), StreamCondition::remote(stream, &statuses, master))
            };
            StreamConditions {
                streams: catalog.streams.iter().map(stand).collect(),
                workers: Some((workers.clone(), statuses)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, at, stream};

    fn worker(frontier: Frontier, caught_up: &[i32], views: &[&str]) -> WorkerStream {
        let id = |text: &&str| (ViewId::of(&[text]), 2);
        WorkerStream {
            failure: None,
            waiting: None,
            archive_failure: None,
            frontier: Some(frontier),
            caught_up: caught_up.iter().copied().map(Partition).collect(),
            health: BTreeMap::new(),
            segments: views.iter().map(id).collect(),
            failed: BTreeMap::new(),
            delayed: BTreeMap::new(),
            memory_bytes: 10,
            memory_budget: 100,
            paused: false,
        }
    }

    fn only(partition: i32, offset: i64) -> Frontier {
        Frontier::from([(partition, offset)])
    }

    async fn stand(workers: Vec<Result<WorkerStream, String>>) -> StreamCondition {
        let world = World::new().await;
        let catalog = world.sources.shared.catalog.borrow().clone();
        let statuses: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(i, status)| {
                let status = status.map(|status| WorkerStatus {
                    worker: format!("w{i}"),
                    streams: BTreeMap::from([(stream(), status)]),
                });
                (format!("w{i}"), status)
            })
            .collect();
        StreamCondition::remote(&catalog.streams[&stream()], &statuses, None)
    }

    #[tokio::test]
    async fn a_stream_runs_if_every_partition_is_held() {
        let first = worker(only(0, 7), &[0], &["a", "b"]);
        let second = worker(only(1, 9), &[1], &["a"]);
        let standing = stand(vec![Ok(first), Ok(second)]).await;
        assert_eq!(standing.phase(), StreamPhase::Running);
        assert_eq!(standing.frontier, Some(at(7, 9)));
        assert_eq!(standing.not_ready(), None);
        // A view that one of the holders lacks cannot be read.
        assert_eq!(standing.views.len(), 1);
        assert_eq!(standing.views[&ViewId::of(&["a"])].count, 4);
        assert_eq!(standing.memory_budget, 200);
    }

    #[tokio::test]
    async fn workers_that_hold_on_without_kafka_are_asked_and_say_so() {
        let mut away = worker(at(7, 9), &[0, 1], &["a"]);
        away.waiting = Some("no broker".into());
        away.archive_failure = Some("the disk is full".into());
        let standing = stand(vec![Ok(away)]).await;
        assert_eq!(standing.phase(), StreamPhase::WaitingForKafka);
        assert_eq!(standing.reason(), Some("worker w0: no broker"));
        let trouble = standing.archive_failure.as_deref();
        assert_eq!(trouble, Some("worker w0: the disk is full"));
        assert_eq!(standing.not_ready(), None);
    }

    #[tokio::test]
    async fn a_zombie_is_no_holder_and_silence_is_named() {
        let zombie = worker(at(5, 5), &[0, 1], &["a"]);
        let reads = worker(only(0, 7), &[0], &["a"]);
        let standing = stand(vec![Ok(zombie), Ok(reads)]).await;
        assert_eq!(standing.frontier, Some(at(7, 5)));
        assert_eq!(standing.holders.unwrap().held[&Partition(0)], "w1");

        let behind = worker(at(5, 5), &[1], &["a"]);
        let standing = stand(vec![Ok(behind)]).await;
        assert_eq!(standing.phase(), StreamPhase::NotHeld);
        assert!(standing.not_ready().unwrap().contains("catching up"));

        let mut away = worker(at(5, 5), &[], &["a"]);
        away.waiting = Some("no broker".into());
        let standing = stand(vec![Ok(away)]).await;
        let reason = standing.not_ready().unwrap();
        assert!(reason.contains("waits for Kafka (no broker)"), "{reason}");

        let standing = stand(vec![Err("does not answer".into())]).await;
        let reason = standing.not_ready().unwrap();
        assert!(reason.contains("partitions 0, 1") && reason.contains("w0 does not answer"));

        let mut stopped = worker(at(5, 5), &[0, 1], &["a"]);
        stopped.failure = Some("the topic is gone".into());
        let standing = stand(vec![Ok(stopped)]).await;
        assert!(standing.not_ready().unwrap().contains("the topic is gone"));
    }
}
