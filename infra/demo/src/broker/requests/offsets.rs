//! OffsetCommit, OffsetFetch, OffsetDelete: the committed offsets of groups.
//!
//! Invariant: an acknowledged commit is written. The offset of a partition without a commit is -1.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::coordinator::identity;
use crate::broker::groups::Commit;
use crate::broker::node::Node;
use crate::broker::topics::BrokerTopic;

/// First version in which one request names several groups.
const SEVERAL_GROUPS: i16 = 8;
/// Largest metadata of a commit in bytes.
const METADATA: usize = 4096;

pub(crate) async fn commit(node: &Node, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut commits = Vec::new();
    let mut topics: Vec<OffsetCommitResponseTopic> = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = node.topics.named(&asked.name);
        let partitions = asked.partitions.iter().map(|partition| {
            let checked = check(topic.as_ref(), partition);
            let code = checked.as_ref().err().map_or(0, |code| code.code());
            commits.extend(checked.ok().map(|commit| (asked.name.to_string(), partition.partition_index, commit)));
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        topics.push(OffsetCommitResponseTopic::default().with_name(asked.name.clone()).with_partitions(partitions));
    }
    let identity = identity(&request.member_id, request.group_instance_id.as_ref());
    let generation = request.generation_id_or_member_epoch;
    if let Err(code) = node.groups.commit(&request.group_id, &identity, generation, commits).await {
        for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == 0 {
                partition.error_code = code.code();
            }
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

fn check(topic: Option<&Arc<BrokerTopic>>, asked: &OffsetCommitRequestPartition) -> Result<Commit, ResponseError> {
    let metadata = asked.committed_metadata.as_ref().map(|metadata| metadata.to_string()).unwrap_or_default();
    match topic.and_then(|topic| topic.partition(asked.partition_index)) {
        None => Err(ResponseError::UnknownTopicOrPartition),
        Some(_) if metadata.len() > METADATA => Err(ResponseError::OffsetMetadataTooLarge),
        Some(_) => Ok(Commit { offset: asked.committed_offset, leader_epoch: asked.committed_leader_epoch, metadata }),
    }
}

/// Requested topics with their partitions.
type Asked = Vec<(TopicName, Vec<i32>)>;

pub(crate) fn fetch(node: &Node, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if version < SEVERAL_GROUPS {
        let asked = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = asked.unwrap_or_else(|| all(node, &request.group_id)).into_iter().map(|(topic, partitions)| {
            let partition = |index: i32| {
                let commit = found(node, &request.group_id, &topic, index);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(commit.offset)
                    .with_committed_leader_epoch(commit.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(commit.metadata)))
            };
            let partitions = partitions.into_iter().map(partition).collect();
            OffsetFetchResponseTopic::default().with_name(topic.clone()).with_partitions(partitions)
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let asked = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = asked.unwrap_or_else(|| all(node, &group.group_id)).into_iter().map(|(topic, partitions)| {
            let partition = |index: i32| {
                let commit = found(node, &group.group_id, &topic, index);
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(index)
                    .with_committed_offset(commit.offset)
                    .with_committed_leader_epoch(commit.leader_epoch)
                    .with_metadata(Some(StrBytes::from_string(commit.metadata)))
            };
            let partitions = partitions.into_iter().map(partition).collect();
            OffsetFetchResponseTopics::default().with_name(topic.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        OffsetFetchResponseGroup::default().with_topics(topics).with_group_id(group.group_id)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn found(node: &Node, group: &str, topic: &str, partition: i32) -> Commit {
    let nothing = || Commit { offset: -1, leader_epoch: -1, metadata: String::new() };
    node.groups.committed(group, topic, partition).unwrap_or_else(nothing)
}

fn all(node: &Node, group: &str) -> Asked {
    let mut asked: Asked = Vec::new();
    for (topic, partition) in node.groups.all_committed(group) {
        match asked.last_mut() {
            Some((last, partitions)) if **last == *topic => partitions.push(partition),
            _ => asked.push((TopicName(StrBytes::from_string(topic)), vec![partition])),
        }
    }
    asked
}

pub(crate) async fn delete(node: &Node, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let partitions = request.topics.iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.iter().map(move |partition| (name.clone(), partition.partition_index))
    });
    let outcome = node.groups.uncommit(&request.group_id, partitions.collect()).await;
    let code = outcome.map_or_else(|code| code.code(), |()| 0);
    let topics = request.topics.into_iter().map(|topic| {
        let partition =
            |index: i32| OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code);
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    // The top-level code is for errors of the group. The code for a subscribed topic is in each partition.
    let of_group = if code == ResponseError::GroupSubscribedToTopic.code() { 0 } else { code };
    OffsetDeleteResponse::default().with_error_code(of_group).with_topics(topics.collect())
}
