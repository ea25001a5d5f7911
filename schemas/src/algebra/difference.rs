//! Compares two sets of merged states group by group, for the audit of both layers.
//!
//! Invariant: the comparison is made below HAVING and below the projection, so groups that the view would hide are
//! compared too. Only the declared [`Equality`] of an aggregate decides what is equal.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::error::DataFusionError;

use super::aggregate::Aggregate;
use super::compile::ViewPlan;
use super::digest;
use super::rounding::{AccumulatorKind, agree};
use super::support::Equality;
use crate::{Error, Result};

/// One aggregate of one group for which both sides differ.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Difference {
    /// `_partition` and the group's values, as text.
    pub group: Vec<String>,
    /// The aggregate as SQL shows it; `None` if one side lacks the group.
    pub aggregate: Option<String>,
    /// The value of each side; `None` where the side lacks the group.
    pub left: Option<String>,
    pub right: Option<String>,
}

/// The most differences that are told one by one. A view may have millions of groups, and a fault in one place makes
/// all of them differ.
const TOLD: usize = 1_000;

/// Where two sets of states differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// In the order of their groups.
    pub told: Vec<Difference>,
    /// How many there are beyond those that are told.
    pub more: u64,
}

impl Differences {
    /// Counts one difference, and tells it if few were told before.
    fn add(&mut self, difference: impl FnOnce() -> PlanResult<Difference>) -> PlanResult<()> {
        match self.told.len() < TOLD {
            true => self.told.push(difference()?),
            false => self.more += 1,
        }
        Ok(())
    }
}

impl ViewPlan {
    /// Finds where two sets of states differ. Both have this view's state schema and one row per partition and group,
    /// as [`ViewPlan::merge`] returns them. `magnitudes` is the result of [`ViewPlan::magnitudes`] over the rows of
    /// the range, in any number of batches. Without magnitudes, float sums are judged by their own results.
    ///
    /// Errors: [`Error::RunPlan`] if the states cannot be read.
    pub fn differences(
        &self,
        left: &[RecordBatch],
        right: &[RecordBatch],
        magnitudes: &[RecordBatch],
    ) -> Result<Differences> {
        self.compare(left, right, magnitudes).map_err(|source| Error::RunPlan { what: "comparing states", source })
    }

    fn compare(
        &self,
        left: &[RecordBatch],
        right: &[RecordBatch],
        magnitudes: &[RecordBatch],
    ) -> PlanResult<Differences> {
        let left = concat_batches(self.state_schema(), left.iter())?;
        let right = concat_batches(self.state_schema(), right.iter())?;
        let keys = 1 + self.group_count();
        let converter = RowConverter::new(
            self.state_schema().fields()[..keys]
                .iter()
                .map(|field| SortField::new(field.data_type().clone()))
                .collect(),
        )?;
        let magnitudes = add_up(&converter, magnitudes, keys)?;
        let left_rows = index(&converter, &left, keys)?;
        let mut right_rows = index(&converter, &right, keys)?;
        let mut differences = Differences::default();
        for (key, l) in &left_rows {
            let Some(r) = right_rows.remove(key) else {
                differences.add(|| {
                    let group = group_text(&left, *l, keys)?;
                    Ok(Difference { group, aggregate: None, left: Some("present".into()), right: None })
                })?;
                continue;
            };
            let mut sums = magnitudes.get(key).map_or(&[][..], Vec::as_slice);
            for (i, aggregate) in self.aggregates().iter().enumerate() {
                let own = aggregate.magnitudes.len().min(sums.len());
                let (own, others) = sums.split_at(own);
                sums = others;
                let (a, b) = (left.column(keys + i).slice(*l, 1), right.column(keys + i).slice(r, 1));
                if !same(aggregate, &a, &b, own)? {
                    differences.add(|| {
                        Ok(Difference {
                            group: group_text(&left, *l, keys)?,
                            aggregate: Some(aggregate.name.clone()),
                            left: Some(value(aggregate, &a)?.to_string()),
                            right: Some(value(aggregate, &b)?.to_string()),
                        })
                    })?;
                }
            }
        }
        for r in right_rows.into_values() {
            differences.add(|| {
                let group = group_text(&right, r, keys)?;
                Ok(Difference { group, aggregate: None, left: None, right: Some("present".into()) })
            })?;
        }
        differences.told.sort_by(|a, b| (&a.group, &a.aggregate).cmp(&(&b.group, &b.aggregate)));
        Ok(differences)
    }
}

