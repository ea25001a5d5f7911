//! The audit: compares the realtime states of the speed layer with states that are computed again from the master
//! dataset, group by group. If the speed layer holds no segment below the newest mark, the speed layer rebuilds
//! segments for the audit. These segments are compared with the published batch states.
//!
//! Invariant: an audit writes nothing. Both sides cover exactly the same offsets. Live and rebuilt segments are
//! compared separately, because rebuilt segments are made from the same rows as the other side.

mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use thalweg_schemas::algebra::{ViewPlan, batches, collect, scan};
use thalweg_schemas::api::audits::{Against, AuditPart, AuditReport};
use thalweg_schemas::catalog::{Catalog, CatalogStream, CompiledView};
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::segment::{Provenance, Segment, ViewSegments};
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::realtime::tile::tile;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion};
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::archive::Archive;
use crate::run::rows;
use crate::view_table::ViewTable;
use crate::{Error, Result};

pub use self::steps::{AuditStep, PublishedRange};

/// Memory in bytes for the queries of an audit.
const MEMORY: usize = 512 * 1024 * 1024;

/// Compares the segments of `view` in `live` with the master dataset, up to the newest archived mark. The range
/// starts at the published cut, or at the oldest segment that joins up to the mark if that is lower.
///
/// Errors: [`thalweg_schemas::Error::NotHeld`] if the segments do not reach from the published cut to the mark,
/// because they are being rebuilt or the snapshot is older than the cut. Otherwise storage or computing failed.
pub async fn audit_view(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &CompiledView,
    live: &StreamSnapshot,
) -> Result<AuditReport> {
    let plan = &view.plan;
    let stream = catalog
        .streams
        .get(plan.stream())
        .ok_or_else(|| thalweg_schemas::Error::FindDefinition { kind: "stream", name: plan.stream().to_string() })?;
    let Some(mut archive) = Archive::find(warehouse, &stream.definition, stream.origin.clone()).await? else {
        return Ok(nothing_archived(view, stream));
    };
    let newest = archive.latest().await?;
    // The snapshot may be older than the table. Its own master version is then the newest one that it covers.
    let master = if live.frontier.covers(&newest.mark) { newest } else { Arc::clone(&live.master) };
    let mut table = ViewTable::open(warehouse, plan.id(), plan.stored_schema()).await?;
    let cut = match table.latest().await? {
        Some(version) => version.cut.or(&stream.origin),
        None => stream.origin.clone(),
    };
    let to = master.mark.clone();
    let nothing = ViewSegments::default();
    let held = live.views.get(plan.id()).map_or(&nothing, |held| held);
    let from = held_from(held, &cut, &to);
    let tiles = tile(plan.id(), held, &from, &to)?;
    let state = session::state(session::runtime(Some(warehouse), Some(MEMORY), None)?, 1);
    let mut parts = Vec::new();
    for provenance in [Provenance::Live, Provenance::Rebuilt] {
        let of_kind: Vec<Arc<Segment>> =
            tiles.iter().filter(|segment| segment.provenance == provenance).cloned().collect();
        if !of_kind.is_empty() {
            parts.push(compare(&state, plan, stream, &master, provenance, &of_kind).await?);
        }
    }
    Ok(AuditReport { view: view.definition.name.clone(), id: plan.id().clone(), cut, from, to, parts })
}

/// The report on a stream that has no archive yet. An audit creates none: it may run in a process that only reads.
fn nothing_archived(view: &CompiledView, stream: &CatalogStream) -> AuditReport {
    let origin = || stream.origin.clone();
    let (name, id) = (view.definition.name.clone(), view.plan.id().clone());
    AuditReport { view: name, id, cut: origin(), from: origin(), to: origin(), parts: Vec::new() }
}

/// For every partition of `to`: the start of the segments that reach `to` without a gap, but never above `cut`.
fn held_from(held: &ViewSegments, cut: &Frontier, to: &Frontier) -> Frontier {
    let start = |partition, end: Offset| {
        let mut at = end;
        for segment in held.partitions.get(&partition).into_iter().flatten().rev() {
            if segment.to == at && segment.from < at {
                at = segment.from;
            }
        }
        at.min(cut.get(partition))
    };
    to.iter().map(|(p, end)| (p, start(p, end))).collect()
}

