//! Files of bounded size, written as batches arrive: the states of a run, and the rows of amendments.
//!
//! Invariant: a file is complete in the store before it is named in the result, and memory does not grow with the
//! number of files.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use thalweg_schemas::definition::stream::PAYLOAD;
use thalweg_schemas::warehouse::parquet::{state_properties, writer_properties};
use thalweg_schemas::warehouse::versions::OffsetSpan;

use super::discard;
use crate::log::NewFile;
use crate::{Error, Result};

/// Approximate size of a file: a filtered query opens few files, and a compaction rewrites little.
const FILE_BYTES: usize = 128 * 1024 * 1024;

/// What files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Rows,
    States,
}

impl FileKind {
    fn properties(self, schema: &SchemaRef) -> WriterProperties {
        match self {
            Self::Rows => writer_properties(schema, PAYLOAD),
            Self::States => state_properties(schema),
        }
    }
}

/// Writes batches to files of bounded size.
pub(crate) struct PartFiles {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    schema: SchemaRef,
    kind: FileKind,
    /// The beginning of every file's name, which no other files have.
    name: String,
    limit: usize,
    open: Option<OpenFile>,
    done: Vec<NewFile>,
}

struct OpenFile {
    writer: AsyncArrowWriter<BufWriter>,
    name: String,
    rows: u64,
    span: Option<OffsetSpan>,
}

impl PartFiles {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        folder: Path,
        schema: SchemaRef,
        kind: FileKind,
        name: String,
    ) -> Self {
        Self { store, folder, schema, kind, name, limit: FILE_BYTES, open: None, done: Vec::new() }
    }

    /// Writes a batch, whose rows lie in `span` if the files hold rows. Closes the current file at the size limit.
    ///
    /// Errors: [`Error::WriteFile`].
    pub(crate) async fn write(&mut self, batch: &RecordBatch, span: Option<OffsetSpan>) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start()?,
        };
        let written = open.writer.write(batch).await;
        written.map_err(|source| self.failed(&open.name, source))?;
        open.rows += batch.num_rows() as u64;
        open.span = joined(open.span, span);
        if open.writer.bytes_written() + open.writer.in_progress_size() >= self.limit {
            self.close(open).await
        } else {
            self.open = Some(open);
            Ok(())
        }
    }

    /// Closes the last file. The files belong to no version until they are committed.
    ///
    /// Errors: [`Error::WriteFile`].
    pub(crate) async fn finish(mut self) -> Result<Vec<NewFile>> {
        if let Some(open) = self.open.take() {
            self.close(open).await?;
        }
        Ok(self.done)
    }

    /// Deletes the finished files after an error.
    pub(crate) async fn abandon(self) {
        discard(&self.store, &self.folder, &self.done).await;
    }

    fn start(&self) -> Result<OpenFile> {
        let name = format!("{}-{}.parquet", self.name, self.done.len());
        let path = self.folder.clone().join(name.as_str());
        let writer = AsyncArrowWriter::try_new(
            BufWriter::new(Arc::clone(&self.store), path),
            Arc::clone(&self.schema),
            Some(self.kind.properties(&self.schema)),
        );
        Ok(OpenFile { writer: writer.map_err(|source| self.failed(&name, source))?, name, rows: 0, span: None })
    }

    async fn close(&mut self, mut open: OpenFile) -> Result<()> {
        let finished = open.writer.finish().await;
        finished.map_err(|source| self.failed(&open.name, source))?;
        self.done.push(NewFile {
            size: open.writer.bytes_written() as u64,
            path: open.name,
            rows: open.rows,
            span: open.span,
        });
        Ok(())
    }

    fn failed(&self, name: &str, source: ParquetError) -> Error {
        Error::WriteFile { path: self.folder.clone().join(name).to_string(), source }
    }
}

fn joined(a: Option<OffsetSpan>, b: Option<OffsetSpan>) -> Option<OffsetSpan> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
    Some(OffsetSpan {
        partitions: (a.partitions.0.min(b.partitions.0), a.partitions.1.max(b.partitions.1)),
        offsets: (a.offsets.0.min(b.offsets.0), a.offsets.1.max(b.offsets.1)),
    })
}
