//! CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords: changes of topics and their records.
//!
//! Invariant: each topic of a request has its own result, which is sent after the change was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::files::blocking;
use crate::broker::log::PartitionLog;
use crate::broker::node::Node;
use crate::broker::topics::{BrokerTopic, Denied};

/// Partitions of a topic whose creator leaves the number to the broker.
const PARTITIONS: i32 = 1;
/// The value by which a request leaves a number to the broker.
const BY_DEFAULT: i32 = -1;
/// First version in which topics are deleted by name or by id.
const DELETED_BY_ID: i16 = 6;

fn text(of: impl ToString) -> Option<StrBytes> {
    Some(StrBytes::from_string(of.to_string()))
}

pub(crate) async fn create(node: &Arc<Node>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let (node, only_check) = (Arc::clone(node), request.validate_only);
    let create = move || {
        let outcomes = request.topics.into_iter().map(|asked| {
            let answer = CreatableTopicResult::default().with_name(asked.name.clone()).with_error_message(None);
            match create_one(&node, &asked, only_check) {
                Ok(created) => answer
                    .with_num_partitions(created.0)
                    .with_replication_factor(1)
                    .with_topic_id(created.1.map_or_else(uuid::Uuid::nil, |topic| topic.id)),
                Err((code, reason)) => answer.with_error_code(code.code()).with_error_message(text(reason)),
            }
        });
        outcomes.collect()
    };
    CreateTopicsResponse::default().with_topics(blocking(create).await)
}

type Created = (i32, Option<Arc<BrokerTopic>>);

/// Creates or checks one topic. Returns its number of partitions, and the topic unless the request is only a check.
fn create_one(node: &Node, asked: &CreatableTopic, only_check: bool) -> Result<Created, (ResponseError, String)> {
    if !matches!(i32::from(asked.replication_factor), 1 | BY_DEFAULT) {
        return Err((ResponseError::InvalidReplicationFactor, "there is one node, so one replica".to_owned()));
    }
    let count = match asked.num_partitions {
        BY_DEFAULT if !asked.assignments.is_empty() => i32::try_from(asked.assignments.len()).unwrap_or(i32::MAX),
        BY_DEFAULT => PARTITIONS,
        count => count,
    };
    let partitions = usize::try_from(count).ok().filter(|count| *count > 0);
    let partitions = partitions.ok_or((ResponseError::InvalidPartitions, format!("{count} partitions")))?;
    let denied = |denied: Denied| (denied.code(), denied.to_string());
    node.topics.check(&asked.name, partitions).map_err(denied)?;
    if only_check {
        return Ok((count, None));
    }
    let configs =
        asked.configs.iter().filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
    let topic = node.topics.create(&asked.name, partitions, configs.collect::<BTreeMap<_, _>>()).map_err(denied)?;
    Ok((count, Some(topic)))
}

pub(crate) async fn delete(node: &Arc<Node>, version: i16, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked = match version {
        DELETED_BY_ID.. => request.topics,
        _ => request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))).collect(),
    };
    let mut responses = Vec::with_capacity(asked.len());
    for asked in asked {
        responses.push(delete_one(node, asked).await);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete_one(node: &Arc<Node>, asked: DeleteTopicState) -> DeletableTopicResult {
    let answer = DeletableTopicResult::default().with_topic_id(asked.topic_id).with_name(asked.name.clone());
    let topic = match &asked.name {
        Some(name) => node.topics.named(name).ok_or(ResponseError::UnknownTopicOrPartition),
        None => node.topics.with_id(asked.topic_id).ok_or(ResponseError::UnknownTopicId),
    };
    let topic = match topic {
        Ok(topic) => topic,
        Err(code) => return answer.with_error_code(code.code()),
    };
    let at = Arc::clone(node);
    match blocking(move || at.topics.delete(topic.id)).await {
        Ok(topic) => {
            // Committed offsets of the deleted topic are invalid for a new topic with the same name.
            node.groups.forget(&topic.name).await;
            answer.with_topic_id(topic.id).with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        }
        Err(denied) => answer.with_error_code(denied.code().code()).with_error_message(text(denied)),
    }
}

pub(crate) async fn grow(node: &Arc<Node>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let (node, only_check) = (Arc::clone(node), request.validate_only);
    let grow = move || {
        let outcomes = request.topics.into_iter().map(|asked| {
            let count = usize::try_from(asked.count).unwrap_or(0);
            let outcome = node.topics.grow(&asked.name, count, only_check);
            let answer = CreatePartitionsTopicResult::default().with_name(asked.name);
            match outcome {
                Ok(()) => answer.with_error_message(None),
                Err(denied) => answer.with_error_code(denied.code().code()).with_error_message(text(denied)),
            }
        });
        outcomes.collect()
    };
    CreatePartitionsResponse::default().with_results(blocking(grow).await)
}

pub(crate) async fn delete_records(node: &Arc<Node>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let node = Arc::clone(node);
    let delete = move || {
        let topics = request.topics.into_iter().map(|asked| {
            let topic = node.topics.named(&asked.name);
            let partitions = asked.partitions.iter().map(|asked| {
                let partition = topic.as_ref().and_then(|topic| topic.partition(asked.partition_index));
                delete_before(partition, asked)
            });
            DeleteRecordsTopicResult::default().with_partitions(partitions.collect()).with_name(asked.name)
        });
        topics.collect()
    };
    DeleteRecordsResponse::default().with_topics(blocking(delete).await)
}

fn delete_before(
    partition: Option<&Arc<PartitionLog>>,
    asked: &DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let answer = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
    let failed = |code: ResponseError| answer.clone().with_low_watermark(-1).with_error_code(code.code());
    let Some(partition) = partition else {
        return failed(ResponseError::UnknownTopicOrPartition);
    };
    match partition.delete_before(asked.offset) {
        Ok(Some(start)) => answer.with_low_watermark(start),
        Ok(None) => failed(ResponseError::OffsetOutOfRange),
        Err(error) => {
            tracing::error!(%error, "the embedded broker cannot delete records");
            failed(ResponseError::KafkaStorageError)
        }
    }
}
