//! Joins of members, and the rebalance that follows.
//!
//! A new member first gets an id and joins again with this id, so a client that misses the answer leaves no dead
//! member behind. A static member replaces its predecessor, without a rebalance if its protocols are the same.
//!
//! Invariant: a rebalance ends when all members have joined or their time is over. Members that have not joined by
//! then are removed, except static ones.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::group::{Group, State};
use super::member::{GroupMember, Identity, JoinOutcome, JoinRequest, Joined, OpenQuestion};

/// Largest number of members of a group, so that memory is bounded.
const MEMBERS: usize = 1000;
/// Allowed session timeouts.
const SESSIONS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(1800);

impl Group {
    pub(crate) fn join(&mut self, now: Instant, join: JoinRequest, reply: oneshot::Sender<JoinOutcome>) {
        if let Err(code) = self.may_join(&join) {
            return drop(reply.send(Err((code, join.identity.member))));
        }
        let unknown = join.identity.member.is_empty();
        let known = match &join.identity.instance {
            Some(instance) if unknown => {
                if let Some(old) = self.holder(instance).map(str::to_owned) {
                    return self.replace(now, &old, join, reply);
                }
                None
            }
            None if unknown && join.knows_pending => {
                let id = new_id(&join);
                self.pending.insert(id.clone(), now + join.session);
                return drop(reply.send(Err((ResponseError::MemberIdRequired, id))));
            }
            _ if unknown => None,
            _ if self.pending.remove(&join.identity.member).is_some() => Some(join.identity.member.clone()),
            _ => match self.identify(&join.identity) {
                Ok(id) => return self.rejoin(now, &id, join, reply),
                Err(code) => return drop(reply.send(Err((code, join.identity.member)))),
            },
        };
        let id = known.unwrap_or_else(|| new_id(&join));
        self.protocol_type = Some(join.protocol_type.clone());
        self.members.insert(id.clone(), new_member(now, join));
        self.wait_to_join(&id, reply);
        self.rebalance(now);
    }

    fn may_join(&self, join: &JoinRequest) -> Result<(), ResponseError> {
        let others = || self.members.iter().filter(|(id, _)| **id != join.identity.member);
        let is_common = |name: &str| others().all(|(_, m)| m.protocols.iter().any(|(known, _)| known == name));
        let same_type = others().next().is_none() || self.protocol_type.as_ref() == Some(&join.protocol_type);
        let any_common = join.protocols.iter().any(|(name, _)| is_common(name));
        match () {
            () if !SESSIONS.contains(&join.session) => Err(ResponseError::InvalidSessionTimeout),
            () if join.protocol_type.is_empty() || !same_type || !any_common => {
                Err(ResponseError::InconsistentGroupProtocol)
            }
            () if self.members.len() + self.pending.len() >= MEMBERS && join.identity.member.is_empty() => {
                Err(ResponseError::GroupMaxSizeReached)
            }
            () => Ok(()),
        }
    }

    /// A known member joins again, for a rebalance or because it missed its answer.
    fn rejoin(&mut self, now: Instant, id: &str, join: JoinRequest, reply: oneshot::Sender<JoinOutcome>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let same = member.protocols == join.protocols;
        member.refuse(id, ResponseError::UnknownMemberId);
        member.protocols = join.protocols;
        (member.session, member.rebalance) = (join.session, join.rebalance);
        member.beats(now);
        let leads = self.leader.as_deref() == Some(id);
        match self.state {
            State::CompletingRebalance { .. } if same => drop(reply.send(Ok(self.joined(id)))),
            // A leader joins again to assign anew.
            State::Stable if same && !leads => drop(reply.send(Ok(self.joined(id)))),
            _ => {
                self.wait_to_join(id, reply);
                self.rebalance(now);
            }
        }
    }

