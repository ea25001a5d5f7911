//! Forged gaps, overlaps and stale segments are all refused, and every correct tiling is found.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use super::*;
use crate::realtime::segment::Provenance;

fn segment(view: &ViewId, partition: i32, from: i64, to: i64) -> Arc<Segment> {
    Arc::new(Segment {
        view: view.clone(),
        partition: Partition(partition),
        from: Offset(from),
        to: Offset(to),
        provenance: Provenance::Live,
        states: RecordBatch::new_empty(Arc::new(Schema::empty())),
        bytes: 1,
        level: 0,
    })
}

/// Checks the ranges that partition 0 holds, the requested range and the expected ranges (`None`: not held).
#[track_caller]
fn check(held: &[(i64, i64)], asked: (i64, i64), expect: Option<&[(i64, i64)]>) {
    let view = ViewId::of(&["v"]);
    let segments = ViewSegments {
        partitions: BTreeMap::from([(Partition(0), held.iter().map(|(a, b)| segment(&view, 0, *a, *b)).collect())]),
    };
    let at = |offset| Frontier::from([(0, offset)]);
    let found = tile(&view, &segments, &at(asked.0), &at(asked.1))
        .map(|tiles| tiles.iter().map(|s| (s.from.0, s.to.0)).collect::<Vec<_>>());
    match (found, expect) {
        (Ok(found), Some(expect)) => assert_eq!(found, expect),
        (Err(Error::NotHeld { .. }), None) => {}
        (found, expect) => panic!("{held:?} for {asked:?}: {found:?}, expected {expect:?}"),
    }
}

#[test]
fn honest_tilings_are_found() {
    check(&[(0, 5), (5, 9)], (0, 9), Some(&[(0, 5), (5, 9)]));
    check(&[(0, 5), (5, 9)], (5, 9), Some(&[(5, 9)]));
    check(&[(0, 5), (5, 9)], (0, 5), Some(&[(0, 5)]));
    check(&[(0, 5), (5, 9)], (5, 5), Some(&[]));
    check(&[], (7, 7), Some(&[]));
    check(&[(3, 5)], (9, 9), Some(&[]));
}

#[test]
fn gaps_and_overlaps_are_not_held() {
    check(&[], (0, 1), None);
    check(&[(0, 5), (6, 9)], (0, 9), None);
    check(&[(0, 5), (4, 9)], (0, 9), None);
    check(&[(0, 5), (0, 9)], (0, 9), None);
    check(&[(1, 5)], (0, 5), None);
    check(&[(0, 5)], (0, 9), None);
    check(&[(0, 5)], (2, 5), None);
    check(&[(0, 5)], (0, 4), None);
    check(&[(5, 9), (0, 5)], (0, 9), None);
    check(&[(0, 5), (5, 5), (5, 9)], (0, 9), None);
    check(&[(0, 5)], (5, 3), None);
}

#[test]
fn every_named_partition_must_be_tiled() {
    let view = ViewId::of(&["v"]);
    let held = ViewSegments { partitions: BTreeMap::from([(Partition(0), vec![segment(&view, 0, 0, 5)])]) };
    let to = Frontier::from([(0, 5), (1, 1)]);
    assert!(tile(&view, &held, &Frontier::new(), &to).is_err());
}

#[test]
fn segments_of_another_view_or_partition_are_refused() {
    let (view, other) = (ViewId::of(&["v"]), ViewId::of(&["w"]));
    for forged in [segment(&other, 0, 0, 5), segment(&view, 1, 0, 5)] {
        let held = ViewSegments { partitions: BTreeMap::from([(Partition(0), vec![forged])]) };
        let to = Frontier::from([(0, 5)]);
        assert!(tile(&view, &held, &Frontier::new(), &to).is_err());
    }
}

/// Checks chunks as ranges of partition 0, the requested range and the number of chunks that hold it.
#[track_caller]
fn check_rows(chunks: &[(i64, i64)], from: i64, to: i64, expect: Option<usize>) {
    let at = |offset| Frontier::from([(0, offset)]);
    let chunks: Vec<_> = chunks
        .iter()
        .map(|(from, to)| Arc::new(RowsChunk { from: at(*from), to: at(*to), batches: Vec::new(), bytes: 0 }))
        .collect();
    let found = rows_between(&chunks, Partition(0), Offset(from), Offset(to));
    let count = found.ok().map(|found| found.len());
    assert_eq!(count, expect, "{chunks:?} {from} {to}");
}

#[test]
fn rows_are_held_without_gap_or_overlap() {
    check_rows(&[], 5, 5, Some(0));
    check_rows(&[(0, 9)], 9, 9, Some(0));
    check_rows(&[(0, 5), (5, 9)], 5, 9, Some(1));
    check_rows(&[(0, 7), (7, 7), (7, 9)], 5, 9, Some(2));
    check_rows(&[], 5, 6, None);
    check_rows(&[(0, 9)], 9, 5, None);
    check_rows(&[(6, 9)], 5, 9, None);
    check_rows(&[(0, 5), (6, 9)], 3, 9, None);
    check_rows(&[(0, 7), (6, 9)], 3, 9, None);
    check_rows(&[(0, 9), (5, 9)], 3, 9, None);
    check_rows(&[(0, 8)], 5, 9, None);
    check_rows(&[(0, 9)], 5, 8, None);
    // A partition that was lost and assigned again at an older offset.
    check_rows(&[(0, 9), (7, 12)], 5, 12, None);
}
