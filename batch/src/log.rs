//! One Delta table's log: reading it commit by commit, and committing by compare-and-set.
//!
//! Invariant: a commit is written at exactly the version after the one on which it was decided, with a random id. After
//! any error, and after an answer that someone else was first, only the log says whether it landed. So a draft lands
//! once or never, however often it is tried.
//!
//! delta-rs checks a commit against the versions that follow its snapshot and then moves it up; a draft decided on
//! positions may not be moved. So the entry is written directly, through delta-rs's log store.

mod state;

mod entry;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, EagerSnapshot};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore, get_actions};
use deltalake_core::{DeltaTable, DeltaTableError, checkpoints};
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use thalweg_schemas::warehouse::versions::{LastMessage, OffsetSpan};
use thalweg_schemas::{Fault, Frontier, Partition};
use url::Url;
use uuid::Uuid;

pub(crate) use self::state::{CommitInfo, LogState, PublishedAt};
use crate::{Error, Result};

/// Commits between two checkpoints.
const CHECKPOINT_EVERY: u64 = 20;
/// Log entries below a checkpoint are kept this long.
const LOG_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Tries against storage that fails, before the error is the caller's.
const TRIES: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(50);

/// An opened log.
#[derive(Debug)]
pub(crate) struct Log {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    delta: LogStoreRef,
    state: LogState,
    checkpointed: u64,
    /// The commit that is being tried, and whether it was seen.
    awaited: Option<Uuid>,
    seen: bool,
}

/// A data file that is written but not yet committed.
#[derive(Debug, Clone)]
pub(crate) struct NewFile {
    /// Path within the table.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) rows: u64,
    pub(crate) span: Option<OffsetSpan>,
}

/// What a commit changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub(crate) adds: Vec<NewFile>,
    /// True if the new files stand for all that there are.
    pub(crate) replace: bool,
    /// Positions and marks to write; partitions that are not named keep theirs.
    pub(crate) next: Frontier,
    pub(crate) mark: Frontier,
    pub(crate) last: HashMap<Partition, LastMessage>,
    pub(crate) published: Option<PublishedAt>,
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    Landed,
    /// The log does not stand where the draft starts.
    Fenced,
}

impl Log {
    /// Opens the table in `folder`; `None` if there is none.
    ///
    /// Errors: [`Error::MatchSchema`] if it holds other columns than `schema`, [`Error::ReadLog`].
    pub(crate) async fn open(store: Arc<dyn ObjectStore>, folder: Path, schema: &SchemaRef) -> Result<Option<Self>> {
        let delta = log_store(&store, &folder);
        let read = |source| Error::ReadLog { table: folder.to_string(), source: Box::new(source) };
        let snapshot = match EagerSnapshot::try_new(delta.as_ref(), None).await {
            Ok(snapshot) => snapshot,
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(source) => return Err(read(source)),
        };
        let defined = entry::kernel_schema(&folder, schema)?;
        if *snapshot.schema() != defined {
            return Err(Error::MatchSchema {
                table: folder.to_string(),
                found: entry::columns(&snapshot.schema()),
                defined: entry::columns(&defined),
            });
        }
        let files = snapshot
            .log_data()
            .iter()
            .map(|view| {
                let path = view.path().into_owned();
                let size = u64::try_from(view.size()).unwrap_or_default();
                let file = state::file(folder.as_ref(), &path, size, view.stats().as_deref());
                (path, file)
            })
            .collect();
        let version = snapshot.version();
        let note = newest_note(&delta, &folder, version).await?;
        let checkpointed = checkpointed(&delta).await;
        Ok(Some(Self {
            store,
            folder,
            delta,
            state: LogState { version, files, note, removed: BTreeMap::new() },
            checkpointed,
            awaited: None,
            seen: false,
        }))
    }