/// Returns the row number of each group.
fn index(converter: &RowConverter, states: &RecordBatch, keys: usize) -> PlanResult<HashMap<OwnedRow, usize>> {
    let rows = converter.convert_columns(&states.columns()[..keys])?;
    let index: HashMap<_, _> = rows.iter().enumerate().map(|(i, r)| (r.owned(), i)).collect();
    if index.len() != states.num_rows() {
        return Err(DataFusionError::Execution("a group occurs twice in merged states".into()));
    }
    Ok(index)
}

/// Adds up the magnitudes of each group.
fn add_up(converter: &RowConverter, batches: &[RecordBatch], keys: usize) -> PlanResult<HashMap<OwnedRow, Vec<f64>>> {
    let mut sums: HashMap<OwnedRow, Vec<f64>> = HashMap::new();
    for batch in batches {
        let (groups, columns) = batch.columns().split_at(keys);
        let groups = converter.convert_columns(groups)?;
        for (at, group) in groups.iter().enumerate() {
            let sums = sums.entry(group.owned()).or_insert_with(|| vec![0.0; columns.len()]);
            for (sum, column) in sums.iter_mut().zip(columns) {
                let column = column.as_primitive::<Float64Type>();
                *sum += if column.is_valid(at) { column.value(at) } else { 0.0 };
            }
        }
    }
    Ok(sums)
}

fn group_text(states: &RecordBatch, row: usize, keys: usize) -> PlanResult<Vec<String>> {
    states.columns()[..keys].iter().map(|column| Ok(ScalarValue::try_from_array(column, row)?.to_string())).collect()
}

/// Finishes one state.
fn value(aggregate: &Aggregate, state: &ArrayRef) -> PlanResult<ScalarValue> {
    let columns = state.as_struct().columns();
    if aggregate.by_groups {
        let mut groups = aggregate.planned.create_groups_accumulator()?;
        groups.merge_batch(columns, &[0], 1)?;
        let values = groups.evaluate(datafusion::logical_expr::EmitTo::All)?;
        return ScalarValue::try_from_array(&values, 0);
    }
    let mut accumulator = aggregate.planned.create_accumulator()?;
    accumulator.merge_batch(columns)?;
    accumulator.evaluate()
}

/// True if both states are the same answer under the aggregate's declared equality.
fn same(aggregate: &Aggregate, left: &ArrayRef, right: &ArrayRef, magnitudes: &[f64]) -> PlanResult<bool> {
    if left == right {
        return Ok(true);
    }
    match aggregate.equality {
        Equality::States => Ok(false),
        Equality::Multisets => {
            let (left, right) = (left.as_struct(), right.as_struct());
            for (l, r) in left.columns().iter().zip(right.columns()) {
                if !same_items(l, r)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Equality::Values => Ok(value(aggregate, left)? == value(aggregate, right)?),
        Equality::Floats => {
            let kind = AccumulatorKind { function: aggregate.planned.fun().name(), by_groups: aggregate.by_groups };
            agree(kind, left, right, magnitudes)
        }
        Equality::Digests => digest::agree(left, right),
    }
}

/// True if two list columns have the same items in any order, or two other columns are equal.
fn same_items(left: &ArrayRef, right: &ArrayRef) -> PlanResult<bool> {
    match left.data_type() {
        DataType::List(_) => Ok(sorted_items(left)? == sorted_items(right)?),
        _ => Ok(left == right),
    }
}

/// Returns the items of a list column in the order of their rows, which exists for nested types as well.
fn sorted_items(column: &ArrayRef) -> PlanResult<Vec<OwnedRow>> {
    let items = column.as_list::<i32>().value(0);
    let converter = RowConverter::new(vec![SortField::new(items.data_type().clone())])?;
    let mut rows: Vec<OwnedRow> = converter.convert_columns(&[items])?.iter().map(|row| row.owned()).collect();
    rows.sort_unstable();
    Ok(rows)
}
