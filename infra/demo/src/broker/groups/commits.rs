//! How far a group has read, in memory and in its file.
//!
//! A group's name may be any text, so the file is named by chance and says whose it is. Invariant: a file is as new as
//! the newest commit that was acknowledged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::files;

const ENDING: &str = "json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

type ByTopic = BTreeMap<String, BTreeMap<i32, Commit>>;

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Contents<T, G> {
    group: G,
    topics: T,
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    topics: ByTopic,
    /// Counts changes.
    version: u64,
}

impl Commits {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&Commit> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn partitions(&self) -> Vec<(String, i32)> {
        let of = |(topic, partitions): (&String, &BTreeMap<i32, Commit>)| {
            partitions.keys().map(|partition| (topic.clone(), *partition)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }

    pub(super) fn set(&mut self, topic: String, partition: i32, commit: Commit) {
        self.version += 1;
        self.topics.entry(topic).or_default().insert(partition, commit);
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        self.version += 1;
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Whether there was anything of it.
    pub(super) fn forget(&mut self, topic: &str) -> bool {
        self.version += 1;
        self.topics.remove(topic).is_some()
    }

    pub(super) fn to_json(&self, group: &str) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Contents { group, topics: &self.topics })
    }
}

/// The file of one group.
#[derive(Debug)]
pub(super) struct CommitFile {
    path: PathBuf,
    written: Mutex<FileVersion>,
}

#[derive(Debug, Clone, Copy)]
enum FileVersion {
    Version(u64),
    Removed,
}

impl CommitFile {
    pub(super) fn new(folder: &Path) -> Self {
        let path = folder.join(Uuid::new_v4().simple().to_string()).with_extension(ENDING);
        Self { path, written: Mutex::new(FileVersion::Version(0)) }
    }

    /// Sees to it that the file is of `version` or newer. `newest` gives what is to be in it. Blocks.
    pub(super) fn write(
        &self,
        version: u64,
        newest: impl FnOnce() -> Option<(u64, serde_json::Result<Vec<u8>>)>,
    ) -> io::Result<()> {
        let mut written = self.written.lock();
        if !matches!(*written, FileVersion::Version(known) if known < version) {
            return Ok(());
        }
        // While this one waited, others may have committed: theirs is written too.
        let Some((newest, json)) = newest() else {
            return Ok(());
        };
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        files::replace(&self.path, &json?)?;
        *written = FileVersion::Version(newest);
        Ok(())
    }

    /// Removes it for good. Blocks.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut written = self.written.lock();
        *written = FileVersion::Removed;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Every group with a file in `folder`: its name, its commits, its file.
pub(super) fn open(folder: &Path) -> io::Result<Vec<(String, Commits, Arc<CommitFile>)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            let contents: Contents<ByTopic, String> = serde_json::from_slice(&std::fs::read(&path)?)
                .map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
            let file = CommitFile { path, written: Mutex::new(FileVersion::Version(0)) };
            found.push((contents.group, Commits { topics: contents.topics, version: 0 }, Arc::new(file)));
        }
    }
    Ok(found)
}
