//! Every served request, in every served version, has an answer that can be encoded in this version.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::frame;
use crate::broker::log::batch::tests::plain;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text("t"))
}

struct Fixture {
    _root: tempfile::TempDir,
    node: Arc<Node>,
    peer: Peer,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let node = Arc::new(Node::open(root.path(), CancellationToken::new()).unwrap());
        let topic = node.topics.create("t", 1, BTreeMap::new()).unwrap();
        topic.partition(0).unwrap().append(&Bytes::from(plain(&["a"]))).unwrap();
        let peer = Peer { address: [127, 0, 0, 1].into(), reached: ([127, 0, 0, 1], 9092).into() };
        Self { _root: root, node, peer }
    }
}

/// Encodes the answer to a request in each version.
async fn all<A: Encodable>(key: ApiKey, answer: impl AsyncFn(&Fixture, i16) -> A) {
    let (_, first, last) = *OFFERED.iter().find(|(offered, ..)| *offered == key).unwrap();
    for version in first..=last {
        let answer = answer(&Fixture::new(), version).await;
        let encoded = frame::encode(key, version, 1, &answer);
        assert!(encoded.is_ok(), "{key:?} {version}: {}", encoded.unwrap_err());
    }
}

#[tokio::test]
async fn the_log_in_every_version() {
    all(ApiKey::Produce, async |f, version| {
        let data = |index, batch: Vec<u8>| {
            PartitionProduceData::default().with_index(index).with_records(Some(Bytes::from(batch)))
        };
        let data = vec![data(0, plain(&["x"])), data(0, vec![1]), data(7, Vec::new())];
        let id = f.node.topics.named("t").unwrap().id;
        let data = TopicProduceData::default().with_name(topic()).with_topic_id(id).with_partition_data(data);
        let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]);
        let answer = produce::produce(&f.node, version, request).await;
        let codes: Vec<i16> = answer.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
        assert_eq!(codes, [0, 2, 3]);
        answer
    })
    .await;
    all(ApiKey::Fetch, async |f, version| {
        let partition = FetchPartition::default().with_partition_max_bytes(1000);
        let id = f.node.topics.named("t").unwrap().id;
        let asked = FetchTopic::default().with_topic(topic()).with_topic_id(id).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_topics(vec![asked]).with_max_bytes(1000);
        let answer = fetch::fetch(&f.node, version, request).await;
        assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
        answer
    })
    .await;
    all(ApiKey::ListOffsets, async |f, version| {
        let at = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(topic());
        let asked = asked.with_partitions([-1, -2, -3, -4, -5, 0, 5000].map(at).to_vec());
        let answer = list_offsets::list(&f.node, version, ListOffsetsRequest::default().with_topics(vec![asked])).await;
        let offsets: Vec<i64> = answer.topics[0].partitions.iter().map(|p| p.offset).collect();
        assert_eq!(offsets, [1, 0, 0, 0, -1, 0, -1]);
        answer
    })
    .await;
    all(ApiKey::OffsetForLeaderEpoch, async |f, _| {
        let asked = [0, 1].map(|epoch| OffsetForLeaderPartition::default().with_leader_epoch(epoch));
        let asked = OffsetForLeaderTopic::default().with_topic(topic()).with_partitions(asked.to_vec());
        let answer = list_offsets::of_epoch(&f.node, OffsetForLeaderEpochRequest::default().with_topics(vec![asked]));
        let ends: Vec<i64> = answer.topics[0].partitions.iter().map(|p| p.end_offset).collect();
        assert_eq!(ends, [1, -1]);
        answer
    })
    .await;
    all(ApiKey::InitProducerId, async |f, _| produce::producer_id(&f.node, InitProducerIdRequest::default()).await)
        .await;
    all(ApiKey::ApiVersions, async |_, _| versions::offered(&ApiVersionsRequest::default())).await;
}

