//! Sums beyond their result's range: partial sums may leave it, totals may not.

use arrow::array::{Array, Decimal128Array, Decimal256Array, Int64Array};
use datafusion::logical_expr::EmitTo;

use super::*;
use crate::engine::tests::{ask, check_all};

const BIG: i128 = 10_i128.pow(38) - 1;

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn decimals(precision: u8, values: &[i128]) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, 0).unwrap())
}

fn long_decimals(values: &[i256]) -> ArrayRef {
    Arc::new(Decimal256Array::from(values.to_vec()).with_precision_and_scale(WIDE, 0).unwrap())
}

/// Adds the parts in both kinds of accumulators, and merges the states of the parts in both orders.
#[track_caller]
fn check(parts: &[ArrayRef], result: &DataType, expect: Option<&str>) {
    let argument = parts[0].data_type().clone();
    let text = |array: &ArrayRef| ScalarValue::try_from_array(array, 0).unwrap().to_string();
    let mut found = Vec::new();
    let mut forwards: Vec<&ArrayRef> = parts.iter().collect();
    for _ in 0..2 {
        forwards.reverse();
        let mut whole = one("sum(x)", &argument, result).unwrap();
        let mut merged = one("sum(x)", &argument, result).unwrap();
        let mut grouped = groups("sum(x)", &argument, result).unwrap();
        let mut joined = groups("sum(x)", &argument, result).unwrap();
        for part in &forwards {
            let rows = vec![0; part.len()];
            whole.update_batch(&[Arc::clone(part)]).unwrap();
            let mut alone = one("sum(x)", &argument, result).unwrap();
            alone.update_batch(&[Arc::clone(part)]).unwrap();
            let state: Vec<ArrayRef> = alone.state().unwrap().iter().map(|s| s.to_array().unwrap()).collect();
            merged.merge_batch(&state).unwrap();
            joined.merge_batch(&state, &[0], 1).unwrap();
            grouped.update_batch(&[Arc::clone(part)], &rows, None, 1).unwrap();
        }
        found.push(whole.evaluate().map(|value| value.to_string()));
        found.push(merged.evaluate().map(|value| value.to_string()));
        found.push(grouped.evaluate(EmitTo::All).map(|array| text(&array)));
        found.push(joined.evaluate(EmitTo::All).map(|array| text(&array)));
    }
    for found in found {
        match expect {
            Some(expect) => assert_eq!(found.unwrap(), expect),
            None => assert!(found.unwrap_err().to_string().contains("sum(x) is ")),
        }
    }
}

#[test]
fn partial_sums_may_leave_the_range() {
    let bigint = DataType::Int64;
    check(&[ints(&[i64::MAX]), ints(&[i64::MAX]), ints(&[-i64::MAX, -7])], &bigint, Some("9223372036854775800"));
    check(&[ints(&[i64::MAX]), ints(&[1]), ints(&[-1])], &bigint, Some("9223372036854775807"));
    check(&[ints(&[i64::MIN]), ints(&[-1]), ints(&[1])], &bigint, Some("-9223372036854775808"));
    let wide = DataType::Decimal128(38, 0);
    let expect = BIG.to_string();
    check(&[decimals(38, &[BIG]), decimals(38, &[BIG, -BIG])], &wide, Some(expect.as_str()));
    // Thousands of the longest decimals are far from the state's end.
    let (_, least) = i256::bounds(WIDE);
    let most = least.wrapping_neg();
    let (many, none) = (vec![most; 5000], vec![least; 5000]);
    let one = i256::from_i128(1);
    let parts = [long_decimals(&many), long_decimals(&many), long_decimals(&none), long_decimals(&none)];
    check(&[&parts[..], &[long_decimals(&[one])]].concat(), &DataType::Decimal256(73, 0), Some("1"));
}

#[test]
fn totals_may_not() {
    check(&[ints(&[i64::MAX]), ints(&[1])], &DataType::Int64, None);
    check(&[ints(&[i64::MIN]), ints(&[-1])], &DataType::Int64, None);
    check(&[decimals(38, &[BIG]), decimals(38, &[1])], &DataType::Decimal128(38, 0), None);
    check(&[decimals(38, &[-BIG]), decimals(38, &[-BIG])], &DataType::Decimal128(38, 0), None);
}

