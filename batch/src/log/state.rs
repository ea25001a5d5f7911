//! The state of a table at one version of its log, and the note in every commit.
//!
//! Invariant: the state is a pure function of the commits up to its version. Replaying the commits and loading a
//! checkpoint give the same state, except for the removals that this process has seen.

use std::collections::BTreeMap;

use deltalake_core::kernel::{Action, Add};
use serde::{Deserialize, Serialize};
use thalweg_schemas::definition::stream::{OFFSET, PARTITION};
use thalweg_schemas::warehouse::versions::{DataFile, LastMessage, OffsetSpan};
use thalweg_schemas::{Frontier, Offset, Partition};
use uuid::Uuid;

/// Prefixes of the application ids under which a commit stores positions and marks.
pub(crate) const NEXT: &str = "thalweg/next/";
pub(crate) const MARK: &str = "thalweg/mark/";

/// The note in a commit's commitInfo. A note describes the whole table, so the newest note is enough.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct CommitInfo {
    /// Random id, by which a writer recognises its own commit.
    #[serde(rename = "thalweg.commit")]
    pub(crate) commit: Uuid,
    #[serde(rename = "thalweg.next")]
    pub(crate) next: Frontier,
    #[serde(rename = "thalweg.mark", default)]
    pub(crate) mark: Frontier,
    #[serde(rename = "thalweg.last", default)]
    pub(crate) last: BTreeMap<Partition, LastMessage>,
    /// Only in a view's table: the version of the master dataset that the run read, and the time of publication.
    #[serde(rename = "thalweg.published", default)]
    pub(crate) published: Option<PublishedAt>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PublishedAt {
    pub(crate) master_version: u64,
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// The table at `version`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogState {
    pub(crate) version: u64,
    /// Data files by path within the table.
    pub(crate) files: BTreeMap<String, DataFile>,
    pub(crate) note: CommitInfo,
    /// Files that this process saw removed, with the time in milliseconds since 1970.
    pub(crate) removed: BTreeMap<String, i64>,
}

impl LogState {
    /// Replays the next commit of the table in `folder`. Returns the commit's id if the commit is one of ours.
    pub(crate) fn apply(&mut self, folder: &str, actions: Vec<Action>) -> Result<Option<Uuid>, String> {
        let mut note = None;
        let mut next = self.note.next.clone();
        let mut mark = self.note.mark.clone();
        for action in actions {
            match action {
                Action::Add(add) => {
                    self.removed.remove(&add.path);
                    let file = data_file(folder, &add);
                    self.files.insert(add.path, file);
                }
                Action::Remove(remove) => {
                    self.files.remove(&remove.path);
                    let when = remove.deletion_timestamp.unwrap_or_default();
                    self.removed.insert(remove.path, when);
                }
                Action::Txn(txn) => {
                    if let Some(partition) = position(&txn.app_id, NEXT)? {
                        next.set(partition, Offset(txn.version));
                    } else if let Some(partition) = position(&txn.app_id, MARK)? {
                        mark.set(partition, Offset(txn.version));
                    }
                }
                Action::CommitInfo(info) => note = note_in(info.info)?,
                Action::Metadata(_) | Action::Protocol(_) => {
                    return Err("its schema or protocol was changed while it was open".into());
                }
                Action::Cdc(_) | Action::DomainMetadata(_) => {}
            }
        }
        if let Some(note) = &note
            && (note.next != next || note.mark != mark)
        {
            return Err(format!(
                "its transactions stand at {next} (mark {mark}), its note says {} (mark {})",
                note.next, note.mark
            ));
        }
        let commit = note.as_ref().map(|n| n.commit);
        if let Some(note) = note {
            self.note = note;
        } else {
            self.note.next = next;
            self.note.mark = mark;
        }
        self.version += 1;
        Ok(commit)
    }
}

/// The note in a commitInfo; `None` if another program wrote the commit.
pub(crate) fn note_in(
    info: std::collections::HashMap<String, serde_json::Value>,
) -> Result<Option<CommitInfo>, String> {
    if !info.contains_key("thalweg.commit") {
        return Ok(None);
    }
    serde_json::from_value(serde_json::Value::Object(info.into_iter().collect()))
        .map(Some)
        .map_err(|e| format!("its commitInfo: {e}"))
}

fn position(app_id: &str, kind: &str) -> Result<Option<Partition>, String> {
    app_id
        .strip_prefix(kind)
        .map(|p| p.parse().map(Partition))
        .transpose()
        .map_err(|_| format!("`{app_id}` names no partition"))
}

fn data_file(folder: &str, add: &Add) -> DataFile {
    file(folder, &add.path, u64::try_from(add.size).unwrap_or_default(), add.stats.as_deref())
}

/// A file for readers. Without statistics of ours the file has no offset bounds.
pub(crate) fn file(folder: &str, path: &str, size: u64, stats: Option<&str>) -> DataFile {
    let stats: Stats = stats.and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
    DataFile { path: format!("{folder}/{path}"), size, rows: stats.rows, span: stats.span() }
}

/// The statistics of a file in Delta's format. Only the columns that select files have bounds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    #[serde(rename = "numRecords", default)]
    pub(crate) rows: Option<u64>,
    #[serde(rename = "minValues", default)]
    min: Bounds,
    #[serde(rename = "maxValues", default)]
    max: Bounds,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Bounds {
    #[serde(rename = "_partition", default, skip_serializing_if = "Option::is_none")]
    partition: Option<Partition>,
    #[serde(rename = "_offset", default, skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
}

const _: () = assert!(matches!(PARTITION.as_bytes(), b"_partition"));
const _: () = assert!(matches!(OFFSET.as_bytes(), b"_offset"));

impl Stats {
    pub(crate) fn new(rows: u64, span: Option<OffsetSpan>) -> Self {
        let bound = |partition, offset| Bounds { partition: Some(partition), offset: Some(offset) };
        Self {
            rows: Some(rows),
            min: span.map_or_else(Bounds::default, |s| bound(s.partitions.0, s.offsets.0)),
            max: span.map_or_else(Bounds::default, |s| bound(s.partitions.1, s.offsets.1)),
        }
    }

    fn span(&self) -> Option<OffsetSpan> {
        Some(OffsetSpan {
            partitions: (self.min.partition?, self.max.partition?),
            offsets: (self.min.offset?, self.max.offset?),
        })
    }
}
