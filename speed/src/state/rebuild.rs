//! Rebuilding a view's segments from rows. The same code serves start-up, a new view, an assigned partition, and a
//! cut that falls into a segment.
//!
//! ```text
//!  cut B ── archived rows ── mark M ── archived rows ── A ── rows in memory ── reached
//!  |________ Rebuilt ________|_________ Rebuilt ________|_______ Live _______|
//! ```
//!
//! Invariant: the segments of a rebuild tile the range from the cut to `reached`, with borders at every given mark.
//! All frontiers of a rebuild name the same partitions: the rebuilt partitions, which may be fewer than all
//! partitions that are read.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use thalweg_schemas::algebra::Culprit;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::segment::{Provenance, Segment};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::state::row_source::{archived_rows, memory_rows};
use crate::state::update::{empty, update};
use crate::{Error, Result};

/// The work, for errors.
pub(crate) const REBUILDING: &str = "rebuilding a view";

/// A range of rows in memory that crosses no mark.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) from: Frontier,
    pub(crate) to: Frontier,
    /// The batches may contain rows outside the range.
    pub(crate) batches: Vec<RecordBatch>,
}

/// The input of a rebuild.
#[derive(Debug)]
pub(crate) struct Rebuild {
    /// The number by which the loop recognises the rebuild.
    pub(crate) id: u64,
    pub(crate) view: Arc<CompiledView>,
    /// The schema of the stream's rows.
    pub(crate) schema: SchemaRef,
    pub(crate) cut: Frontier,
    /// The pinned version whose files hold the rows below `archived`.
    pub(crate) master: Arc<MasterVersion>,
    pub(crate) archived: Frontier,
    /// Marks between the cut and `archived`, oldest first.
    pub(crate) marks: Vec<Frontier>,
    /// Rows in memory from `archived` on.
    pub(crate) memory: Vec<Stretch>,
}

/// The rebuilt segments up to `reached`, which names the rebuilt partitions.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub(crate) id: u64,
    pub(crate) view: Arc<CompiledView>,
    pub(crate) reached: Frontier,
    pub(crate) segments: Vec<Segment>,
}

/// The segments of `view` over the archived range `[from, to)`, rebuilt as at a start. The range is rebuilt in two
/// halves, so that a merge has input.
///
/// Errors: reading the storage failed, or the computation failed.
pub async fn rebuild_range(
    warehouse: &Warehouse,
    stream: &StreamDefinition,
    view: Arc<CompiledView>,
    master: Arc<MasterVersion>,
    (from, to): (&Frontier, &Frontier),
    memory: usize,
    spill: Option<PathBuf>,
) -> Result<Vec<Segment>> {
    let half = |p: Partition| Offset((from.get(p).0 + to.get(p).0) / 2);
    let middle = to.partitions().map(|p| (p, half(p))).collect();
    let job = Rebuild {
        id: 0,
        view,
        schema: stream.row_schema(),
        cut: from.clone(),
        master,
        archived: to.clone(),
        marks: vec![middle],
        memory: Vec::new(),
    };
    let env = session::runtime(Some(warehouse), Some(memory), spill)?;
    let rebuilt = rebuild(Arc::new(session::state(env, 1)), job).await;
    rebuilt.map(|rebuilt| rebuilt.segments).map_err(|culprit| Error::Shared(culprit.error))
}

/// Runs the rebuild.
///
/// Errors: the range of messages of which the view cannot be rebuilt. No message is searched, because rows stay in
/// memory for a rebuild until it ends.
pub(crate) async fn rebuild(state: Arc<SessionState>, job: Rebuild) -> Result<Rebuilt, Culprit> {
    let mut segments = Vec::new();
    for (from, to) in pieces(&job.cut, &job.marks, &job.archived) {
        match contain(REBUILDING, update_archived(&state, &job, &from, &to)).await {
            Ok(added) => segments.extend(added),
            Err(error) => return Err(Culprit { from, to, expression: None, error: error.into_shared() }),
        }
    }
    let archived = Rebuilt { id: job.id, view: job.view, reached: job.archived, segments };
    continue_rebuild(state, job.schema, archived, job.memory).await
}

