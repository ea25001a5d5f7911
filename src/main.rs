//! The only binary, `thalweg`: see [`thalweg::run`].
//!
//! Invariant: all code of a process is in the library, where tests reach it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    thalweg::run()
}
