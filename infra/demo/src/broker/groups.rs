//! Consumer groups: who is in them, who reads what, and how far they have read.
//!
//! Membership lives in memory, as in Kafka's classic protocol: after a restart members are unknown and join again. What
//! was committed lives in a small file for each group. Invariant: all groups change under one lock that is held for a
//! moment; a commit is acknowledged after it was written.

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
/// Groups at once, so that memory is bounded.
const GROUPS: usize = 10_000;

#[derive(Default)]
struct GroupEntry {
    group: Group,
    commits: Commits,
    file: Option<Arc<CommitFile>>,
}

impl GroupEntry {
    /// Nobody is in it and nothing was ever committed: it might as well not exist. One with a file is kept until it is
    /// deleted, so that a group never has two.
    fn is_idle(&self) -> bool {
        self.group.is_vacant() && self.commits.is_empty() && self.file.is_none()
    }
}

pub(crate) struct Groups {
    folder: PathBuf,
    table: Mutex<BTreeMap<String, GroupEntry>>,
    /// Something may be due earlier than it was.
    changed: Notify,
}

impl Groups {
    /// Blocks.
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

    /// Lets members go whose time is over, and rebalances end; for ever.
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

    /// Does what is due; when something is due next.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut table = self.table.lock();
        table.retain(|_, entry| {
            entry.group.expire(now);
            !entry.is_idle()
        });
        table.values().filter_map(|entry| entry.group.due()).min()
    }

    /// Joins, which takes until the others have joined too.
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

    /// Gives, or waits for, who reads what.
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

    /// Remembers how far a member has read, or somebody who is in no group.
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

    /// Forgets commits of a group; nobody may be subscribed to the topic, which here is: be in the group.
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

    /// Forgets what was committed of a topic that is no more.
    pub(crate) async fn forget(self: &Arc<Self>, topic: &str) {
        let touched: Vec<String> = {
            let mut table = self.table.lock();
            let touched =
                table.iter_mut().filter_map(|(name, entry)| entry.commits.forget(topic).then(|| name.clone()));
            touched.collect()
        };
        for name in touched {
            // If it is not written now, it is with the group's next commit.
            let _ = self.save(&name).await;
        }
    }

    /// Writes what a group has committed, unless somebody else has written it meanwhile.
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

    /// Removes a group that nobody is in.
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

    /// What a group has committed of a partition.
    pub(crate) fn committed(&self, name: &str, topic: &str, partition: i32) -> Option<Commit> {
        self.table.lock().get(name)?.commits.get(topic, partition).cloned()
    }

    /// Every partition that a group has committed of.
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
