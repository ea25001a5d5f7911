//! Which partitions are read here: membership of a consumer group, and partitions that are assigned and revoked.
//!
//! Invariant: a revoked partition is returned to the group only after this process stopped reading it.

pub(crate) mod discovery;

pub(crate) mod change;
pub(crate) mod membership;

pub(crate) mod handover;