/// Adds the rows that were read after `rebuilt.reached`.
///
/// Errors: as [`rebuild`].
pub(crate) async fn continue_rebuild(
    state: Arc<SessionState>,
    schema: SchemaRef,
    mut rebuilt: Rebuilt,
    memory: Vec<Stretch>,
) -> Result<Rebuilt, Culprit> {
    for stretch in memory {
        match contain(REBUILDING, update_memory(&state, &rebuilt.view, &schema, &stretch)).await {
            Ok(added) => rebuilt.segments.extend(added),
            Err(error) => {
                let Stretch { from, to, .. } = stretch;
                return Err(Culprit { from, to, expression: None, error: error.into_shared() });
            }
        }
        rebuilt.reached = rebuilt.reached.max(&stretch.to);
    }
    Ok(rebuilt)
}

async fn update_archived(state: &SessionState, job: &Rebuild, from: &Frontier, to: &Frontier) -> Result<Vec<Segment>> {
    let plan = &job.view.plan;
    if !job.master.files.iter().any(|file| file.touches(from, to)) {
        return empty(plan, (from, to), Provenance::Rebuilt);
    }
    let rows = archived_rows(&job.schema, &job.master, from, to)?;
    update(state, plan, rows, (from, to), Provenance::Rebuilt).await
}

/// The segments of a view over one range of rows in memory.
pub(crate) async fn update_memory(
    state: &SessionState,
    view: &CompiledView,
    schema: &SchemaRef,
    stretch: &Stretch,
) -> Result<Vec<Segment>> {
    let (from, to) = (&stretch.from, &stretch.to);
    if stretch.batches.is_empty() {
        return empty(&view.plan, (from, to), Provenance::Live);
    }
    update(state, &view.plan, memory_rows(schema, &stretch.batches, from, to)?, (from, to), Provenance::Live).await
}

/// Splits `[from, to)` at the marks inside it, per partition.
fn pieces(from: &Frontier, marks: &[Frontier], to: &Frontier) -> Vec<(Frontier, Frontier)> {
    let partitions: Vec<Partition> = from.max(to).partitions().collect();
    let mut out = Vec::new();
    let mut at: Frontier = partitions.iter().map(|p| (*p, from.get(*p))).collect();
    for border in marks.iter().chain([to]) {
        let next: Frontier = partitions.iter().map(|p| (*p, border.get(*p).min(to.get(*p)).max(at.get(*p)))).collect();
        if next != at {
            out.push((std::mem::replace(&mut at, next.clone()), next));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::at;

    use super::*;

    #[test]
    fn a_range_is_cut_at_the_marks_inside() {
        type Pairs<'a> = &'a [(i32, i64)];
        let check = |from: Pairs<'_>, marks: &[Pairs<'_>], to: Pairs<'_>, expect: &[(Pairs<'_>, Pairs<'_>)]| {
            let marks: Vec<_> = marks.iter().map(|m| at(m)).collect();
            let expect: Vec<_> = expect.iter().map(|(f, t)| (at(f), at(t))).collect();
            assert_eq!(pieces(&at(from), &marks, &at(to)), expect);
        };
        check(&[(0, 5)], &[], &[(0, 5)], &[]);
        check(&[(0, 5)], &[], &[(0, 9)], &[(&[(0, 5)], &[(0, 9)])]);
        check(
            &[(0, 5)],
            &[&[(0, 3)], &[(0, 7)], &[(0, 20)]],
            &[(0, 9)],
            &[(&[(0, 5)], &[(0, 7)]), (&[(0, 7)], &[(0, 9)])],
        );
        // In partition 0 the cut lies below the mark; in partition 1 it lies above.
        check(
            &[(0, 5), (1, 8)],
            &[&[(0, 7), (1, 6)]],
            &[(0, 9), (1, 8), (2, 3)],
            &[
                (&[(0, 5), (1, 8), (2, 0)], &[(0, 7), (1, 8), (2, 0)]),
                (&[(0, 7), (1, 8), (2, 0)], &[(0, 9), (1, 8), (2, 3)]),
            ],
        );
    }
}
