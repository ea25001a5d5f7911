//! The state algebra: one aggregate query as `update`, `merge` and `finish` over states that both layers share.
//!
//! ```text
//!  rows ──update──▶ states ──┐
//!  rows ──update──▶ states ──┴─merge──▶ states ──finish──▶ values
//! ```
//!
//! In DataFusion's words, `update` is the partial mode of an aggregate, `merge` reduces partial states to partial
//! states, and `finish` is the final mode; its accumulators do all three.
//!
//! Invariant: nothing here is written for one aggregate function. Only what DataFusion's accumulators do on rows and on
//! states is relied on, and `support` refuses every aggregate on which that is not enough.

mod float_order;
mod places;
mod plans;
mod prepared;
mod split_plan;
mod storage;
mod support;

mod rounding;

mod accumulator;
mod state_function;

mod aggregate;

mod compile;

mod diagnose;
mod difference;

pub use aggregate::Aggregate;
pub use compile::ViewPlan;
pub(crate) use diagnose::diagnose;
pub use difference::Difference;
pub use plans::{batches, between, collect, scan, stream};
pub use storage::{from_stored, stored_type, to_stored};
pub use support::Equality;

#[cfg(test)]
mod tests;
