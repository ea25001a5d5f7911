//! What the speed layer holds and shows: segments and how they tile, snapshots, epochs on their way to the archive, and
//! the protocol by which another process reads them.
//!
//! Invariant: all values here are immutable once they are shown; what a reader holds never changes under it.

pub mod segment;
pub mod snapshot;

pub mod tile;

pub mod epoch;

pub mod protocol;

pub mod filter;
