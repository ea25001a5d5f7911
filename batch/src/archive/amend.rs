//! Amendments: rows that enter a master dataset by one commit, in a partition of their own and at its next offsets.
//!
//! Invariant: an amendment lands whole or not at all, and only if its partition is still where the amendment began. So
//! what its rows were chosen by, the version at which it began, still holds when it lands. Its end is a mark.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use thalweg_schemas::catalog::{CatalogStore, CatalogStream};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{MasterVersion, OffsetSpan};
use thalweg_schemas::{Fault, Frontier, Offset, Partition};
use uuid::Uuid;

use super::Archive;
use crate::files::{FileKind, PartFiles, discard};
use crate::log::{Draft, Landing, NewFile};
use crate::{Error, Result};

/// The attempts of a commit whose outcome is not known, and the pause before each.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_secs(1);

/// Rows on their way into an archive.
pub(crate) struct Amendment {
    partition: Partition,
    from: Offset,
    next: Offset,
    id: Uuid,
    schema: SchemaRef,
    files: PartFiles,
}

/// What became of an amendment.
#[derive(Debug)]
pub(crate) enum AmendOutcome {
    /// The rows are in the archive.
    Landed,
    /// Another amendment of the partition was first: begin again at the newest version.
    Fenced,
}

impl Archive {
    /// Begins an amendment of `partition` at `version`. The names of its files begin with `name`.
    pub(crate) fn begin_amendment(&self, version: &MasterVersion, partition: Partition, name: &str) -> Amendment {
        let from = version.frontier.get(partition);
        let id = Uuid::new_v4();
        let (store, folder) = (Arc::clone(self.log.store()), self.log.folder().clone());
        let name = format!("{name}-{}", id.simple());
        Amendment {
            partition,
            from,
            next: from,
            id,
            schema: Arc::clone(&self.schema),
            files: PartFiles::new(store, folder, Arc::clone(&self.schema), FileKind::Rows, name),
        }
    }

    /// Commits an amendment; one without rows changes nothing.
    ///
    /// Errors: [`Error::Outgrown`]; the storage failed, and it is unknown whether the amendment landed. It has or it
    /// has not, whole.
    pub(crate) async fn amend(&mut self, amendment: Amendment) -> Result<AmendOutcome> {
        let Amendment { partition, from, next, id, files, .. } = amendment;
        let files = files.finish().await?;
        if from == next {
            return Ok(AmendOutcome::Landed);
        }
        let draft = |next_of: &Frontier| draft(next_of, partition, (from, next), &files);
        let mut tries = 0;
        let landing = loop {
            match self.log.compare_and_set(id, |state| draft(&state.note.next)).await {
                Ok(landing) => break landing,
                Err(error) if error.fault() == Fault::Transient && tries < TRIES => {
                    tracing::warn!(stream = %self.stream, %error, "the amendment is not archived yet; it is tried again");
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        match landing {
            Landing::Landed => Ok(AmendOutcome::Landed),
            Landing::Fenced => {
                discard(self.log.store(), self.log.folder(), &files).await;
                match self.log.is_outgrown() {
                    true => Err(Error::Outgrown { stream: self.stream.clone() }),
                    false => Ok(AmendOutcome::Fenced),
                }
            }
        }
    }
}

/// Checks that a stream is defined as it was when an amendment of it was begun.
///
/// Errors: [`Error::Outgrown`]; the catalog cannot be read.
pub(crate) async fn check_defined(warehouse: &Warehouse, stream: &CatalogStream) -> Result<()> {
    let catalog = CatalogStore::new(warehouse.clone()).load().await?;
    let is_same = |known: &Arc<CatalogStream>| {
        known.definition.sql == stream.definition.sql && known.predecessors == stream.predecessors
    };
    let name = &stream.definition.name;
    match catalog.streams.get(name).is_some_and(is_same) {
        true => Ok(()),
        false => Err(Error::Outgrown { stream: name.clone() }),
    }
}

fn draft(at: &Frontier, partition: Partition, (from, to): (Offset, Offset), files: &[NewFile]) -> Option<Draft> {
    let end: Frontier = [(partition, to)].into_iter().collect();
    (at.get(partition) == from).then(|| Draft {
        adds: files.to_vec(),
        next: end.clone(),
        mark: end,
        ..Draft::default()
    })
}

impl Amendment {
    /// Adds rows with the stream's row schema; their partition and offsets are replaced.
    ///
    /// Errors: [`Error::WriteFile`].
    pub(crate) async fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        let count = rows.num_rows();
        let Some(last) = i64::try_from(count).ok().filter(|count| *count > 0).map(|count| self.next.0 + count - 1)
        else {
            return Ok(());
        };
        let partitions: ArrayRef = Arc::new(Int32Array::from_value(self.partition.0, count));
        let offsets: ArrayRef = Arc::new(Int64Array::from_iter_values(self.next.0..=last));
        let others = rows.columns().iter().skip(2).map(Arc::clone);
        let arrays = [partitions, offsets].into_iter().chain(others).collect();
        let placed = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        let placed = placed.map_err(|e| Error::Broken(format!("amendments have other columns: {e}")))?;
        let span = OffsetSpan { partitions: (self.partition, self.partition), offsets: (self.next, Offset(last)) };
        self.files.write(&placed, Some(span)).await?;
        self.next = Offset(last + 1);
        Ok(())
    }

    /// Deletes what was written, because the amendment is not wanted any more.
    pub(crate) async fn abandon(self) {
        self.files.abandon().await;
    }
}
