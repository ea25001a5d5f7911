//! Consumer groups: their members, assignments and committed offsets.
//!
//! Membership is kept in memory, as in Kafka's classic protocol: after a restart members are unknown and join again.
//! Committed offsets are kept in a small file for each group.
//!
//! Invariant: all groups change under one lock, which is held only briefly. A commit is acknowledged after it was
//! written.

mod commits;

mod member;

mod group;
mod join;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub(crate) use self::commits::Commit;
use self::commits::{CommitFile, Commits};
use self::group::Group;
pub(crate) use self::group::{GroupDescription, Overview};
pub(crate) use self::member::{Identity, JoinOutcome, JoinRequest, SyncOutcome, SyncRequest};
use super::files::blocking;
use crate::{Error, Result};

const FOLDER: &str = "groups";
/// Largest number of groups, so that memory is bounded.
const GROUPS: usize = 10_000;

#[derive(Default)]
struct GroupEntry {
    group: Group,
    commits: Commits,
    file: Option<Arc<CommitFile>>,
}

impl GroupEntry {
    /// True if the group has no members and never had a commit, so that it may be forgotten. A group with a file is
    /// kept until its deletion, so that a group never has two files.
    fn is_idle(&self) -> bool {
        self.group.is_vacant() && self.commits.is_empty() && self.file.is_none()
    }
}

pub(crate) struct Groups {
    folder: PathBuf,
    table: Mutex<BTreeMap<String, GroupEntry>>,
    /// Notified when a timeout may have become earlier.
    changed: Notify,
}

