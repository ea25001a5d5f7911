//! The topics: their names, ids and partitions, in one small file beside the log.
//!
//! A topic's folder is named by its id, so a topic that is created again under the same name has no old records. A
//! folder without a topic in the file is the rest of an interrupted deletion.
//!
//! Invariant: clients see only topics that are in the file. A topic is added to the file before clients see it, and
//! removed from the file before its log is deleted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files;
use super::log::PartitionLog;
use crate::{Error, Result};

const FILE: &str = "topics.json";
const LOG: &str = "log";
/// Largest number of partitions of all topics together; each costs memory.
const PARTITIONS: usize = 20_000;
const NAME: usize = 249;

/// The reason why a change of a topic is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the name is not of 1 to {NAME} letters, digits, dots, dashes and underscores")]
    Name,
    #[error("the topic exists")]
    Exists,
    #[error("there is no such topic")]
    Unknown,
    #[error("the topic has {0} partitions; it can only be given more")]
    Partitions(usize),
    #[error("all topics together would have more than {PARTITIONS} partitions")]
    TooMany,
    #[error(transparent)]
    Storage(#[from] Error),
}

impl Denied {
    /// The error code in Kafka's protocol.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Name => ResponseError::InvalidTopicException,
            Self::Exists => ResponseError::TopicAlreadyExists,
            Self::Unknown => ResponseError::UnknownTopicOrPartition,
            Self::Partitions(_) => ResponseError::InvalidPartitions,
            Self::TooMany => ResponseError::PolicyViolation,
            Self::Storage(_) => ResponseError::KafkaStorageError,
        }
    }
}

pub(crate) struct BrokerTopic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// Topic settings; kept and shown, without any effect.
    pub(crate) configs: BTreeMap<String, String>,
    pub(crate) partitions: Vec<Arc<PartitionLog>>,
}

impl BrokerTopic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<PartitionLog>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// A topic in the file.
#[derive(Serialize, Deserialize)]
struct TopicEntry {
    name: String,
    id: Uuid,
    partitions: usize,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configs: BTreeMap<String, String>,
}

#[derive(Default, Clone)]
struct TopicTable {
    by_name: BTreeMap<String, Arc<BrokerTopic>>,
    by_id: HashMap<Uuid, Arc<BrokerTopic>>,
}

impl TopicTable {
    fn insert(&mut self, topic: BrokerTopic) -> Arc<BrokerTopic> {
        let topic = Arc::new(topic);
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    fn partitions(&self) -> usize {
        self.by_name.values().map(|topic| topic.partitions.len()).sum()
    }
}

pub(crate) struct BrokerTopics {
    folder: PathBuf,
    /// Locked while the file is written.
    changing: Mutex<()>,
    table: RwLock<TopicTable>,
    bytes: Arc<AtomicU64>,
}

impl BrokerTopics {
    /// Opens every topic's log, and removes the rests of deletions. Blocks.
    ///
    /// Errors: [`Error::OpenLog`].
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let unopened = |reason: String| Error::OpenLog { folder: folder.to_owned(), reason };
        let entries: Vec<TopicEntry> = match std::fs::read(folder.join(FILE)) {
            Ok(json) => serde_json::from_slice(&json).map_err(|e| unopened(format!("`{FILE}`: {e}")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unopened(format!("`{FILE}`: {error}"))),
        };
        let topics = Self {
            folder: folder.to_owned(),
            changing: Mutex::default(),
            table: RwLock::default(),
            bytes: Arc::default(),
        };
        let mut table = TopicTable::default();
        for TopicEntry { name, id, partitions, configs } in entries {
            let partitions = topics.open_partitions(id, 0..partitions)?;
            table.insert(BrokerTopic { name, id, configs, partitions });
        }
        topics.sweep(&table).map_err(|e| unopened(format!("`{LOG}`: {e}")))?;
        *topics.table.write() = table;
        Ok(topics)
    }

    /// Removes the folders of topics that are not in the table.
    fn sweep(&self, table: &TopicTable) -> io::Result<()> {
        std::fs::create_dir_all(self.folder.join(LOG))?;
        for entry in std::fs::read_dir(self.folder.join(LOG))? {
            let path = entry?.path();
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| Uuid::parse_str(name).ok());
            if id.is_some_and(|id| !table.by_id.contains_key(&id)) {
                std::fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    fn log_of(&self, id: Uuid) -> PathBuf {
        self.folder.join(LOG).join(id.to_string())
    }

    fn open_partitions(&self, id: Uuid, indexes: std::ops::Range<usize>) -> Result<Vec<Arc<PartitionLog>>> {
        let open = |index: usize| PartitionLog::open(self.log_of(id).join(index.to_string()), Arc::clone(&self.bytes));
        indexes.map(|index| open(index).map(Arc::new)).collect()
    }

    /// Bytes of all logs.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> Vec<Arc<BrokerTopic>> {
        self.table.read().by_name.values().cloned().collect()
    }

    pub(crate) fn named(&self, name: &str) -> Option<Arc<BrokerTopic>> {
        self.table.read().by_name.get(name).cloned()
    }

    pub(crate) fn with_id(&self, id: Uuid) -> Option<Arc<BrokerTopic>> {
        self.table.read().by_id.get(&id).cloned()
    }

    /// Checks whether a topic could be created.
    pub(crate) fn check(&self, name: &str, partitions: usize) -> Result<(), Denied> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let (table, plain) = (self.table.read(), name.bytes().all(legal) && !matches!(name, "." | ".."));
        match () {
            () if name.is_empty() || name.len() > NAME || !plain => Err(Denied::Name),
            () if table.by_name.contains_key(name) => Err(Denied::Exists),
            () if partitions > PARTITIONS - table.partitions().min(PARTITIONS) => Err(Denied::TooMany),
            () => Ok(()),
        }
    }

