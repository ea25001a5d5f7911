//! Messages per second through librdkafka to the broker and back. By default the test sends few messages. This
//! command prints a meaningful figure:
//!
//! ```text
//! RATE_MESSAGES=2000000 cargo test --release --workspace broker::tests::rate -- --nocapture
//! ```

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::*;

/// Number of messages without `RATE_MESSAGES`.
const MESSAGES: usize = 10_000;
const BYTES: usize = 150;
const PARTITIONS: i32 = 4;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figure is what it is for")]
async fn rate() {
    let messages = std::env::var("RATE_MESSAGES").map_or(MESSAGES, |number| number.parse().unwrap());
    let fixture = Fixture::start().await;
    fixture.create("t", PARTITIONS).await;
    let mut config = fixture.client();
    config.set("enable.idempotence", "true").set("linger.ms", "20").set("queue.buffering.max.messages", "500000");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    let payload = vec![b'x'; BYTES];
    let began = Instant::now();
    for index in 0..messages {
        let mut record = BaseRecord::<(), _>::to("t").payload(&payload).partition(index as i32 % PARTITIONS);
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(WAIT).unwrap();
    let per_second = |began: Instant| messages as f64 / began.elapsed().as_secs_f64();
    println!("produced {:.0} messages of {BYTES} bytes a second", per_second(began));

    let mut config = fixture.consumer();
    config.set("enable.partition.eof", "false").set("fetch.message.max.bytes", "4194304");
    config.set("queued.max.messages.kbytes", "65536");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_range("t", 0, PARTITIONS - 1);
    all.set_all_offsets(Offset::Beginning).unwrap();
    let began = Instant::now();
    consumer.assign(&all).unwrap();
    for _ in 0..messages {
        consumer.poll(WAIT).unwrap().unwrap();
    }
    println!("consumed {:.0} messages of {BYTES} bytes a second", per_second(began));
    println!("the log has {} MB", fixture.broker.log_bytes() / 1_000_000);
}
