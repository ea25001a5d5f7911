//! Selecting the rows of some partitions from a batch.
//!
//! Invariant: the order of rows does not change.

use arrow::array::{BooleanArray, Int32Array};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use thalweg_schemas::Partition;
use thalweg_schemas::definition::stream::PARTITION;

use crate::{Error, Result};

/// The rows of `batch` for whose partition `keep` returns true. Returns `batch` itself if these are all rows.
pub(crate) fn rows_of(batch: &RecordBatch, keep: impl Fn(Partition) -> bool) -> Result<RecordBatch> {
    let partitions = batch
        .column_by_name(PARTITION)
        .and_then(|column| column.as_any().downcast_ref::<Int32Array>())
        .ok_or_else(|| Error::Broken("rows do not say which partition they are of".into()))?;
    let kept: BooleanArray = partitions.values().iter().map(|partition| Some(keep(Partition(*partition)))).collect();
    if kept.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    Ok(filter_record_batch(batch, &kept)?)
}
