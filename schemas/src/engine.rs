//! DataFusion for all layers: sessions, whose settings, rules and functions are part of a view's meaning, leaves of
//! plans, and threads for computations.
//!
//! Invariant: every layer makes its sessions here, so one statement has the same plan in every layer.

pub mod contain;
pub mod leaf;

mod calendar;
mod texts;

mod delegate;
mod fold;

mod array_length;
mod extremes;
mod get_field;
pub mod lengths;
mod mean;
pub mod measure;
mod not_in;
mod sum;
mod time_functions;

pub(crate) mod buckets;

mod one_value;

mod floats;
pub(crate) mod in_calendar;

mod arithmetic;

mod at_time_zone;
mod common_times;
mod guarded;

mod analysis;
mod functions;
mod same_types;
mod sql_types;
mod unnest;

pub mod session;
pub mod threads;

pub mod expansion;

#[cfg(test)]
mod tests;
