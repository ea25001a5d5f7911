//! The speed of each layer on one core, without a network: `cargo bench`.
//!
//! The benches exist so that a command prints each figure in the README.
//!
//! Invariant: every bench runs the code of the process, on one thread, over events that are the same on every
//! machine.

mod algebra;
mod decode;
mod events;
mod recompute;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    layers,
    decode::json,
    decode::avro,
    decode::protobuf,
    algebra::update,
    algebra::merge,
    algebra::finish,
    algebra::filtered_query,
    recompute::recompute
);
criterion_main!(layers);
