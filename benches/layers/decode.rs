//! Decoding of JSON messages of about 110 bytes, and of the same events in Avro and Protobuf, beside arrow-avro and
//! prost-reflect.
//!
//! Invariant: all messages are valid, because rejects are rare and slower.

use std::hint::black_box;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, FingerprintStrategy, SchemaStore};
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use criterion::{Criterion, Throughput};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use thalweg_schemas::decode::{Decoder, Messages, RegisteredSchema, SchemaId, SchemaKind};
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
    decoder.learn_schema(SchemaId::Number(7), &Ok(RegisteredSchema::alone(SchemaKind::Avro, text.clone())));
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

const READING: &str = "syntax = \"proto3\";
    message Reading { string device = 1; int32 room = 2; int64 ts = 3; double temperature = 4; int64 load = 5; }";

/// The columns of the events as Protobuf in Confluent's wire format, read by our decoder and by prost-reflect.
pub(crate) fn protobuf(criterion: &mut Criterion) {
    let mut file = protox_parse::parse("reading.proto", READING).expect("a schema");
    file.source_code_info = None;
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file).expect("a schema");
    let reading = pool.get_message_by_name("Reading").expect("the message");

    let rows = events::rows(0, events::MICRO_BATCH, 100_000);
    let column = |name| rows.column_by_name(name).expect("a column of the events");
    let encode = |row| {
        let mut message = DynamicMessage::new(reading.clone());
        let device = column("device").as_string::<i32>().value(row).to_owned();
        message.set_field_by_name("device", Value::String(device));
        message.set_field_by_name("room", Value::I32(column("room").as_primitive::<Int32Type>().value(row)));
        let ts = column("ts").as_primitive::<TimestampMicrosecondType>().value(row);
        message.set_field_by_name("ts", Value::I64(ts));
        let temperature = column("temperature").as_primitive::<Float64Type>().value(row);
        message.set_field_by_name("temperature", Value::F64(temperature));
        message.set_field_by_name("load", Value::I64(column("load").as_primitive::<Int64Type>().value(row)));
        message.encode_to_vec()
    };
    let encoded: Vec<Vec<u8>> = (0..rows.num_rows()).map(encode).collect();
    let mut messages = Messages::new();
    for (i, payload) in (0..).zip(&encoded) {
        let framed = [&[0, 0, 0, 0, 7, 0], payload.as_slice()].concat();
        messages.push(Partition(0), Offset(i), Some(0), Some(&framed));
    }
    let mut definition = events::stream();
    definition.format = RecordFormat::Protobuf;
    let decoder = Decoder::new(&definition).expect("a stream of Protobuf");
    decoder.learn_schema(SchemaId::Number(7), &Ok(RegisteredSchema::alone(SchemaKind::Protobuf, READING)));
    assert_eq!(decoder.decode(&messages).expect("no failure").rejects, 0);

    let bytes = encoded.iter().map(Vec::len).sum::<usize>() / encoded.len() + 6;
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(encoded.len() as u64));
    group.bench_function(format!("Protobuf, {bytes} bytes an event"), |bencher| {
        bencher.iter(|| decoder.decode(black_box(&messages)));
    });
    group.bench_function(format!("Protobuf, {bytes} bytes an event, prost-reflect alone"), |bencher| {
        bencher.iter(|| {
            for message in black_box(&encoded) {
                black_box(DynamicMessage::decode(reading.clone(), message.as_slice()).expect("a message"));
            }
        });
    });
    group.finish();
}
