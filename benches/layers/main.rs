//! What each layer can do on one core, without a network: `cargo bench`.
//!
//! It exists so that a figure in the README has a command that prints it. Invariant: every bench runs the code that
//! the process runs, on one thread, over events that are the same on every machine.

mod algebra;
mod decode;
mod events;
mod recompute;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    layers,
    decode::json,
    algebra::update,
    algebra::merge,
    algebra::finish,
    algebra::filtered_query,
    recompute::recompute
);
criterion_main!(layers);
