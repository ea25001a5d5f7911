//! ListGroups, DescribeGroups, DeleteGroups: the requests of operators.
//!
//! Invariant: a group that does not exist has the state "Dead".

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::node::Node;

/// The only type of group.
const KIND: &str = "classic";
/// First version in which a missing group is an error.
const UNKNOWN_IS_ERROR: i16 = 6;

fn text(of: impl Into<String>) -> StrBytes {
    StrBytes::from_string(of.into())
}

pub(crate) fn list(node: &Node, request: &ListGroupsRequest) -> ListGroupsResponse {
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let groups = node
        .groups
        .list()
        .into_iter()
        .filter(|(_, group)| wanted(&request.states_filter, group.state) && wanted(&request.types_filter, KIND));
    let listed = groups.map(|(name, group)| {
        ListedGroup::default()
            .with_group_id(GroupId(text(name)))
            .with_protocol_type(text(group.protocol_type))
            .with_group_state(text(group.state))
            .with_group_type(text(KIND))
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}

pub(crate) fn describe(node: &Node, version: i16, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|name| {
        let found = node.groups.describe(&name);
        let answer = DescribedGroup::default().with_group_id(name);
        let Some(found) = found else {
            let dead = answer.with_group_state(text("Dead"));
            return match version {
                UNKNOWN_IS_ERROR.. => dead
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(Some(text("there is no such group"))),
                _ => dead,
            };
        };
        let members = found.members.into_iter().map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(member.identity.member))
                .with_group_instance_id(member.identity.instance.map(text))
                .with_client_id(text(member.client_id))
                .with_client_host(text(member.client_host))
                .with_member_metadata(member.metadata)
                .with_member_assignment(member.assignment)
        });
        answer
            .with_group_state(text(found.overview.state))
            .with_protocol_type(text(found.overview.protocol_type))
            .with_protocol_data(text(found.protocol))
            .with_members(members.collect())
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) async fn delete(node: &Node, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for name in request.groups_names {
        let outcome = node.groups.delete(&name).await;
        let code = outcome.map_or_else(|code| code.code(), |()| 0);
        results.push(DeletableGroupResult::default().with_group_id(name).with_error_code(code));
    }
    DeleteGroupsResponse::default().with_results(results)
}