    /// A static member joins again under a new id; the old id is fenced.
    fn replace(&mut self, now: Instant, old: &str, join: JoinRequest, reply: oneshot::Sender<JoinOutcome>) {
        let Some(mut before) = self.members.remove(old) else {
            return;
        };
        before.refuse(old, ResponseError::FencedInstanceId);
        let (id, led, skipping) = (new_id(&join), self.leader.as_deref() == Some(old), join.knows_skipping);
        let mut member = new_member(now, join);
        member.assignment = before.assignment;
        let same = member.protocols == before.protocols;
        self.members.insert(id.clone(), member);
        if led {
            self.leader = Some(id.clone());
        }
        if self.state == State::Stable && same {
            let mut joined = self.joined(&id);
            joined.skip_assignment = led && skipping;
            if led && !skipping {
                // An older client would assign anew if it knew that it leads, so the answer names the old leader.
                joined.leader = old.to_owned();
                joined.members.clear();
            }
            return drop(reply.send(Ok(joined)));
        }
        self.wait_to_join(&id, reply);
        self.rebalance(now);
    }

    fn wait_to_join(&mut self, id: &str, reply: oneshot::Sender<JoinOutcome>) {
        if let Some(member) = self.members.get_mut(id) {
            member.waiting = Some(OpenQuestion::Join(reply));
        }
    }

    fn rebalance(&mut self, now: Instant) {
        match self.state {
            State::PreparingRebalance { .. } => self.complete_if_all_joined(now),
            _ => self.prepare_rebalance(now),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, now: Instant) {
        for (id, member) in &mut self.members {
            if member.has_synced() {
                member.refuse(id, ResponseError::RebalanceInProgress);
                member.beats(now);
            }
        }
        self.state = State::PreparingRebalance { until: now + self.patience() };
        self.complete_if_all_joined(now);
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Instant) {
        let preparing = matches!(self.state, State::PreparingRebalance { .. });
        if preparing && self.pending.is_empty() && self.members.values().all(GroupMember::has_joined) {
            self.complete_rebalance(now);
        }
    }

    /// Starts the next generation, with all joined members and with static members that are away.
    pub(super) fn complete_rebalance(&mut self, now: Instant) {
        self.members.retain(|_, member| member.instance.is_some() || (member.has_joined() && !member.has_vanished()));
        if !self.members.is_empty() && !self.members.values().any(GroupMember::has_joined) {
            // Only static members that are away remain; they may return until their sessions end.
            self.state = State::PreparingRebalance { until: now + self.patience() };
            return;
        }
        self.generation += 1;
        self.protocol = self.choose();
        let joined = |id: &&String| self.members.get(*id).is_some_and(GroupMember::has_joined);
        let leader = self.leader.as_ref().filter(joined).or_else(|| self.members.keys().find(joined));
        self.leader = leader.cloned();
        if self.members.is_empty() {
            self.state = State::Empty;
            return;
        }
        self.state = State::CompletingRebalance { until: now + self.patience() };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            let joined = self.joined(id);
            let Some(member) = self.members.get_mut(id) else { continue };
            member.assignment = Bytes::new();
            if let Some(OpenQuestion::Join(reply)) = member.waiting.take() {
                // A client that no longer waits expires by its session timeout.
                let _ = reply.send(Ok(joined));
                member.beats(now);
            }
        }
    }

    /// Of the protocols that all members support, the one that most members prefer.
    fn choose(&self) -> Option<String> {
        let knows = |member: &GroupMember, name: &str| member.protocols.iter().any(|(known, _)| known == name);
        let is_common = |name: &str| self.members.values().all(|member| knows(member, name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let best = member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| is_common(name));
            *votes.entry(best?).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.as_deref();
        let of = |(id, member): (&String, &GroupMember)| {
            let identity = Identity { member: id.clone(), instance: member.instance.clone() };
            (identity, member.metadata(protocol))
        };
        let members = if leader == id { self.members.iter().map(of).collect() } else { Vec::new() };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member: id.to_owned(),
            skip_assignment: false,
            members,
        }
    }
}

fn new_id(join: &JoinRequest) -> String {
    let name = join.identity.instance.as_deref().unwrap_or(&join.client_id);
    format!("{name}-{}", Uuid::new_v4())
}

fn new_member(now: Instant, join: JoinRequest) -> GroupMember {
    GroupMember {
        instance: join.identity.instance,
        client_id: join.client_id,
        client_host: join.client_host,
        session: join.session,
        rebalance: join.rebalance,
        protocols: join.protocols,
        assignment: Bytes::new(),
        until: now + join.session,
        waiting: None,
    }
}
