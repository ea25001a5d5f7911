//! The committed offsets of a group, in memory and in the group's file.
//!
//! A group's name may be any text, so the file has a random name and contains the group's name.
//!
//! Invariant: the file holds every acknowledged commit.

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

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Contents<T, G> {
    group: G,
    topics: T,
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    topics: ByTopic,
    /// Number of changes.
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

    /// Deletes the commits of a topic. Returns true if there were any.
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

    /// Makes sure that the file holds `version` or a newer one. `newest` returns the newest version and its content.
    /// Blocks.
    pub(super) fn write(
        &self,
        version: u64,
        newest: impl FnOnce() -> Option<(u64, serde_json::Result<Vec<u8>>)>,
    ) -> io::Result<()> {
        let mut written = self.written.lock();
        if !matches!(*written, FileVersion::Version(known) if known < version) {
            return Ok(());
        }
        // Other tasks may have committed while this one waited for the lock, so the newest version is written.
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

    /// Removes the file; later writes do nothing. Blocks.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut written = self.written.lock();
        *written = FileVersion::Removed;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// All groups with a file in `folder`, each with its name, commits and file.
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
