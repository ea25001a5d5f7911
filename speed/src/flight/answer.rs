//! The answer to a pin request, from a snapshot, and the status of a worker. No function here does I/O or waits.
//!
//! Invariant: a range is named only if the snapshot's own segments tile it. Anything unknown here (a stream, another
//! definition of a stream, a view) is answered as not held.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::realtime::protocol::{Coverage, PinRequest, PinnedPartition, WorkerStatus, WorkerStream};
use thalweg_schemas::realtime::segment::{Segment, ViewSegments};
use thalweg_schemas::realtime::snapshot::{StreamHandle, StreamSnapshot};
use thalweg_schemas::realtime::tile::{rows_between, tile};
use thalweg_schemas::{Error as SharedError, Frontier, Offset, Partition, StreamName, ViewId};

use super::pins::PinEntry;

/// Why a worker keeps nothing for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NothingKept {
    pub(super) reason: String,
    /// The error that stopped the stream here.
    pub(super) stopped: Option<String>,
}

impl From<String> for NothingKept {
    fn from(reason: String) -> Self {
        Self { reason, stopped: None }
    }
}

/// The failures that concern `request`.
pub(super) fn failed(request: &PinRequest, snapshot: &StreamSnapshot) -> BTreeMap<ViewId, ViewFailure> {
    let asked = snapshot.failed.iter().filter(|(id, _)| request.views.contains_key(*id));
    asked.map(|(id, failure)| (id.clone(), failure.as_ref().clone())).collect()
}

fn failures(failed: &BTreeMap<ViewId, Arc<ViewFailure>>) -> BTreeMap<ViewId, ViewFailure> {
    failed.iter().map(|(id, failure)| (id.clone(), failure.as_ref().clone())).collect()
}

/// The snapshot that answers `request`, or the reason why there is none. A stopped stream has one for requests that
/// allow stale answers.
pub(super) fn find(
    request: &PinRequest,
    catalog: &Catalog,
    handle: Option<&StreamHandle>,
) -> Result<PinEntry, NothingKept> {
    let name = &request.stream;
    let stream = catalog.streams.get(name).ok_or_else(|| format!("it does not know stream `{name}`"))?;
    if stream.definition.fingerprint() != request.definition {
        let reason =
            format!("it knows another definition of stream `{name}`; processes follow the catalog within seconds");
        return Err(reason.into());
    }
    let handle = handle.ok_or_else(|| format!("stream `{name}` is starting"))?;
    let failure = handle.failure.borrow().clone();
    let stopped = failure.as_ref().map(|failure| format!("stream `{name}` has stopped: {failure}"));
    let snapshot = handle.snapshots.borrow().clone();
    if let Some(stopped) = &stopped
        && !(request.stale && snapshot.is_some())
    {
        return Err(NothingKept { reason: stopped.clone(), stopped: failure });
    }
    let snapshot = snapshot.ok_or_else(|| format!("stream `{name}` is starting"))?;
    let views = catalog
        .views_of(name)
        .filter(|view| request.views.contains_key(view.plan.id()))
        .map(|view| (view.plan.id().clone(), Arc::clone(view)))
        .collect();
    Ok(PinEntry { snapshot, stopped, row_schema: stream.definition.row_schema(), views })
}

/// The answer for every partition that the worker of the snapshot reads.
pub(super) fn partitions(
    request: &PinRequest,
    snapshot: &StreamSnapshot,
    stopped: Option<&str>,
    known: &BTreeMap<ViewId, Arc<CompiledView>>,
) -> BTreeMap<Partition, PinnedPartition> {
    let partition = |(partition, frontier): (Partition, Offset)| {
        let mut states = BTreeMap::new();
        let mut views = BTreeMap::new();
        for (id, from) in &request.views {
            let held = match (known.get(id), snapshot.views.get(id)) {
                (None, _) => Coverage::NotHeld(format!("view {id} is not known there")),
                (Some(_), None) => Coverage::NotHeld(match snapshot.failed.get(id) {
                    Some(failure) => format!("it has failed: {}", failure.sentence()),
                    None => "its realtime state is being rebuilt".into(),
                }),
                (Some(_), Some(held)) => match tiles(id, held, partition, from.get(partition), frontier) {
                    Ok(tiles) => {
                        states.insert(id.clone(), tiles.iter().map(|tile| tile.states.num_rows() as u64).sum());
                        Coverage::Ranges(tiles.iter().map(|tile| (tile.from, tile.to)).collect())
                    }
                    Err(reason) => Coverage::NotHeld(snapshot.not_held(id, reason)),
                },
            };
            views.insert(id.clone(), held);
        }
        let rows = request.rows.as_ref().map(|from| {
            let from = from.get(partition);
            match rows_between(&snapshot.rows, partition, from, frontier) {
                Err(reason) => Coverage::NotHeld(reason),
                Ok(_) if from == frontier => Coverage::Ranges(Vec::new()),
                Ok(_) => Coverage::Ranges(vec![(from, frontier)]),
            }
        });
        let pinned = PinnedPartition {
            frontier,
            caught_up: stopped.is_none() && snapshot.caught_up_partitions.contains(&partition),
            lag: snapshot.health.get(&partition).map_or(0, |h| h.lag),
            waiting: stopped.map(str::to_owned).or_else(|| snapshot.waiting.clone()),
            views,
            states,
            rows,
        };
        (partition, pinned)
    };
    snapshot.frontier.iter().map(partition).collect()
}

/// A frontier of one partition, so that [`tile`] examines only that partition.
pub(super) fn one(partition: Partition, offset: Offset) -> Frontier {
    [(partition, offset)].into_iter().collect()
}

/// The segments that tile `[from, to)` of one partition, or the reason why none do.
fn tiles(
    view: &ViewId,
    held: &ViewSegments,
    partition: Partition,
    from: Offset,
    to: Offset,
) -> Result<Vec<Arc<Segment>>, String> {
    tile(view, held, &one(partition, from), &one(partition, to)).map_err(|error| match error {
        SharedError::NotHeld { reason, .. } => reason,
        other => other.to_string(),
    })
}

/// The status of every stream of `handles`.
pub(super) fn status<'a>(
    worker: &str,
    handles: impl IntoIterator<Item = (&'a StreamName, &'a StreamHandle)>,
) -> WorkerStatus {
    let streams = handles.into_iter().map(|(name, handle)| {
        let failure = handle.failure.borrow().clone();
        let snapshot = handle.snapshots.borrow().clone();
        let snapshot = snapshot.as_deref();
        let segments = snapshot.iter().flat_map(|s| &s.views);
        let stream = WorkerStream {
            failure,
            waiting: snapshot.and_then(|s| s.waiting.clone()),
            archive_failure: handle.archive_failure.borrow().clone(),
            frontier: snapshot.map(|s| s.frontier.clone()),
            caught_up: snapshot.map(|s| s.caught_up_partitions.clone()).unwrap_or_default(),
            health: snapshot.map(|s| s.health.clone()).unwrap_or_default(),
            segments: segments.map(|(id, held)| (id.clone(), held.iter().count())).collect(),
            failed: snapshot.map(|s| &s.failed).map(failures).unwrap_or_default(),
            delayed: snapshot.map(|s| &s.delayed).map(failures).unwrap_or_default(),
            memory_bytes: snapshot.map_or(0, |s| s.memory_bytes),
            memory_budget: snapshot.map_or(0, |s| s.memory_budget),
            paused: snapshot.is_some_and(|s| s.paused),
        };
        (name.clone(), stream)
    });
    WorkerStatus { worker: worker.to_owned(), streams: streams.collect() }
}
