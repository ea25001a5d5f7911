//! Shared by the tests of several crates: positions, a store that fails, streams with views, and the segments and
//! snapshots that layers hold of them.
//!
//! Other crates use the kit as a dev-dependency only. The kit depends on `schemas` alone, so unit tests of other
//! crates see their own types here. Unit tests of `schemas` are compiled against another copy of that crate, so they
//! may use only `store`, which uses no type of `schemas`.
//!
//! Modules are in reading order.
//!
//! Invariant: the kit turns on no feature of a dependency that the product leaves off (`infra/features`).

pub mod store;

pub mod positions;

pub mod definitions;
pub mod world;

pub mod segments;
pub mod snapshots;

pub mod sensors;
