//! Sizes of batches, and where a batch is cut so that what an operator makes of a piece stays small.
//!
//! Invariant: pieces of a batch are in order, none is empty, and together they are the batch.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};

/// A list column whose elements become rows, and how many lists lie in each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unnested {
    pub(crate) column: usize,
    pub(crate) depth: usize,
}

/// Bytes of a row, if all columns have a fixed width.
pub(crate) fn fixed_width(schema: &Schema) -> Option<usize> {
    // A bit of validity per column is not counted.
    schema.fields().iter().map(|field| field.data_type().primitive_width().or(small(field.data_type()))).sum()
}

fn small(data_type: &DataType) -> Option<usize> {
    matches!(data_type, DataType::Boolean | DataType::Null).then_some(1)
}

/// Bytes of the rows of a batch, without what lies around them in its buffers.
pub(crate) fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(column_bytes).fold(0, usize::saturating_add)
}

pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or(0)
}

/// Bytes of the widest row of a batch, at most: the widest values of all columns together.
pub(crate) fn widest(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(widest_value).fold(0, usize::saturating_add)
}

fn widest_value(values: &ArrayRef) -> usize {
    let gap = |ends: &[i32]| ends.windows(2).map(|w| w[1].abs_diff(w[0]) as usize).max().unwrap_or(0);
    let long_gap = |ends: &[i64]| {
        let longest = ends.windows(2).map(|w| w[1].abs_diff(w[0])).max().unwrap_or(0);
        usize::try_from(longest).unwrap_or(usize::MAX)
    };
    match values.data_type() {
        DataType::Utf8 => gap(values.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => long_gap(values.as_string::<i64>().value_offsets()),
        DataType::Binary => gap(values.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => long_gap(values.as_binary::<i64>().value_offsets()),
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            gap(lists.value_offsets()).saturating_mul(widest_value(lists.values()))
        }
        DataType::Struct(_) => {
            let columns = values.as_struct().columns().iter();
            columns.map(widest_value).fold(0, usize::saturating_add)
        }
        other => match other.primitive_width().or(small(other)) {
            Some(width) => width,
            // The mean: there is no cheap way to the widest value.
            None => values.to_data().get_slice_memory_size().unwrap_or(0) / values.len().max(1),
        },
    }
}

/// Rows that `row` becomes: the longest of its lists.
fn rows_of(batch: &RecordBatch, row: usize, unnested: &[Unnested]) -> usize {
    let lengths = unnested.iter().map(|list| elements(batch.column(list.column), row, row + 1, list.depth));
    lengths.max().unwrap_or(1).max(1)
}

/// The elements of the lists from `from` to `to`, `depth` lists deep.
fn elements(values: &ArrayRef, from: usize, to: usize, depth: usize) -> usize {
    let (inner, from, to) = match values.data_type() {
        _ if depth == 0 => return to - from,
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            let ends = lists.value_offsets();
            (lists.values(), ends[from] as usize, ends[to] as usize)
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            let end = |row: usize| usize::try_from(lists.value_offsets()[row]).unwrap_or(usize::MAX);
            (lists.values(), end(from), end(to))
        }
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            (values.as_fixed_size_list().values(), from * length, to * length)
        }
        _ => return to - from,
    };
    elements(inner, from, to, depth - 1)
}

/// The number of rows, from `from` on, whose lists together become at most `limit` rows, and how many they become; at
/// least one row.
pub(crate) fn until(batch: &RecordBatch, from: usize, unnested: &[Unnested], limit: usize) -> (usize, usize) {
    let mut made = 0_usize;
    for row in from..batch.num_rows() {
        let more = made.saturating_add(rows_of(batch, row, unnested));
        if more > limit && row > from {
            return (row - from, made);
        }
        made = more;
    }
    (batch.num_rows() - from, made)
}

/// Bytes of the widest row of `batch` outside its lists, at most.
pub(crate) fn widest_beside(batch: &RecordBatch, unnested: &[Unnested]) -> usize {
    let is_list = |column: usize| unnested.iter().any(|list| list.column == column);
    let others = batch.columns().iter().enumerate().filter(|(column, _)| !is_list(*column));
    others.map(|(_, values)| widest_value(values)).fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn batch() -> RecordBatch {
        let lists = [3, 0, 2, 9].map(|n| (n > 0).then(|| vec![Some(7); n]));
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
        let texts = StringArray::from(vec!["a", "bcd", "", "ef"]);
        let numbers = Int64Array::from(vec![1, 2, 3, 4]);
        RecordBatch::try_from_iter([
            ("l", Arc::new(lists) as ArrayRef),
            ("t", Arc::new(texts) as ArrayRef),
            ("n", Arc::new(numbers) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn lists_are_cut_where_their_rows_become_too_many() {
        let check = |from, limit, expect| {
            let lists = [Unnested { column: 0, depth: 1 }];
            assert_eq!(until(&batch(), from, &lists, limit), expect, "{from} {limit}");
        };
        check(0, 100, (4, 15));
        check(0, 6, (3, 6));
        check(0, 4, (2, 4));
        check(0, 1, (1, 3));
        check(3, 1, (1, 9));
        check(2, 2, (1, 2));
    }

    #[test]
    fn widths_are_those_of_values() {
        assert_eq!(widest(&batch()), 9 * 4 + 3 + 8);
        assert_eq!(widest_beside(&batch(), &[Unnested { column: 0, depth: 1 }]), 3 + 8);
        assert_eq!(fixed_width(&batch().schema()), None);
        assert_eq!(fixed_width(&batch().project(&[2]).unwrap().schema()), Some(8));
        assert!(bytes(&batch().slice(0, 1)) < bytes(&batch()));
    }
}
