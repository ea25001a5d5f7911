//! Decoding of JSON messages of about 110 bytes.
//!
//! Invariant: all messages are valid, because rejects are rare and slower.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use thalweg_schemas::decode::{Decoder, Messages};
use thalweg_schemas::{Offset, Partition};

use crate::events;

pub(crate) fn json(criterion: &mut Criterion) {
    let mut messages = Messages::new();
    let mut bytes = 0;
    for i in 0..events::MICRO_BATCH as u64 {
        let payload = events::message(i);
        bytes += payload.len();
        messages.push(Partition(0), Offset(i as i64), Some(0), Some(payload.as_bytes()));
    }
    let decoder = Decoder::new(&events::stream()).expect("a stream of JSON");
    assert_eq!(decoder.decode(&messages).expect("no failure").rejects, 0);
    let bytes = bytes / messages.len();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function(format!("JSON, {bytes} bytes an event"), |bencher| {
        bencher.iter(|| decoder.decode(black_box(&messages)));
    });
    group.finish();
}
