//! Writes data files: an epoch's rows as one file, and other rows and states as several files.
//!
//! Invariant: a file's name contains the id of its commit or run, and no other content ever gets this name. So a file
//! may be rewritten after an error, or left behind, without harm.

mod parts;

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use thalweg_schemas::definition::message::ROW;
use thalweg_schemas::definition::stream::{OFFSET, PARTITION, PAYLOAD};
use thalweg_schemas::realtime::epoch::Epoch;
use thalweg_schemas::warehouse::parquet::writer_properties;
use thalweg_schemas::warehouse::versions::OffsetSpan;
use thalweg_schemas::{Frontier, Offset, Partition};
use uuid::Uuid;

pub(crate) use self::parts::{FileKind, PartFiles};
use crate::log::NewFile;
use crate::{Error, Result};

/// A larger file is uploaded in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Rows that are encoded at a time.
const CHUNK_ROWS: usize = 64 * 1024;

/// The partition and offset of a row, its number in its message, and its index in the epoch's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    partition: i32,
    offset: i64,
    number: Option<i32>,
    batch: u32,
    row: u32,
}

/// The epoch's rows, sorted by partition and offset.
///
/// Errors: the reason why `rows` are not the rows of `[from, to)` in `schema`.
fn order(rows: &[RecordBatch], schema: &SchemaRef, from: &Frontier, to: &Frontier) -> Result<Vec<Position>, String> {
    let mut order = Vec::with_capacity(rows.iter().map(RecordBatch::num_rows).sum());
    for (index, batch) in rows.iter().enumerate() {
        if batch.schema() != *schema {
            return Err(format!("a batch has the columns {}, the stream {schema}", batch.schema()));
        }
        let partitions = column::<Int32Type>(batch, PARTITION)?;
        let offsets = column::<Int64Type>(batch, OFFSET)?;
        let numbers = batch.column_by_name(ROW).and_then(|column| column.as_primitive_opt::<Int32Type>());
        let numbers = numbers.filter(|numbers| numbers.null_count() < numbers.len());
        for (row, (partition, offset)) in partitions.iter().zip(offsets).enumerate() {
            order.push(Position {
                partition: *partition,
                offset: *offset,
                number: numbers.filter(|numbers| numbers.is_valid(row)).map(|numbers| numbers.value(row)),
                batch: u32::try_from(index).map_err(|e| e.to_string())?,
                row: u32::try_from(row).map_err(|e| e.to_string())?,
            });
        }
    }
    order.sort_unstable();
    for pair in order.windows(2) {
        let place = |at: &Position| (at.partition, at.offset, at.number);
        if place(&pair[0]) == place(&pair[1]) {
            return Err(format!("offset {} of partition {} is in it twice", pair[0].offset, pair[0].partition));
        }
    }
    let outside = order.iter().find(|at| {
        let partition = Partition(at.partition);
        Offset(at.offset) < from.get(partition) || Offset(at.offset) >= to.get(partition)
    });
    match outside {
        Some(at) => Err(format!("offset {} of partition {} is not in its range", at.offset, at.partition)),
        None => Ok(order),
    }
}

fn column<'a, T: arrow::datatypes::ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a [T::Native], String> {
    let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<T>()).filter(|c| c.null_count() == 0);
    Ok(column.ok_or_else(|| format!("{name} is missing, null or of another type"))?.values())
}

fn span(order: &[Position]) -> Option<OffsetSpan> {
    let offsets = order.iter().map(|at| at.offset);
    Some(OffsetSpan {
        partitions: (Partition(order.first()?.partition), Partition(order.last()?.partition)),
        offsets: (Offset(offsets.clone().min()?), Offset(offsets.max()?)),
    })
}

/// Writes the epoch's rows, sorted by partition and offset, as one file; `None` if the epoch has no rows.
///
/// Errors: [`Error::AcceptEpoch`] if the rows do not match the epoch's range, [`Error::Store`].
pub(crate) async fn write_epoch(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    id: Uuid,
    schema: &SchemaRef,
    epoch: &Epoch,
) -> Result<Option<NewFile>> {
    let refused = |reason| Error::AcceptEpoch {
        stream: epoch.stream.clone(),
        from: Box::new(epoch.from.clone()),
        to: Box::new(epoch.to.clone()),
        reason,
    };
    let order = order(&epoch.rows, schema, &epoch.from, &epoch.to).map_err(refused)?;
    let Some(span) = span(&order) else {
        return Ok(None);
    };
    let name = format!("rows-{}.parquet", id.simple());
    let path = folder.clone().join(name.as_str());
    let rows = order.len() as u64;
    let (batches, schema) = (epoch.rows.clone(), Arc::clone(schema));
    // Encoding a large epoch takes seconds, so it must not block a thread that serves queries.
    let encoded = tokio::task::spawn_blocking(move || encode(&batches, &order, &schema));
    let bytes = encoded
        .await
        .map_err(|e| Error::Broken(format!("encoding {path}: {e}")))?
        .map_err(|source| Error::WriteFile { path: path.to_string(), source })?;
    let size = bytes.len() as u64;
    let stored = match bytes.len() <= PART_BYTES {
        true => store.put(&path, PutPayload::from(bytes)).await.map(drop),
        // A request has a time limit, which a slow store would exceed for the whole file.
        false => put_in_parts(store, &path, bytes.into()).await,
    };
    stored.map_err(|source| Error::Store { path: path.to_string(), source })?;
    Ok(Some(NewFile { path: name, size, rows, span: Some(span) }))
}

async fn put_in_parts(store: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> object_store::Result<()> {
    let mut upload = store.put_multipart(path).await?;
    let sending = async {
        for start in (0..bytes.len()).step_by(PART_BYTES) {
            let end = bytes.len().min(start + PART_BYTES);
            upload.put_part(bytes.slice(start..end).into()).await?;
        }
        upload.complete().await
    };
    let sent = sending.await;
    if sent.is_err() {
        // The store cleans up parts that remain after a failed abort.
        let _ = upload.abort().await;
    }
    sent.map(drop)
}

fn encode(batches: &[RecordBatch], order: &[Position], schema: &SchemaRef) -> Result<Vec<u8>, ParquetError> {
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let properties = writer_properties(schema, PAYLOAD);
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    for chunk in order.chunks(CHUNK_ROWS) {
        let indices: Vec<(usize, usize)> = chunk.iter().map(|at| (at.batch as usize, at.row as usize)).collect();
        writer.write(&interleave_record_batch(&batches, &indices)?)?;
    }
    writer.into_inner()
}

/// Deletes files that will not be committed. A file that cannot be deleted is left behind without harm; in a view's
/// table, vacuum deletes it later.
pub(crate) async fn discard(store: &Arc<dyn ObjectStore>, folder: &Path, files: &[NewFile]) {
    for file in files {
        let path = folder.clone().join(file.path.as_str());
        if let Err(error) = store.delete(&path).await {
            tracing::debug!(%path, %error, "left behind");
        }
    }
}
