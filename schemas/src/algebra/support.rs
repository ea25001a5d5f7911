//! The aggregates that a view may have, and the meaning of "equal" for the states of each.
//!
//! Invariant: an aggregate that is not listed here is refused. The law's property test runs over this list, so every
//! aggregate that CREATE accepts has been tested, and an aggregate that failed was fixed or removed.

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::AggregateFunction;

use crate::{Error, Result};

/// The rule by which two states, or their finished values, are the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// The states are equal.
    States,
    /// The states are lists in no particular order, and are equal once sorted.
    Multisets,
    /// The values are equal. One value may have several states.
    Values,
    /// States differ by at most [`FLOAT_TOLERANCE`], relative to the magnitudes of the added values; see
    /// [`super::rounding`].
    Floats,
    /// Quantile sketches describe the same values; see [`super::digest`].
    Digests,
}

/// The difference that another order of additions may cause, relative to the sum of the added magnitudes:
/// floating-point addition is not associative. Rounding is at most n 2^-53 for n additions, and usually the square
/// root of n instead of n. 1e-9 is enough for 9 million additions in the worst order, and for any realistic number of
/// additions in other orders.
pub(super) const FLOAT_TOLERANCE: f64 = 1e-9;

/// The digits of a mean of decimals of 63 digits.
const LONGEST_MEAN: u8 = 67;

/// The aggregates that may have DISTINCT.
const DISTINCT: [&str; 8] = ["count", "sum", "avg", "median", "min", "max", "array_agg", "string_agg"];

/// The properties of one aggregate function that the algebra uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Support {
    pub(super) equality: Equality,
    /// True if the result depends on the order of rows.
    pub(super) ordered: bool,
    /// True if the state grows with the number of events in a group.
    pub(super) grows: bool,
}

const fn of(equality: Equality, ordered: bool, grows: bool) -> Support {
    Support { equality, ordered, grows }
}

/// Returns the properties of `call`, whose value has type `value`.
///
/// Errors: [`Error::RefuseDefinition`] if the aggregate cannot be maintained.
pub(super) fn accept(call: &AggregateFunction, value: &DataType) -> Result<Support> {
    let name = call.func.name();
    let distinct = call.params.distinct;
    let float = matches!(value, DataType::Float32 | DataType::Float64 | DataType::Float16);
    if distinct && !DISTINCT.contains(&name) {
        return Err(Error::refuse(
            format!("{name}(DISTINCT …) keeps no states that can be merged"),
            "Leave DISTINCT out, or group by the expression as well.",
        ));
    }
    let known = match name {
        // The engine adds longer decimals in 256 bits, in which the sum of few wraps around.
        "avg" if matches!(value, DataType::Decimal256(digits, _) if *digits > LONGEST_MEAN) => {
            return Err(Error::refuse(
                "avg() takes decimals of at most 63 digits",
                "Cast the argument to a shorter DECIMAL, or to DOUBLE.",
            ));
        }
        "count" | "sum" | "avg" if distinct => {
            of(if float { Equality::Floats } else { Equality::Multisets }, false, true)
        }
        "count" | "min" | "max" | "regr_count" | "bit_and" | "bit_or" | "bit_xor" | "bool_and" | "bool_or" => {
            of(Equality::States, false, false)
        }
        "sum" | "avg" if !float => of(Equality::States, false, false),
        "sum" | "avg" | "var" | "var_pop" | "stddev" | "stddev_pop" | "covar_samp" | "covar_pop" | "corr"
        | "regr_slope" | "regr_intercept" | "regr_r2" | "regr_avgx" | "regr_avgy" | "regr_sxx" | "regr_syy"
        | "regr_sxy" => of(Equality::Floats, false, false),
        // DataFusion 55 interpolates on the wrong side when states are merged.
        "percentile_cont" => {
            return Err(Error::refuse(
                "percentile_cont() cannot be merged from partial results reliably",
                "Use median(x), or approx_percentile_cont(x, p).",
            ));
        }
        "median" => of(Equality::Multisets, false, true),
        "approx_distinct" => of(Equality::Values, false, false),
        "approx_percentile_cont" | "approx_percentile_cont_with_weight" | "approx_median" => {
            of(Equality::Digests, false, false)
        }
        "first_value" | "last_value" => of(Equality::Values, true, false),
        // DataFusion 55 merges the states wrongly when the wanted row is null.
        "nth_value" => {
            return Err(Error::refuse(
                "nth_value() cannot be merged from partial results reliably",
                "Keep array_agg(x ORDER BY …) in the view and take element n of it when you query, or use first_value.",
            ));
        }
        "array_agg" | "string_agg" => of(Equality::Values, true, true),
        "any_value" => {
            return Err(Error::refuse(
                "any_value() may take any row, so two computations of it need not agree",
                "Use first_value(x ORDER BY …), min(x) or max(x).",
            ));
        }
        "grouping" => {
            return Err(Error::refuse(
                "grouping() belongs to GROUPING SETS, which a view cannot have",
                "Create one view per grouping.",
            ));
        }
        other => {
            return Err(Error::refuse(
                format!("The aggregate {other}() is not known to be maintainable"),
                "Use one of DataFusion's built-in aggregates, or query the stream itself.",
            ));
        }
    };
    if distinct && known.ordered && call.params.order_by.is_empty() {
        return Err(Error::refuse(
            format!("{name}(DISTINCT …) without an order gives its values in no particular order"),
            "Add ORDER BY with the same expression inside the parentheses.",
        ));
    }
    Ok(known)
}
