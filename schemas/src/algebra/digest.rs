//! Whether two t-digests describe the same values. A digest depends on how its input was cut and merged, so its
//! centroids differ where the values do not.
//!
//! What a digest promises is a rank: the value that it gives for a quantile stands near that quantile among all values.
//! It promises nothing about the distance between values, which is large where values are sparse. Two digests are
//! therefore compared as distributions, by the Lévy distance: at every value, their ranks differ by at most
//! [`RANK_TOLERANCE`]. Source: T. Dunning, O. Ertl, Computing extremely accurate quantiles using t-digests,
//! <https://arxiv.org/abs/1902.04023>.
//!
//! Invariant: the number of values, the smallest and the largest are exact in a digest, so they must be equal.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result as PlanResult, exec_err};

use super::support::FLOAT_TOLERANCE;

/// The largest difference of ranks, relative to the number of values. A centroid of a digest of size 100 holds up to
/// 2 % of the values; merging hundreds of small digests doubles that.
pub(super) const RANK_TOLERANCE: f64 = 0.06;

/// A digest, from the state's fields: size, sum, count, max, min, centroids.
#[derive(Debug)]
struct Digest {
    count: f64,
    max: Option<f64>,
    min: Option<f64>,
    /// Means with the weight of all centroids up to each, in ascending order; centroids of NaN are left out.
    ranks: Vec<(f64, f64)>,
}

/// True if two states of a group are digests of the same values.
///
/// Errors: a state is no digest.
pub(super) fn agree(left: &ArrayRef, right: &ArrayRef) -> PlanResult<bool> {
    let (left, right) = (Digest::read(left)?, Digest::read(right)?);
    let exact = near(left.count, right.count) && same(left.max, right.max) && same(left.min, right.min);
    Ok(exact && left.lies_below(&right) && right.lies_below(&left))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= FLOAT_TOLERANCE * a.abs().max(b.abs())
}

fn same(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
        (a, b) => a.is_none() && b.is_none(),
    }
}

impl Digest {
    fn read(state: &ArrayRef) -> PlanResult<Self> {
        let state = state.as_struct();
        let [_, _, count, max, min, centroids] = state.columns() else {
            return exec_err!("a digest has 6 fields, not {}", state.num_columns());
        };
        let number = |column: &ArrayRef| -> PlanResult<Option<f64>> {
            let column = arrow::compute::cast(column, &DataType::Float64)?;
            let column = column.as_primitive::<Float64Type>();
            Ok(column.is_valid(0).then(|| column.value(0)))
        };
        let pairs = centroids.as_list::<i32>().value(0);
        let pairs = pairs.as_primitive::<Float64Type>().values();
        let mut centroids: Vec<(f64, f64)> = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        centroids.retain(|(mean, _)| !mean.is_nan());
        centroids.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ranks = centroids.into_iter().scan(0.0, |rank, (mean, weight)| {
            *rank += weight;
            Some((mean, *rank))
        });
        Ok(Self { count: number(count)?.unwrap_or(0.0), max: number(max)?, min: number(min)?, ranks: ranks.collect() })
    }

    /// The weight of the centroids up to `value`.
    fn rank(&self, value: f64) -> f64 {
        let below = self.ranks.partition_point(|(mean, _)| *mean <= value);
        below.checked_sub(1).map_or(0.0, |last| self.ranks[last].1)
    }

    /// True if at no value the rank here exceeds the other's by more than the tolerance. Means of equal values differ
    /// by rounding, so the other's rank is read a little above the value.
    fn lies_below(&self, other: &Self) -> bool {
        // A rank is a step of the function: one value more or less is no difference.
        let allowed = RANK_TOLERANCE * self.count + 1.0;
        self.ranks.iter().all(|(mean, rank)| {
            let above = mean + FLOAT_TOLERANCE * mean.abs();
            rank - other.rank(above) <= allowed
        })
    }
}
