//! Idempotent producers: nothing is stored twice, whatever ends in between.

use rdkafka::producer::Producer;
use rdkafka::producer::ThreadedProducer;
use rdkafka::producer::{BaseRecord, DefaultProducerContext};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_goes_on_over_restarts_and_nothing_is_there_twice() {
    let mut fixture = Fixture::start().await;
    fixture.create("t", 2).await;
    let mut config = fixture.client();
    config
        .set("enable.idempotence", "true")
        .set("batch.num.messages", "50")
        .set("linger.ms", "0")
        .set("queue.buffering.max.messages", "1000000")
        .set("retry.backoff.ms", "10");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    let messages: Vec<String> = (0..60_000).map(|index| format!("{index:06}")).collect();
    for (round, part) in messages.chunks(20_000).enumerate() {
        for message in part {
            let partition = i32::from(message.as_bytes()[5] % 2);
            let record = BaseRecord::<(), _>::to("t").payload(message).partition(partition);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        if round < 2 {
            // In the midst of it.
            fixture = fixture.restart().await;
        }
    }
    producer.flush(WAIT).unwrap();
    for partition in 0..2 {
        let expect = messages.iter().filter(|message| i32::from(message.as_bytes()[5] % 2) == partition);
        assert!(fixture.read("t", partition).iter().eq(expect), "partition {partition}");
    }
}

#[tokio::test]
async fn transactions_are_refused_at_once() {
    let fixture = Fixture::start().await;
    let producer: FutureProducer = fixture.client().set("transactional.id", "t").create().unwrap();
    let began = Instant::now();
    let error = producer.init_transactions(WAIT).unwrap_err();
    assert!(error.to_string().contains("authorization"), "{error}");
    assert!(began.elapsed() < WAIT / 2);
}