    /// Opens the table, which is created if there is none. Two that create it at once open the same table.
    pub(crate) async fn open_or_create(store: Arc<dyn ObjectStore>, folder: Path, schema: &SchemaRef) -> Result<Self> {
        if let Some(log) = Self::open(Arc::clone(&store), folder.clone(), schema).await? {
            return Ok(log);
        }
        let delta = log_store(&store, &folder);
        let created = create(&delta, &folder, schema).await;
        match Self::open(store, folder.clone(), schema).await? {
            Some(log) => Ok(log),
            None => {
                created?;
                Err(Error::Broken(format!("{folder} was created and is absent")))
            }
        }
    }

    pub(crate) fn state(&self) -> &LogState {
        &self.state
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads what was committed since: one request that finds nothing if that is nothing.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        loop {
            let version = self.state.version + 1;
            let entry = self.delta.read_commit_entry(version).await;
            let Some(bytes) = entry.map_err(|e| self.read_error(e))? else {
                return Ok(());
            };
            let actions = get_actions(version, &bytes).map_err(|e| self.read_error(e))?;
            self.apply(actions)?;
        }
    }

    fn apply(&mut self, actions: Vec<Action>) -> Result<()> {
        // Replayed on a copy: a commit that cannot be understood leaves the state where it was.
        let mut state = self.state.clone();
        let commit = state.apply(self.folder.as_ref(), actions).map_err(|reason| Error::UnderstandLog {
            table: self.folder.to_string(),
            version: self.state.version + 1,
            reason,
        })?;
        self.state = state;
        self.seen |= commit.is_some() && commit == self.awaited;
        Ok(())
    }

    /// Commits what `decide` drafts on the newest version; fenced once it drafts nothing. May be called again with the
    /// same `id` after an error: a draft that had landed is then found.
    ///
    /// Errors: [`Error::WriteLog`], [`Error::ReadLog`]; whether it landed is then unknown.
    pub(crate) async fn compare_and_set(
        &mut self,
        id: Uuid,
        decide: impl Fn(&LogState) -> Option<Draft>,
    ) -> Result<Landing> {
        if self.awaited != Some(id) {
            self.awaited = Some(id);
            self.seen = false;
        }
        let mut tries = 0;
        loop {
            self.refresh().await?;
            if self.seen {
                return Ok(Landing::Landed);
            }
            let Some(draft) = decide(&self.state) else {
                return Ok(Landing::Fenced);
            };
            match self.write(id, draft).await {
                Ok(()) => return Ok(Landing::Landed),
                Err(TransactionError::VersionAlreadyExists(_)) => {}
                Err(error) => {
                    let error = self.write_error(error.into());
                    tries += 1;
                    if tries == TRIES || error.fault() != Fault::Transient {
                        self.refresh().await?;
                        return if self.seen { Ok(Landing::Landed) } else { Err(error) };
                    }
                    tracing::debug!(table = %self.folder, tries, %error, "commit failed, outcome unknown");
                    tokio::time::sleep(BACKOFF * 2_u32.pow(tries)).await;
                }
            }
        }
    }

    /// Writes the entry of the next version, if nobody has.
    async fn write(&mut self, id: Uuid, draft: Draft) -> Result<(), TransactionError> {
        let now = chrono::Utc::now().timestamp_millis();
        let actions = entry::changes(&self.state, id, draft, now);
        let bytes = entry::bytes(actions.clone())?;
        self.delta.write_commit_entry(self.state.version + 1, CommitOrBytes::LogBytes(bytes), id).await?;
        self.apply(actions).map_err(|e| TransactionError::LogStoreError {
            msg: "a commit that this process wrote".into(),
            source: Box::new(e),
        })
    }

