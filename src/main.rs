//! The one binary, `thalweg`: see [`thalweg::run`].
//!
//! Invariant: what a process does is in the library, where tests reach it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    thalweg::run()
}