    /// Creates a topic. Blocks.
    pub(crate) fn create(
        &self,
        name: &str,
        partitions: usize,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<BrokerTopic>, Denied> {
        let _changing = self.changing.lock();
        self.check(name, partitions)?;
        let id = Uuid::new_v4();
        let partitions = self.open_partitions(id, 0..partitions)?;
        let mut table = self.table.read().clone();
        let topic = table.insert(BrokerTopic { name: name.to_owned(), id, configs, partitions });
        self.change(table)?;
        Ok(topic)
    }

    /// Adds partitions to a topic. Blocks.
    pub(crate) fn grow(&self, name: &str, partitions: usize, only_check: bool) -> Result<(), Denied> {
        let _changing = self.changing.lock();
        let mut table = self.table.read().clone();
        let topic = table.by_name.get(name).cloned().ok_or(Denied::Unknown)?;
        let now = topic.partitions.len();
        if partitions <= now {
            return Err(Denied::Partitions(now));
        }
        if table.partitions() - now + partitions > PARTITIONS {
            return Err(Denied::TooMany);
        }
        if only_check {
            return Ok(());
        }
        let mut grown = topic.partitions.clone();
        grown.extend(self.open_partitions(topic.id, now..partitions)?);
        let (name, configs) = (topic.name.clone(), topic.configs.clone());
        table.insert(BrokerTopic { name, id: topic.id, configs, partitions: grown });
        Ok(self.change(table)?)
    }

    /// Deletes a topic and its log. Blocks.
    pub(crate) fn delete(&self, id: Uuid) -> Result<Arc<BrokerTopic>, Denied> {
        let topic = {
            let _changing = self.changing.lock();
            let mut table = self.table.read().clone();
            let topic = table.by_id.remove(&id).ok_or(Denied::Unknown)?;
            table.by_name.remove(&topic.name);
            self.change(table)?;
            topic
        };
        for partition in &topic.partitions {
            partition.delete();
        }
        match std::fs::remove_dir_all(self.log_of(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The rest is removed when the log is opened again.
                tracing::warn!(topic = topic.name, %error, "the embedded broker cannot remove a deleted topic's log");
            }
            _ => {}
        }
        Ok(topic)
    }

    fn change(&self, table: TopicTable) -> Result<()> {
        let entry = |topic: &Arc<BrokerTopic>| TopicEntry {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.len(),
            configs: topic.configs.clone(),
        };
        let entries: Vec<TopicEntry> = table.by_name.values().map(entry).collect();
        let path = self.folder.join(FILE);
        let written = serde_json::to_vec_pretty(&entries).map_err(io::Error::other);
        let written = written.and_then(|json| files::replace(&path, &json));
        written.map_err(|source| Error::Write { path, source })?;
        *self.table.write() = table;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::log::batch::tests::plain;

    fn denied<T>(outcome: Result<T, Denied>) -> ResponseError {
        outcome.err().expect("a refusal").code()
    }

    #[test]
    fn topics_are_what_they_were_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let topics = BrokerTopics::open(root.path()).unwrap();
        let configs = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let (a, b) = (topics.create("a", 2, configs).unwrap(), topics.create("b", 1, BTreeMap::new()).unwrap());
        assert_eq!(denied(topics.create("a", 1, BTreeMap::new())), ResponseError::TopicAlreadyExists);
        topics.grow("b", 3, true).unwrap();
        topics.grow("b", 4, false).unwrap();
        assert_eq!(denied(topics.grow("b", 4, false)), ResponseError::InvalidPartitions);
        assert_eq!(denied(topics.grow("c", 4, false)), ResponseError::UnknownTopicOrPartition);
        a.partitions[1].append(&Bytes::from(plain(&["x"]))).unwrap();
        let size = topics.bytes();
        assert!(size > 0);
        drop(topics);

        let topics = BrokerTopics::open(root.path()).unwrap();
        assert_eq!(topics.bytes(), size);
        let found = topics.all();
        let shown: Vec<_> = found.iter().map(|t| (t.name.as_str(), t.id, t.partitions.len())).collect();
        assert_eq!(shown, [("a", a.id, 2), ("b", b.id, 4)]);
        assert_eq!(found[0].configs["retention.ms"], "5");
        assert_eq!(found[0].partitions[1].bounds(), (0, 1));

        // An interrupted deletion: the topic is not in the file any more, but its log exists.
        let log = root.path().join("log").join(a.id.to_string());
        let kept = std::fs::read(log.join("1").join("00000000000000000000.log")).unwrap();
        topics.delete(a.id).unwrap();
        assert_eq!(topics.bytes(), 0);
        assert_eq!(denied(topics.delete(a.id)), ResponseError::UnknownTopicOrPartition);
        let refused = found[0].partitions[1].append(&Bytes::from(plain(&["x"]))).unwrap_err();
        assert_eq!(refused.code(), ResponseError::UnknownTopicOrPartition);
        std::fs::create_dir_all(&log).unwrap();
        std::fs::write(log.join("rest"), kept).unwrap();
        drop(topics);
        let topics = BrokerTopics::open(root.path()).unwrap();
        assert!(topics.named("a").is_none() && !log.exists());
        let again = topics.create("a", 1, BTreeMap::new()).unwrap();
        assert_ne!(again.id, a.id);
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        let topics = BrokerTopics::open(root.path()).unwrap();
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            topics.check(good, 1).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(250)] {
            assert_eq!(denied(topics.check(bad, 1)), ResponseError::InvalidTopicException, "{bad}");
        }
        assert_eq!(denied(topics.check("a", PARTITIONS + 1)), ResponseError::PolicyViolation);
    }
}
