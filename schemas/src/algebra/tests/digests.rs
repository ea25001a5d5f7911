//! Digests of the same values, cut and merged in many ways, agree; digests of other values do not.
//!
//! Invariant: all states come from the accumulators that views use.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StructArray};
use arrow::datatypes::Field;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::Accumulator;

use super::fixture::compile;
use crate::algebra::digest::agree;

const CALLS: [&str; 3] = ["approx_percentile_cont(f, 0.9)", "approx_median(f)", "approx_percentile_cont(f, 0.01)"];

/// Numbers below 1 in no order.
fn noise(n: usize) -> impl Iterator<Item = f64> {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    std::iter::repeat_with(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    })
    .take(n)
}

type Distribution = (&'static str, fn(f64, f64) -> f64);

/// Made of two numbers below 1.
const DISTRIBUTIONS: [Distribution; 5] = [
    ("uniform", |a, _| a * 100.0 - 50.0),
    ("sparse tail", |a, b| ((-2.0 * (a + 1e-12).ln()).sqrt() * (b * std::f64::consts::TAU).cos() * 2.0).exp()),
    ("few values", |a, _| (a * 5.0).floor() * 0.1),
    ("two lumps", |a, b| if b < 0.9 { a } else { 1e6 + a }),
    ("one value", |_, _| 0.1),
];

fn values(of: fn(f64, f64) -> f64, n: usize) -> Vec<f64> {
    let all: Vec<f64> = noise(2 * n).collect();
    all.chunks(2).map(|pair| of(pair[0], pair[1])).collect()
}

/// Accumulates `values`.
fn digest(new: &dyn Fn() -> Box<dyn Accumulator>, values: &[f64]) -> Vec<ScalarValue> {
    let mut accumulator = new();
    let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    let arguments = accumulator_arguments(&column);
    accumulator.update_batch(&arguments).unwrap();
    accumulator.state().unwrap()
}

fn accumulator_arguments(column: &ArrayRef) -> Vec<ArrayRef> {
    vec![Arc::clone(column), Arc::new(Float64Array::from(vec![0.5; column.len()]))]
}

/// Merges neighbours, `fan` at a time, until one is left.
fn merged(new: &dyn Fn() -> Box<dyn Accumulator>, mut states: Vec<Vec<ScalarValue>>, fan: usize) -> Vec<ScalarValue> {
    while states.len() > 1 {
        let merge = |group: &[Vec<ScalarValue>]| {
            let mut accumulator = new();
            for state in group {
                let columns: Vec<ArrayRef> = state.iter().map(|field| field.to_array().unwrap()).collect();
                accumulator.merge_batch(&columns).unwrap();
            }
            accumulator.state().unwrap()
        };
        states = states.chunks(fan).map(merge).collect();
    }
    states.remove(0)
}

fn structure(state: &[ScalarValue]) -> ArrayRef {
    let columns: Vec<ArrayRef> = state.iter().map(|field| field.to_array().unwrap()).collect();
    let fields = columns.iter().enumerate();
    let fields: Vec<Field> = fields.map(|(i, c)| Field::new(format!("f{i}"), c.data_type().clone(), true)).collect();
    Arc::new(StructArray::try_new(fields.into(), columns, None).unwrap())
}

#[tokio::test]
async fn the_same_values_agree_however_they_were_cut() {
    for call in CALLS {
        let plan = compile(&format!("SELECT {call} AS x FROM events")).await.unwrap();
        let new = || plan.aggregates()[0].planned.create_accumulator().unwrap();
        for (name, of) in DISTRIBUTIONS {
            for n in [1, 2, 10, 130, 200, 1_000, 6_000] {
                let values = values(of, n);
                let whole = structure(&digest(&new, &values));
                let mut sorted = values.clone();
                sorted.sort_by(f64::total_cmp);
                for values in [values, sorted] {
                    for (rows, fan) in [(1, 4), (3, 2), (7, 16), (50, 8), (400, 1_000)] {
                        let parts = values.chunks(rows).map(|part| digest(&new, part)).collect();
                        let parts = structure(&merged(&new, parts, fan));
                        let said = format!("{call}: {n} values, {name}, {rows} at a time, merged by {fan}");
                        assert!(agree(&whole, &parts).unwrap(), "{said}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn other_values_do_not_agree() {
    let plan = compile("SELECT approx_median(f) AS x FROM events").await.unwrap();
    let new = || plan.aggregates()[0].planned.create_accumulator().unwrap();
    let state = |values: &[f64]| structure(&digest(&new, values));
    for (name, of) in DISTRIBUTIONS {
        for n in [20, 1_000] {
            let values = values(of, n);
            let whole = state(&values);
            let mut last = values.clone();
            last.pop();
            assert!(!agree(&whole, &state(&last)).unwrap(), "{name}: one value of {n} is missing");
            let mut largest = values.clone();
            let top = largest.iter().copied().fold(f64::MIN, f64::max);
            largest[0] = top + 1.0;
            assert!(!agree(&whole, &state(&largest)).unwrap(), "{name}: one of {n} is above all");
        }
        let values = values(of, 1_000);
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (v.min(l), v.max(h)));
        if low < high {
            // A tenth of the values has moved to the other end; smallest and largest stay.
            let mut moved = values.clone();
            moved.sort_by(f64::total_cmp);
            moved[1..100].fill(high);
            assert!(!agree(&state(&values), &state(&moved)).unwrap(), "{name}: a tenth has moved");
        }
    }
}

#[tokio::test]
async fn nothing_and_what_is_not_a_number_agree_with_themselves() {
    let plan = compile("SELECT approx_median(f) AS x FROM events").await.unwrap();
    let new = || plan.aggregates()[0].planned.create_accumulator().unwrap();
    let state = |values: &[f64]| structure(&digest(&new, values));
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1.0];
    for values in [&[][..], &odd[..1], &odd[1..], &odd] {
        assert!(agree(&state(values), &state(values)).unwrap(), "{values:?}");
    }
    assert!(!agree(&state(&[]), &state(&[1.0])).unwrap());
    assert!(!agree(&state(&odd[1..]), &state(&odd[3..])).unwrap());
}
