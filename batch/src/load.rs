//! History: the rows of files enter the archive as amendments of the stream, one commit for each file.
//!
//! ```text
//!  file ─▶ rows (thread) ─▶ the stream's columns ─▶ Parquet ─▶ one commit ─▶ Partition::LOADED
//! ```
//!
//! The names of the Parquet files say which file their rows are of, so the archive's version knows what it has.
//!
//! Invariant: a file enters whole and once, or not at all. A load that ended early goes on with the files that are
//! left.

mod sources;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StringBuilder, new_null_array};
use arrow::error::ArrowError;
use thalweg_schemas::Partition;
use thalweg_schemas::catalog::CatalogStream;
use thalweg_schemas::definition::message::SOURCE;
use thalweg_schemas::definition::stream::{OFFSET, PARTITION, StreamDefinition};
use thalweg_schemas::files::{BadRows, FileFormat, FileRows, OpenedRows, RowNotes, RowReader, read};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::MasterVersion;
use tokio::sync::mpsc;

use self::sources::{SourceFile, find};
use crate::archive::{AmendOutcome, Archive, check_defined};
use crate::lease::{self, Lease, Taken};
use crate::run::BatchConfig;
use crate::{Error, Result};

/// Batches between the thread that reads and the one that writes.
const AHEAD: usize = 4;
/// Hexadecimal digits of a hash in a file's name.
const DIGITS: usize = 16;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Paths and URLs; names may have `*`, `?` and `[…]`.
    pub from: Vec<String>,
    /// Paths and URLs below which files must be; `None`: they may be anywhere.
    pub within: Option<Vec<String>>,
    /// The format of all files; `None`: what the end of each name tells.
    pub format: Option<FileFormat>,
    /// Rows that do not fit are counted and left out.
    pub skip_bad: bool,
    /// Nothing is committed.
    pub dry_run: bool,
    /// Options of the object store that the files are in.
    pub storage: BTreeMap<String, String>,
}

/// How far a load is.
#[derive(Debug, Clone, Default)]
pub struct LoadProgress {
    /// Files that were found.
    pub files: usize,
    /// Files that are in the archive now, those that were there before included.
    pub done: usize,
    /// Files that were there before.
    pub before: usize,
    /// Rows that have entered, and those of the file that is being read.
    pub rows: u64,
    /// The file that is being read.
    pub current: Option<String>,
}

/// What a load has done, as a sentence.
#[derive(Debug)]
pub struct LoadedReport<'a> {
    pub loaded: &'a LoadProgress,
    pub dry_run: bool,
    pub skipped: u64,
}

impl std::fmt::Display for LoadedReport<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LoadProgress { files, before, rows, .. } = self.loaded;
        let verb = if self.dry_run { "would enter" } else { "have entered" };
        write!(f, "{rows} rows of {} files {verb}", files - before)?;
        if *before > 0 {
            write!(f, "; {before} files were there before")?;
        }
        if self.skipped > 0 {
            write!(f, "; {} rows were left out", self.skipped)?;
        }
        Ok(())
    }
}

/// Loads files into `stream`. Files that have entered before are left out. `notes` has what users should know of the
/// files.
///
/// Errors: [`Error::FindFiles`], [`Error::FileChanged`], [`Error::Amending`]; [`thalweg_schemas::Error::ReadRow`] for a
/// row that does not fit; those of the storage. Files that were told as done have entered; a second call goes on behind
/// them.
pub async fn load(
    warehouse: &Warehouse,
    stream: &CatalogStream,
    plan: &LoadPlan,
    config: &BatchConfig,
    notes: &Arc<RowNotes>,
    mut progress: impl FnMut(&LoadProgress),
) -> Result<LoadProgress> {
    let name = &stream.definition.name;
    let mut files = Vec::new();
    for pattern in &plan.from {
        for file in find(pattern, plan.within.as_deref(), &plan.storage).await? {
            if files.iter().any(|(_, known): &(FileFormat, SourceFile)| known.url == file.url) {
                continue;
            }
            let format = plan.format.or_else(|| FileFormat::of_name(&file.url));
            let lacks = || Error::FindFiles {
                pattern: file.url.clone(),
                reason: "the end of its name tells no format: csv, tsv, json, ndjson, parquet".to_owned(),
            };
            files.push((format.ok_or_else(lacks)?, file));
        }
    }
    let amending = |holder: String| Error::Amending { stream: name.clone(), holder };
    let mut lease = match lease::take_amendments(warehouse, name, Partition::LOADED, &config.clock).await? {
        Taken::Mine(lease) => lease,
        Taken::Held { holder, .. } => return Err(amending(holder.to_string())),
    };
    let mut loading = Loading {
        archive: Archive::open(warehouse, &stream.definition, stream.origin.clone()).await?,
        warehouse,
        stream,
        definition: &stream.definition,
        plan,
        config,
        notes,
        told: LoadProgress { files: files.len(), ..LoadProgress::default() },
    };
    let held = hold(&mut lease, loading.all(&files, &mut progress)).await;
    lease.release().await;
    held.unwrap_or_else(|holder| Err(amending(holder)))?;
    Ok(loading.told)
}

async fn hold<T>(lease: &mut Lease, work: impl Future<Output = T>) -> Result<T, String> {
    let held = lease.hold(work).await;
    held.map_err(|to| to.map_or("another process".to_owned(), |(holder, _)| holder.to_string()))
}

struct Loading<'a> {
    archive: Archive,
    warehouse: &'a Warehouse,
    stream: &'a CatalogStream,
    definition: &'a StreamDefinition,
    plan: &'a LoadPlan,
    config: &'a BatchConfig,
    notes: &'a Arc<RowNotes>,
    told: LoadProgress,
}

