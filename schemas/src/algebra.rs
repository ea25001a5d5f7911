//! The state algebra: one aggregate query as `update`, `merge` and `finish` over states that both layers share.
//!
//! ```text
//!  rows ──update──▶ states ──┐
//!  rows ──update──▶ states ──┴─merge──▶ states ──finish──▶ values
//! ```
//!
//! In DataFusion's words, `update` is the partial mode of an aggregate, `merge` reduces partial states to partial
//! states, and `finish` is the final mode. One accumulator can do all three.
//!
//! Invariant: no code here is written for one aggregate function. The algebra relies only on what DataFusion's
//! accumulators do with rows and states, and `support` refuses every aggregate for which this is not enough.

mod places;

mod groupings;
mod plans;
mod prepared;
mod split_plan;
mod storage;
mod support;

mod digest;
mod rounding;

mod accumulator;
mod state_function;

mod aggregate;
mod table_aggregate;

mod compile;

mod measures;
mod rollup;

mod culprit;
mod diagnose;
mod difference;

pub use aggregate::Aggregate;
pub use compile::{ViewPlan, key_name};
pub use culprit::{Culprit, failure_over, find_culprit};
pub(crate) use diagnose::diagnose;
pub use difference::{Difference, Differences};
pub use measures::measured;
pub use plans::{batches, between, collect, scan, still_rejected, stream};
pub use rollup::RollUp;
pub use split_plan::stream_column;
pub use storage::{from_stored, stored_type, to_stored};
pub use support::Equality;
pub use table_aggregate::TableAggregate;

#[cfg(test)]
mod tests;
