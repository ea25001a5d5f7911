//! Epochs in memory: their order, the merging of chunks, and when rows are dropped.

use super::*;
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use thalweg_kit::positions::at;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
}

fn rows(from: i64, to: i64) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    RecordBatch::try_new(schema(), vec![values]).unwrap()
}

fn push(epochs: &mut Epochs, now: u64, from: i64, to: i64) {
    let batch = rows(from, to);
    epochs.push(seconds(now), at(&[(0, to)]), batch, HashMap::new()).unwrap();
}

fn values(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |b: &RecordBatch| -> Vec<i64> {
        let array = b.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        array.values().to_vec()
    };
    batches.iter().flat_map(column).collect()
}

#[test]
fn small_chunks_become_few_and_keep_every_row_in_order() {
    let mut epochs = Epochs::new(schema(), at(&[(0, 0)]));
    for i in 0..1000 {
        push(&mut epochs, i, i as i64 * 10, i as i64 * 10 + 10);
    }
    let chunks = epochs.chunks();
    assert!(chunks.len() < 8 * 4, "{} chunks", chunks.len());
    assert_eq!(chunks[0].from, at(&[(0, 0)]));
    assert!(chunks.windows(2).all(|pair| pair[0].to == pair[1].from));
    assert_eq!(epochs.frontier(), &at(&[(0, 10_000)]));
    let cut = epochs.cut().unwrap();
    assert_eq!(values(&cut.rows), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn large_chunks_are_not_copied() {
    let mut epochs = Epochs::new(schema(), at(&[(0, 0)]));
    for i in 0..16 {
        push(&mut epochs, 0, i * 20_000, (i + 1) * 20_000);
    }
    assert_eq!(epochs.chunks().len(), 16);
}

#[test]
fn an_epoch_needs_an_advance() {
    let mut epochs = Epochs::new(schema(), at(&[(0, 5)]));
    assert!(epochs.cut().is_none());
    // Transaction markers move the position without rows.
    push(&mut epochs, 3, 7, 7);
    assert_eq!(epochs.open(), Some((0, seconds(3))));
    let cut = epochs.cut().unwrap();
    assert_eq!((cut.from, cut.to), (at(&[(0, 5)]), at(&[(0, 7)])));
    assert!(cut.rows.is_empty());
}

#[test]
fn rows_go_after_landing_and_grace_and_never_while_they_are_held() {
    let mut epochs = Epochs::new(schema(), at(&[(0, 0)]));
    push(&mut epochs, 1, 0, 10);
    epochs.cut().unwrap();
    push(&mut epochs, 2, 10, 20);
    assert!(!epochs.trim(seconds(1000), seconds(0), &[]), "not landed");
    epochs.land(seconds(10));
    assert!(!epochs.trim(seconds(14), seconds(5), &[]), "grace");
    let hold = at(&[(0, 9)]);
    assert!(!epochs.trim(seconds(15), seconds(5), &[&hold]), "held");
    let hold = at(&[(0, 10)]);
    assert!(epochs.trim(seconds(15), seconds(5), &[&hold]));
    assert_eq!(epochs.chunks()[0].from, at(&[(0, 10)]));
    assert!(!epochs.trim(seconds(999), seconds(0), &[]), "open");
}

#[test]
fn a_gained_partition_is_named_from_where_it_starts() {
    let mut epochs = Epochs::new(schema(), at(&[(0, 4)]));
    push(&mut epochs, 1, 4, 6);
    epochs.assign(&at(&[(1, 0)]));
    let cut = epochs.cut().unwrap();
    assert_eq!(cut.from, at(&[(0, 4), (1, 0)]));
    assert_eq!(cut.to, at(&[(0, 6), (1, 0)]));
}