/// What became of one file.
enum FileLoaded {
    Rows(u64),
    Before,
}

impl Loading<'_> {
    async fn all(
        &mut self,
        files: &[(FileFormat, SourceFile)],
        progress: &mut impl FnMut(&LoadProgress),
    ) -> Result<()> {
        for (format, file) in files {
            let rows = self.told.rows;
            self.told.current = Some(file.url.clone());
            let mut tell = |told: &LoadProgress| progress(told);
            match self.one(*format, file, &mut tell).await? {
                FileLoaded::Rows(more) => self.told.rows = rows + more,
                FileLoaded::Before => self.told.before += 1,
            }
            self.told.done += 1;
            progress(&self.told);
        }
        self.told.current = None;
        Ok(())
    }

    async fn one(
        &mut self,
        format: FileFormat,
        file: &SourceFile,
        progress: &mut impl FnMut(&LoadProgress),
    ) -> Result<FileLoaded> {
        let rows_before = self.told.rows;
        loop {
            let version = self.archive.latest().await?;
            match known(&version, file) {
                KnownFile::New => {}
                KnownFile::Entered => return Ok(FileLoaded::Before),
                KnownFile::Changed => {
                    let stream = self.definition.name.clone();
                    return Err(Error::FileChanged { stream, file: file.url.clone() });
                }
            }
            let bad =
                BadRows { file: file.url.clone(), format, skip: self.plan.skip_bad, notes: Arc::clone(self.notes) };
            let reader = RowReader::new(self.definition, bad, None)?;
            let opened = OpenedRows::File(file.open(&self.config.spill).await?);
            let mut amendment = self.archive.begin_amendment(&version, Partition::LOADED, &file_name(file));
            let (to, mut from) = mpsc::channel(AHEAD);
            let reading = tokio::task::spawn_blocking(move || {
                // A receiver that is gone needs no more rows.
                read(opened, format, reader, &mut |rows| to.blocking_send(rows).is_ok())
            });
            let mut count = 0;
            let written = async {
                while let Some(rows) = from.recv().await {
                    count += rows.numbers.len() as u64;
                    if !self.plan.dry_run {
                        let rows = placed(self.definition, &file.url, &rows);
                        amendment.push(&rows.map_err(|e| broken(&e))?).await?;
                    }
                    self.told.rows = rows_before + count;
                    progress(&self.told);
                }
                Ok(())
            };
            let written: Result<()> = written.await;
            drop(from);
            let read = reading.await.map_err(|e| Error::Broken(format!("reading {}: {e}", file.url)))?;
            if let Err(error) = written.and_then(|()| Ok(read?)) {
                amendment.abandon().await;
                return Err(error);
            }
            if self.plan.dry_run {
                amendment.abandon().await;
                return Ok(FileLoaded::Rows(count));
            }
            let checked = match file.check() {
                Ok(()) => check_defined(self.warehouse, self.stream).await,
                changed => changed,
            };
            if let Err(error) = checked {
                amendment.abandon().await;
                return Err(error);
            }
            match self.archive.amend(amendment).await? {
                AmendOutcome::Landed => return Ok(FileLoaded::Rows(count)),
                AmendOutcome::Fenced => tracing::info!(file = file.url, "another load was first; reading it again"),
            }
        }
    }
}

fn broken(error: &ArrowError) -> Error {
    Error::Broken(format!("rows of a file: {error}"))
}

/// Rows with the stream's row schema; partition and offset are set when they are written.
fn placed(definition: &StreamDefinition, url: &str, rows: &FileRows) -> Result<RecordBatch, ArrowError> {
    let count = rows.numbers.len();
    let schema = definition.row_schema();
    let arrays = schema.fields().iter().map(|field| -> ArrayRef {
        match rows.rows.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None if field.name() == SOURCE => Arc::new(sources(url, &rows.numbers)),
            None if field.name() == PARTITION => Arc::new(Int32Array::from_value(Partition::LOADED.0, count)),
            None if field.name() == OFFSET => Arc::new(Int64Array::from_value(0, count)),
            None => new_null_array(field.data_type(), count),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), arrays.collect())
}

/// The sources of rows, written into one buffer.
fn sources(url: &str, numbers: &[u64]) -> StringArray {
    let mut sources = StringBuilder::with_capacity(numbers.len(), numbers.len() * (url.len() + 8));
    for number in numbers {
        // Memory takes every text.
        let _ = write!(sources, "{url}#{number}");
        sources.append_value("");
    }
    sources.finish()
}

/// What the archive knows of a file.
#[derive(Debug, PartialEq, Eq)]
enum KnownFile {
    New,
    Entered,
    /// The file was another one when it entered.
    Changed,
}

fn known(version: &MasterVersion, file: &SourceFile) -> KnownFile {
    let (of_file, as_it_is) = (file_prefix(file), file_name(file));
    let names = version.files.iter().filter_map(|file| file.path.rsplit('/').next());
    let of_file: Vec<&str> = names.filter(|name| name.starts_with(&of_file)).collect();
    match of_file.iter().any(|name| name.starts_with(&as_it_is)) {
        true => KnownFile::Entered,
        false if of_file.is_empty() => KnownFile::New,
        false => KnownFile::Changed,
    }
}

/// The beginning of the names of all Parquet files with rows of a file.
fn file_prefix(file: &SourceFile) -> String {
    format!("loaded-{}-", digits(&file.url))
}

/// The beginning of these names for the file as it is now.
fn file_name(file: &SourceFile) -> String {
    format!("{}{}", file_prefix(file), digits(&file.identity))
}

fn digits(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests;
