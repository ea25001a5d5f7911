//! Fetch: what ends a wait, and how much an answer holds.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::log::batch::tests::plain;

const WAIT: Duration = Duration::from_secs(20);

struct Fixture {
    _root: tempfile::TempDir,
    node: Node,
}

impl Fixture {
    fn new(partitions: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let node = Node::open(root.path(), CancellationToken::new()).unwrap();
        node.topics.create("t", partitions, BTreeMap::new()).unwrap();
        Self { _root: root, node }
    }

    fn append(&self, partition: i32, value: &str) {
        let topic = self.node.topics.named("t").unwrap();
        topic.partition(partition).unwrap().append(&Bytes::from(plain(&[value]))).unwrap();
    }

    /// From the beginning of each partition: code and bytes of each, and how long it took.
    async fn fetch(&self, request: &FetchRequest) -> (Vec<(i16, usize)>, Duration) {
        let began = Instant::now();
        let answer = fetch(&self.node, 11, request.clone()).await;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let shown = partitions.map(|p| (p.error_code, p.records.as_ref().map_or(0, Bytes::len)));
        (shown.collect(), began.elapsed())
    }
}

fn request(partitions: std::ops::Range<i32>, min_bytes: i32) -> FetchRequest {
    let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(partitions.map(partition).collect());
    FetchRequest::default()
        .with_max_wait_ms(WAIT.as_millis() as i32)
        .with_min_bytes(min_bytes)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

fn size(value: &str) -> usize {
    plain(&[value]).len()
}

#[tokio::test]
async fn a_wait_ends_with_its_time_or_with_enough() {
    let fixture = Fixture::new(3);
    let short = Duration::from_millis(5);
    let briefly = |min_bytes| request(0..3, min_bytes).with_max_wait_ms(short.as_millis() as i32);
    let (found, took) = fixture.fetch(&briefly(1)).await;
    assert!(found == [(0, 0); 3] && took >= short);
    let (found, took) = fixture.fetch(&request(0..3, 0)).await;
    assert!(found == [(0, 0); 3] && took < WAIT);
    let one = size("x");
    // Whichever partition it is that gets something.
    for (partition, min_bytes) in [(2, 1), (0, 2 * one as i32)] {
        let request = request(0..3, min_bytes);
        let mut fetching = Box::pin(fixture.fetch(&request));
        assert!(futures::poll!(&mut fetching).is_pending());
        fixture.append(partition, "x");
        let (found, took) = fetching.await;
        assert!(took < WAIT && found[partition as usize] == (0, one));
    }
    // More than there is: all of it, when the time is over.
    let (found, took) = fixture.fetch(&briefly(1000)).await;
    assert!(took >= short && found == [(0, one), (0, 0), (0, one)]);
}

#[tokio::test]
async fn errors_are_answered_at_once() {
    let fixture = Fixture::new(1);
    let code = |code: ResponseError| vec![(code.code(), 0)];
    let check = async |request: &FetchRequest, expect| {
        let (found, took) = fixture.fetch(request).await;
        assert!(took < WAIT && found == code(expect), "{found:?}");
    };
    check(&request(1..2, 1), ResponseError::UnknownTopicOrPartition).await;
    let mut beyond = request(0..1, 1);
    beyond.topics[0].partitions[0].fetch_offset = 5;
    check(&beyond, ResponseError::OffsetOutOfRange).await;
    let mut newer = request(0..1, 1);
    newer.topics[0].partitions[0].current_leader_epoch = 1;
    check(&newer, ResponseError::UnknownLeaderEpoch).await;
    let session = request(0..1, 1).with_session_id(5).with_session_epoch(1);
    let refused = fetch(&fixture.node, 11, session).await;
    assert_eq!(refused.error_code, ResponseError::FetchSessionIdNotFound.code());
    let by_id = fetch(&fixture.node, 13, request(0..1, 1)).await;
    assert_eq!(by_id.responses[0].partitions[0].error_code, ResponseError::UnknownTopicId.code());
    let id = fixture.node.topics.named("t").unwrap().id;
    let mut known = request(0..1, 0);
    known.topics[0].topic_id = id;
    let found = fetch(&fixture.node, 13, known).await;
    assert_eq!((found.responses[0].topic_id, found.responses[0].partitions[0].error_code), (id, 0));

    // A topic that goes while it is waited for, and a broker that stops.
    let request = request(0..1, 1);
    let mut fetching = Box::pin(fixture.fetch(&request));
    assert!(futures::poll!(&mut fetching).is_pending());
    fixture.node.topics.delete(id).map(drop).unwrap();
    let (found, took) = fetching.await;
    assert!(took < WAIT && found == code(ResponseError::UnknownTopicOrPartition));
    let fixture = Fixture::new(1);
    let mut fetching = Box::pin(fixture.fetch(&request));
    assert!(futures::poll!(&mut fetching).is_pending());
    fixture.node.stop.cancel();
    let (found, took) = fetching.await;
    assert!(took < WAIT && found == [(0, 0)]);
}

#[tokio::test]
async fn an_answer_keeps_its_limit_except_for_the_first_batch() {
    let fixture = Fixture::new(3);
    let one = size("x");
    for _ in 0..4 {
        (1..3).for_each(|partition| fixture.append(partition, "x"));
    }
    let check = |max_bytes: usize, of_each: usize, expect: [usize; 3]| {
        let mut request = request(0..3, 1).with_max_bytes(max_bytes as i32);
        request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = of_each as i32);
        let fixture = &fixture;
        async move {
            let (found, _) = fixture.fetch(&request).await;
            assert_eq!(found, expect.map(|batches| (0, batches * one)), "{max_bytes} {of_each}");
        }
    };
    check(1 << 20, 1 << 20, [0, 4, 4]).await;
    check(1 << 20, 2 * one + 5, [0, 2, 2]).await;
    check(5 * one, 1 << 20, [0, 4, 1]).await;
    check(4 * one + 5, 1 << 20, [0, 4, 0]).await;
    check(5, 5, [0, 1, 0]).await;
    check(0, 0, [0, 1, 0]).await;
}