    /// Writes a checkpoint if one is due, and drops log entries that no reader can want. Loses nothing if it fails.
    ///
    /// Errors: [`Error::ReadLog`].
    pub(crate) async fn checkpoint(&mut self) -> Result<()> {
        if self.state.version < self.checkpointed + CHECKPOINT_EVERY {
            return Ok(());
        }
        let version = self.state.version;
        let mut table = DeltaTable::new(Arc::clone(&self.delta));
        let step = async {
            table.load_version(version).await?;
            checkpoints::create_checkpoint(&table, None).await?;
            let cutoff =
                chrono::Utc::now().timestamp_millis() - i64::try_from(LOG_RETENTION.as_millis()).unwrap_or(i64::MAX);
            checkpoints::cleanup_expired_logs_for(version, self.delta.as_ref(), cutoff, None).await
        };
        step.await.map_err(|e| self.read_error(e))?;
        self.checkpointed = version;
        Ok(())
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Remembers since when files were seen that no version needs.
    pub(crate) fn removed_mut(&mut self) -> &mut BTreeMap<String, i64> {
        &mut self.state.removed
    }

    fn read_error(&self, source: DeltaTableError) -> Error {
        Error::ReadLog { table: self.folder.to_string(), source: Box::new(source) }
    }

    fn write_error(&self, source: DeltaTableError) -> Error {
        Error::WriteLog { table: self.folder.to_string(), version: self.state.version + 1, source: Box::new(source) }
    }
}

/// delta-rs's own log store over our store. Its kernel believes in the order of listings unless the location is a local
/// path, which it then looks for on the disk, or an S3 directory bucket, which it knows by name. No store promises an
/// order, so every location is named like one.
fn log_store(store: &Arc<dyn ObjectStore>, folder: &Path) -> LogStoreRef {
    let location = Url::parse(&format!("thalweg://warehouse--x-s3/{folder}/"));
    let location = location.expect("folders are valid URL paths");
    default_logstore(
        Arc::new(PrefixStore::new(Arc::clone(store), folder.clone())),
        Arc::clone(store),
        &location,
        &StorageConfig::default(),
    )
}

/// Writes version 0.
async fn create(delta: &LogStoreRef, folder: &Path, schema: &SchemaRef) -> Result<()> {
    let failed =
        |source: DeltaTableError| Error::WriteLog { table: folder.to_string(), version: 0, source: Box::new(source) };
    let id = Uuid::new_v4();
    let now = chrono::Utc::now().timestamp_millis();
    let schema = entry::kernel_schema(folder, schema)?;
    let actions = entry::creation(&schema, id, now).map_err(failed)?;
    let bytes = entry::bytes(actions).map_err(|e| failed(e.into()))?;
    delta.write_commit_entry(0, CommitOrBytes::LogBytes(bytes), id).await.map_err(|e| failed(e.into()))
}

/// The newest note at or below `version`: other programs' commits carry none.
async fn newest_note(delta: &LogStoreRef, folder: &Path, version: u64) -> Result<CommitInfo> {
    let read = |source| Error::ReadLog { table: folder.to_string(), source: Box::new(source) };
    let lost = |version, reason: String| Error::UnderstandLog { table: folder.to_string(), version, reason };
    for version in (0..=version).rev() {
        let entry = delta.read_commit_entry(version).await.map_err(read)?;
        let Some(bytes) = entry else { break };
        for action in get_actions(version, &bytes).map_err(read)? {
            if let Action::CommitInfo(info) = action
                && let Some(note) = state::note_in(info.info).map_err(|e| lost(version, e))?
            {
                return Ok(note);
            }
        }
    }
    Err(lost(version, "no commit that is left in the log says where it stands".into()))
}

/// The version of the newest checkpoint; 0 if there is none, or none can be read: then one is written early.
async fn checkpointed(delta: &LogStoreRef) -> u64 {
    #[derive(serde::Deserialize)]
    struct CheckpointHint {
        version: u64,
    }
    let path = Path::from_iter(["_delta_log", "_last_checkpoint"]);
    let read = async {
        let store = delta.object_store(None);
        let found = store.get_opts(&path, object_store::GetOptions::default());
        found.await.ok()?.bytes().await.ok()
    };
    let hint = read.await.and_then(|bytes| serde_json::from_slice::<CheckpointHint>(&bytes).ok());
    hint.map_or(0, |hint| hint.version)
}

#[cfg(test)]
mod tests;
