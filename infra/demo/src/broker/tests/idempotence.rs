//! Idempotent producers: no message is stored twice, whatever stops in between.

use std::collections::BTreeMap;

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tokio::sync::watch;

use super::*;
use crate::DemoStream;
use crate::generator::{Plan, Rate};
use crate::streams::{Faults, TimeSource};

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_continues_over_restarts_and_nothing_is_stored_twice() {
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
            // Restart while messages are in flight.
            fixture = fixture.restart().await;
        }
    }
    producer.flush(WAIT).unwrap();
    for partition in 0..2 {
        let expect = messages.iter().filter(|message| i32::from(message.as_bytes()[5] % 2) == partition);
        assert!(fixture.read("t", partition).iter().eq(expect), "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generator_continues_over_a_restart() {
    let mut fixture = Fixture::start().await;
    let count = 30_000;
    let plan = Plan {
        kafka: BTreeMap::from([("bootstrap.servers".to_owned(), fixture.broker.address().to_string())]),
        streams: vec![DemoStream::StockPrices],
        rate: Rate::Unlimited,
        seed: 1,
        time: TimeSource::Messages,
        faults: Faults::default(),
        count: Some(count),
        record: None,
    };
    let (sent, mut seen) = watch::channel(0);
    let generating = tokio::spawn(async move { plan.run(&CancellationToken::new(), &sent).await });
    seen.wait_for(|sent| *sent > count / 4).await.unwrap();
    fixture = fixture.restart().await;
    let summary = generating.await.unwrap().unwrap();
    let tally = &summary.streams["stock_prices"];
    assert_eq!(tally.messages, count);
    let ends: BTreeMap<i32, i64> =
        (0..4).map(|partition| (partition, fixture.read("stock_prices", partition).len() as i64)).collect();
    assert_eq!((ends.values().sum::<i64>(), &ends), (count as i64, &tally.ends));
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
