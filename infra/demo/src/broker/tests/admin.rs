//! Operators create, grow, empty and delete topics, and read their settings.

use rdkafka::admin::{NewPartitions, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::*;

fn admin(fixture: &Fixture) -> AdminClient<DefaultClientContext> {
    fixture.client().create().unwrap()
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WAIT))
}

#[tokio::test]
async fn topics_come_grow_and_go() {
    let fixture = Fixture::start().await;
    let admin = admin(&fixture);
    let fixed = |replicas| TopicReplication::Fixed(replicas);
    let asked = [
        NewTopic::new("a", 3, fixed(1)).set("retention.ms", "1000"),
        NewTopic::new("b", -1, fixed(-1)),
        NewTopic::new("no name", 1, fixed(1)),
        NewTopic::new("d", 1, fixed(3)),
        NewTopic::new("e", 99_999, fixed(1)),
    ];
    let outcomes = admin.create_topics(&asked, &options()).await.unwrap();
    let codes: Vec<Option<Code>> = outcomes.into_iter().map(|outcome| outcome.err().map(|(_, code)| code)).collect();
    let expect =
        [None, None, Some(Code::InvalidTopic), Some(Code::InvalidReplicationFactor), Some(Code::PolicyViolation)];
    assert_eq!(codes, expect);
    let again = admin.create_topics(&asked[..1], &options()).await.unwrap();
    assert_eq!(again[0].as_ref().err().map(|(_, code)| *code), Some(Code::TopicAlreadyExists));

    let grown =
        admin.create_partitions(&[NewPartitions::new("a", 5), NewPartitions::new("b", 1)], &options()).await.unwrap();
    assert!(grown[0].is_ok());
    assert_eq!(grown[1].as_ref().err().map(|(_, code)| *code), Some(Code::InvalidPartitions));
    let metadata = admin.inner().fetch_metadata(None, WAIT).unwrap();
    let shown: Vec<_> = metadata.topics().iter().map(|topic| (topic.name(), topic.partitions().len())).collect();
    assert_eq!(shown, [("a", 5), ("b", 1)]);
    assert!(metadata.topics().iter().flat_map(|topic| topic.partitions()).all(|p| p.leader() == 1 && p.isr() == [1]));
    let broker = &metadata.brokers()[0];
    assert_eq!(format!("{}:{}", broker.host(), broker.port()), fixture.broker.address().to_string());

    let gone = admin.delete_topics(&["a", "x"], &options()).await.unwrap();
    assert!(gone[0].is_ok());
    assert_eq!(gone[1].as_ref().err().map(|(_, code)| *code), Some(Code::UnknownTopicOrPartition));
    let metadata = admin.inner().fetch_metadata(Some("b"), WAIT).unwrap();
    assert_eq!(metadata.topics().len(), 1);
}

#[tokio::test]
async fn settings_are_shown() {
    let fixture = Fixture::start().await;
    let admin = admin(&fixture);
    let topic = NewTopic::new("a", 1, TopicReplication::Fixed(1)).set("retention.ms", "1000");
    admin.create_topics([&topic], &options()).await.unwrap();
    let asked = [ResourceSpecifier::Topic("a"), ResourceSpecifier::Broker(1), ResourceSpecifier::Topic("x")];
    let found = admin.describe_configs(&asked, &options()).await.unwrap();
    let value = |index: usize, name: &str| {
        let resource = found[index].as_ref().unwrap();
        resource.entry_map().get(name).and_then(|entry| entry.value.clone())
    };
    assert_eq!(value(0, "retention.ms").as_deref(), Some("1000"));
    assert_eq!(value(0, "cleanup.policy").as_deref(), Some("delete"));
    assert_eq!(value(1, "num.partitions").as_deref(), Some("1"));
    // librdkafka hides the error of this resource.
    assert!(found[2].as_ref().is_ok_and(|resource| resource.entries.is_empty()));
}

#[tokio::test]
async fn records_are_deleted_and_a_recreated_topic_is_new() {
    let fixture = Fixture::start().await;
    fixture.create("t", 1).await;
    fixture.produce("t", &["a", "b", "c"]).await;
    let admin = admin(&fixture);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset("t", 0, Offset::Offset(2)).unwrap();
    admin.delete_records(&before, &options()).await.unwrap();
    assert_eq!(fixture.read("t", 0), ["c"]);
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    assert_eq!(consumer.fetch_watermarks("t", 0, WAIT).unwrap(), (2, 3));
    let mut committed = TopicPartitionList::new();
    committed.add_partition_offset("t", 0, Offset::Offset(3)).unwrap();
    consumer.commit(&committed, rdkafka::consumer::CommitMode::Sync).unwrap();

    admin.delete_topics(&["t"], &options()).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(fixture.broker.log_bytes(), 0);
    fixture.create("t", 1).await;
    fixture.check("t", &[]);
    let committed = consumer.committed_offsets(committed, WAIT).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Invalid);
    assert_eq!(fixture.produce("t", &["d"]).await, [0]);
    fixture.check("t", &["d"]);
}

#[tokio::test]
async fn a_producer_creates_a_missing_topic_and_a_consumer_does_not() {
    let fixture = Fixture::start().await;
    let consumer: BaseConsumer = fixture.consumer().create().unwrap();
    let metadata = consumer.fetch_metadata(Some("t"), WAIT).unwrap();
    let code = metadata.topics()[0].error().map(Code::from);
    assert_eq!(code, Some(Code::UnknownTopicOrPartition));
    assert_eq!(fixture.produce("t", &["a"]).await, [0]);
    fixture.check("t", &["a"]);
}
