//! The master dataset of a stream: one Delta table. Each commit adds the rows and the positions of one epoch.
//!
//! Amendments enter by commits of their own, in partitions that no topic has.
//!
//! Invariant: an epoch lands exactly once or never. An epoch lands only if the table is at the epoch's `from` in
//! every partition that the epoch names. The table's rows are exactly the offsets below its frontier.

mod amend;
mod serve;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, StreamName};
use uuid::Uuid;

pub(crate) use self::amend::{AmendOutcome, check_defined};
pub use self::serve::serve;
use crate::files::{discard, write_epoch};
use crate::log::{Draft, Landing, Log, LogState, NewFile};
use crate::{Error, Result};

/// An open master dataset of a stream. Several archives may be open on one table.
#[derive(Debug)]
pub struct Archive {
    stream: StreamName,
    schema: SchemaRef,
    origin: Frontier,
    log: Log,
    attempt: Option<CommitAttempt>,
    version: Option<Arc<MasterVersion>>,
}

/// The commit in progress. The attempt survives an error, so that the next try recognises its own commit.
#[derive(Debug, Clone)]
struct CommitAttempt {
    id: Uuid,
    from: Frontier,
    to: Frontier,
    /// The epoch's files, once they are written.
    files: Option<Vec<NewFile>>,
}

impl Archive {
    /// Opens the stream's table and creates it if it does not exist. Partitions without a position start at `origin`.
    ///
    /// Errors: [`Error::MatchSchema`] if the table has other columns, [`Error::ReadLog`], [`Error::WriteLog`].
    pub async fn open(warehouse: &Warehouse, stream: &StreamDefinition, origin: Frontier) -> Result<Self> {
        let schema = stream.row_schema();
        let folder = Warehouse::master_path(&stream.name);
        let log = Log::open_or_create(warehouse.store(), folder, &schema).await?;
        Ok(Self::over(stream, origin, schema, log))
    }

    /// Opens the stream's table for reading; `None` if the table does not exist.
    ///
    /// Errors: [`Error::MatchSchema`], [`Error::ReadLog`].
    pub(crate) async fn find(
        warehouse: &Warehouse,
        stream: &StreamDefinition,
        origin: Frontier,
    ) -> Result<Option<Self>> {
        let schema = stream.row_schema();
        let folder = Warehouse::master_path(&stream.name);
        let log = Log::open(warehouse.store(), folder, &schema).await?;
        Ok(log.map(|log| Self::over(stream, origin, schema, log)))
    }

    fn over(stream: &StreamDefinition, origin: Frontier, schema: SchemaRef, log: Log) -> Self {
        Self { stream: stream.name.clone(), schema, origin, log, attempt: None, version: None }
    }

    /// Updates the start offsets of partitions, because partitions may be added after the archive was opened.
    pub(crate) fn know_origin(&mut self, origin: Frontier) {
        if self.origin != origin {
            self.origin = origin;
            self.version = None;
        }
    }

    /// The newest version. Costs one small request if there is no new commit.
    ///
    /// Errors: [`Error::ReadLog`], [`Error::UnderstandLog`].
    pub async fn latest(&mut self) -> Result<Arc<MasterVersion>> {
        self.log.refresh().await?;
        Ok(self.current())
    }

    fn current(&mut self) -> Arc<MasterVersion> {
        let state = self.log.state();
        match &self.version {
            Some(version) if version.version == state.version => Arc::clone(version),
            _ => {
                let version = Arc::new(MasterVersion {
                    stream: self.stream.clone(),
                    version: state.version,
                    frontier: state.note.next.or(&self.origin),
                    mark: state.note.mark.or(&self.origin),
                    files: state.files.values().cloned().collect(),
                    last: state.note.last.clone().into_iter().collect(),
                });
                self.version = Some(Arc::clone(&version));
                version
            }
        }
    }

