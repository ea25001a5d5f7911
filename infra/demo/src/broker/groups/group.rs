//! One group as a state machine: Kafka's classic protocol, without a clock or a socket.
//!
//! ```text
//!  Empty ──join──▶ PreparingRebalance ──all joined, or time over──▶ CompletingRebalance ──leader's sync──▶ Stable
//!    ▲                 ▲     │                                                │                             │
//!    └───nobody left───┼─────┘◀───── a member joins, leaves or falls silent ──┴─────────────────────────────┘
//! ```
//!
//! Invariant: the members of a generation have one leader, and one protocol that all of them support.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::member::{GroupMember, Identity, OpenQuestion, SyncOutcome, SyncRequest, Synced};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Empty,
    /// The group waits for members to join.
    PreparingRebalance {
        until: Instant,
    },
    /// The group waits for the leader's assignments.
    CompletingRebalance {
        until: Instant,
    },
    Stable,
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, GroupMember>,
    /// Ids of members that must join again with their id, and the time until which each may.
    pub(super) pending: BTreeMap<String, Instant>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overview {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
}

/// A group in detail.
#[derive(Debug)]
pub(crate) struct GroupDescription {
    pub(crate) overview: Overview,
    pub(crate) protocol: String,
    pub(crate) members: Vec<MemberDescription>,
}

#[derive(Debug)]
pub(crate) struct MemberDescription {
    pub(crate) identity: Identity,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

impl Group {
    /// True if the group has no members and no pending ids.
    pub(crate) fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// The member id of this identity.
    ///
    /// Errors: `UnknownMemberId`; `FencedInstanceId` if another member has replaced this static member.
    pub(super) fn identify(&self, who: &Identity) -> Result<String, ResponseError> {
        if let Some(instance) = &who.instance {
            let holder = self.holder(instance).ok_or(ResponseError::UnknownMemberId)?;
            if !who.member.is_empty() && holder != who.member {
                return Err(ResponseError::FencedInstanceId);
            }
            return Ok(holder.to_owned());
        }
        match self.members.contains_key(&who.member) {
            true => Ok(who.member.clone()),
            false => Err(ResponseError::UnknownMemberId),
        }
    }

    /// The member id of a static member's instance.
    pub(super) fn holder(&self, instance: &str) -> Option<&str> {
        let mut members = self.members.iter();
        members.find(|(_, member)| member.instance.as_deref() == Some(instance)).map(|(id, _)| id.as_str())
    }

    pub(crate) fn sync(&mut self, now: Instant, sync: SyncRequest, reply: oneshot::Sender<SyncOutcome>) {
        let id = match self.may_sync(&sync) {
            Ok(id) => id,
            Err(code) => return drop(reply.send(Err(code))),
        };
        if let Some(member) = self.members.get_mut(&id) {
            member.beats(now);
            member.refuse(&id, ResponseError::UnknownMemberId);
            member.waiting = Some(OpenQuestion::Sync(reply));
        }
        if matches!(self.state, State::CompletingRebalance { .. }) && self.leader.as_deref() == Some(&id) {
            for (member, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&member) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
        }
        if self.state == State::Stable {
            self.distribute(now);
        }
    }

    fn may_sync(&self, sync: &SyncRequest) -> Result<String, ResponseError> {
        let id = self.identify(&sync.identity)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        match self.state {
            _ if sync.generation != self.generation => Err(ResponseError::IllegalGeneration),
            _ if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) => {
                Err(ResponseError::InconsistentGroupProtocol)
            }
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance { .. } => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance { .. } | State::Stable => Ok(id),
        }
    }

    /// Sends the assignments to all members that wait for them.
    fn distribute(&mut self, now: Instant) {
        for member in self.members.values_mut().filter(|member| member.has_synced()) {
            let synced = Synced {
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            if let Some(OpenQuestion::Sync(reply)) = member.waiting.take() {
                // A client that no longer waits learns of its state from the next heartbeat.
                let _ = reply.send(Ok(synced));
            }
            member.beats(now);
        }
    }

    /// Notes a sign of life of a member that knows the current generation.
    fn beats(&mut self, now: Instant, of: &Identity, generation: i32) -> Result<(), ResponseError> {
        let id = self.identify(of)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.beats(now);
        }
        Ok(())
    }

    pub(crate) fn heartbeat(&mut self, now: Instant, of: &Identity, generation: i32) -> Result<(), ResponseError> {
        self.beats(now, of, generation)?;
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance { .. } => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance { .. } | State::Stable => Ok(()),
        }
    }

    pub(crate) fn leave(&mut self, now: Instant, who: &Identity) -> Result<(), ResponseError> {
        if who.instance.is_none() && self.pending.remove(&who.member).is_some() {
            self.complete_if_all_joined(now);
            return Ok(());
        }
        let id = self.identify(who)?;
        self.remove(now, &[id]);
        Ok(())
    }

    /// Allows commits by members of this generation, and commits without a generation if the group is empty.
    pub(crate) fn may_commit(&mut self, now: Instant, of: &Identity, generation: i32) -> Result<(), ResponseError> {
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        self.beats(now, of, generation)?;
        match self.state {
            State::CompletingRebalance { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Removes members and pending ids whose time is over, and completes a rebalance that is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.pending.retain(|_, until| *until > now);
        let silent = |member: &GroupMember| member.waiting.is_none() && member.until <= now;
        let stalling = matches!(self.state, State::CompletingRebalance { until } if until <= now);
        let late = self.members.iter().filter(|(_, member)| silent(member) || (stalling && !member.has_synced()));
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        self.remove(now, &late);
        match self.state {
            State::PreparingRebalance { until } if until <= now => self.complete_rebalance(now),
            State::PreparingRebalance { .. } => self.complete_if_all_joined(now),
            _ => {}
        }
    }

    /// The next time at which [`Group::expire`] has work.
    pub(crate) fn due(&self) -> Option<Instant> {
        let of_state = match self.state {
            State::PreparingRebalance { until } | State::CompletingRebalance { until } => Some(until),
            State::Empty | State::Stable => None,
        };
        let sessions = self.members.values().filter(|member| member.waiting.is_none()).map(|member| member.until);
        sessions.chain(self.pending.values().copied()).chain(of_state).min()
    }

    fn remove(&mut self, now: Instant, ids: &[String]) {
        let mut any = false;
        for id in ids {
            if let Some(mut member) = self.members.remove(id) {
                member.refuse(id, ResponseError::UnknownMemberId);
                any = true;
            }
        }
        if any {
            match self.state {
                State::Empty => {}
                State::PreparingRebalance { .. } => self.complete_if_all_joined(now),
                State::CompletingRebalance { .. } | State::Stable => self.prepare_rebalance(now),
            }
        }
    }

    /// The longest rebalance timeout of all members.
    pub(super) fn patience(&self) -> Duration {
        self.members.values().map(|member| member.rebalance).max().unwrap_or_default()
    }

    fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance { .. } => "PreparingRebalance",
            State::CompletingRebalance { .. } => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    pub(crate) fn overview(&self) -> Overview {
        // A group with commits only was made by consumers, or by a tool for consumers.
        let protocol_type = self.protocol_type.clone().unwrap_or_else(|| "consumer".to_owned());
        Overview { state: self.state_name(), protocol_type }
    }

    pub(crate) fn describe(&self) -> GroupDescription {
        let member = |(id, member): (&String, &GroupMember)| MemberDescription {
            identity: Identity { member: id.clone(), instance: member.instance.clone() },
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        };
        GroupDescription {
            overview: self.overview(),
            protocol: self.protocol.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
