//! One step: the rows of touched groups at its start and at its end, compared.
//!
//! Invariant: rows are compared by all of their values; NaN is equal to NaN, and null to null.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use thalweg_schemas::Frontier;

use crate::{Error, Result};

/// What a client does with the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// The row of the group is this one now.
    Upsert,
    /// The group has no row any more. The row is its last one.
    Delete,
}

/// Rows with the columns of a view, and its groups in the last columns.
#[derive(Debug, Clone)]
pub(super) struct KeyedRows {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
}

/// Rows that a client changes, deletes before upserts.
pub(super) type Changed = Vec<(ChangeKind, RecordBatch)>;

/// A step from one frontier to a later one.
#[derive(Debug)]
pub(super) struct ChangeStep {
    pub(super) from: Frontier,
    pub(super) to: Frontier,
    pub(super) before: KeyedRows,
    pub(super) after: KeyedRows,
    /// The changes of the whole view.
    pub(super) changed: Changed,
}

/// Compares rows whose last `keys` columns are their groups.
///
/// Errors: [`Error::Encode`] for values that cannot be compared.
pub(super) fn compare(before: &KeyedRows, after: &KeyedRows, keys: usize) -> Result<Changed> {
    changed(before, after, keys).map_err(Error::Encode)
}

fn changed(before: &KeyedRows, after: &KeyedRows, keys: usize) -> std::result::Result<Changed, ArrowError> {
    let before = concat_batches(&before.schema, &before.batches)?;
    let after = concat_batches(&after.schema, &after.batches)?;
    let columns = after.num_columns();
    let (keys_before, keys_after) = bytes_of(&before, &after, columns.saturating_sub(keys)..columns)?;
    let (rows_before, rows_after) = bytes_of(&before, &after, 0..columns)?;
    let mut gone: HashMap<&[u8], usize> = HashMap::with_capacity(before.num_rows());
    for row in 0..before.num_rows() {
        gone.insert(key_at(keys_before.as_ref(), row), row);
    }
    let mut upserts = Vec::new();
    for row in 0..after.num_rows() {
        let was = gone.remove(key_at(keys_after.as_ref(), row));
        let is_same = was.is_some_and(|was| key_at(rows_before.as_ref(), was) == key_at(rows_after.as_ref(), row));
        if !is_same {
            upserts.push(row as u64);
        }
    }
    let mut deletes: Vec<u64> = gone.into_values().map(|row| row as u64).collect();
    deletes.sort_unstable();
    let mut changed = Changed::new();
    for (kind, rows, from) in [(ChangeKind::Delete, deletes, &before), (ChangeKind::Upsert, upserts, &after)] {
        if !rows.is_empty() {
            changed.push((kind, take_record_batch(from, &UInt64Array::from(rows))?));
        }
    }
    Ok(changed)
}

/// The bytes of some columns of two batches, which are equal where the values are. `None` if there are no columns.
fn bytes_of(
    before: &RecordBatch,
    after: &RecordBatch,
    columns: std::ops::Range<usize>,
) -> std::result::Result<(Option<Rows>, Option<Rows>), ArrowError> {
    if columns.is_empty() {
        return Ok((None, None));
    }
    let fields = after.schema_ref().fields()[columns.clone()].iter();
    let converter = RowConverter::new(fields.map(|field| SortField::new(field.data_type().clone())).collect())?;
    let of = |batch: &RecordBatch| converter.convert_columns(&batch.columns()[columns.clone()]);
    Ok((Some(of(before)?), Some(of(after)?)))
}

fn key_at(rows: Option<&Rows>, row: usize) -> &[u8] {
    rows.map_or(&[], |rows| rows.row(row).data())
}

impl KeyedRows {
    /// The rows as a table in memory.
    ///
    /// Errors: those of the engine.
    pub(super) fn table(&self) -> Result<Arc<dyn datafusion::catalog::TableProvider>> {
        let table = datafusion::datasource::MemTable::try_new(Arc::clone(&self.schema), vec![self.batches.clone()]);
        Ok(Arc::new(table.map_err(|source| Error::of_engine(source, false))?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    type Row = (Option<i64>, Option<f64>, Option<&'static str>);

    fn rows(rows: &[Row]) -> KeyedRows {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let schema = Arc::new(Schema::new(vec![
            field("n", DataType::Int64),
            field("x", DataType::Float64),
            field("_key_0", DataType::Utf8),
        ]));
        let batches = rows.iter().map(|(n, x, key)| {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![*n])),
                Arc::new(Float64Array::from(vec![*x])),
                Arc::new(StringArray::from(vec![*key])),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        });
        KeyedRows { batches: batches.collect(), schema: Arc::clone(&schema) }
    }

    /// Checks the values of `n` of the deletes and of the upserts.
    #[track_caller]
    fn check(before: &[Row], after: &[Row], keys: usize, deletes: &[i64], upserts: &[i64]) {
        let changed = compare(&rows(before), &rows(after), keys).unwrap();
        let of = |kind| -> Vec<i64> {
            let batches = changed.iter().filter(|(of, _)| *of == kind);
            batches.flat_map(|(_, batch)| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
        };
        assert_eq!((of(ChangeKind::Delete), of(ChangeKind::Upsert)), (deletes.to_vec(), upserts.to_vec()));
    }

    #[test]
    fn rows_are_compared_by_their_groups_and_values() {
        let (a, b) = (Some("a"), Some("b"));
        check(&[], &[], 1, &[], &[]);
        check(&[], &[(Some(1), None, a)], 1, &[], &[1]);
        check(&[(Some(1), None, a)], &[], 1, &[1], &[]);
        check(&[(Some(1), None, a), (Some(2), None, b)], &[(Some(2), None, b), (Some(3), None, a)], 1, &[], &[3]);
        check(&[(Some(1), None, a)], &[(Some(1), None, b)], 1, &[1], &[1]);
        check(&[(Some(1), Some(f64::NAN), a)], &[(Some(1), Some(f64::NAN), a)], 1, &[], &[]);
        check(&[(Some(1), None, a)], &[(Some(1), Some(0.0), a)], 1, &[], &[1]);
        check(&[(Some(1), None, None)], &[(Some(2), None, None)], 1, &[], &[2]);
        check(&[(Some(1), None, None)], &[(Some(1), None, Some(""))], 1, &[1], &[1]);
    }

    #[test]
    fn a_view_without_groups_has_one_row() {
        check(&[(Some(1), None, None)], &[(Some(1), None, None)], 0, &[], &[]);
        check(&[(Some(1), None, None)], &[(Some(2), None, None)], 0, &[], &[2]);
        check(&[], &[(Some(2), None, None)], 0, &[], &[2]);
        check(&[(Some(1), None, None)], &[], 0, &[1], &[]);
    }
}