impl Groups {
    /// Opens the committed offsets in `folder`. Blocks.
    ///
    /// Errors: [`Error::OpenLog`].
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let folder = folder.join(FOLDER);
        let unopened = |reason: String| Error::OpenLog { folder: folder.clone(), reason };
        let found = commits::open(&folder).map_err(|e| unopened(e.to_string()))?;
        let entry = |(name, commits, file)| (name, GroupEntry { commits, file: Some(file), group: Group::default() });
        let table = found.into_iter().map(entry).collect();
        Ok(Self { folder, table: Mutex::new(table), changed: Notify::new() })
    }

    /// Removes expired members and ends rebalances on time. Never returns.
    pub(crate) async fn keep_time(&self) -> Infallible {
        loop {
            let next = self.expire(Instant::now());
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Expires what is due in all groups. Returns the next due time.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut table = self.table.lock();
        table.retain(|_, entry| {
            entry.group.expire(now);
            !entry.is_idle()
        });
        table.values().filter_map(|entry| entry.group.due()).min()
    }

    /// Adds a member to a group. Waits until all members have joined.
    pub(crate) async fn join(&self, name: &str, join: JoinRequest) -> JoinOutcome {
        let member = join.identity.member.clone();
        let (reply, answer) = oneshot::channel();
        {
            let mut table = self.table.lock();
            if table.len() >= GROUPS && !table.contains_key(name) {
                return Err((ResponseError::GroupMaxSizeReached, member));
            }
            table.entry(name.to_owned()).or_default().group.join(Instant::now(), join, reply);
        }
        self.changed.notify_one();
        answer.await.unwrap_or(Err((ResponseError::CoordinatorNotAvailable, member)))
    }

    /// Takes the leader's assignments, or waits for them. Returns the member's assignment.
    pub(crate) async fn sync(&self, name: &str, sync: SyncRequest) -> SyncOutcome {
        let (reply, answer) = oneshot::channel();
        match self.table.lock().get_mut(name) {
            Some(entry) => entry.group.sync(Instant::now(), sync, reply),
            None => return Err(ResponseError::UnknownMemberId),
        }
        self.changed.notify_one();
        answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    pub(crate) fn heartbeat(&self, name: &str, of: &Identity, generation: i32) -> Result<(), ResponseError> {
        match self.table.lock().get_mut(name) {
            Some(entry) => entry.group.heartbeat(Instant::now(), of, generation),
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    pub(crate) fn leave(&self, name: &str, who: &Identity) -> Result<(), ResponseError> {
        let left = match self.table.lock().get_mut(name) {
            Some(entry) => entry.group.leave(Instant::now(), who),
            None => Err(ResponseError::UnknownMemberId),
        };
        self.changed.notify_one();
        left
    }

    /// Commits offsets of a member, or of a client outside any group.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        name: &str,
        of: &Identity,
        generation: i32,
        commits: Vec<(String, i32, Commit)>,
    ) -> Result<(), ResponseError> {
        {
            let mut table = self.table.lock();
            if table.len() >= GROUPS && !table.contains_key(name) {
                return Err(ResponseError::GroupMaxSizeReached);
            }
            let known = table.contains_key(name);
            let entry = table.entry(name.to_owned()).or_default();
            if let Err(code) = entry.group.may_commit(Instant::now(), of, generation) {
                if !known {
                    table.remove(name);
                }
                return Err(code);
            }
            for (topic, partition, commit) in commits {
                entry.commits.set(topic, partition, commit);
            }
        }
        self.save(name).await
    }

    /// Deletes committed offsets. The group must have no members, because any member counts as subscribed to the
    /// topic.
    pub(crate) async fn uncommit(
        self: &Arc<Self>,
        name: &str,
        partitions: Vec<(String, i32)>,
    ) -> Result<(), ResponseError> {
        {
            let mut table = self.table.lock();
            let entry = table.get_mut(name).ok_or(ResponseError::GroupIdNotFound)?;
            if !entry.group.is_vacant() {
                return Err(ResponseError::GroupSubscribedToTopic);
            }
            for (topic, partition) in partitions {
                entry.commits.remove(&topic, partition);
            }
        }
        self.save(name).await
    }

    /// Deletes all committed offsets of a deleted topic.
    pub(crate) async fn forget(self: &Arc<Self>, topic: &str) {
        let touched: Vec<String> = {
            let mut table = self.table.lock();
            let touched =
                table.iter_mut().filter_map(|(name, entry)| entry.commits.forget(topic).then(|| name.clone()));
            touched.collect()
        };
        for name in touched {
            // If this write fails, the group's next commit writes the change.
            let _ = self.save(&name).await;
        }
    }

    /// Writes the group's committed offsets, unless another task has already written them.
    async fn save(self: &Arc<Self>, name: &str) -> Result<(), ResponseError> {
        let (groups, name) = (Arc::clone(self), name.to_owned());
        let saved = blocking(move || {
            let file = {
                let mut table = groups.table.lock();
                let Some(entry) = table.get_mut(&name) else {
                    return Ok(());
                };
                let version = entry.commits.version();
                let file = entry.file.get_or_insert_with(|| Arc::new(CommitFile::new(&groups.folder)));
                (Arc::clone(file), version)
            };
            let (file, version) = file;
            file.write(version, || {
                let table = groups.table.lock();
                table.get(&name).map(|entry| (entry.commits.version(), entry.commits.to_json(&name)))
            })
        })
        .await;
        saved.map_err(|source| {
            let error = Error::Write { path: self.folder.clone(), source };
            tracing::error!(%error, "the embedded broker cannot write a commit");
            ResponseError::KafkaStorageError
        })
    }

    /// Deletes a group without members.
    pub(crate) async fn delete(self: &Arc<Self>, name: &str) -> Result<(), ResponseError> {
        let file = {
            let mut table = self.table.lock();
            match table.get(name) {
                None => return Err(ResponseError::GroupIdNotFound),
                Some(entry) if !entry.group.is_vacant() => return Err(ResponseError::NonEmptyGroup),
                Some(_) => table.remove(name).and_then(|entry| entry.file),
            }
        };
        match file {
            Some(file) => blocking(move || file.remove()).await.map_err(|_| ResponseError::KafkaStorageError),
            None => Ok(()),
        }
    }

    /// The commit of a group for a partition.
    pub(crate) fn committed(&self, name: &str, topic: &str, partition: i32) -> Option<Commit> {
        self.table.lock().get(name)?.commits.get(topic, partition).cloned()
    }

    /// All partitions with a commit of the group.
    pub(crate) fn all_committed(&self, name: &str) -> Vec<(String, i32)> {
        self.table.lock().get(name).map(|entry| entry.commits.partitions()).unwrap_or_default()
    }

    pub(crate) fn list(&self) -> Vec<(String, Overview)> {
        self.table.lock().iter().map(|(name, entry)| (name.clone(), entry.group.overview())).collect()
    }

    pub(crate) fn describe(&self, name: &str) -> Option<GroupDescription> {
        self.table.lock().get(name).map(|entry| entry.group.describe())
    }
}

#[cfg(test)]
mod tests;