#[test]
fn the_error_has_the_value_and_advice() {
    let mut sum = one("sum(n)", &DataType::Int64, &DataType::Int64).unwrap();
    sum.update_batch(&[ints(&[i64::MAX, 1])]).unwrap();
    let error = sum.evaluate().unwrap_err().to_string();
    assert!(error.contains("sum(n) is 9223372036854775808, which does not fit BIGINT"), "{error}");
    assert!(error.contains("DECIMAL(20, 0)"), "{error}");
}

#[test]
fn nothing_to_add_is_null() {
    let none: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    check(&[none], &DataType::Int64, Some("NULL"));
}

#[test]
fn windows_give_back_what_they_took() {
    let mut sum = sliding("sum(n)", &DataType::Int64, &DataType::Int64, false).unwrap();
    sum.update_batch(&[ints(&[i64::MAX, 1])]).unwrap();
    assert!(sum.evaluate().is_err());
    sum.retract_batch(&[ints(&[i64::MAX])]).unwrap();
    assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(Some(1)));
    sum.retract_batch(&[ints(&[1])]).unwrap();
    assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(None));
}

#[test]
fn windows_know_how_often_they_hold_a_value() {
    let mut sum = sliding("sum(DISTINCT n)", &DataType::Int64, &DataType::Int64, true).unwrap();
    let mut check = |takes: &[i64], gives: &[i64], expect: Option<i64>| {
        sum.update_batch(&[ints(takes)]).unwrap();
        sum.retract_batch(&[ints(gives)]).unwrap();
        assert_eq!(sum.evaluate().ok(), Some(ScalarValue::Int64(expect)));
    };
    check(&[7, 7, 5], &[], Some(12));
    check(&[7], &[7], Some(12));
    check(&[], &[7, 7], Some(5));
    check(&[i64::MAX], &[5], Some(i64::MAX));
    check(&[i64::MAX, i64::MIN], &[], Some(-1));
    check(&[], &[i64::MAX, i64::MIN, i64::MAX], None);
    sum.update_batch(&[ints(&[i64::MAX, i64::MAX - 1])]).unwrap();
    assert!(sum.evaluate().unwrap_err().to_string().contains("does not fit BIGINT"));
}

#[tokio::test]
async fn sums_of_distinct_values_do_not_wrap_around_in_windows() {
    let table = "(VALUES (1, 9223372036854775807), (2, 5), (3, 5), (4, 7), (5, NULL), (6, NULL)) AS t(i, n)";
    let frame = "OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    for (select, expect) in [
        ("sum(DISTINCT n) FRAME FROM t WHERE i > 1", Ok("5; 5; 12; 7; NULL")),
        ("sum(DISTINCT CAST(n AS DECIMAL(38, 0))) FRAME FROM t WHERE i > 1", Ok("5; 5; 12; 7; NULL")),
        ("sum(DISTINCT n) FRAME FROM t", Err("does not fit BIGINT")),
        (
            "sum(DISTINCT CAST(n AS DECIMAL(20, 0))) FRAME FROM t WHERE i < 4",
            Ok("9223372036854775807; 9223372036854775812; 5"),
        ),
    ] {
        let query =
            format!("SELECT {}", select.replace("FRAME", frame).replacen("FROM t", &format!("FROM {table}"), 1));
        let found = ask(&query).await;
        match expect {
            Ok(expect) => assert_eq!(found.as_deref(), Ok(expect), "{query}"),
            Err(expect) => assert!(found.as_ref().is_err_and(|e| e.contains(expect)), "{query}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn sums_of_decimals_have_room_for_all_rows() {
    check_all(&[
        ("sum(CAST(big AS DECIMAL(63, 0)))", Ok("9223372036854775807")),
        ("sum(CAST(big AS DECIMAL(64, 0)))", Err("at most 63 digits, not DECIMAL(64, 0)")),
        ("sum(DISTINCT CAST(big AS DECIMAL(76, 2)))", Err("at most 63 digits")),
    ])
    .await;
}
