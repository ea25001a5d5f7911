//! FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the requests of group members.
//!
//! Invariant: this node coordinates every group, and no transaction.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::groups::{Identity, JoinOutcome, JoinRequest, SyncRequest};
use crate::broker::node::{ID, Node, Peer};

/// The kind of coordinator for groups; the other kind is for transactions.
const OF_GROUPS: i8 = 0;
/// First versions of features, in this order: several keys per request, several members per leave, an id before the
/// join, a rebalance timeout, and an answer that tells a leader to skip the assignment.
const SEVERAL_KEYS: i16 = 4;
const SEVERAL_LEAVE: i16 = 3;
const ID_FIRST: i16 = 4;
const REBALANCE_TIMEOUT: i16 = 1;
const SKIPPING: i16 = 9;

fn text(of: String) -> StrBytes {
    StrBytes::from_string(of)
}

pub(crate) fn identity(member: &StrBytes, instance: Option<&StrBytes>) -> Identity {
    Identity { member: member.to_string(), instance: instance.map(|instance| instance.to_string()) }
}

pub(crate) fn find(peer: Peer, version: i16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let of_groups = request.key_type == OF_GROUPS;
    // No client retries after this error.
    let none = ResponseError::TransactionalIdAuthorizationFailed.code();
    if version < SEVERAL_KEYS {
        let answer = FindCoordinatorResponse::default().with_error_message(None);
        return match of_groups {
            true => answer.with_node_id(ID.into()).with_host(peer.host()).with_port(peer.port()),
            false => answer.with_error_code(none).with_node_id((-1).into()).with_port(-1),
        };
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        let answer = Coordinator::default().with_key(key).with_error_message(None);
        match of_groups {
            true => answer.with_node_id(ID.into()).with_host(peer.host()).with_port(peer.port()),
            false => answer.with_error_code(none).with_node_id((-1).into()).with_port(-1),
        }
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

pub(crate) async fn join(
    node: &Node,
    peer: Peer,
    version: i16,
    client_id: &str,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let rebalance = if version < REBALANCE_TIMEOUT { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocols = request.protocols.into_iter().map(|protocol| (protocol.name.to_string(), protocol.metadata));
    let join = JoinRequest {
        identity: identity(&request.member_id, request.group_instance_id.as_ref()),
        client_id: client_id.to_owned(),
        client_host: format!("/{}", peer.address),
        session: millis(request.session_timeout_ms),
        rebalance: millis(rebalance),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        knows_pending: version >= ID_FIRST,
        knows_skipping: version >= SKIPPING,
    };
    let member = request.member_id.to_string();
    let outcome = match request.group_id.is_empty() {
        true => Err((ResponseError::InvalidGroupId, member)),
        false => tokio::select! {
            outcome = node.groups.join(&request.group_id, join) => outcome,
            () = node.stop.cancelled() => Err((ResponseError::CoordinatorNotAvailable, member)),
        },
    };
    joined(version, outcome)
}

fn joined(version: i16, outcome: JoinOutcome) -> JoinGroupResponse {
    // The protocol may be null from version 7 on.
    let absent = if version < 7 { Some(StrBytes::new()) } else { None };
    match outcome {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|(identity, metadata)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(identity.member))
                    .with_group_instance_id(identity.instance.map(text))
                    .with_metadata(metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(joined.protocol_type.map(text))
                .with_protocol_name(joined.protocol.map(text).or(absent))
                .with_leader(text(joined.leader))
                .with_skip_assignment(joined.skip_assignment)
                .with_member_id(text(joined.member))
                .with_members(members.collect())
        }
        Err((code, member)) => JoinGroupResponse::default()
            .with_error_code(code.code())
            .with_generation_id(-1)
            .with_protocol_name(absent)
            .with_member_id(text(member)),
    }
}

pub(crate) async fn sync(node: &Node, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter().map(|given| (given.member_id.to_string(), given.assignment));
    let sync = SyncRequest {
        identity: identity(&request.member_id, request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: assignments.collect(),
    };
    let outcome = tokio::select! {
        outcome = node.groups.sync(&request.group_id, sync) => outcome,
        () = node.stop.cancelled() => Err(ResponseError::CoordinatorNotAvailable),
    };
    match outcome {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(synced.protocol_type.map(text))
            .with_protocol_name(synced.protocol.map(text))
            .with_assignment(synced.assignment),
        Err(code) => SyncGroupResponse::default().with_error_code(code.code()),
    }
}

fn code(outcome: Result<(), ResponseError>) -> i16 {
    outcome.map_or_else(|code| code.code(), |()| 0)
}

pub(crate) fn heartbeat(node: &Node, request: &HeartbeatRequest) -> HeartbeatResponse {
    let identity = identity(&request.member_id, request.group_instance_id.as_ref());
    let outcome = node.groups.heartbeat(&request.group_id, &identity, request.generation_id);
    HeartbeatResponse::default().with_error_code(code(outcome))
}

pub(crate) fn leave(node: &Node, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let leave = |member: &MemberIdentity| {
        let identity = identity(&member.member_id, member.group_instance_id.as_ref());
        code(node.groups.leave(&request.group_id, &identity))
    };
    if version < SEVERAL_LEAVE {
        let member = MemberIdentity::default().with_member_id(request.member_id.clone());
        return LeaveGroupResponse::default().with_error_code(leave(&member));
    }
    let members = request.members.iter().map(|member| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(leave(member))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
