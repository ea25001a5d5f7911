//! Comparing two answers row by row, with the tolerance that each aggregate declares.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;

/// How much a column of an answer may differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    Exact,
    /// Floating-point sums: 1e-9 of the magnitudes that were added.
    Float,
    /// Quantile sketches: 2 % of the range.
    Digest,
}

/// What is added has a magnitude of at most 1e6, 240 times.
fn allowed(tolerance: Tolerance, left: f64, right: f64) -> f64 {
    match tolerance {
        Tolerance::Exact => 0.0,
        Tolerance::Float => 1e-9 * left.abs().max(right.abs()).max(1e4),
        Tolerance::Digest => 0.02 * 1000.0,
    }
}

fn same(left: &ScalarValue, right: &ScalarValue, tolerance: Tolerance) -> bool {
    if left == right {
        return true;
    }
    let number = |v: &ScalarValue| match v.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(x)) => x,
        _ => None,
    };
    if !left.data_type().is_floating() {
        return false;
    }
    match (number(left), number(right)) {
        (Some(l), Some(r)) if l.is_nan() || r.is_nan() => l.is_nan() && r.is_nan(),
        (Some(l), Some(r)) => (l - r).abs() <= allowed(tolerance, l, r),
        _ => false,
    }
}

type Keyed = BTreeMap<String, Vec<ScalarValue>>;

fn keyed(batches: &[RecordBatch], groups: usize) -> Keyed {
    let mut rows = Keyed::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<ScalarValue> = batch
                .columns()
                .iter()
                .map(|c| ScalarValue::try_from_array(c, row).unwrap())
                .collect();
            let key = format!("{:?}", &cells[..groups]).replace("-0.0", "0.0");
            let twice = rows.insert(key.clone(), cells[groups..].to_vec());
            assert!(twice.is_none(), "the group {key} occurs twice");
        }
    }
    rows
}

/// Asserts that `got` is `expect`; `context` is printed if it is not.
pub fn assert_same(
    got: &[RecordBatch],
    expect: &[RecordBatch],
    groups: usize,
    tolerances: &[Tolerance],
    context: &str,
) {
    let (got, expect) = (keyed(got, groups), keyed(expect, groups));
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        expect.keys().collect::<Vec<_>>(),
        "groups differ: {context}"
    );
    for (key, right) in &expect {
        for ((l, r), tolerance) in got[key].iter().zip(right).zip(tolerances) {
            assert!(
                same(l, r, *tolerance),
                "group {key}: {l:?}, but one query gives {r:?}: {context}"
            );
        }
    }
}
