//! Means of sums beyond 64 and 128 bits. States with large sums stand for many rows.

use super::*;
use crate::engine::tests::{ask, check_all};

fn decimal(precision: u8, scale: i8) -> DataType {
    DataType::Decimal128(precision, scale)
}

/// The text of a mean, or of its error.
type Found = std::result::Result<String, String>;

/// Merges states, in both orders, in both kinds of accumulators, and finishes them.
fn merge(argument: &DataType, states: &[(u64, ArrayRef)]) -> Vec<Found> {
    let mean = ExactMean::new();
    let field = |data_type: &DataType| Arc::new(Field::new("x", data_type.clone(), true));
    let result = mean.return_type(std::slice::from_ref(argument)).unwrap();
    let sum = mean.sum_type(&field(argument), &field(&result)).unwrap().unwrap();
    let text = |value: ScalarValue| {
        let text = arrow::compute::cast(&value.to_array().unwrap(), &DataType::Utf8).unwrap();
        ScalarValue::try_from_array(&text, 0).unwrap().to_string()
    };
    let mut found = Vec::new();
    let mut states: Vec<_> = states.iter().collect();
    for _ in 0..2 {
        states.reverse();
        let columns = |(count, sum_of_state): &(u64, ArrayRef)| -> Vec<ArrayRef> {
            assert_eq!(sum_of_state.data_type(), &sum);
            vec![Arc::new(UInt64Array::from(vec![*count])), Arc::clone(sum_of_state)]
        };
        let mut alone = one("avg(x)", argument, &sum, &result).unwrap();
        let merged: Result<()> = states.iter().try_for_each(|state| alone.merge_batch(&columns(state)));
        found.push(merged.and_then(|()| alone.evaluate()).map(text));
        let mut grouped = groups("avg(x)", argument, &sum, &result).unwrap();
        let merged: Result<()> = states.iter().try_for_each(|state| grouped.merge_batch(&columns(state), &[0], 1));
        let value = merged.and_then(|()| grouped.evaluate(EmitTo::All));
        found.push(value.map(|array| text(ScalarValue::try_from_array(&array, 0).unwrap())));
    }
    found.into_iter().map(|found| found.map_err(|e| e.strip_backtrace())).collect()
}

#[track_caller]
fn check(argument: &DataType, states: &[(u64, ArrayRef)], expect: std::result::Result<&str, &str>) {
    for found in merge(argument, states) {
        match expect {
            Ok(expect) => assert_eq!(found.as_deref(), Ok(expect)),
            Err(expect) => assert!(found.as_ref().is_err_and(|error| error.contains(expect)), "{found:?}"),
        }
    }
}

fn sum128(scale: i8, sum: i128) -> ArrayRef {
    Arc::new(PrimitiveArray::<Decimal128Type>::from(vec![sum]).with_data_type(decimal(38, scale)))
}

fn sum256(sum: i256) -> ArrayRef {
    Arc::new(PrimitiveArray::<Decimal256Type>::from(vec![sum]).with_data_type(DataType::Decimal256(76, 0)))
}

#[test]
fn means_of_many_rows_are_exact() {
    // The engine multiplies the sum by 10000 first, and fails after 1.7e9 rows of 25 digits.
    let rows = 8_000_000_000_000;
    let largest = 10_i128.pow(25) - 1;
    let half = (rows, sum128(2, largest * i128::from(rows)));
    check(&decimal(25, 2), &[half.clone(), half.clone()], Ok("99999999999999999999999.990000"));
    check(&decimal(25, 2), &[half.clone(), (1, sum128(2, 0))], Ok("99999999999987499999999.991562"));
    check(&decimal(25, 2), &[(3, sum128(2, -5)), (0, sum128(2, 0))], Ok("-0.016666"));
    let long = power_of_ten(63).wrapping_sub(i256::ONE);
    let billions = 10_000_000_000_000_u64;
    let sum = long.checked_mul(i256::from_i128(billions.into())).unwrap();
    check(&DataType::Decimal256(63, 0), &[(billions, sum256(sum))], Ok(&format!("{}.0000", "9".repeat(63))));
}

