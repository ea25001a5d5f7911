//! Sizes of batches, and where a batch is cut so that what an operator makes of a piece stays small.
//!
//! Invariant: pieces of a batch are in order, none is empty, and together they are the batch.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
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
    match column.data_type() {
        DataType::Utf8View => {
            let texts = column.as_string_view();
            viewed(texts.views(), texts.data_buffers())
        }
        DataType::BinaryView => {
            let values = column.as_binary_view();
            viewed(values.views(), values.data_buffers())
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let ends = lists.value_offsets();
            let (from, to) = (ends[0] as usize, ends[lists.len()] as usize);
            size_of_val(ends).saturating_add(column_bytes(&lists.values().slice(from, to - from)))
        }
        DataType::Struct(_) => column.as_struct().columns().iter().map(column_bytes).fold(0, usize::saturating_add),
        _ => column.to_data().get_slice_memory_size().unwrap_or(0),
    }
}

/// Bytes of views and of the values that they show. Several views may show one value, so the values are at most what
/// the buffers hold.
fn viewed(views: &[u128], buffers: &[Buffer]) -> usize {
    let shown = views.iter().map(|view| length(*view)).fold(0, usize::saturating_add);
    let held = buffers.iter().map(Buffer::len).fold(0, usize::saturating_add);
    size_of_val(views).saturating_add(shown.min(held))
}

/// The length of the value that a view shows: its lowest four bytes.
fn length(view: u128) -> usize {
    view as u32 as usize
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
        DataType::Utf8View => values.as_string_view().views().iter().map(|view| length(*view)).max().unwrap_or(0) + 16,
        DataType::BinaryView => {
            values.as_binary_view().views().iter().map(|view| length(*view)).max().unwrap_or(0) + 16
        }
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
    use arrow::datatypes::{Int32Type, Int64Type};

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

    #[test]
    fn views_count_what_they_show_and_lists_what_lies_between_their_ends() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1000); 8]));
        let views = arrow::compute::cast(&texts, &DataType::Utf8View).unwrap();
        assert!((8_000..8_200).contains(&column_bytes(&views)), "{}", column_bytes(&views));
        assert!((1_000..1_020).contains(&widest_value(&views)));
        assert!(column_bytes(&views.slice(0, 2)) < 2_100);
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..100).map(|_| Some(vec![Some(1); 10])));
        let lists: ArrayRef = Arc::new(lists);
        let all = column_bytes(&lists);
        assert!(all > 8_000 && column_bytes(&lists.slice(3, 10)) * 9 < all, "{all}");
        let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        assert_eq!(column_bytes(&none), 0);
    }
}
