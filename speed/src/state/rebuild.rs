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

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use thalweg_schemas::algebra::{self, between};
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::segment::{Provenance, Segment};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::{DataFile, MasterVersion};
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::Result;
use crate::state::update::{empty, update};

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
    from: &Frontier,
    to: &Frontier,
    memory: usize,
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
    let env = session::runtime(Some(warehouse), Some(memory), None)?;
    let rebuilt = rebuild(Arc::new(session::state(env, 1)), job).await?;
    Ok(rebuilt.segments)
}

/// Runs the rebuild.
pub(crate) async fn rebuild(state: Arc<SessionState>, job: Rebuild) -> Result<Rebuilt> {
    let mut segments = Vec::new();
    for (from, to) in pieces(&job.cut, &job.marks, &job.archived) {
        segments.extend(update_archived(&state, &job, &from, &to).await?);
    }
    let archived = Rebuilt { id: job.id, view: job.view, reached: job.archived, segments };
    continue_rebuild(state, job.schema, archived, job.memory).await
}

/// Adds the rows that were read after `rebuilt.reached`.
pub(crate) async fn continue_rebuild(
    state: Arc<SessionState>,
    schema: SchemaRef,
    mut rebuilt: Rebuilt,
    memory: Vec<Stretch>,
) -> Result<Rebuilt> {
    for stretch in memory {
        let added = update_memory(&state, &rebuilt.view, &schema, &stretch).await?;
        rebuilt.segments.extend(added);
        rebuilt.reached = rebuilt.reached.max(&stretch.to);
    }
    Ok(rebuilt)
}

async fn update_archived(state: &SessionState, job: &Rebuild, from: &Frontier, to: &Frontier) -> Result<Vec<Segment>> {
    let files: Vec<DataFile> = job.master.files.iter().filter(|file| file.touches(from, to)).cloned().collect();
    let plan = &job.view.plan;
    if files.is_empty() {
        return empty(plan, (from, to), Provenance::Rebuilt);
    }
    let files = ParquetFiles::new(Arc::clone(&job.schema), files);
    let rows = between(algebra::scan("master", Arc::new(files))?, from, to)?;
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
    let rows = algebra::batches("memory", Arc::clone(schema), stretch.batches.clone())?;
    let rows = between(rows, from, to)?;
    update(state, &view.plan, rows, (from, to), Provenance::Live).await
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
