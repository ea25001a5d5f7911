//! The partitions that this process reads: membership of a consumer group, and partitions that the group assigns and
//! revokes.
//!
//! Invariant: this process returns a revoked partition to the group only after it has stopped reading the partition.

pub(crate) mod discovery;

pub(crate) mod change;
pub(crate) mod membership;

pub(crate) mod handover;
