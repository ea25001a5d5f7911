//! Reads a topic to its end with librdkafka alone and prints the speed, to which `tests/e2e/bench.py` compares
//! Thalweg.
//!
//! `cargo run --release --example bare_consumer -- BOOTSTRAP TOPIC`
//!
//! Invariant: the program reads every payload and does nothing else.

use std::io::Write;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic] = arguments.as_slice() else {
        anyhow::bail!("usage: bare_consumer BOOTSTRAP TOPIC");
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bare-consumer")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics()[0].partitions();
    let mut assigned = TopicPartitionList::new();
    for partition in partitions {
        assigned.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;

    let (mut messages, mut bytes, mut ended) = (0u64, 0u64, 0);
    let mut first = None;
    while ended < partitions.len() {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                first.get_or_insert_with(Instant::now);
                messages += 1;
                bytes += message.payload().map_or(0, |payload| payload.len() as u64);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(e)) => return Err(e.into()),
            None => anyhow::bail!("{topic} gives nothing for {PATIENCE:?}"),
        }
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    writeln!(std::io::stdout(), "{messages} {bytes} {seconds}")?;
    Ok(())
}
