//! Decoding of JSON messages of about 110 bytes, and of the same events in Avro, beside arrow-avro.
//!
//! Invariant: all messages are valid, because rejects are rare and slower.

use std::hint::black_box;

use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, FingerprintStrategy, SchemaStore};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use criterion::{Criterion, Throughput};
use thalweg_schemas::decode::{Decoder, Messages, SchemaId};
use thalweg_schemas::definition::stream::RecordFormat;
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

/// The columns of the events as Avro in Confluent's wire format, read by our decoder and by arrow-avro.
pub(crate) fn avro(criterion: &mut Criterion) {
    let definition = events::stream();
    let rows = events::rows(0, events::MICRO_BATCH, 100_000);
    let columns: Vec<usize> = (3..3 + definition.columns.fields().len()).collect();
    let rows = rows.project(&columns).expect("the columns of the events");
    let text = AvroSchema::try_from(rows.schema().as_ref()).expect("a schema").json_string;
    let mut encoder = WriterBuilder::new(rows.schema().as_ref().clone())
        .with_fingerprint_strategy(FingerprintStrategy::Id(7))
        .build_encoder::<AvroSoeFormat>()
        .expect("an encoder");
    encoder.encode(&rows).expect("values that Avro has");
    let encoded: Vec<_> = encoder.flush().iter().collect();
    let mut messages = Messages::new();
    for (i, payload) in (0..).zip(&encoded) {
        messages.push(Partition(0), Offset(i), Some(0), Some(payload));
    }
    let mut definition = definition;
    definition.format = RecordFormat::Avro;
    let decoder = Decoder::new(&definition).expect("a stream of Avro");
    decoder.learn_schema(SchemaId::Number(7), &Ok(text.clone()), &[]);
    assert_eq!(decoder.decode(&messages).expect("no failure").rejects, 0);

    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(7), AvroSchema::new(text)).expect("a schema");
    let mut theirs = ReaderBuilder::new()
        .with_batch_size(encoded.len())
        .with_writer_schema_store(store)
        .build_decoder()
        .expect("a decoder");

    let bytes = encoded.iter().map(|message| message.len()).sum::<usize>() / encoded.len();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(encoded.len() as u64));
    group.bench_function(format!("Avro, {bytes} bytes an event"), |bencher| {
        bencher.iter(|| decoder.decode(black_box(&messages)));
    });
    group.bench_function(format!("Avro, {bytes} bytes an event, arrow-avro alone"), |bencher| {
        bencher.iter(|| {
            for message in black_box(&encoded) {
                theirs.decode(message).expect("a message");
            }
            theirs.flush().expect("a batch")
        });
    });
    group.finish();
}
