//! The content of a log entry: Delta actions that create a table, and Delta actions that change one.
//!
//! Invariant: every entry holds a complete note, and the entry's transactions have the same positions and marks.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{Action, Add, Protocol, Remove, StructType, Transaction, new_metadata};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use object_store::path::Path;
use uuid::Uuid;

use super::state::{CommitInfo, LogState, MARK, NEXT, Stats};
use super::{Draft, NewFile};
use crate::{Error, Result};

/// Version 0: the protocol, the schema, and a note of an empty table.
pub(super) fn creation(schema: &StructType, id: Uuid, now: i64) -> Result<Vec<Action>, DeltaTableError> {
    // Timestamps without a zone need Delta's newest protocol. Every table declares them, so that all tables require
    // the same reader features.
    let protocol: Protocol = serde_json::from_value(serde_json::json!({
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["timestampNtz"],
        "writerFeatures": ["timestampNtz"],
    }))?;
    let metadata = new_metadata(
        schema,
        Vec::<String>::new(),
        // This crate deletes log entries below checkpoints. Another writer's cleanup would delete the entries with
        // our notes.
        [("delta.enableExpiredLogCleanup", "false")],
    )?;
    let note = CommitInfo { commit: id, ..CommitInfo::default() };
    Ok(vec![commit_info(&note, SaveMode::ErrorIfExists, now), Action::Protocol(protocol), Action::Metadata(metadata)])
}

/// The actions by which `draft` changes `state`, at `now` in milliseconds since 1970.
pub(super) fn changes(state: &LogState, id: Uuid, draft: Draft, now: i64) -> Vec<Action> {
    let old = &state.note;
    let mut last = old.last.clone();
    last.extend(draft.last);
    let note = CommitInfo {
        commit: id,
        next: draft.next.or(&old.next),
        mark: draft.mark.or(&old.mark),
        last,
        published: draft.published.or_else(|| old.published.clone()),
    };
    let mode = if draft.replace { SaveMode::Overwrite } else { SaveMode::Append };
    let mut actions = vec![commit_info(&note, mode, now)];
    for (kind, positions) in [(NEXT, &draft.next), (MARK, &draft.mark)] {
        actions.extend(positions.iter().map(|(partition, offset)| {
            Action::Txn(Transaction::new_with_last_update(format!("{kind}{partition}"), offset.0, Some(now)))
        }));
    }
    if draft.replace {
        actions.extend(state.files.iter().map(|(path, file)| {
            Action::Remove(Remove {
                path: path.clone(),
                data_change: true,
                deletion_timestamp: Some(now),
                size: i64::try_from(file.size).ok(),
                ..Remove::default()
            })
        }));
    }
    actions.extend(draft.adds.into_iter().map(|file| add(file, now)));
    actions
}

pub(super) fn commit_info(note: &CommitInfo, mode: SaveMode, now: i64) -> Action {
    let operation = DeltaOperation::Write { mode, partition_by: None, predicate: None };
    let mut info = operation.get_commit_info();
    info.timestamp = Some(now);
    info.engine_info = Some(concat!("thalweg ", env!("CARGO_PKG_VERSION")).to_owned());
    let note = serde_json::to_value(note).expect("a note is plain JSON");
    if let serde_json::Value::Object(fields) = note {
        info.info.extend(fields);
    }
    Action::CommitInfo(info)
}

pub(super) fn bytes(actions: Vec<Action>) -> Result<bytes::Bytes, TransactionError> {
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    CommitData::new(actions, operation, HashMap::new(), Vec::new()).get_bytes()
}

fn add(file: NewFile, now: i64) -> Action {
    let stats = serde_json::to_string(&Stats::new(file.rows, file.span));
    Action::Add(Add {
        path: file.path,
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        modification_time: now,
        data_change: true,
        stats: Some(stats.expect("statistics are plain JSON")),
        ..Add::default()
    })
}

pub(super) fn kernel_schema(folder: &Path, schema: &SchemaRef) -> Result<StructType> {
    schema.as_ref().try_into_kernel().map_err(|e| Error::MapSchema { table: folder.to_string(), reason: e.to_string() })
}

/// True if `wide` has all columns of `narrow`, and further ones that rows need not have.
pub(super) fn widens(narrow: &StructType, wide: &StructType) -> bool {
    narrow.fields().all(|field| wide.field(field.name()) == Some(field))
        && wide.fields().all(|field| field.is_nullable() || narrow.field(field.name()).is_some())
}

/// The columns as text.
pub(super) fn columns(schema: &StructType) -> String {
    let columns: Vec<String> = schema.fields().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    columns.join(", ")
}