/// Compares segments from the stream's origin to the cut of `version` with the batch states of that version.
///
/// Errors: [`thalweg_schemas::Error::NotHeld`] if the segments do not cover that range. Otherwise storage or
/// computing failed.
pub async fn audit_published(
    warehouse: &Warehouse,
    stream: &CatalogStream,
    view: &CompiledView,
    version: &BatchVersion,
    segments: Vec<Segment>,
) -> Result<AuditReport> {
    let plan = &view.plan;
    let (from, to) = (stream.origin.clone(), version.cut.or(&stream.origin));
    let mut held = ViewSegments::default();
    for segment in segments {
        let of_partition = held.partitions.entry(segment.partition).or_default();
        of_partition.push(Arc::new(segment));
    }
    let tiles = tile(plan.id(), &held, &from, &to)?;
    let state = session::state(session::runtime(Some(warehouse), Some(MEMORY), None)?, 1);
    let states = tiles.iter().map(|s| s.states.clone()).collect();
    let states = batches("segments", Arc::clone(plan.state_schema()), states)?;
    let left = collect(&state, "merging segments", plan.merge(states)?).await?;
    let files = ParquetFiles::new(Arc::clone(plan.stored_schema()), version.files.to_vec());
    let published = plan.from_stored(scan("states", Arc::new(files))?)?;
    let right = collect(&state, "reading batch states", plan.merge(published)?).await?;
    let archive = Archive::find(warehouse, &stream.definition, from.clone()).await?;
    let mut archive = archive.ok_or_else(|| Error::Broken("states are published, and nothing is archived".into()))?;
    let master = archive.latest().await?;
    let magnitudes = magnitudes(&state, plan, stream, &master, (&from, &to)).await?;
    let found = plan.differences(&left, &right, &magnitudes)?;
    let part = AuditPart {
        provenance: Provenance::Rebuilt,
        against: Against::Published,
        segments: tiles.len(),
        offsets: to.distance(&from),
        groups: right.iter().map(RecordBatch::num_rows).sum(),
        differences: found.told,
        more: found.more,
    };
    Ok(AuditReport {
        view: view.definition.name.clone(),
        id: plan.id().clone(),
        cut: to.clone(),
        from,
        to,
        parts: vec![part],
    })
}

/// The magnitudes by which float sums over `[from, to)` are compared; empty if the view has no float sums.
async fn magnitudes(
    state: &SessionState,
    plan: &ViewPlan,
    stream: &CatalogStream,
    master: &MasterVersion,
    (from, to): (&Frontier, &Frontier),
) -> Result<Vec<RecordBatch>> {
    let read = rows(&stream.definition, master, from, to)?.plan;
    match plan.magnitudes(read)? {
        Some(sums) => Ok(collect(state, "adding up magnitudes", sums).await?),
        None => Ok(Vec::new()),
    }
}

async fn compare(
    state: &SessionState,
    plan: &ViewPlan,
    stream: &CatalogStream,
    master: &MasterVersion,
    provenance: Provenance,
    segments: &[Arc<Segment>],
) -> Result<AuditPart> {
    let held: Vec<RecordBatch> = segments.iter().map(|s| s.states.clone()).collect();
    let held = batches("segments", Arc::clone(plan.state_schema()), held)?;
    let left = collect(state, "merging segments", plan.merge(held)?).await?;
    let ranges = ranges(segments);
    let mut again: Option<LogicalPlan> = None;
    let mut sums = Vec::new();
    for (from, to) in &ranges {
        sums.extend(magnitudes(state, plan, stream, master, (from, to)).await?);
        let states = plan.update(rows(&stream.definition, master, from, to)?.plan)?;
        again = Some(match again {
            None => states,
            Some(others) => LogicalPlanBuilder::from(others)
                .union(states)
                .and_then(LogicalPlanBuilder::build)
                .map_err(|source| Error::RunPlan { what: "planning the audit".into(), source })?,
        });
    }
    let again = again.ok_or_else(|| Error::Broken("no segment to audit".into()))?;
    let right = collect(state, "computing states again", plan.merge(again)?).await?;
    let found = plan.differences(&left, &right, &sums)?;
    Ok(AuditPart {
        provenance,
        against: Against::Archive,
        segments: segments.len(),
        offsets: ranges.iter().map(|(from, to)| to.distance(from)).sum(),
        groups: right.iter().map(RecordBatch::num_rows).sum(),
        differences: found.told,
        more: found.more,
    })
}

/// The ranges that `segments` cover, with neighbours joined. The nth pair holds the nth range of each partition.
fn ranges(segments: &[Arc<Segment>]) -> Vec<(Frontier, Frontier)> {
    let mut stretches: BTreeMap<Partition, Vec<(Offset, Offset)>> = BTreeMap::new();
    for segment in segments {
        let of_partition = stretches.entry(segment.partition).or_default();
        match of_partition.last_mut() {
            Some((_, end)) if *end == segment.from => *end = segment.to,
            _ => of_partition.push((segment.from, segment.to)),
        }
    }
    let most = stretches.values().map(Vec::len).max().unwrap_or_default();
    (0..most)
        .map(|nth| {
            let nth = |(p, ranges): (&Partition, &Vec<_>)| ranges.get(nth).map(|range: &(Offset, Offset)| (*p, *range));
            let named = stretches.iter().filter_map(nth);
            (named.clone().map(|(p, (from, _))| (p, from)).collect(), named.map(|(p, (_, to))| (p, to)).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests;
