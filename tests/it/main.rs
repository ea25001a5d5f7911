//! Tests that see several crates, in one binary: linking DataFusion takes longer than compiling all of them.
//!
//! A name begins with the module of its test, so a filter picks a part: `law::`, `speed::`, `flight::`, `platform::`,
//! `slt::`. Invariant: tests of different modules share nothing but the binary, so that they run in any order and at
//! once.

mod kafka;
mod recompute;

mod flight;
mod law;
mod platform;
mod slt;
mod speed;
