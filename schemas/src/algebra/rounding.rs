//! How far two float states of one group may differ and still be the same answer.
//!
//! Floats are rounded after every addition, so a sum depends on the order of additions. The error is proportional to
//! the magnitudes of the addends, not to the result: 1e15 - 1e15 + 1e-9 may be 1e-9 or 0. A state is therefore judged
//! by the magnitudes of the values that were added. The states of variances, correlations and regressions contain
//! these magnitudes (counts, means and sums of squared deviations). The states of sums, means and covariances do not,
//! so their magnitudes are added up from the rows of the compared range.
//!
//! Invariant: states are compared field by field, before the division or root that makes a value. The correlation of
//! nearly constant columns may be any number; the moments from which it is computed may not.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::Result as PlanResult;
use datafusion::functions::math::expr_fn::abs;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, cast};

use super::support::FLOAT_TOLERANCE;

/// Returns the sums over rows that scale the rounding of the states of `call`, where the states do not contain the
/// scale: magnitudes for plain sums and means, squares of both arguments for covariances.
pub(super) fn magnitudes(call: &AggregateFunction) -> Vec<Expr> {
    let float = |argument: &Expr| cast(argument.clone(), DataType::Float64);
    let addends: Vec<Expr> = match (call.func.name(), call.params.args.as_slice()) {
        _ if call.params.distinct => vec![],
        ("sum" | "avg", [x]) => vec![abs(float(x))],
        ("covar_samp" | "covar_pop", [x, y]) => vec![float(x) * float(x), float(y) * float(y)],
        _ => vec![],
    };
    let sum = |addend| {
        let filter = call.params.filter.clone();
        AggregateFunction::new_udf(sum_udaf(), vec![addend], false, filter, vec![], None)
    };
    addends.into_iter().map(|addend| Expr::AggregateFunction(sum(addend))).collect()
}

/// The accumulator that made the compared states.
#[derive(Debug, Clone, Copy)]
pub(super) struct AccumulatorKind<'a> {
    /// The name of the aggregate function.
    pub(super) function: &'a str,
    /// True for a groups accumulator.
    pub(super) by_groups: bool,
}

/// True if two states differ by rounding only. `magnitudes` are the sums of [`magnitudes`]. Without them, the results
/// of the sums are the scale.
pub(super) fn agree(
    kind: AccumulatorKind<'_>,
    left: &ArrayRef,
    right: &ArrayRef,
    magnitudes: &[f64],
) -> PlanResult<bool> {
    let (left, right) = (fields(left)?, fields(right)?);
    if let ([Field::List(left)], [Field::List(right)]) = (left.as_slice(), right.as_slice()) {
        // States of DISTINCT hold the values themselves.
        let mut pairs = left.iter().zip(right);
        return Ok(left.len() == right.len() && pairs.all(|(l, r)| l.total_cmp(r).is_eq()));
    }
    let (left, right) = (numbers(&left), numbers(&right));
    let larger: Vec<f64> =
        left.iter().zip(&right).map(|(l, r)| l.unwrap_or(0.0).abs().max(r.unwrap_or(0.0).abs())).collect();
    let scales = scales(kind, &larger, magnitudes);
    let mut pairs = left.into_iter().zip(right).zip(scales);
    Ok(pairs.all(|((l, r), scale)| match (l, r) {
        (Some(l), Some(r)) if l.is_nan() || r.is_nan() => l.is_nan() && r.is_nan(),
        (Some(l), Some(r)) => l == r || (l - r).abs() <= FLOAT_TOLERANCE * scale,
        (l, r) => l.is_none() && r.is_none(),
    }))
}

/// A field of a state.
#[derive(Debug)]
enum Field {
    Number(Option<f64>),
    /// The elements, sorted.
    List(Vec<f64>),
}

fn fields(state: &ArrayRef) -> PlanResult<Vec<Field>> {
    let read = |column: &ArrayRef| {
        if let DataType::List(_) = column.data_type() {
            let items = column.as_list::<i32>().value(0);
            let items = arrow::compute::cast(&items, &DataType::Float64)?;
            let items = items.as_primitive::<Float64Type>().iter();
            let mut items: Vec<f64> = items.flatten().collect();
            items.sort_by(f64::total_cmp);
            return Ok(Field::List(items));
        }
        let value = arrow::compute::cast(column, &DataType::Float64)?;
        let value = value.as_primitive::<Float64Type>();
        Ok(Field::Number(value.is_valid(0).then(|| value.value(0))))
    };
    state.as_struct().columns().iter().map(read).collect()
}

fn numbers(fields: &[Field]) -> Vec<Option<f64>> {
    let number = |field: &Field| match field {
        Field::Number(number) => *number,
        Field::List(_) => None,
    };
    fields.iter().map(number).collect()
}

/// Returns the scale of each field's rounding. The engine defines the fields of each function, in an order of its
/// own: counts (which are exact), means, sums of squared deviations (`m2`) and sums of products.
fn scales(kind: AccumulatorKind<'_>, fields: &[f64], magnitudes: &[f64]) -> Vec<f64> {
    let rms = |n: f64, mean: f64, m2: f64| (m2 / n.max(1.0) + mean * mean).sqrt();
    let of_rows = |i: usize, otherwise: f64| magnitudes.get(i).copied().unwrap_or(otherwise);
    match (kind.function, fields) {
        ("sum", [sum]) => vec![of_rows(0, *sum)],
        ("avg", [_, sum]) => vec![0.0, of_rows(0, *sum)],
        ("var" | "var_pop" | "stddev" | "stddev_pop", [n, mean, m2]) => {
            let x = rms(*n, *mean, *m2);
            vec![0.0, x, n * x * x]
        }
        ("covar_samp" | "covar_pop", [n, x, y, _]) => {
            let (xx, yy) = (of_rows(0, n * x * x), of_rows(1, n * y * y));
            let n = n.max(1.0);
            vec![0.0, (xx / n).sqrt(), (yy / n).sqrt(), (xx * yy).sqrt()]
        }
        ("corr", [n, _, _, _, xx, yy]) if kind.by_groups => {
            let (x, y) = ((n * xx).sqrt(), (n * yy).sqrt());
            vec![0.0, x, y, (xx * yy).sqrt(), *xx, *yy]
        }
        ("corr", [n, mean_x, m2_x, mean_y, m2_y, _]) => {
            let (x, y) = (rms(*n, *mean_x, *m2_x), rms(*n, *mean_y, *m2_y));
            vec![0.0, x, n * x * x, y, n * y * y, n * x * y]
        }
        (_, [n, mean_x, mean_y, m2_x, m2_y, _]) => {
            let (x, y) = (rms(*n, *mean_x, *m2_x), rms(*n, *mean_y, *m2_y));
            vec![0.0, x, y, n * x * x, n * y * y, n * x * y]
        }
        _ => fields.to_vec(),
    }
}
