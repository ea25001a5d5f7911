//! Rows above the archive: every gap is refused, and every gapless run of chunks is found.

use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use thalweg_schemas::Partition;

use super::*;

fn at(offset: i64) -> Frontier {
    Frontier::from([(0, offset)])
}

/// Chunks as ranges of partition 0, the frontiers of the archive and the snapshot, and the ranges that the pin uses.
#[track_caller]
fn check(chunks: &[(i64, i64)], archived: i64, frontier: i64, expect: Option<&[(i64, i64)]>) {
    let chunks: Vec<_> = chunks
        .iter()
        .map(|(from, to)| Arc::new(RowsChunk { from: at(*from), to: at(*to), batches: Vec::new(), bytes: 0 }))
        .collect();
    let zero = Partition(0);
    let found = rows_above(&at(archived), &chunks, &at(frontier)).map(|used| {
        let ends = used.iter().map(|c| (c.from.get(zero).0, c.to.get(zero).0));
        ends.collect::<Vec<_>>()
    });
    assert_eq!(found.as_deref().ok(), expect, "{chunks:?} {archived} {frontier}");
}

#[test]
fn honest_chunks_are_found() {
    check(&[], 5, 5, Some(&[]));
    check(&[(5, 9)], 5, 9, Some(&[(5, 9)]));
    check(&[(0, 5), (5, 9)], 5, 9, Some(&[(5, 9)]));
    check(&[(0, 7), (7, 9)], 5, 9, Some(&[(0, 7), (7, 9)]));
    check(&[(0, 5)], 5, 5, Some(&[]));
    // Another process has archived rows beyond those that this process keeps.
    check(&[(0, 5)], 9, 9, Some(&[]));
}

#[test]
fn gaps_are_refused() {
    check(&[], 5, 6, None);
    check(&[(6, 9)], 5, 9, None);
    check(&[(5, 7), (8, 9)], 5, 9, None);
    check(&[(5, 8), (7, 9)], 5, 9, None);
    check(&[(5, 8)], 5, 9, None);
    check(&[(5, 9)], 5, 8, None);
}

#[test]
fn a_partition_that_appears_starts_at_zero() {
    let second = |offset| at(9).max(&Frontier::from([(1, offset)]));
    let chunk = |from: Frontier, to: Frontier| Arc::new(RowsChunk { from, to, batches: Vec::new(), bytes: 0 });
    let chunks = [chunk(at(5), at(9)), chunk(second(0), second(4))];
    assert_eq!(rows_above(&at(5), &chunks, &second(4)).unwrap().len(), 2);
    let gap = [chunk(at(5), at(9)), chunk(second(2), second(4))];
    assert!(rows_above(&at(5), &gap, &second(4)).is_err());
}

#[test]
fn rows_of_an_older_definition_are_none_of_a_newer_one() {
    let schema = |columns: &[&str]| -> SchemaRef {
        let fields = columns.iter().map(|name| Field::new(*name, DataType::Int64, true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    };
    let chunk = |batches: Vec<RecordBatch>| Arc::new(RowsChunk { from: at(0), to: at(1), batches, bytes: 0 });
    let rows = || chunk(vec![RecordBatch::new_empty(schema(&["a"]))]);
    let (older, newer) = (schema(&["a"]), schema(&["a", "b"]));
    assert!(are_of(&[], &newer) && are_of(&[chunk(Vec::new())], &newer));
    assert!(are_of(&[rows(), chunk(Vec::new())], &older));
    assert!(!are_of(&[rows(), chunk(Vec::new())], &newer));
}
