//! All groups together: joins through the coordinator, timeouts, commits, and commits after a restart.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::member::Joined;
use super::*;

fn named(member: &str) -> Identity {
    Identity { member: member.to_owned(), instance: None }
}

fn join(member: &str, session: Duration) -> JoinRequest {
    JoinRequest {
        identity: named(member),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session,
        rebalance: Duration::from_secs(300),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"metadata"))],
        knows_pending: true,
        knows_skipping: true,
    }
}

struct Fixture {
    root: tempfile::TempDir,
    groups: Arc<Groups>,
}

impl Fixture {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    fn over(root: tempfile::TempDir) -> Self {
        let groups = Arc::new(Groups::open(root.path()).unwrap());
        Self { root, groups }
    }

    fn restart(self) -> Self {
        Self::over(self.root)
    }

    /// Joins the group with a new id.
    async fn join(&self, session: Duration) -> Joined {
        let (code, id) = self.groups.join("g", join("", session)).await.unwrap_err();
        assert_eq!(code, ResponseError::MemberIdRequired);
        self.groups.join("g", join(&id, session)).await.unwrap()
    }
}

fn commit(offset: i64) -> Commit {
    Commit { offset, leader_epoch: -1, metadata: "m".to_owned() }
}

#[tokio::test]
async fn the_clock_removes_silent_members() {
    let fixture = Fixture::new();
    let keeping = Arc::clone(&fixture.groups);
    let clock = tokio::spawn(async move { keeping.keep_time().await });
    let silent = fixture.join(Duration::from_millis(100)).await;
    assert_eq!((silent.generation, silent.members.len()), (1, 1));
    // The second member waits for the first, which never joins again.
    let second = fixture.join(Duration::from_secs(30)).await;
    assert_eq!((second.generation, second.members.len(), second.leader == second.member), (2, 1, true));
    let beat = |of: &Joined| fixture.groups.heartbeat("g", &named(&of.member), of.generation);
    assert_eq!((beat(&silent), beat(&second)), (Err(ResponseError::UnknownMemberId), Ok(())));
    // A client that stops waiting is no member when its answer comes.
    let (_, third) = fixture.groups.join("g", join("", Duration::from_secs(30))).await.unwrap_err();
    let mut joining = Box::pin(fixture.groups.join("g", join(&third, Duration::from_secs(30))));
    assert!(futures::poll!(&mut joining).is_pending());
    drop(joining);
    let again = fixture.groups.join("g", join(&second.member, Duration::from_secs(30))).await.unwrap();
    assert_eq!((again.generation, again.members.len()), (3, 1));
    clock.abort();
}

#[tokio::test]
async fn commits_outlive_members_and_restarts() {
    let fixture = Fixture::new();
    let groups = &fixture.groups;
    let nobody = named("");
    let to = |topic: &str, offset| vec![(topic.to_owned(), 0, commit(offset))];
    // A group without members accepts commits of any client; other groups accept only commits of their members.
    groups.commit("alone: ä/..", &nobody, -1, to("t", 5)).await.unwrap();
    let joined = fixture.join(Duration::from_secs(30)).await;
    let member = named(&joined.member);
    let early = groups.commit("g", &member, 1, to("t", 6)).await;
    assert_eq!(early, Err(ResponseError::RebalanceInProgress));
    let sync = SyncRequest {
        identity: member.clone(),
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: vec![(joined.member.clone(), Bytes::from_static(b"all"))],
    };
    assert_eq!(groups.sync("g", sync).await.unwrap().assignment, "all");
    assert_eq!(groups.commit("g", &nobody, -1, to("t", 6)).await, Err(ResponseError::UnknownMemberId));
    assert_eq!(groups.commit("g", &member, 9, to("t", 6)).await, Err(ResponseError::IllegalGeneration));
    assert_eq!(groups.commit("new", &member, 9, to("t", 6)).await, Err(ResponseError::UnknownMemberId));
    join_all((0..50).map(|offset| groups.commit("g", &member, 1, to("t", offset)))).await;
    groups.commit("g", &member, 1, to("t", 50)).await.unwrap();
    groups.commit("g", &member, 1, to("u", 7)).await.unwrap();
    assert_eq!(groups.delete("g").await, Err(ResponseError::NonEmptyGroup));
    assert_eq!(groups.uncommit("g", vec![("u".to_owned(), 0)]).await, Err(ResponseError::GroupSubscribedToTopic));

    let fixture = fixture.restart();
    let groups = &fixture.groups;
    assert_eq!(groups.committed("alone: ä/..", "t", 0), Some(commit(5)));
    assert_eq!(groups.all_committed("g"), [("t".to_owned(), 0), ("u".to_owned(), 0)]);
    assert_eq!(groups.committed("g", "t", 0), Some(commit(50)));
    let listed: Vec<_> = groups.list().into_iter().map(|(name, group)| (name, group.state)).collect();
    assert_eq!(listed, [("alone: ä/..".to_owned(), "Empty"), ("g".to_owned(), "Empty")]);
    // After the restart the member is unknown and must join again.
    assert_eq!(groups.heartbeat("g", &member, 1), Err(ResponseError::UnknownMemberId));
    groups.forget("t").await;
    groups.uncommit("g", vec![("v".to_owned(), 0)]).await.unwrap();

    let fixture = fixture.restart();
    let groups = &fixture.groups;
    assert_eq!(groups.all_committed("g"), [("u".to_owned(), 0)]);
    groups.delete("g").await.unwrap();
    assert_eq!(groups.delete("g").await, Err(ResponseError::GroupIdNotFound));
    assert_eq!(fixture.restart().groups.committed("g", "u", 0), None);
}
