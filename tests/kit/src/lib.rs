//! What the tests of several crates share: positions, a store that fails, streams with views, and the segments and
//! snapshots that layers hold of them.
//!
//! Crates name it in their dev-dependencies only. It stands on `schemas` alone, so unit tests of the other crates see
//! their own types here. Unit tests of `schemas` are compiled against another copy of that crate, and may use `store`
//! only, which knows none of its types.
//!
//! Modules are in reading order. Invariant: no feature of a dependency is turned on that the product leaves off
//! (`infra/features`).

pub mod store;

pub mod positions;

pub mod definitions;
pub mod world;

pub mod segments;
pub mod snapshots;

pub mod sensors;
