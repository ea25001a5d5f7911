//! Forged gaps, overlaps and stale segments: every one must be refused, every honest tiling found.

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use super::*;
use crate::segment::Provenance;

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

/// Ranges held by partition 0, the range asked for, and the ranges expected (`None`: not held).
#[track_caller]
fn check(held: &[(i64, i64)], asked: (i64, i64), expect: Option<&[(i64, i64)]>) {
    let view = ViewId::of(&["v"]);
    let segments = ViewSegments {
        partitions: BTreeMap::from([(
            Partition(0),
            held.iter()
                .map(|(a, b)| segment(&view, 0, *a, *b))
                .collect(),
        )]),
    };
    let at = |o| {
        [(Partition(0), Offset(o))]
            .into_iter()
            .collect::<Frontier>()
    };
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
    let held = ViewSegments {
        partitions: BTreeMap::from([(Partition(0), vec![segment(&view, 0, 0, 5)])]),
    };
    let to = [(Partition(0), Offset(5)), (Partition(1), Offset(1))]
        .into_iter()
        .collect();
    assert!(tile(&view, &held, &Frontier::new(), &to).is_err());
}

#[test]
fn segments_of_another_view_or_partition_are_refused() {
    let (view, other) = (ViewId::of(&["v"]), ViewId::of(&["w"]));
    for forged in [segment(&other, 0, 0, 5), segment(&view, 1, 0, 5)] {
        let held = ViewSegments {
            partitions: BTreeMap::from([(Partition(0), vec![forged])]),
        };
        let to = [(Partition(0), Offset(5))].into_iter().collect();
        assert!(tile(&view, &held, &Frontier::new(), &to).is_err());
    }
}
