//! One group with a clock that the test sets: generations, timeouts, static members, and refused requests.

use std::time::Duration;

use super::super::member::{JoinOutcome, JoinRequest, Joined};
use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

type Joining = oneshot::Receiver<JoinOutcome>;
type Syncing = oneshot::Receiver<SyncOutcome>;

fn named(member: &str) -> Identity {
    Identity { member: member.to_owned(), instance: None }
}

fn fixed(member: &str, instance: &str) -> Identity {
    Identity { member: member.to_owned(), instance: Some(instance.to_owned()) }
}

fn join(identity: Identity) -> JoinRequest {
    JoinRequest {
        identity,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session: SESSION,
        rebalance: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"metadata"))],
        knows_pending: true,
        knows_skipping: true,
    }
}

fn with_protocols(join: JoinRequest, names: &[&str]) -> JoinRequest {
    let protocols = names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect();
    JoinRequest { protocols, ..join }
}

fn sync(of: Identity, generation: i32, assignments: Vec<(String, Bytes)>) -> SyncRequest {
    SyncRequest { identity: of, generation, protocol_type: None, protocol: None, assignments }
}

struct Fixture {
    group: Group,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        Self { group: Group::default(), now: Instant::now() }
    }

    /// Advances the clock, and expires whatever is due at its own time.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.group.due().filter(|due| *due <= until) {
            self.now = due;
            self.group.expire(due);
        }
        self.now = until;
    }

    fn ask(&mut self, join: JoinRequest) -> Joining {
        let (reply, answer) = oneshot::channel();
        self.group.join(self.now, join, reply);
        answer
    }

    fn join(&mut self, member: &str) -> Joining {
        self.ask(join(named(member)))
    }

    /// The error of a join that is refused at once.
    fn refused(&mut self, join: JoinRequest) -> ResponseError {
        self.ask(join).try_recv().unwrap().unwrap_err().0
    }

    fn id(&mut self) -> String {
        let (code, id) = self.join("").try_recv().unwrap().unwrap_err();
        assert_eq!(code, ResponseError::MemberIdRequired);
        id
    }

    fn sync(&mut self, sync: SyncRequest) -> Syncing {
        let (reply, answer) = oneshot::channel();
        self.group.sync(self.now, sync, reply);
        answer
    }

    /// The leader assigns to every member its own id.
    fn all_sync(&mut self, joined: &[Joined]) {
        let given = |joined: &Joined| (joined.member.clone(), Bytes::from(joined.member.clone()));
        let all: Vec<_> = joined.iter().map(given).collect();
        let leads = |joined: &Joined| joined.leader == joined.member;
        let sync = |joined: &Joined| {
            let assignments = if leads(joined) { all.clone() } else { Vec::new() };
            sync(named(&joined.member), joined.generation, assignments)
        };
        let syncing: Vec<Syncing> = joined.iter().map(|joined| self.sync(sync(joined))).collect();
        for (mut synced, joined) in syncing.into_iter().zip(joined) {
            assert_eq!(synced.try_recv().unwrap().unwrap().assignment, joined.member);
        }
        assert_eq!(self.state(), "Stable");
    }

    /// A stable group of `count` members with assignments.
    fn stable(count: usize) -> (Self, Vec<Joined>) {
        let mut fixture = Self::new();
        let ids: Vec<String> = (0..count).map(|_| fixture.id()).collect();
        let joining: Vec<Joining> = ids.iter().map(|id| fixture.join(id)).collect();
        let joined: Vec<Joined> = joining.into_iter().map(done).collect();
        fixture.all_sync(&joined);
        (fixture, joined)
    }

    fn beat(&mut self, of: &Joined) -> Result<(), ResponseError> {
        self.group.heartbeat(self.now, &named(&of.member), of.generation)
    }

    fn state(&self) -> &'static str {
        self.group.overview().state
    }
}

fn done(mut joining: Joining) -> Joined {
    joining.try_recv().expect("an answer").unwrap()
}

fn waits(joining: &mut Joining) -> bool {
    joining.try_recv() == Err(oneshot::error::TryRecvError::Empty)
}

