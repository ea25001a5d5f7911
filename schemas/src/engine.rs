//! DataFusion as every layer uses it: sessions whose settings a view's meaning depends on, leaves of plans, and threads
//! to compute on.
//!
//! Invariant: no layer makes a session in another way, so one statement has one plan everywhere.

pub mod leaf;
pub mod session;
pub mod threads;
