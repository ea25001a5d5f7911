//! Tests that use several crates, in one binary, because linking DataFusion takes longer than compiling all tests.
//!
//! The name of a test begins with its module, so a filter selects a part: `law::`, `speed::`, `flight::`,
//! `depth::`, `platform::`, `slt::`, `types::`.
//!
//! Invariant: tests of different modules share nothing but the binary, so they run in any order and at the same time.

mod kafka;
mod recompute;

mod depth;
mod engine_faults;
mod flight;
mod law;
mod platform;
mod slt;
mod speed;
mod types;
