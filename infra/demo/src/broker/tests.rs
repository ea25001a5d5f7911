//! Tests of the broker through librdkafka, and with hand-made frames that librdkafka never sends.
//!
//! The broker has its own threads, so a test may block.
//!
//! Invariant: no test waits for a fixed time. A test waits for an event, and fails after a deadline.

mod admin;
mod clients;
mod consumer_groups;
mod frames;
mod idempotence;
mod rate;

use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

const WAIT: Duration = Duration::from_secs(30);

/// A broker whose folder is deleted with the fixture.
struct Fixture {
    root: tempfile::TempDir,
    broker: Broker,
}

impl Fixture {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let broker = Broker::start(root.path(), Some("127.0.0.1:0".parse().unwrap())).await.unwrap();
        Self { root, broker }
    }

    /// Stops the broker and starts it with the same folder and address.
    async fn restart(self) -> Self {
        let Self { root, broker } = self;
        let address = broker.address();
        broker.stop().await;
        let broker = start_at(root.path(), address).await;
        Self { root, broker }
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.broker.address().to_string());
        client.set("reconnect.backoff.max.ms", "100");
        client
    }

    fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", "test")
            // Commits would end polls early.
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20");
        client
    }

    fn producer(&self) -> FutureProducer {
        self.client().set("enable.idempotence", "true").create().unwrap()
    }

    async fn create(&self, name: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        created.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    }

    /// Sends messages to partition 0 and waits for each acknowledgement. Returns the offsets.
    async fn produce(&self, topic: &str, payloads: &[&str]) -> Vec<i64> {
        let producer = self.producer();
        let mut offsets = Vec::new();
        for payload in payloads {
            let record = FutureRecord::to(topic).key("k").payload(*payload).partition(0);
            offsets.push(producer.send(record, WAIT).await.unwrap().offset);
        }
        offsets
    }

    /// All messages of a partition up to its end.
    fn read(&self, topic: &str, partition: i32) -> Vec<String> {
        read(&self.consumer(), topic, partition)
    }

    #[track_caller]
    fn check(&self, topic: &str, expect: &[&str]) {
        assert_eq!(self.read(topic, 0), expect);
        let consumer: BaseConsumer = self.consumer().create().unwrap();
        let marks = consumer.fetch_watermarks(topic, 0, WAIT).unwrap();
        assert_eq!(marks, (0, expect.len() as i64));
    }
}

/// Starts a broker at the address of a stopped one, whose connections may still be closing.
async fn start_at(folder: &Path, address: SocketAddr) -> Broker {
    let deadline = Instant::now() + WAIT;
    loop {
        match Broker::start(folder, Some(address)).await {
            Ok(broker) => return broker,
            Err(Error::Listen { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn read(config: &ClientConfig, topic: &str, partition: i32) -> Vec<String> {
    let consumer: BaseConsumer = config.create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(WAIT).expect("an end") {
            Ok(message) => found.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap()),
            Err(KafkaError::PartitionEOF(_)) => return found,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn the_log_survives_a_restart() {
    let mut fixture = Fixture::start().await;
    fixture.create("t", 1).await;
    fixture.check("t", &[]);
    assert_eq!(fixture.broker.log_bytes(), 0);
    assert_eq!(fixture.produce("t", &["a", "b"]).await, [0, 1]);
    fixture.check("t", &["a", "b"]);
    let bytes = fixture.broker.log_bytes();
    assert!(bytes > 0);
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    let cluster = consumer.client().fetch_cluster_id(WAIT).unwrap();

    fixture = fixture.restart().await;
    assert_eq!(fixture.broker.log_bytes(), bytes);
    assert_eq!(fixture.produce("t", &["c"]).await, [2]);
    fixture.check("t", &["a", "b", "c"]);
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    let again = consumer.client().fetch_cluster_id(WAIT).unwrap();
    assert!(again == cluster && !again.starts_with('-'));
    fixture.broker.stop().await;
}

#[tokio::test]
async fn one_process_has_the_folder_and_one_the_address() {
    let fixture = Fixture::start().await;
    let twice = Broker::start(fixture.root.path(), None).await;
    assert!(matches!(twice, Err(Error::InUse { .. })));
    let root = tempfile::tempdir().unwrap();
    let taken = Broker::start(root.path(), Some(fixture.broker.address())).await;
    assert!(matches!(taken, Err(Error::Listen { .. })));
    // A refused start leaves no lock behind, and without an address a broker always finds a port.
    let other = Broker::start(&root.path().join("a folder ä"), None).await.unwrap();
    assert_ne!(other.address(), fixture.broker.address());
    drop(other);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Broker::start(&file.join("broker"), None).await.err().unwrap();
    assert!(error.to_string().contains("file/broker"), "{error}");
    let broken = root.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("topics.json"), "[").unwrap();
    let error = Broker::start(&broken, None).await.err().unwrap();
    assert!(error.to_string().contains("`topics.json`"), "{error}");
}
