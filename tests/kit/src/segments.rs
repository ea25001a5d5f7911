//! Segments and rows, made by the algebra and the decoder from the messages of a test.
//!
//! Invariant: the product computes all states from these rows; none is written by hand.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use datafusion::execution::context::SessionState;
use thalweg_schemas::algebra::{batches, between, collect};
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::realtime::segment::{Provenance, Segment, ViewSegments};
use thalweg_schemas::{Frontier, Offset, Partition};

/// The timestamp of the message at offset 0, in milliseconds since 1970. Each offset adds one millisecond.
pub const FIRST_MS: i64 = 1_767_225_600_000;

/// Makes a message at every offset of `[from, to)`, and returns the messages as rows of the row schema.
pub fn rows(
    stream: &StreamDefinition,
    from: &Frontier,
    to: &Frontier,
    message: impl Fn(Partition, Offset) -> String,
) -> RecordBatch {
    let mut messages = Messages::new();
    for (partition, end) in to.iter() {
        for offset in (from.get(partition).0..end.0).map(Offset) {
            let text = message(partition, offset);
            messages.push(partition, offset, Some(FIRST_MS + offset.0), Some(text.as_bytes()));
        }
    }
    Decoder::new(stream).unwrap().decode(&messages).unwrap().rows
}

/// Computes the view's states over the part of `rows` in `[from, to)`.
pub async fn states(
    state: &SessionState,
    view: &CompiledView,
    rows: &[RecordBatch],
    from: &Frontier,
    to: &Frontier,
) -> RecordBatch {
    let schema = view.plan.state_schema();
    let Some(first) = rows.first() else { return RecordBatch::new_empty(Arc::clone(schema)) };
    let rows = batches("rows", first.schema(), rows.to_vec()).unwrap();
    let plan = view.plan.update(between(rows, from, to).unwrap()).unwrap();
    let states = collect(state, "updating", plan).await.unwrap();
    let columns = states.into_iter().map(|batch| RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec()));
    concat_batches(schema, &columns.collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

/// Makes the segment of `[from, to)` of one partition from the part of `rows` in that range.
pub async fn segment(
    state: &SessionState,
    view: &CompiledView,
    rows: &[RecordBatch],
    partition: Partition,
    (from, to): (Offset, Offset),
    provenance: Provenance,
) -> Segment {
    let one = |offset| [(partition, offset)].into_iter().collect::<Frontier>();
    let states = states(state, view, rows, &one(from), &one(to)).await;
    Segment { view: view.plan.id().clone(), partition, from, to, provenance, states, bytes: 1, level: 0 }
}

/// Cuts each partition of `to`, starting at `from`, into `parts` segments of equal length. The first segment is
/// rebuilt, the others are live.
pub async fn segments(
    state: &SessionState,
    view: &CompiledView,
    rows: &[RecordBatch],
    from: &Frontier,
    to: &Frontier,
    parts: i64,
) -> ViewSegments {
    let mut held = ViewSegments::default();
    for (partition, end) in to.iter() {
        let list = held.partitions.entry(partition).or_default();
        let start = from.get(partition).0;
        let offset_of_part = |part| Offset(start + (end.0 - start) * part / parts);
        for part in (0..parts).filter(|part| offset_of_part(*part) < offset_of_part(*part + 1)) {
            let provenance = if part == 0 { Provenance::Rebuilt } else { Provenance::Live };
            let range = (offset_of_part(part), offset_of_part(part + 1));
            list.push(Arc::new(segment(state, view, rows, partition, range, provenance).await));
        }
    }
    held
}