    /// Commits an epoch: its rows in one file, unless the epoch is empty, and its positions. After an error, a second
    /// call with the same epoch finds out whether the first commit landed.
    ///
    /// Errors: [`Error::AcceptEpoch`] if the epoch contradicts itself. Otherwise storage failed and the outcome is
    /// unknown.
    pub async fn commit(&mut self, epoch: &Epoch) -> Result<EpochOutcome> {
        check(epoch)?;
        self.log.refresh().await?;
        if changes_nothing(self.log.state(), &self.origin, epoch) {
            return Ok(EpochOutcome::Landed(self.current()));
        }
        let mut attempt = match self.attempt.take() {
            Some(attempt) if attempt.from == epoch.from && attempt.to == epoch.to => attempt,
            _ => CommitAttempt { id: Uuid::new_v4(), from: epoch.from.clone(), to: epoch.to.clone(), files: None },
        };
        self.attempt = Some(attempt.clone());
        if attempt.files.is_none() {
            // An epoch that is already fenced needs no file.
            let files = if stands_at(self.log.state(), &self.origin, &epoch.from) {
                let (store, folder) = (self.log.store(), self.log.folder());
                let file = write_epoch(store, folder, attempt.id, &self.schema, epoch).await?;
                file.into_iter().collect()
            } else {
                Vec::new()
            };
            attempt.files = Some(files);
            self.attempt = Some(attempt.clone());
        }
        let files = attempt.files.unwrap_or_default();
        let origin = &self.origin;
        let landing = self.log.compare_and_set(attempt.id, |state| draft(state, origin, epoch, &files)).await?;
        self.attempt = None;
        match landing {
            Landing::Landed => Ok(EpochOutcome::Landed(self.current())),
            Landing::Fenced => {
                discard(self.log.store(), self.log.folder(), &files).await;
                Ok(EpochOutcome::Fenced(self.current()))
            }
        }
    }

    /// Maintenance between commits: writes a checkpoint of the log if one is due. A failure loses no data.
    pub async fn maintain(&mut self) {
        if let Err(error) = self.log.checkpoint().await {
            tracing::warn!(stream = %self.stream, %error, "no checkpoint written; opening the table takes longer");
        }
    }
}

/// True if the table is at `from` in every partition that `from` names.
fn stands_at(state: &LogState, origin: &Frontier, from: &Frontier) -> bool {
    let at = state.note.next.or(origin);
    from.iter().all(|(partition, offset)| at.get(partition) == offset)
}

/// True if `epoch` is empty, the table is at its position, and its mark is already recorded.
fn changes_nothing(state: &LogState, origin: &Frontier, epoch: &Epoch) -> bool {
    let marked = || epoch.to.iter().all(|(p, to)| state.note.mark.named(p) == Some(to));
    epoch.from == epoch.to && stands_at(state, origin, &epoch.from) && (!epoch.mark || marked())
}

/// The commit of `epoch` on `state`; `None` if the table is at another position.
fn draft(state: &LogState, origin: &Frontier, epoch: &Epoch, files: &[NewFile]) -> Option<Draft> {
    stands_at(state, origin, &epoch.from).then(|| Draft {
        adds: files.to_vec(),
        next: epoch.to.advanced_since(&epoch.from),
        mark: if epoch.mark { epoch.to.clone() } else { Frontier::new() },
        last: epoch.last.clone(),
        ..Draft::default()
    })
}

fn check(epoch: &Epoch) -> Result<()> {
    let reason = if !epoch.from.partitions().eq(epoch.to.partitions()) {
        "its ends name different partitions"
    } else if !epoch.to.covers(&epoch.from) {
        "it ends before it starts"
    } else if epoch.last.iter().any(|(p, m)| m.offset >= epoch.to.get(*p)) {
        "a last message lies beyond its end"
    } else {
        return Ok(());
    };
    Err(Error::AcceptEpoch {
        stream: epoch.stream.clone(),
        from: Box::new(epoch.from.clone()),
        to: Box::new(epoch.to.clone()),
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests;
