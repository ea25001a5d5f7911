//! A stream's realtime side as one snapshot, assembled from workers. Audits use it to compare segments.
//!
//! Invariant: the snapshot is at one frontier, chosen as for a query; workers' segments are used unchanged.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow_flight::decode::DecodedPayload;
use futures::TryStreamExt;
use thalweg_schemas::catalog::{CatalogStream, CompiledView};
use thalweg_schemas::realtime::protocol::{PinRequest, SegmentHead, Ticket};
use thalweg_schemas::realtime::segment::{Segment, ViewSegments};
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::warehouse::versions::{MasterVersion, Published};
use thalweg_schemas::{Frontier, Offset, ViewId};

use super::assign::{Requirements, choose_workers, describe_unheld};
use super::scan::broken_off;
use super::{WorkerAnswer, WorkerPin, Workers};
use crate::{Error, Result};

/// The longest time for which the pins are needed.
const KEEP: Duration = Duration::from_secs(60);

impl Workers {
    /// Returns the segments of `views` that workers hold for `stream`, at one frontier, over `master`. Rows are left
    /// out.
    ///
    /// Errors: [`Error::NotHeld`] naming the partitions that no worker holds from the published cuts on,
    /// [`Error::AskWorker`]; both are temporary.
    pub async fn snapshot(
        &self,
        stream: &CatalogStream,
        views: &[Arc<CompiledView>],
        published: &Published,
        master: Arc<MasterVersion>,
    ) -> Result<StreamSnapshot> {
        let name = &stream.definition.name;
        let cut = |view: &Arc<CompiledView>| {
            let batch = published.versions.get(view.plan.id());
            let cut = batch.map_or_else(Frontier::new, |batch| batch.cut.clone());
            (view.plan.id().clone(), cut.or(&stream.origin))
        };
        let needs = Requirements {
            origin: stream.origin.clone(),
            views: views.iter().map(cut).collect(),
            ..Requirements::default()
        };
        let request = PinRequest {
            stream: name.clone(),
            definition: stream.definition.fingerprint(),
            views: needs.views.clone(),
            rows: None,
            keep_ms: KEEP.as_millis() as u64,
            stale: false,
        };
        let asked = self.pin(request).await;
        let answers: Vec<_> = asked.iter().map(WorkerAnswer::answer).collect();
        let chosen = choose_workers(&needs, &answers);
        if !chosen.unheld.is_empty() {
            return Err(Error::NotHeld { stream: name.clone(), reason: describe_unheld(&chosen.unheld) });
        }
        let mut held: HashMap<ViewId, ViewSegments> = HashMap::new();
        for (i, share) in &chosen.shares {
            let Ok(pin) = &asked[*i].pin else { continue };
            for view in views {
                let segments = segments(pin, view.plan.id(), share).await?;
                let all = held.entry(view.plan.id().clone()).or_default();
                for segment in segments {
                    let list = all.partitions.entry(segment.partition).or_default();
                    list.push(Arc::new(segment));
                }
            }
        }
        let views = held.into_iter().map(|(id, held)| (id, Arc::new(held)));
        Ok(StreamSnapshot {
            stream: name.clone(),
            origin: stream.origin.clone(),
            caught_up_partitions: chosen.frontier.partitions().collect(),
            frontier: chosen.frontier,
            caught_up: true,
            waiting: None,
            master,
            rows: Vec::new(),
            views: views.collect(),
            failed: BTreeMap::new(),
            delayed: BTreeMap::new(),
            health: BTreeMap::new(),
            memory_bytes: 0,
            memory_budget: 0,
            paused: false,
        })
    }
}

/// Reads all segments of the view that the worker holds in the partitions of `share`.
async fn segments(pin: &WorkerPin, view: &ViewId, share: &Frontier) -> Result<Vec<Segment>> {
    let worker = pin.worker();
    let ticket = Ticket::Segments {
        pin: pin.answer().pin.clone(),
        view: view.clone(),
        from: share.partitions().map(|p| (p, Offset(0))).collect(),
    };
    let failed = |reason: String| Error::AskWorker { worker: worker.address().to_owned(), reason };
    let mut messages = worker.read(&ticket).await?;
    let mut segments: Vec<Segment> = Vec::new();
    while let Some(message) = messages.try_next().await.map_err(|e| broken_off(worker.address(), &e.into()))? {
        let metadata = message.app_metadata();
        match (message.payload, segments.last_mut()) {
            (DecodedPayload::Schema(schema), _) => {
                let head: SegmentHead =
                    serde_json::from_slice(&metadata).map_err(|e| failed(format!("named no segment: {e}")))?;
                segments.push(Segment {
                    view: view.clone(),
                    partition: head.partition,
                    from: head.from,
                    to: head.to,
                    provenance: head.provenance,
                    states: RecordBatch::new_empty(schema),
                    bytes: 0,
                    level: 0,
                });
            }
            (DecodedPayload::RecordBatch(batch), Some(segment)) => {
                let schema = batch.schema();
                segment.states =
                    arrow::compute::concat_batches(&schema, [&segment.states, &batch]).map_err(Error::Encode)?;
                segment.bytes = segment.states.get_array_memory_size();
            }
            _ => {}
        }
    }
    // In these partitions the chosen frontier is the pin's: segments above it do not belong to the snapshot.
    segments.retain(|segment| segment.to <= share.get(segment.partition));
    Ok(segments)
}
