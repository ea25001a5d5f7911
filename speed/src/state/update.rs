//! Running the algebra: rows become segments, and segments become fewer segments.
//!
//! Invariant: a segment has states of its own partition only. The range of offsets that was read names the segment,
//! not its states: a range without rows is a segment too.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, Int32Array, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use thalweg_schemas::algebra::{self, ViewPlan};
use thalweg_schemas::realtime::segment::{Provenance, Segment};
use thalweg_schemas::{Frontier, Offset, Partition};

use crate::{Error, Result};

/// `from` and `to` of each partition that advances between two frontiers.
pub(crate) fn ranges(from: &Frontier, to: &Frontier) -> Vec<(Partition, Offset, Offset)> {
    to.advanced_since(from).iter().map(|(p, end)| (p, from.get(p), end)).collect()
}

/// The segments of `plan` over `[from, to)`, one per partition that advances. `rows` must hold exactly that range.
pub(crate) async fn update(
    state: &SessionState,
    plan: &ViewPlan,
    rows: LogicalPlan,
    (from, to): (&Frontier, &Frontier),
    provenance: Provenance,
) -> Result<Vec<Segment>> {
    let ranges = ranges(from, to);
    let updated = plan.update(rows)?;
    let states = algebra::collect(state, "updating a view", updated).await?;
    segments(plan, &ranges, &states, provenance, 0)
}

/// [`update`] over rows in memory that are exactly `[from, to)`. Every micro-batch runs this function, without
/// planning.
pub(crate) async fn update_batch(
    state: &SessionState,
    plan: &ViewPlan,
    rows: RecordBatch,
    (from, to): (&Frontier, &Frontier),
) -> Result<Vec<Segment>> {
    let states = plan.update_batches(state.task_ctx(), vec![rows]).await?;
    segments(plan, &ranges(from, to), &states, Provenance::Live, 0)
}

/// The segments over `[from, to)` if the range has no rows.
pub(crate) fn empty(
    plan: &ViewPlan,
    (from, to): (&Frontier, &Frontier),
    provenance: Provenance,
) -> Result<Vec<Segment>> {
    segments(plan, &ranges(from, to), &[], provenance, 0)
}

/// Merges runs of neighbours, each of a different partition, into one segment per run.
pub(crate) async fn merge(
    state: Arc<SessionState>,
    plan: &ViewPlan,
    runs: &[Vec<Arc<Segment>>],
) -> Result<Vec<Segment>> {
    let mut ranges = Vec::with_capacity(runs.len());
    for run in runs {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Err(Error::Broken("a run of no segments is to be merged".into()));
        };
        ranges.push((first.partition, first.from, last.to));
    }
    let inputs: Vec<RecordBatch> = runs
        .iter()
        .flatten()
        .filter(|segment| segment.states.num_rows() > 0)
        .map(|segment| segment.states.clone())
        .collect();
    let level = runs.iter().flatten().map(|s| s.level).max().unwrap_or(0);
    let provenance = runs.iter().flatten().map(|s| s.provenance).max().unwrap_or(Provenance::Live);
    let states = if inputs.is_empty() { Vec::new() } else { plan.merge_batches(state.task_ctx(), inputs).await? };
    segments(plan, &ranges, &states, provenance, level.saturating_add(1))
}

fn segments(
    plan: &ViewPlan,
    ranges: &[(Partition, Offset, Offset)],
    states: &[RecordBatch],
    provenance: Provenance,
    level: u8,
) -> Result<Vec<Segment>> {
    let mut split = split(plan.state_schema(), states)?;
    let segments = ranges
        .iter()
        .map(|(partition, from, to)| {
            let states =
                split.remove(partition).unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(plan.state_schema())));
            let bytes = match states.num_rows() {
                0 => 0,
                _ => states.get_array_memory_size(),
            };
            Segment {
                view: plan.id().clone(),
                partition: *partition,
                from: *from,
                to: *to,
                provenance,
                states,
                bytes,
                level,
            }
        })
        .collect();
    match split.keys().next() {
        None => Ok(segments),
        Some(partition) => {
            Err(Error::Broken(format!("view {} has states of partition {partition}, which did not advance", plan.id())))
        }
    }
}

/// Splits states by partition. Each result has its own memory, so that dropping one result frees its memory.
fn split(schema: &SchemaRef, states: &[RecordBatch]) -> Result<BTreeMap<Partition, RecordBatch>> {
    let all = concat_batches(schema, states)?;
    let mut rows: BTreeMap<Partition, Vec<u32>> = BTreeMap::new();
    if all.num_rows() == 0 {
        return Ok(BTreeMap::new());
    }
    let partitions = all
        .column(0)
        .as_any()
        .downcast_ref::<Int32Array>()
        .filter(|column| column.null_count() == 0)
        .ok_or_else(|| Error::Broken("states do not begin with their partition".into()))?;
    for (row, partition) in (0u32..).zip(partitions.values()) {
        rows.entry(Partition(*partition)).or_default().push(row);
    }
    if rows.len() == 1 {
        return Ok(rows.into_keys().map(|p| (p, all.clone())).collect());
    }
    rows.into_iter()
        .map(|(partition, rows)| {
            let taken = take_record_batch(&all, &UInt32Array::from(rows))?;
            Ok((partition, taken))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    fn states(rows: &[(i32, i64)]) -> RecordBatch {
        let partitions: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0)));
        let groups: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1)));
        RecordBatch::try_from_iter([("_partition", partitions), ("g0", groups)]).unwrap()
    }

    #[test]
    fn states_are_split_by_partition() {
        let check = |batches: &[&[(i32, i64)]], expect: &[(i32, &[i64])]| {
            let batches: Vec<_> = batches.iter().map(|rows| states(rows)).collect();
            let split = split(&states(&[]).schema(), &batches).unwrap();
            let got: Vec<(i32, Vec<i64>)> = split
                .iter()
                .map(|(p, batch)| {
                    let groups = batch.column(1).as_any().downcast_ref::<Int64Array>();
                    (p.0, groups.unwrap().values().to_vec())
                })
                .collect();
            let expect: Vec<_> = expect.iter().map(|(p, g)| (*p, g.to_vec())).collect();
            assert_eq!(got, expect);
        };
        check(&[], &[]);
        check(&[&[(3, 1)], &[(3, 2)]], &[(3, &[1, 2])]);
        check(&[&[(1, 10), (0, 20)], &[(0, 30), (1, 40)]], &[(0, &[20, 30]), (1, &[10, 40])]);
    }

    #[test]
    fn only_partitions_that_advance_have_ranges() {
        let at =
            |pairs: &[(i32, i64)]| -> Frontier { pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect() };
        let got = ranges(&at(&[(0, 5), (1, 7)]), &at(&[(0, 5), (1, 9), (2, 1)]));
        let expect = [(Partition(1), Offset(7), Offset(9)), (Partition(2), Offset(0), Offset(1))];
        assert_eq!(got, expect);
    }
}
