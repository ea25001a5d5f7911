//! Metadata and DescribeCluster: the topics, and the one node that leads all partitions.
//!
//! A missing topic is created if the client allows it, which is Kafka's default.
//!
//! Invariant: the node's address is the address by which the client has reached it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::files::blocking;
use crate::broker::log::batch::LEADER_EPOCH;
use crate::broker::node::{ID, Node, Peer};
use crate::broker::topics::{BrokerTopic, Denied};

/// Partitions of a topic that is created by a metadata request.
const PARTITIONS: usize = 1;
/// In DescribeCluster: the request is for brokers, not for controllers.
const BROKERS: i8 = 1;

pub(crate) async fn metadata(node: &Arc<Node>, peer: Peer, version: i16, request: MetadataRequest) -> MetadataResponse {
    // Version 0 cannot ask for no topics: its empty list means all topics.
    let asked = request.topics.filter(|asked| version > 0 || !asked.is_empty());
    let topics = match asked {
        None => node.topics.all().iter().map(|topic| describe(topic)).collect(),
        Some(asked) => {
            let mut topics = Vec::with_capacity(asked.len());
            for asked in asked {
                topics.push(look_up(node, request.allow_auto_topic_creation, asked).await);
            }
            topics
        }
    };
    let broker =
        MetadataResponseBroker::default().with_node_id(ID.into()).with_host(peer.host()).with_port(peer.port());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(node.cluster_id.clone())))
        .with_controller_id(ID.into())
        .with_topics(topics)
}

async fn look_up(node: &Arc<Node>, may_create: bool, asked: MetadataRequestTopic) -> MetadataResponseTopic {
    let missing = MetadataResponseTopic::default().with_topic_id(asked.topic_id).with_name(asked.name.clone());
    let Some(name) = asked.name else {
        return match node.topics.with_id(asked.topic_id) {
            Some(topic) => describe(&topic),
            None => missing.with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    if let Some(topic) = node.topics.named(&name) {
        return describe(&topic);
    }
    let outcome = match node.topics.check(&name, PARTITIONS) {
        Ok(()) if may_create => {
            let (node, name) = (Arc::clone(node), name.to_string());
            blocking(move || node.topics.create(&name, PARTITIONS, BTreeMap::new())).await
        }
        Ok(()) => Err(Denied::Unknown),
        Err(denied) => Err(denied),
    };
    match outcome {
        Ok(topic) => describe(&topic),
        // Another request has created the topic.
        Err(Denied::Exists) => match node.topics.named(&name) {
            Some(topic) => describe(&topic),
            None => missing.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
        },
        Err(denied) => missing.with_error_code(denied.code().code()),
    }
}

fn describe(topic: &BrokerTopic) -> MetadataResponseTopic {
    let partition = |index: usize| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(ID.into())
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![ID.into()])
            .with_isr_nodes(vec![ID.into()])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.partitions.len()).map(partition).collect())
}

pub(crate) fn cluster(node: &Node, peer: Peer, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let answer = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
    if request.endpoint_type != BROKERS {
        return answer.with_error_code(ResponseError::UnsupportedEndpointType.code());
    }
    let broker =
        DescribeClusterBroker::default().with_broker_id(ID.into()).with_host(peer.host()).with_port(peer.port());
    answer
        .with_cluster_id(StrBytes::from_string(node.cluster_id.clone()))
        .with_controller_id(ID.into())
        .with_brokers(vec![broker])
}
