//! The log of one Delta table: reads commits one by one, and commits by compare-and-set.
//!
//! A table may lack columns of its definition: those that this version has added, and those that a stream got while its
//! messages flowed. The first commit under the definition adds them. A process with the narrower definition can still
//! read the table, and its drafts are fenced: its rows lack the columns, so they are read again from Kafka.
//!
//! Invariant: a commit has a random id and is written exactly one version above the version that it was decided on.
//! After an error or a conflict, only the log says whether the commit landed. So a draft lands once or never, however
//! often the commit is tried.
//!
//! delta-rs checks a commit against the versions above its snapshot and then rebases the commit onto them. A draft
//! depends on positions and must not be rebased, so this file writes entries directly through delta-rs's log store.

mod state;

mod entry;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, EagerSnapshot, Metadata, MetadataExt, StructType};
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
/// Age at which log entries below a checkpoint are deleted.
const LOG_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// Attempts of a commit while storage fails; after the last one the caller gets the error.
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
    /// The columns of the table as this program defines them.
    columns: StructType,
    /// The metadata that adds the columns which the table lacks; the next commit contains it.
    evolution: Option<Metadata>,
    /// True if the table has columns that this process does not know.
    outgrown: bool,
    /// The id of the commit in progress; `seen` is true once the log holds this commit.
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
    /// True if the new files replace all existing files.
    pub(crate) replace: bool,
    /// New positions and marks. Other partitions keep their values.
    pub(crate) next: Frontier,
    pub(crate) mark: Frontier,
    pub(crate) last: HashMap<Partition, LastMessage>,
    pub(crate) published: Option<PublishedAt>,
}

/// The outcome of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    Landed,
    /// The log is not at the position where the draft starts.
    Fenced,
}

impl Log {
    /// Opens the table in `folder`; `None` if the table does not exist.
    ///
    /// Errors: [`Error::MatchSchema`] if neither the table's columns nor those of `schema` are the others with further
    /// ones, [`Error::ReadLog`].
    pub(crate) async fn open(store: Arc<dyn ObjectStore>, folder: Path, schema: &SchemaRef) -> Result<Option<Self>> {
        let delta = log_store(&store, &folder);
        let read = |source| Error::ReadLog { table: folder.to_string(), source: Box::new(source) };
        let snapshot = match EagerSnapshot::try_new(delta.as_ref(), None).await {
            Ok(snapshot) => snapshot,
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(source) => return Err(read(source)),
        };
        let columns = entry::kernel_schema(&folder, schema)?;
        let found = snapshot.schema();
        let mut outgrown = false;
        let evolution = if *found == columns {
            None
        } else if entry::widens(&found, &columns) {
            Some(snapshot.metadata().clone().with_schema(&columns).map_err(|e| read(e.into()))?)
        } else if entry::widens(&columns, &found) {
            outgrown = true;
            None
        } else {
            return Err(Error::MatchSchema {
                table: folder.to_string(),
                found: entry::columns(&found),
                defined: entry::columns(&columns),
            });
        };
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
            columns,
            evolution,
            outgrown,
            awaited: None,
            seen: false,
        }))
    }

    /// Opens the table and creates it if it does not exist. Two processes that create it at once open the same table.
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

    /// True if the table has columns that this process does not know, so that its drafts are fenced.
    pub(crate) fn is_outgrown(&self) -> bool {
        self.outgrown
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the commits since the last refresh. Costs one request if there are none.
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

    fn apply(&mut self, mut actions: Vec<Action>) -> Result<()> {
        // The changes of a schema that are understood: the one that this process would make, and further columns.
        let (mut evolved, mut outgrown) = (false, self.outgrown);
        actions.retain(|action| {
            let Action::Metadata(metadata) = action else { return true };
            let Ok(schema) = metadata.parse_schema() else { return true };
            let own = schema == self.columns;
            let wider = !own && entry::widens(&self.columns, &schema);
            evolved |= own && self.evolution.is_some();
            outgrown |= wider;
            !(evolved || wider)
        });
        // Replay on a copy, so that an invalid commit does not change the state.
        let mut state = self.state.clone();
        let commit = state.apply(self.folder.as_ref(), actions).map_err(|reason| Error::UnderstandLog {
            table: self.folder.to_string(),
            version: self.state.version + 1,
            reason,
        })?;
        self.state = state;
        if evolved || outgrown {
            self.evolution = None;
        }
        self.outgrown = outgrown;
        self.seen |= commit.is_some() && commit == self.awaited;
        Ok(())
    }

    /// Commits the draft that `decide` makes for the newest version; fenced if `decide` makes none. After an error
    /// the caller may call this function again with the same `id`: an earlier commit that landed is then found in the
    /// log.
    ///
    /// Errors: [`Error::WriteLog`], [`Error::ReadLog`]; it is unknown then whether the commit landed.
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
            let Some(draft) = decide(&self.state).filter(|_| !self.outgrown) else {
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

    /// Writes the log entry of the next version, unless that version exists.
    async fn write(&mut self, id: Uuid, draft: Draft) -> Result<(), TransactionError> {
        let now = chrono::Utc::now().timestamp_millis();
        let mut actions = entry::changes(&self.state, id, draft, now);
        actions.extend(self.evolution.clone().map(Action::Metadata));
        let bytes = entry::bytes(actions.clone())?;
        self.delta.write_commit_entry(self.state.version + 1, CommitOrBytes::LogBytes(bytes), id).await?;
        self.apply(actions).map_err(|e| TransactionError::LogStoreError {
            msg: "a commit that this process wrote".into(),
            source: Box::new(e),
        })
    }

    /// Writes a checkpoint if one is due, and deletes log entries that no reader needs. A failure loses no data.
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

    /// Removed files by path, with the time of the removal. `vacuum` of a view table updates the map.
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

/// delta-rs's own log store over our store. Its kernel relies on sorted listings, with two exceptions: for a local
/// path, where the kernel looks on the disk, and for an S3 directory bucket, which the kernel knows by its name. No
/// store promises sorted listings, so every location has the name of a directory bucket.
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

/// The newest note at or below `version`. Commits of other programs carry no note.
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

/// The version of the newest checkpoint. Without a readable checkpoint it is 0, and the next one is written early.
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
