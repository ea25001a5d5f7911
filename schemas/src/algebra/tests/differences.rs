//! Comparison of states, as in an audit: differences are named, and floats are judged by the added magnitudes.
//!
//! Invariant: each rounding is checked on both sides of the tolerance.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;

use super::fixture::{compile, rows, states_of, stream_definition};
use crate::algebra::{Differences, batches, collect};
use crate::engine::session;

#[tokio::test]
async fn differences_name_the_group_and_the_aggregate() {
    let plan =
        compile("SELECT k, count(*) AS n, sum(f) AS f, count(DISTINCT i) AS u FROM events GROUP BY k").await.unwrap();
    let rows = rows();
    let all = states_of(&plan, rows.clone(), false).await;
    let stored = states_of(&plan, rows.clone(), true).await;
    assert_eq!(plan.differences(&all, &stored, &[]).unwrap(), Differences::default());
    let less = states_of(&plan, rows.slice(1, rows.num_rows() - 1), false).await;
    let found = plan.differences(&all, &less, &[]).unwrap().told;
    assert!(
        found.iter().any(|d| d.group == ["0", "a"] && d.aggregate.as_deref() == Some("count(Int64(1))")),
        "{found:?}"
    );
    let none = plan.differences(&all, &[], &[]).unwrap().told;
    assert!(none.iter().all(|d| d.right.is_none()) && !none.is_empty());
}

#[tokio::test]
async fn no_more_differences_are_told_than_a_report_can_hold() {
    let plan = compile("SELECT k, count(*) AS n FROM events GROUP BY k").await.unwrap();
    let groups = 2_500;
    let schema = stream_definition().row_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "_partition" => Arc::new(Int32Array::from(vec![0; groups])),
            "_offset" => Arc::new(Int64Array::from_iter_values(0..groups as i64)),
            "k" => Arc::new((0..groups).map(|k| Some(format!("k{k:04}"))).collect::<StringArray>()),
            _ => arrow::array::new_null_array(field.data_type(), groups),
        }
    });
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    let all = states_of(&plan, rows, false).await;
    for (left, right) in [(&all[..], &[][..]), (&[], &all)] {
        let found = plan.differences(left, right, &[]).unwrap();
        assert_eq!((found.told.len(), found.more), (1_000, 1_500));
        assert!(found.told.is_sorted_by_key(|difference| &difference.group));
    }
}

/// Values summed in another order are equal; changed values are not.
#[tokio::test]
async fn floats_are_judged_by_what_went_into_them() {
    let huge = [1e15, -1e15, 3e-9, 2e15, -2e15, 1e-9];
    check_rounding("sum(f)", &huge, |_| (), true).await;
    check_rounding("avg(f) FILTER (WHERE f <> 0)", &huge, |_| (), true).await;
    for call in ["var(f)", "stddev_pop(f)", "covar_samp(f, i)", "corr(f, i)", "regr_slope(f, i)", "sum(DISTINCT f)"] {
        check_rounding(call, &huge, |_| (), true).await;
    }
    let small = [1.0, -1.0, 0.25, 7.0, -7.0, 1e-3];
    for call in ["sum(f)", "avg(f)", "var(f)", "covar_pop(f, i)", "corr(f, i)", "regr_r2(f, i)"] {
        check_rounding(call, &small, |_| (), true).await;
        check_rounding(call, &small, |f| f[5] = 1.01e-3, false).await;
    }
    // A change too small for the other magnitudes, and one that is large enough.
    check_rounding("sum(f)", &huge, |f| f[5] = 1e3, true).await;
    check_rounding("sum(f)", &huge, |f| f[5] = 1e8, false).await;
}

/// Extremes are exact: all NaNs are one, and the zeros are two.
#[tokio::test]
async fn extremes_of_floats_are_equal_bit_for_bit() {
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    check_rounding("max(f)", &[nan, 1.0, infinity], |_| (), true).await;
    check_rounding("max(f)", &[nan, 1.0], |f| f[0] = -f64::NAN, true).await;
    check_rounding("max(f)", &[nan, 1.0], |f| f[0] = 1.0, false).await;
    check_rounding("max(f)", &[1.0, infinity], |f| f[1] = f64::MAX, false).await;
    check_rounding("min(f)", &[nan], |_| (), true).await;
    check_rounding("min(f)", &[-0.0, 0.0, nan, -infinity], |_| (), true).await;
    check_rounding("min(f)", &[0.0, nan], |f| f[0] = -0.0, false).await;
    check_rounding("min(f) FILTER (WHERE f > 2)", &[1.0], |_| (), true).await;
    check_rounding("max(CAST(f AS FLOAT))", &[nan, 0.0], |f| f[0] = 0.0, false).await;
}

/// Compares states of the values with states of the changed values in reverse order, grouped and global.
async fn check_rounding(call: &str, values: &[f64], change: fn(&mut [f64]), same: bool) {
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let table = |numbered: Vec<(i64, f64)>| {
        let schema = stream_definition().row_schema();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "_partition" => Arc::new(Int32Array::from(vec![0; numbered.len()])),
                "_offset" | "i" => Arc::new(Int64Array::from_iter_values(numbered.iter().map(|n| n.0))),
                "f" => Arc::new(Float64Array::from_iter_values(numbered.iter().map(|n| n.1))),
                _ => arrow::array::new_null_array(field.data_type(), numbered.len()),
            }
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    };
    let mut changed = values.to_vec();
    change(&mut changed);
    let forth = table((0..).zip(values.iter().copied()).collect());
    let back: Vec<(i64, f64)> = (0..).zip(changed).collect();
    let back = table(back.into_iter().rev().collect());
    for group in ["", "GROUP BY k"] {
        let plan = compile(&format!("SELECT {call} AS x FROM events {group}")).await.unwrap();
        let rows = batches("rows", back.schema(), vec![back.clone()]).unwrap();
        let magnitudes = match plan.magnitudes(rows).unwrap() {
            Some(sums) => collect(&state, "adding up", sums).await.unwrap(),
            None => vec![],
        };
        let left = states_of(&plan, forth.clone(), false).await;
        let right = states_of(&plan, back.clone(), false).await;
        let found = plan.differences(&left, &right, &magnitudes).unwrap();
        assert_eq!(found.told.is_empty(), same, "{call} {group}: {found:?}");
    }
}
