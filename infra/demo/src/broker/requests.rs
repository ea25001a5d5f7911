//! The served requests and their versions.
//!
//! Invariant: every offered request is answered, and no other. An error is an answer with an error code, unless the
//! request cannot be decoded.

mod configs;
mod coordinator;
mod fetch;
mod group_admin;
mod list_offsets;
mod metadata;
mod offsets;
mod produce;
mod topics;
pub(crate) mod versions;

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::ApiKey;

use super::frame::{Broken, RequestFrame};
use super::node::{Node, Peer};

/// The served requests, each with its first and last version.
pub(crate) const OFFERED: [(ApiKey, i16, i16); 24] = [
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
];

pub(crate) fn offers(key: ApiKey, version: i16) -> bool {
    OFFERED.iter().any(|(offered, first, last)| *offered == key && (*first..=*last).contains(&version))
}

/// The frame that answers a request; `None` if the request asks for no answer.
pub(crate) async fn answer(node: &Arc<Node>, peer: Peer, call: &RequestFrame) -> Result<Option<BytesMut>, Broken> {
    let version = call.version;
    let frame = match call.key {
        ApiKey::Produce => return produce::answer(node, call).await,
        ApiKey::Fetch => call.answer(&fetch::fetch(node, version, call.read()?).await),
        ApiKey::ListOffsets => call.answer(&list_offsets::list(node, version, call.read()?).await),
        ApiKey::OffsetForLeaderEpoch => call.answer(&list_offsets::of_epoch(node, call.read()?)),
        ApiKey::Metadata => call.answer(&metadata::metadata(node, peer, version, call.read()?).await),
        ApiKey::DescribeCluster => call.answer(&metadata::cluster(node, peer, &call.read()?)),
        ApiKey::ApiVersions => call.answer(&versions::offered(&call.read()?)),
        ApiKey::CreateTopics => call.answer(&topics::create(node, call.read()?).await),
        ApiKey::DeleteTopics => call.answer(&topics::delete(node, version, call.read()?).await),
        ApiKey::CreatePartitions => call.answer(&topics::grow(node, call.read()?).await),
        ApiKey::DeleteRecords => call.answer(&topics::delete_records(node, call.read()?).await),
        ApiKey::DescribeConfigs => call.answer(&configs::describe(node, call.read()?)),
        ApiKey::InitProducerId => call.answer(&produce::producer_id(node, call.read()?).await),
        ApiKey::FindCoordinator => call.answer(&coordinator::find(peer, version, call.read()?)),
        ApiKey::JoinGroup => call.answer(&coordinator::join(node, peer, version, &call.client_id, call.read()?).await),
        ApiKey::SyncGroup => call.answer(&coordinator::sync(node, call.read()?).await),
        ApiKey::Heartbeat => call.answer(&coordinator::heartbeat(node, &call.read()?)),
        ApiKey::LeaveGroup => call.answer(&coordinator::leave(node, version, call.read()?)),
        ApiKey::OffsetCommit => call.answer(&offsets::commit(node, call.read()?).await),
        ApiKey::OffsetFetch => call.answer(&offsets::fetch(node, version, call.read()?)),
        ApiKey::OffsetDelete => call.answer(&offsets::delete(node, call.read()?).await),
        ApiKey::ListGroups => call.answer(&group_admin::list(node, &call.read()?)),
        ApiKey::DescribeGroups => call.answer(&group_admin::describe(node, version, call.read()?)),
        ApiKey::DeleteGroups => call.answer(&group_admin::delete(node, call.read()?).await),
        key => Err(Broken::NotOffered { key: key as i16, version }),
    };
    frame.map(Some)
}

#[cfg(test)]
mod tests;
