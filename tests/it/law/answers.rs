//! Compares two answers row by row. Only the rounding of floats may differ. It is judged by the magnitudes of the
//! values that were added, never by the result: when 1e15 and -1e15 cancel, the result has the rounding of 1e15.
//!
//! Invariant: the magnitudes come from SQL over all rows at once, group by group, like the expected answer.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;

/// Rounding of up to 240 additions in any order, relative to the sum of the magnitudes: 240 times 2^-53 is 3e-14.
const ROUNDING: f64 = 1e-12;
/// The tolerance of quantile sketches, as a share of the range of the values.
const DIGEST: f64 = 0.02;

/// The rule by which a column of an answer is judged. Its names are SQL expressions over the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Judge {
    Exact,
    Sum(&'static str),
    Mean(&'static str),
    Variance(&'static str),
    /// A square root. The squares of both values are compared.
    Deviation(&'static str),
    Covariance(&'static str, &'static str),
    Correlation(&'static str, &'static str),
    /// The slope of y and x, as in `regr_slope(y, x)`. The square of a correlation is judged as a correlation.
    Slope(&'static str, &'static str),
    Intercept(&'static str, &'static str),
    /// Sums of products of deviations.
    Products(&'static str, &'static str),
    Digest(&'static str),
}

impl Judge {
    /// Returns the scale of a value's error, as SQL.
    pub(crate) fn scale(self) -> String {
        use Judge as J;
        let float = |x: &str| format!("CAST({x} AS DOUBLE)");
        // Only pairs without a null count.
        let both = |x: &str, y: &str| {
            let only = |a, b| format!("CASE WHEN ({b}) IS NOT NULL THEN CAST({a} AS DOUBLE) END");
            (only(x, y), only(y, x))
        };
        let slope = |x: &str, y: &str| {
            format!(
                "(sqrt(avg({x} * {x}) * avg({y} * {y})) + sqrt(var_pop({y}) / var_pop({x})) * avg({x} * {x})) / var_pop({x})"
            )
        };
        match self {
            J::Exact => "0".into(),
            J::Sum(x) => format!("sum(abs({}))", float(x)),
            J::Mean(x) => format!("avg(abs({}))", float(x)),
            J::Variance(x) | J::Deviation(x) => format!("2 * avg({0} * {0})", float(x)),
            J::Covariance(x, y) => {
                let (x, y) = both(x, y);
                format!("2 * sqrt(avg({x} * {x}) * avg({y} * {y}))")
            }
            J::Correlation(x, y) => {
                let (x, y) = both(x, y);
                format!("2 * (avg({x} * {x}) / var_pop({x}) + avg({y} * {y}) / var_pop({y}))")
            }
            J::Slope(y, x) => {
                let (x, y) = both(x, y);
                format!("2 * {}", slope(&x, &y))
            }
            J::Intercept(y, x) => {
                let (x, y) = both(x, y);
                format!("avg(abs({y})) + 2 * avg(abs({x})) * {}", slope(&x, &y))
            }
            J::Products(x, y) => {
                let (x, y) = both(x, y);
                format!("2 * sqrt(sum({x} * {x}) * sum({y} * {y}))")
            }
            J::Digest(x) => format!("max({x}) - min({x})"),
        }
    }

    fn same(self, left: &ScalarValue, right: &ScalarValue, scale: &ScalarValue) -> bool {
        if left == right {
            return true;
        }
        if self == Self::Exact {
            let number = |v: &ScalarValue| v.data_type().is_floating().then(|| number(v)).flatten();
            return number(left).zip(number(right)).is_some_and(|(l, r)| l == r || l.is_nan() && r.is_nan());
        }
        let (Some(mut l), Some(mut r)) = (number(left), number(right)) else {
            return false;
        };
        if l.is_nan() || r.is_nan() {
            return l.is_nan() && r.is_nan();
        }
        if matches!(self, Self::Deviation(_)) {
            (l, r) = (l * l, r * r);
        }
        let share = if matches!(self, Self::Digest(_)) { DIGEST } else { ROUNDING };
        number(scale).is_some_and(|scale| (l - r).abs() <= share * scale)
    }
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => number,
        _ => None,
    }
}

type Keyed = BTreeMap<String, Vec<ScalarValue>>;

/// The text of a group's value. Debug does not tell nulls within nested values from empty texts.
fn text(column: &ArrayRef, row: usize, cell: &ScalarValue) -> String {
    if !column.data_type().is_nested() {
        return format!("{cell:?}");
    }
    let options = FormatOptions::default().with_null("NULL");
    ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
}

fn keyed(batches: &[RecordBatch], groups: usize) -> Keyed {
    let mut rows = Keyed::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<ScalarValue> =
                batch.columns().iter().map(|c| ScalarValue::try_from_array(c, row).unwrap()).collect();
            let group = batch.columns().iter().zip(&cells).take(groups);
            let group: Vec<String> = group.map(|(column, cell)| text(column, row, cell)).collect();
            let key = format!("{group:?}").replace("-0.0", "0.0");
            let twice = rows.insert(key.clone(), cells[groups..].to_vec());
            assert!(twice.is_none(), "the group {key} occurs twice");
        }
    }
    rows
}

/// Asserts that `got` equals `expected`, which has one answer for each aggregate: the value and the scale of its
/// error. A failure prints `context`.
pub(crate) fn assert_same(
    got: &[RecordBatch],
    expected: &[Vec<RecordBatch>],
    groups: usize,
    judges: &[Judge],
    context: &str,
) {
    let got = keyed(got, groups);
    for (at, (answer, judge)) in expected.iter().zip(judges).enumerate() {
        let expect = keyed(answer, groups);
        assert_eq!(got.keys().collect::<Vec<_>>(), expect.keys().collect::<Vec<_>>(), "groups differ: {context}");
        for (key, cells) in &expect {
            let (left, right, scale) = (&got[key][at], &cells[0], &cells[1]);
            assert!(
                judge.same(left, right, scale),
                "group {key}: {left:?}, but one query gives {right:?} (scale {scale}): {context}"
            );
        }
    }
}
