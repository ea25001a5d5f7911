//! The broker through librdkafka: what it holds, what a restart keeps, who may have its folder.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

const WAIT: Duration = Duration::from_secs(20);

fn client(broker: &Broker) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", broker.address().to_string())
        .set("group.id", "test")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20");
    client
}

async fn produce(broker: &Broker, payloads: &[&str]) -> Vec<i64> {
    let producer: FutureProducer = client(broker).create().unwrap();
    let mut offsets = Vec::new();
    for payload in payloads {
        let record = FutureRecord::to("t")
            .key("k")
            .payload(*payload)
            .partition(0);
        offsets.push(producer.send(record, WAIT).await.unwrap().offset);
    }
    offsets
}

/// Everything in partition 0 of `t`, up to its end, and the watermarks.
fn consume(config: &ClientConfig) -> (Vec<String>, (i64, i64)) {
    let consumer: BaseConsumer = config.create().unwrap();
    let marks = consumer.fetch_watermarks("t", 0, WAIT).unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("t", 0, Offset::Offset(0))
        .unwrap();
    consumer.assign(&from).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(WAIT).expect("an end") {
            Ok(message) => {
                let payload = message.payload().unwrap().to_vec();
                found.push(String::from_utf8(payload).unwrap());
            }
            Err(KafkaError::PartitionEOF(_)) => return (found, marks),
            Err(other) => panic!("{other}"),
        }
    }
}

async fn check(broker: &Broker, expect: &[&str]) {
    let config = client(broker);
    let (found, marks) = tokio::task::spawn_blocking(move || consume(&config))
        .await
        .unwrap();
    assert_eq!(found, expect);
    assert_eq!(marks, (0, expect.len() as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_holds_survives_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a folder");
    let any = Some("127.0.0.1:0".parse().unwrap());
    let broker = Broker::start(&folder, any).await.unwrap();
    crate::generator::create_topics(&client(&broker), &["t"], 1)
        .await
        .unwrap();
    check(&broker, &[]).await;
    assert_eq!(produce(&broker, &["a", "b"]).await, [0, 1]);
    check(&broker, &["a", "b"]).await;
    let twice = Broker::start(&folder, any).await;
    assert!(matches!(twice, Err(Error::InUse { .. })));
    let taken = Broker::start(root.path(), Some(broker.address())).await;
    assert!(matches!(taken, Err(Error::Listen { .. })));
    assert!(broker.log_bytes() > 0);
    broker.stop().await;

    let broker = Broker::start(&folder, any).await.unwrap();
    crate::generator::create_topics(&client(&broker), &["t"], 1)
        .await
        .unwrap();
    assert_eq!(produce(&broker, &["c"]).await, [2]);
    check(&broker, &["a", "b", "c"]).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Broker::start(&file.join("broker"), None)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("file/broker"), "{error}");
}
