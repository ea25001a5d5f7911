//! A real Kafka for one test. `infra/kafka/up` starts it, as a user would; this needs Java.
//!
//! Invariant: the test chooses partitions and offsets. Records of one partition are appended in the given order.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Kafka {
    folder: tempfile::TempDir,
    pub(crate) bootstrap: String,
}

/// One message of a topic.
pub(crate) struct Message {
    pub(crate) partition: i32,
    /// Milliseconds since 1970. `None` uses the producer's clock.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) payload: String,
}

impl Kafka {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let up = script("up", folder.path()).output().unwrap();
        assert!(up.status.success(), "infra/kafka/up failed");
        let text = String::from_utf8(up.stdout).unwrap();
        Self { folder, bootstrap: text.lines().next().unwrap().to_owned() }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32) {
        let admin: AdminClient<_> = self.client().create().unwrap();
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = admin.create_topics([&new], &AdminOptions::new()).await;
        made.unwrap().into_iter().for_each(|one| drop(one.unwrap()));
    }

    /// Sends all messages, and waits until the broker has them.
    pub(crate) fn produce(&self, topic: &str, messages: impl IntoIterator<Item = Message>) {
        let producer: BaseProducer = self.client().set("enable.idempotence", "true").create().unwrap();
        for Message { partition, timestamp_ms, payload } in messages {
            let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&payload);
            record.timestamp = timestamp_ms;
            while let Err((error, refused)) = producer.send(record) {
                let is_full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                assert!(is_full, "{error}");
                producer.poll(Duration::from_millis(10));
                record = refused;
            }
        }
        producer.flush(PATIENCE).unwrap();
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let down = script("down", self.folder.path()).status();
        assert!(down.unwrap().success(), "infra/kafka/down failed");
    }
}

fn script(name: &str, folder: &Path) -> Command {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "infra/kafka", name].iter().collect();
    let mut command = Command::new(file);
    command.arg("--dir").arg(folder).stderr(Stdio::inherit());
    command
}