#[test]
fn sums_beyond_their_type_are_errors() {
    let state = (1_000_000_000, sum128(2, 160 * 10_i128.pow(36)));
    check(&decimal(25, 2), &[state.clone(), state.clone()], Err("the sum of avg(x) has too many digits"));
    let state = (7, sum128(2, -160 * 10_i128.pow(36)));
    check(&decimal(25, 2), &[state.clone(), state], Err("the sum of avg(x) has too many digits"));
    let longest = power_of_ten(76).wrapping_sub(i256::ONE);
    let states = vec![(1, sum256(longest)); 7];
    check(&DataType::Decimal256(76, 0), &states, Err("Cast the argument to a DECIMAL with fewer digits"));
    // The mean has four digits more than its values.
    check(&DataType::Decimal256(76, 0), &states[..1], Err("the value of avg(x) has too many digits"));
}

#[test]
fn sums_of_durations_have_room_for_all_rows() {
    let micros = DataType::Duration(TimeUnit::Microsecond);
    let state = (1_000, sum128(0, i128::from(i64::MAX) * 1_000));
    let expect = ScalarValue::DurationMicrosecond(Some(i64::MAX)).to_array().unwrap();
    let expect = arrow::compute::cast(&expect, &DataType::Utf8).unwrap();
    let expect = ScalarValue::try_from_array(&expect, 0).unwrap().to_string();
    check(&micros, &[state.clone(), state], Ok(&expect));
}

#[tokio::test]
async fn queries_have_exact_means() {
    let ages = "(SELECT TIMESTAMP '9999-12-31' - TIMESTAMP '0001-01-01' AS age, value % 2 AS k FROM range(1, 101))";
    let one = ask(&format!("SELECT age FROM {ages} AS t LIMIT 1")).await.unwrap();
    for query in [
        "SELECT avg(age) FROM {} AS t",
        "SELECT avg(age) FROM {} AS t GROUP BY k LIMIT 1",
        "SELECT mean(age) OVER () FROM {} AS t LIMIT 1",
        "SELECT avg(age) OVER (ORDER BY k ROWS BETWEEN 90 PRECEDING AND CURRENT ROW) FROM {} AS t LIMIT 1",
    ] {
        assert_eq!(ask(&query.replace("{}", ages)).await.as_deref(), Ok(one.as_str()), "{query}");
    }
    let longest = format!("SELECT x FROM (VALUES (CAST('{}' AS DECIMAL(76, 0)))) AS v(x), range(0, 9)", "9".repeat(76));
    for query in ["SELECT avg(x) FROM ({})", "SELECT avg(x) OVER (ORDER BY x) FROM ({})"] {
        let found = ask(&query.replace("{}", &longest)).await;
        assert!(found.as_ref().is_err_and(|e| e.contains("avg(") && e.contains("too many digits")), "{found:?}");
    }
}

#[tokio::test]
async fn other_means_are_what_they_were() {
    check_all(&[
        ("avg(tiny)", Ok("127.0")),
        ("avg(nan)", Ok("NaN")),
        ("avg(CAST(tiny AS DECIMAL(5, 2)))", Ok("127.000000")),
        ("avg(CAST(tiny AS DECIMAL(5, 2))) FILTER (WHERE tiny < 0)", Ok("NULL")),
        ("avg(DISTINCT CAST(tiny AS DECIMAL(5, 2)))", Ok("127.000000")),
        ("avg(DISTINCT CAST(tiny AS DECIMAL(5, 2))) FILTER (WHERE tiny < 0)", Ok("NULL")),
        ("avg(dec)", Err("the value of avg(t.dec) has too many digits for DECIMAL(38, 4)")),
        ("avg(DISTINCT dec)", Err("has too many digits for DECIMAL(38, 4)")),
        (
            "avg(CAST('9999999999999999999999999999999999' AS DECIMAL(34, 0)))",
            Ok("9999999999999999999999999999999999.0000"),
        ),
    ])
    .await;
    let table = "(VALUES (1, 2.5), (1, NULL), (2, NULL), (1, 3.0)) AS t(k, n)";
    let query = format!("SELECT k, avg(n), avg(n) FILTER (WHERE n > 2.7) FROM {table} GROUP BY k ORDER BY k");
    assert_eq!(ask(&query).await.as_deref(), Ok("1 2.75 3.0; 2 NULL NULL"));
}
