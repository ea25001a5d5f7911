//! ListOffsets and OffsetForLeaderEpoch: the start and end of a log, and offsets by timestamp.
//!
//! Invariant: a client can fetch from every returned offset.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use crate::broker::files::blocking;
use crate::broker::log::batch::LEADER_EPOCH;
use crate::broker::node::Node;
use crate::broker::topics::BrokerTopic;

/// First version whose answers name the leader epoch.
const WITH_EPOCH: i16 = 4;
/// Timestamps with a special meaning.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
/// Offset and timestamp of an answer without a record.
const NONE: (i64, i64) = (-1, -1);

pub(crate) async fn list(node: &Node, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let asked: Vec<_> = request.topics.into_iter().map(|asked| (node.topics.named(&asked.name), asked)).collect();
    let topics = asked.into_iter().map(|(topic, asked)| async move {
        let look_up = move || asked.partitions.iter().map(|asked| look_up(version, topic.as_ref(), asked)).collect();
        let partitions = blocking(look_up).await;
        ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(futures::future::join_all(topics).await)
}

fn look_up(
    version: i16,
    topic: Option<&Arc<BrokerTopic>>,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    match find_offset(topic, asked) {
        Ok((offset, timestamp)) => {
            let answer = answer.with_offset(offset).with_timestamp(timestamp);
            if version < WITH_EPOCH { answer } else { answer.with_leader_epoch(LEADER_EPOCH) }
        }
        Err(code) => answer.with_error_code(code.code()).with_offset(-1).with_timestamp(-1),
    }
}

/// The offset and timestamp that answer a request.
fn find_offset(topic: Option<&Arc<BrokerTopic>>, asked: &ListOffsetsPartition) -> Result<(i64, i64), ResponseError> {
    let partition = topic.and_then(|topic| topic.partition(asked.partition_index));
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if asked.current_leader_epoch > LEADER_EPOCH {
        return Err(ResponseError::UnknownLeaderEpoch);
    }
    let (start, end) = partition.bounds();
    let found = match asked.timestamp {
        LATEST => return Ok((end, -1)),
        EARLIEST | EARLIEST_LOCAL => return Ok((start, -1)),
        LATEST_TIERED => return Ok(NONE),
        MAX_TIMESTAMP => partition.latest(),
        ..0 => return Err(ResponseError::UnsupportedForMessageFormat),
        timestamp => partition.since(timestamp),
    };
    match found {
        Ok(found) => Ok(found.unwrap_or(NONE)),
        Err(error) => {
            tracing::warn!(%error, "the embedded broker cannot read its log");
            Err(ResponseError::KafkaStorageError)
        }
    }
}

/// The end of a leader epoch. The only epoch ends at the end of the log.
pub(crate) fn of_epoch(node: &Node, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let end = |topic: Option<&Arc<BrokerTopic>>, asked: &OffsetForLeaderPartition| {
        let answer = EpochEndOffset::default().with_partition(asked.partition);
        let Some(partition) = topic.and_then(|topic| topic.partition(asked.partition)) else {
            return answer.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        };
        match asked.leader_epoch {
            _ if asked.current_leader_epoch > LEADER_EPOCH => {
                answer.with_error_code(ResponseError::UnknownLeaderEpoch.code())
            }
            LEADER_EPOCH => answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(partition.bounds().1),
            _ => answer,
        }
    };
    let topics = request.topics.into_iter().map(|asked| {
        let topic = node.topics.named(&asked.topic);
        let partitions = asked.partitions.iter().map(|asked| end(topic.as_ref(), asked)).collect();
        OffsetForLeaderTopicResult::default().with_topic(asked.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
