//! DataFusion for all layers: sessions, whose settings are part of a view's meaning, leaves of plans, and threads for
//! computations.
//!
//! Invariant: every layer makes its sessions here, so one statement has the same plan in every layer.

pub mod contain;
pub mod leaf;
pub mod session;
pub mod threads;
