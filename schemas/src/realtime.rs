//! The values that the speed layer holds and publishes: segments and their tiling, snapshots, epochs for the archive,
//! and the protocol by which another process reads them.
//!
//! Invariant: all values here are immutable once they are published, so a value never changes while a reader holds
//! it.

pub mod segment;
pub mod snapshot;

pub mod tile;

pub mod epoch;

pub mod protocol;

pub mod filter;