#[test]
fn members_of_a_generation_have_one_leader_and_join_again_for_a_newcomer() {
    let (mut group, joined) = Fixture::stable(3);
    let leaders: Vec<&Joined> = joined.iter().filter(|joined| joined.leader == joined.member).collect();
    assert_eq!((leaders.len(), leaders[0].members.len()), (1, 3));
    assert!(joined.iter().all(|joined| joined.generation == 1 && joined.protocol.as_deref() == Some("range")));
    assert!(joined.iter().all(|joined| group.beat(joined) == Ok(())));
    // A follower that joins again gets the same answer; a leader that joins again starts a rebalance.
    let follower = joined.iter().find(|joined| joined.leader != joined.member).unwrap();
    assert_eq!(done(group.join(&follower.member)), *follower);

    let fourth = group.id();
    assert_eq!(group.beat(&joined[0]), Ok(()));
    let mut newcomer = group.join(&fourth);
    assert!(waits(&mut newcomer));
    assert_eq!(group.beat(&joined[0]), Err(ResponseError::RebalanceInProgress));
    let again: Vec<Joining> = joined.iter().map(|joined| group.join(&joined.member)).collect();
    let again: Vec<Joined> = again.into_iter().chain([newcomer]).map(done).collect();
    assert!(again.iter().all(|joined| joined.generation == 2));
    assert_eq!(group.beat(&joined[0]), Err(ResponseError::IllegalGeneration));
    group.all_sync(&again);
}

#[test]
fn a_silent_member_is_removed() {
    let (mut group, joined) = Fixture::stable(2);
    for _ in 0..2 {
        group.pass(SESSION / 2);
        let _ = group.beat(&joined[0]);
    }
    assert_eq!(group.beat(&joined[0]), Err(ResponseError::RebalanceInProgress));
    assert_eq!(group.beat(&joined[1]), Err(ResponseError::UnknownMemberId));
    let alone = done(group.join(&joined[0].member));
    assert_eq!((alone.generation, alone.members.len()), (2, 1));
    group.all_sync(&[alone]);
    group.pass(SESSION);
    assert!(group.state() == "Empty" && group.group.is_vacant());
}

