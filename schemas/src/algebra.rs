//! The state algebra: one aggregate query as `update`, `merge` and `finish` over states that both layers share.
//!
//! ```text
//!  rows ──update──▶ states ──┐
//!  rows ──update──▶ states ──┴─merge──▶ states ──finish──▶ values
//! ```
//!
//! Invariant: nothing here is written for one aggregate function; what DataFusion's accumulator does on rows and on
//! states is all that is relied on, and what cannot be relied on is refused by [`accept`].

mod accumulate;
mod compile;
mod diagnose;
mod difference;
mod float_order;
mod maintain;
mod places;
mod plans;
mod prepared;
mod rounding;
mod split_plan;
mod state_function;
mod storage;
mod support;

pub use compile::ViewPlan;
pub(crate) use diagnose::diagnose;
pub use difference::Difference;
pub use maintain::Aggregate;
pub use plans::{batches, between, collect, scan, stream};
pub use storage::{from_stored, stored_type, to_stored};
pub use support::Equality;

#[cfg(test)]
mod tests;
