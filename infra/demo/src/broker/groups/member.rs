//! A member of a group: what it says, what it is told, and whether somebody waits in its name.
//!
//! Invariant: at most one question of a member is open, and each is answered once.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How a member names itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Given by the group; empty before that.
    pub(crate) member: String,
    /// Its own, if it is static: it keeps its place while it is away.
    pub(crate) instance: Option<String>,
}

/// What a member brings when it joins.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    pub(crate) identity: Identity,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// Whether it can be given an id first.
    pub(crate) knows_pending: bool,
    /// Whether a leader can be told that there is nothing to distribute.
    pub(crate) knows_skipping: bool,
}

/// What it is told then: a generation, and the others if it leads.
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

/// An error comes with the id by which to try again.
pub(crate) type JoinOutcome = Result<Joined, (ResponseError, String)>;

/// What a member brings to the distribution, or asks of it.
#[derive(Debug)]
pub(crate) struct SyncRequest {
    pub(crate) identity: Identity,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// Of the leader: what each member gets.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// What a member was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

pub(crate) type SyncOutcome = Result<Synced, ResponseError>;

/// An open question.
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
    /// How long it may be silent.
    pub(super) session: Duration,
    /// How long it may take to join again.
    pub(super) rebalance: Duration,
    /// Ways of distributing that it knows, the best first, with what each needs to know.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// When it was silent for too long; of no meaning while a question of it is open.
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

    /// It waits, or it did and its connection is gone.
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

    /// Ends an open question with an error.
    pub(super) fn refuse(&mut self, id: &str, code: ResponseError) {
        // Whoever does not wait any more need not be told.
        match self.waiting.take() {
            Some(OpenQuestion::Join(reply)) => drop(reply.send(Err((code, id.to_owned())))),
            Some(OpenQuestion::Sync(reply)) => drop(reply.send(Err(code))),
            None => {}
        }
    }

    /// What it has to say about a way of distributing.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let known = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}
