//! Produce and InitProducerId: appends batches to the log.
//!
//! Invariant: a batch is acknowledged after it was written, and each partition of a request has its own result.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::files::blocking;
use crate::broker::frame::{Broken, RequestFrame};
use crate::broker::log::{AppendError, Flaw};
use crate::broker::node::Node;
use crate::broker::topics::BrokerTopic;

/// First version in which topics are named by ids.
const BY_ID: i16 = 13;

pub(crate) async fn answer(node: &Node, call: &RequestFrame) -> Result<Option<BytesMut>, Broken> {
    let request: ProduceRequest = call.read()?;
    let acks = request.acks;
    let answer = produce(node, call.version, request).await;
    if acks != 0 {
        return call.answer(&answer).map(Some);
    }
    // A client that wants no answer learns of a failure by the end of its connection.
    let mut outcomes = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    match outcomes.all(|outcome| outcome.error_code == 0) {
        true => Ok(None),
        false => Err(Broken::Unanswered),
    }
}

pub(crate) async fn produce(node: &Node, version: i16, request: ProduceRequest) -> ProduceResponse {
    let refusal = match request.acks {
        _ if request.transactional_id.is_some() => Some(ResponseError::TransactionalIdAuthorizationFailed),
        -1..=1 => None,
        _ => Some(ResponseError::InvalidRequiredAcks),
    };
    let resolved: Vec<(TopicProduceData, Result<Arc<BrokerTopic>, ResponseError>)> = request
        .topic_data
        .into_iter()
        .map(|data| {
            let found = match version {
                BY_ID.. => node.topics.with_id(data.topic_id).ok_or(ResponseError::UnknownTopicId),
                _ => node.topics.named(&data.name).ok_or(ResponseError::UnknownTopicOrPartition),
            };
            (data, refusal.map_or(found, Err))
        })
        .collect();
    let append = move || {
        let topics = resolved.into_iter().map(|(data, topic)| {
            let outcomes = data.partition_data.into_iter().map(|data| append(topic.as_deref(), data));
            TopicProduceResponse::default()
                .with_partition_responses(outcomes.collect())
                .with_name(data.name)
                .with_topic_id(data.topic_id)
        });
        topics.collect()
    };
    ProduceResponse::default().with_responses(blocking(append).await)
}

fn append(topic: Result<&BrokerTopic, &ResponseError>, data: PartitionProduceData) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(data.index);
    let failed = |code: ResponseError| answer.clone().with_error_code(code.code()).with_base_offset(-1);
    let partition = match topic {
        Ok(topic) => topic.partition(data.index).ok_or(ResponseError::UnknownTopicOrPartition),
        Err(code) => Err(*code),
    };
    let partition = match partition {
        Ok(partition) => partition,
        Err(code) => return failed(code),
    };
    let batch: Bytes = data.records.unwrap_or_default();
    let outcome = match batch.is_empty() {
        true => Err(AppendError::Flaw(Flaw::Short)),
        false => partition.append(&batch),
    };
    match outcome {
        Ok(appended) => answer.with_base_offset(appended.base_offset).with_log_start_offset(appended.start),
        Err(refused) => {
            if let AppendError::Storage(error) = &refused {
                tracing::error!(%error, "the embedded broker cannot store messages");
            }
            failed(refused.code()).with_error_message(Some(StrBytes::from_string(refused.to_string())))
        }
    }
}

/// Returns an id for an idempotent producer. A transactional producer gets a fatal error, because there are no
/// transactions.
pub(crate) async fn producer_id(node: &Arc<Node>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let failed = |code: ResponseError| {
        InitProducerIdResponse::default().with_error_code(code.code()).with_producer_id((-1).into())
    };
    if request.transactional_id.is_some() {
        return failed(ResponseError::TransactionalIdAuthorizationFailed);
    }
    let node = Arc::clone(node);
    match blocking(move || node.producers.next()).await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(id.into()),
        Err(error) => {
            tracing::error!(%error, "the embedded broker has no ids for producers");
            failed(ResponseError::KafkaStorageError)
        }
    }
}
