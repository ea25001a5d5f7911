//! A member of a group: its requests, its answers, and its waiting request.
//!
//! Invariant: a member has at most one waiting request, and each request is answered once.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The identity in a member's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The id from the group; empty before the first join.
    pub(crate) member: String,
    /// The instance id of a static member, which keeps its assignment while it is away.
    pub(crate) instance: Option<String>,
}

/// A member's request to join.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    pub(crate) identity: Identity,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// True if the client's version supports a first answer with an id only.
    pub(crate) knows_pending: bool,
    /// True if the client's version supports an answer that tells a leader to skip the assignment.
    pub(crate) knows_skipping: bool,
}

/// The answer to a join: the generation, and for the leader all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member: String,
    pub(crate) skip_assignment: bool,
    pub(crate) members: Vec<(Identity, Bytes)>,
}

/// An error comes with the member id for the next try.
pub(crate) type JoinOutcome = Result<Joined, (ResponseError, String)>;

/// A member's request for its assignment; the leader's request brings the assignments.
#[derive(Debug)]
pub(crate) struct SyncRequest {
    pub(crate) identity: Identity,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// Only from the leader: the assignment of each member.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// The assignment of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

pub(crate) type SyncOutcome = Result<Synced, ResponseError>;

/// A waiting request.
#[derive(Debug)]
pub(super) enum OpenQuestion {
    Join(oneshot::Sender<JoinOutcome>),
    Sync(oneshot::Sender<SyncOutcome>),
}

#[derive(Debug)]
pub(super) struct GroupMember {
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    /// Session timeout.
    pub(super) session: Duration,
    /// Rebalance timeout.
    pub(super) rebalance: Duration,
    /// The member's assignment protocols, the preferred one first, each with its metadata.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// End of the session; without meaning while a request waits.
    pub(super) until: Instant,
    pub(super) waiting: Option<OpenQuestion>,
}

impl GroupMember {
    pub(super) fn has_joined(&self) -> bool {
        matches!(self.waiting, Some(OpenQuestion::Join(_)))
    }

    pub(super) fn has_synced(&self) -> bool {
        matches!(self.waiting, Some(OpenQuestion::Sync(_)))
    }

    /// True if the member's request waits, but its connection is gone.
    pub(super) fn has_vanished(&self) -> bool {
        match &self.waiting {
            Some(OpenQuestion::Join(reply)) => reply.is_closed(),
            Some(OpenQuestion::Sync(reply)) => reply.is_closed(),
            None => false,
        }
    }

    pub(super) fn beats(&mut self, now: Instant) {
        self.until = now + self.session;
    }

    /// Answers a waiting request with an error.
    pub(super) fn refuse(&mut self, id: &str, code: ResponseError) {
        // The client may no longer wait, and then needs no answer.
        match self.waiting.take() {
            Some(OpenQuestion::Join(reply)) => drop(reply.send(Err((code, id.to_owned())))),
            Some(OpenQuestion::Sync(reply)) => drop(reply.send(Err(code))),
            None => {}
        }
    }

    /// The member's metadata for a protocol.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let known = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}
