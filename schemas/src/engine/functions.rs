//! The functions that replace functions of the engine of the same name.
//!
//! Invariant: a replacement takes the same arguments as the engine's function and gives the same result wherever the
//! engine's result is right. docs/engine-faults.md names the fault of each.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;
use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use super::array_length::ArrayLength;
use super::extremes;
use super::lengths;
use super::mean::ExactMean;
use super::measure::MeasureCall;
use super::sum::WideSum;
use super::time_functions::{DateBin, DateTrunc, Now, ToTimestamp};

/// Registers all replacements.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    let limited: Vec<ScalarUDF> = state.scalar_functions().values().filter_map(lengths::limited).collect();
    let scalars = [
        ScalarUDF::new_from_impl(DateTrunc::new()),
        ScalarUDF::new_from_impl(DateBin::new()),
        ScalarUDF::new_from_impl(Now::new()),
        ScalarUDF::new_from_impl(ArrayLength::of(state.udf("array_length")?)),
    ];
    let to_timestamp = [
        ("to_timestamp", "to_timestamp_micros", TimeUnit::Microsecond),
        ("to_timestamp_seconds", "to_timestamp_seconds", TimeUnit::Second),
        ("to_timestamp_millis", "to_timestamp_millis", TimeUnit::Millisecond),
        ("to_timestamp_micros", "to_timestamp_micros", TimeUnit::Microsecond),
    ];
    let to_timestamp = to_timestamp.map(|(name, engine, unit)| {
        let engine = state.udf(engine)?;
        Ok(ScalarUDF::new_from_impl(ToTimestamp::new(name, unit, engine)))
    });
    let to_timestamp: Vec<ScalarUDF> = to_timestamp.into_iter().collect::<Result<_>>()?;
    for function in scalars.into_iter().chain(to_timestamp).chain(limited) {
        state.register_udf(Arc::new(function))?;
    }
    let aggregates = [
        AggregateUDF::new_from_impl(WideSum::new()),
        AggregateUDF::new_from_impl(ExactMean::new()),
        AggregateUDF::new_from_impl(extremes::min()),
        AggregateUDF::new_from_impl(extremes::max()),
        AggregateUDF::new_from_impl(MeasureCall::new()),
    ];
    for function in aggregates {
        state.register_udaf(Arc::new(function))?;
    }
    Ok(())
}