#[tokio::test]
async fn topics_in_every_version() {
    all(ApiKey::Metadata, async |f, version| {
        let asked = ["t", "other"].map(|name| MetadataRequestTopic::default().with_name(Some(TopicName(text(name)))));
        let request = MetadataRequest::default().with_topics(Some(asked.to_vec()));
        let answer = metadata::metadata(&f.node, f.peer, version, request.with_allow_auto_topic_creation(false)).await;
        assert_eq!(answer.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [0, 3]);
        answer
    })
    .await;
    all(ApiKey::DescribeCluster, async |f, _| metadata::cluster(&f.node, f.peer, &DescribeClusterRequest::default()))
        .await;
    all(ApiKey::CreateTopics, async |f, _| {
        let asked = ["t", "u"].map(|name| CreatableTopic::default().with_name(TopicName(text(name))));
        let asked = asked.map(|topic| topic.with_num_partitions(2).with_replication_factor(1));
        topics::create(&f.node, CreateTopicsRequest::default().with_topics(asked.to_vec())).await
    })
    .await;
    all(ApiKey::DeleteTopics, async |f, version| {
        let asked = [topic(), TopicName(text("other"))];
        let states = asked.clone().map(|name| DeleteTopicState::default().with_name(Some(name)));
        let request = DeleteTopicsRequest::default().with_topics(states.to_vec()).with_topic_names(asked.to_vec());
        let answer = topics::delete(&f.node, version, request).await;
        assert_eq!(answer.responses.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [0, 3]);
        answer
    })
    .await;
    all(ApiKey::CreatePartitions, async |f, _| {
        let asked = [0, 3].map(|count| CreatePartitionsTopic::default().with_name(topic()).with_count(count));
        topics::grow(&f.node, CreatePartitionsRequest::default().with_topics(asked.to_vec())).await
    })
    .await;
    all(ApiKey::DeleteRecords, async |f, _| {
        let asked = [5, 1].map(|offset| DeleteRecordsPartition::default().with_offset(offset));
        let asked = DeleteRecordsTopic::default().with_name(topic()).with_partitions(asked.to_vec());
        topics::delete_records(&f.node, DeleteRecordsRequest::default().with_topics(vec![asked])).await
    })
    .await;
    all(ApiKey::DescribeConfigs, async |f, _| {
        let asked = [(2, "t"), (2, "x"), (4, "1"), (9, "")];
        let asked = asked.map(|(kind, name)| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        });
        let answer = configs::describe(&f.node, DescribeConfigsRequest::default().with_resources(asked.to_vec()));
        assert_eq!(answer.results.iter().map(|found| found.error_code).collect::<Vec<_>>(), [0, 3, 0, 42]);
        answer
    })
    .await;
}

/// Joins like an older client, without an id first.
async fn joined(f: &Fixture, version: i16) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::new());
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_group_instance_id(Some(text("me")))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    coordinator::join(&f.node, f.peer, version, "client", request).await
}

#[tokio::test]
async fn groups_in_every_version() {
    let group = || GroupId(text("g"));
    all(ApiKey::FindCoordinator, async |f, version| {
        let request = FindCoordinatorRequest::default().with_key(text("g")).with_coordinator_keys(vec![text("g")]);
        coordinator::find(f.peer, version, request)
    })
    .await;
    all(ApiKey::JoinGroup, async |f, version| {
        let answer = joined(f, version).await;
        assert_eq!((answer.error_code, answer.generation_id), (0, 1));
        answer
    })
    .await;
    all(ApiKey::JoinGroup, async |f, version| {
        coordinator::join(&f.node, f.peer, version, "client", JoinGroupRequest::default()).await
    })
    .await;
    all(ApiKey::SyncGroup, async |f, _| {
        let me = joined(f, 9).await.member_id;
        let given =
            SyncGroupRequestAssignment::default().with_member_id(me.clone()).with_assignment(Bytes::from("all"));
        let request = SyncGroupRequest::default().with_group_id(group()).with_generation_id(1).with_member_id(me);
        let answer = coordinator::sync(&f.node, request.with_assignments(vec![given])).await;
        assert_eq!(answer.assignment, "all");
        answer
    })
    .await;
    all(ApiKey::Heartbeat, async |f, _| coordinator::heartbeat(&f.node, &HeartbeatRequest::default())).await;
    all(ApiKey::LeaveGroup, async |f, version| {
        let me = joined(f, 9).await.member_id;
        let member = MemberIdentity::default().with_member_id(me.clone());
        let request = LeaveGroupRequest::default().with_group_id(group()).with_member_id(me);
        coordinator::leave(&f.node, version, request.with_members(vec![member]))
    })
    .await;
    let commit = async |f: &Fixture| {
        let partition = |index| OffsetCommitRequestPartition::default().with_partition_index(index);
        let asked = OffsetCommitRequestTopic::default().with_name(topic());
        let asked = asked.with_partitions([0, 5].map(partition).to_vec());
        let request = OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![asked]);
        offsets::commit(&f.node, request).await
    };
    all(ApiKey::OffsetCommit, async |f, _| commit(f).await).await;
    all(ApiKey::OffsetFetch, async |f, version| {
        commit(f).await;
        let of_group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
        let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(None);
        offsets::fetch(&f.node, version, request.with_groups(vec![of_group]))
    })
    .await;
    all(ApiKey::OffsetDelete, async |f, _| {
        offsets::delete(&f.node, OffsetDeleteRequest::default().with_group_id(group())).await
    })
    .await;
    all(ApiKey::ListGroups, async |f, _| {
        joined(f, 9).await;
        let answer = group_admin::list(&f.node, &ListGroupsRequest::default());
        assert_eq!(answer.groups.len(), 1);
        answer
    })
    .await;
    all(ApiKey::DescribeGroups, async |f, version| {
        joined(f, 9).await;
        let request = DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("none"))]);
        group_admin::describe(&f.node, version, request)
    })
    .await;
    all(ApiKey::DeleteGroups, async |f, _| {
        commit(f).await;
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group(), GroupId(text("none"))]);
        let answer = group_admin::delete(&f.node, request).await;
        assert_eq!(answer.results.iter().map(|group| group.error_code).collect::<Vec<_>>(), [0, 69]);
        answer
    })
    .await;
}