#[test]
fn a_rebalance_ends_after_the_longest_rebalance_timeout() {
    let (mut group, joined) = Fixture::stable(2);
    let third = group.id();
    let mut joining = [group.join(&third), group.join(&joined[0].member)];
    // The second member only sends heartbeats, and does not join again.
    for _ in 0..REBALANCE.as_secs() / 5 {
        assert!(joining.iter_mut().all(waits));
        assert_eq!(group.beat(&joined[1]), Err(ResponseError::RebalanceInProgress));
        group.pass(Duration::from_secs(5));
    }
    let again = joining.map(done);
    assert!(again.iter().all(|joined| joined.generation == 2));
    assert_eq!(group.beat(&joined[1]), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_assigns_nothing_is_removed() {
    let mut group = Fixture::new();
    let ids = [group.id(), group.id()];
    let joined = ids.each_ref().map(|id| group.join(id)).map(done);
    let leads = |joined: &&Joined| joined.leader == joined.member;
    let leader = joined.iter().find(leads).unwrap();
    let other = joined.iter().find(|joined| !leads(joined)).unwrap();
    let mut synced = group.sync(sync(named(&other.member), 1, Vec::new()));
    // This member only sends heartbeats too.
    for _ in 0..REBALANCE.as_secs() / 5 {
        assert_eq!(synced.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(group.beat(leader), Ok(()));
        group.pass(Duration::from_secs(5));
    }
    assert_eq!(synced.try_recv().unwrap(), Err(ResponseError::RebalanceInProgress));
    assert_eq!(group.beat(leader), Err(ResponseError::UnknownMemberId));
    assert_eq!(done(group.join(&other.member)).leader, other.member);
}

#[test]
fn leaving_is_a_rebalance_and_the_last_one_ends_the_group() {
    let (mut group, joined) = Fixture::stable(2);
    let now = group.now;
    assert_eq!(group.group.leave(now, &named("nobody")), Err(ResponseError::UnknownMemberId));
    group.group.leave(now, &named(&joined[0].member)).unwrap();
    assert_eq!(group.beat(&joined[1]), Err(ResponseError::RebalanceInProgress));
    let alone = done(group.join(&joined[1].member));
    group.group.leave(now, &named(&alone.member)).unwrap();
    assert!(group.state() == "Empty" && group.group.is_vacant());
    // A pending id delays a rebalance by at most one session; an id that leaves does not delay it.
    let ids = [group.id(), group.id(), group.id()];
    let mut joining = group.join(&ids[0]);
    group.group.leave(now, &named(&ids[1])).unwrap();
    group.pass(SESSION - Duration::from_millis(1));
    assert!(waits(&mut joining));
    group.pass(Duration::from_millis(1));
    assert_eq!(done(joining).members.len(), 1);
    assert_eq!(group.refused(join(named(&ids[2]))), ResponseError::UnknownMemberId);
}

#[test]
fn a_static_member_returns_without_a_rebalance() {
    let mut group = Fixture::new();
    let first = done(group.ask(join(fixed("", "a"))));
    let mut second = group.ask(join(fixed("", "b")));
    assert!(waits(&mut second));
    let first = done(group.ask(join(fixed(&first.member, "a"))));
    let joined = [first, done(second)];
    assert_eq!(joined[0].leader, joined[0].member);
    group.all_sync(&joined);
    // The leader returns under a new id and keeps its role and its assignment.
    let again = done(group.ask(join(fixed("", "a"))));
    assert_eq!((again.generation, again.skip_assignment), (joined[0].generation, true));
    assert_ne!(again.member, joined[0].member);
    let mut synced = group.sync(sync(fixed(&again.member, "a"), again.generation, Vec::new()));
    assert_eq!(synced.try_recv().unwrap().unwrap().assignment, joined[0].member);
    let old = fixed(&joined[0].member, "a");
    assert_eq!(group.group.heartbeat(group.now, &old, again.generation), Err(ResponseError::FencedInstanceId));
    assert_eq!(group.beat(&joined[1]), Ok(()));
    // The answer to an older client hides that this client leads.
    let older = done(group.ask(JoinRequest { knows_skipping: false, ..join(fixed("", "a")) }));
    assert!(older.leader == again.member && older.members.is_empty());
    // While the static member is away, others wait for it until its session ends.
    let mut other = group.ask(with_protocols(join(fixed(&joined[1].member, "b")), &["range", "sticky"]));
    assert!(waits(&mut other));
    group.pass(SESSION);
    assert_eq!(done(other).members.len(), 1);
    // A static member leaves by its instance id.
    group.group.leave(group.now, &fixed("", "b")).unwrap();
    assert!(group.group.is_vacant());
}

#[test]
fn inconsistent_requests_are_refused() {
    let (mut group, joined) = Fixture::stable(1);
    let newcomer = || join(named(""));
    let consistent = ResponseError::InconsistentGroupProtocol;
    assert_eq!(group.refused(with_protocols(newcomer(), &["sticky"])), consistent);
    assert_eq!(group.refused(with_protocols(newcomer(), &[])), consistent);
    assert_eq!(group.refused(JoinRequest { protocol_type: "connect".to_owned(), ..newcomer() }), consistent);
    assert_eq!(group.refused(join(named("who"))), ResponseError::UnknownMemberId);
    assert_eq!(group.refused(join(fixed("who", "x"))), ResponseError::UnknownMemberId);
    let endless = JoinRequest { session: Duration::from_secs(86_400), ..newcomer() };
    assert_eq!(group.refused(endless), ResponseError::InvalidSessionTimeout);
    let me = || named(&joined[0].member);
    let mut check = |sync: SyncRequest, expect| assert_eq!(group.sync(sync).try_recv().unwrap(), Err(expect));
    check(sync(me(), 7, Vec::new()), ResponseError::IllegalGeneration);
    check(sync(named("who"), 1, Vec::new()), ResponseError::UnknownMemberId);
    check(SyncRequest { protocol: Some("sticky".to_owned()), ..sync(me(), 1, Vec::new()) }, consistent);
    // All members support this protocol, and most prefer it.
    let mut group = Fixture::new();
    let liked = [&["a", "b"][..], &["b", "a"], &["b", "a", "c"]];
    let ids: Vec<String> = liked
        .iter()
        .map(|names| {
            let mut asked = group.ask(with_protocols(newcomer(), names));
            asked.try_recv().unwrap().unwrap_err().1
        })
        .collect();
    let joining: Vec<_> =
        ids.iter().zip(liked).map(|(id, names)| group.ask(with_protocols(join(named(id)), names))).collect();
    assert!(joining.into_iter().map(done).all(|joined| joined.protocol.as_deref() == Some("b")));
}
