//! How many bytes each value of a column becomes when the column is written out, before anything is written.
//!
//! Values may be shared: a dictionary, runs and views of lists show one value in many rows. Written out, each row has a
//! value of its own.
//!
//! Invariant: measuring takes time and memory by the size of the column, not by the size of what it becomes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListViewArray, OffsetSizeTrait, RunArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowNativeType, DataType, Fields, Int16Type, Int32Type, Int64Type, RunEndIndexType};

/// The bytes of the values of a column, row by row.
#[derive(Debug, Clone)]
pub(crate) enum Widths {
    /// All values have one width.
    Same { width: usize, rows: usize },
    /// Where each value ends if all stand one after the other; begins with 0.
    Ends(Vec<usize>),
    /// Runs of rows with values of one width.
    Runs(Vec<WidthRun>),
}

/// Rows with values of one width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WidthRun {
    width: usize,
    /// The row behind the last one of the run.
    to: usize,
    /// The bytes of all rows up to there.
    end: usize,
}

/// Rows that are measured one by one. More rows than that take no memory each, such as those of a long run.
const MEASURED_ROWS: usize = 1 << 24;

impl Widths {
    pub(crate) fn of(widths: impl Iterator<Item = usize>) -> Self {
        let mut ends = Vec::with_capacity(widths.size_hint().0 + 1);
        let mut end = 0_usize;
        ends.push(end);
        for width in widths {
            end = end.saturating_add(width);
            ends.push(end);
        }
        Self::Ends(ends)
    }

    /// The widths of runs, as widths and the rows where they end.
    fn of_runs(runs: impl Iterator<Item = (usize, usize)>) -> Self {
        let (mut from, mut end) = (0, 0_usize);
        let run = |(width, to): (usize, usize)| {
            end = end.saturating_add(width.saturating_mul(to.saturating_sub(from)));
            from = to;
            WidthRun { width, to, end }
        };
        Self::Runs(runs.map(run).collect())
    }

    /// Widths of `rows` rows that are measured one by one, or `most` for each if the rows are too many for that.
    fn each(rows: usize, most: usize, width: impl Fn(usize) -> usize) -> Self {
        match rows > MEASURED_ROWS {
            true => Self::Same { width: most, rows },
            false => Self::of((0..rows).map(width)),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Same { rows, .. } => *rows,
            Self::Ends(ends) => ends.len() - 1,
            Self::Runs(runs) => runs.last().map_or(0, |run| run.to),
        }
    }

    /// The bytes of the rows below `row`.
    fn below(&self, row: usize) -> usize {
        match self {
            Self::Same { width, .. } => width.saturating_mul(row),
            Self::Ends(ends) => ends[row],
            Self::Runs(runs) => {
                let at = runs.partition_point(|run| run.to <= row);
                let (from, end) = at.checked_sub(1).map_or((0, 0), |before| (runs[before].to, runs[before].end));
                let width = runs.get(at).map_or(0, |run| run.width);
                end.saturating_add(width.saturating_mul(row - from))
            }
        }
    }

    /// The bytes of the values from row `from` up to, not including, `to`.
    pub(crate) fn between(&self, from: usize, to: usize) -> usize {
        match self {
            Self::Same { width, .. } => width.saturating_mul(to.saturating_sub(from)),
            _ if to <= from => 0,
            // A sum that is not known any more makes everything before it too long.
            _ => match self.below(to) {
                usize::MAX => usize::MAX,
                end => end - self.below(from),
            },
        }
    }

    pub(crate) fn at(&self, row: usize) -> usize {
        self.between(row, row + 1)
    }

    pub(crate) fn total(&self) -> usize {
        self.between(0, self.rows())
    }

    /// The widths after a change that depends on the width alone.
    pub(crate) fn map(self, change: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Same { width, rows } => Self::Same { width: change(width), rows },
            Self::Runs(runs) => Self::of_runs(runs.into_iter().map(|run| (change(run.width), run.to))),
            other => Self::of((0..other.rows()).map(|row| change(other.at(row)))),
        }
    }

    /// The widths of rows that have values of both.
    pub(crate) fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Same { width, rows }, Self::Same { width: more, .. }) => {
                Self::Same { width: width.saturating_add(*more), rows }
            }
            (Self::Runs(runs), Self::Same { width, .. }) => {
                Self::of_runs(runs.into_iter().map(|run| (run.width.saturating_add(*width), run.to)))
            }
            (one, other) => {
                let most = one.total().saturating_add(other.total());
                Self::each(one.rows(), most, |row| one.at(row).saturating_add(other.at(row)))
            }
        }
    }

    /// Cuts the rows so that each part becomes at most `most` bytes, or is one row; as `(from, to)`.
    pub(crate) fn parts(&self, most: usize) -> Vec<(usize, usize)> {
        let rows = self.rows();
        if let Self::Same { width, .. } = self {
            let step = (most / (*width).max(1)).max(1);
            return (0..rows).step_by(step).map(|from| (from, rows.min(from + step))).collect();
        }
        let (mut parts, mut from) = (Vec::new(), 0);
        for row in 0..rows {
            if row > from && self.between(from, row + 1) > most {
                parts.push((from, row));
                from = row;
            }
        }
        if from < rows {
            parts.push((from, rows));
        }
        parts
    }
}

/// What values become.
pub(crate) trait WidthOf {
    /// Values that hold no others. Text and binary views are among them.
    fn plain(&self, values: &ArrayRef) -> Widths;

    /// What stands around the elements of a list or of a map, and what a NULL takes.
    fn around(&self) -> usize;

    /// What stands between a key and its value.
    fn between(&self) -> usize;

    /// What stands around the values of a struct.
    fn names(&self, fields: &Fields) -> usize;
}

/// The bytes that each value of `values` becomes.
pub(crate) fn widths(values: &ArrayRef, measure: &impl WidthOf) -> Widths {
    let rows = values.len();
    match values.data_type() {
        DataType::List(_) => {
            let lists = values.as_list::<i32>();
            listed(lists.offsets(), &elements(lists.offsets(), lists.values(), measure), measure)
        }
        DataType::LargeList(_) => {
            let lists = values.as_list::<i64>();
            listed(lists.offsets(), &elements(lists.offsets(), lists.values(), measure), measure)
        }
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0);
            let elements = widths(values.as_fixed_size_list().values(), measure);
            let list = |row: usize| elements.between(row * length, (row + 1) * length).saturating_add(measure.around());
            match elements {
                Widths::Same { .. } => Widths::Same { width: list(0), rows },
                _ => Widths::each(rows, elements.total().saturating_add(measure.around()), list),
            }
        }
        DataType::ListView(_) => viewed(values.as_list_view::<i32>(), measure),
        DataType::LargeListView(_) => viewed(values.as_list_view::<i64>(), measure),
        DataType::Map(_, _) => {
            let maps = values.as_map();
            let keys = elements(maps.offsets(), maps.keys(), measure);
            let entries = keys.and(&elements(maps.offsets(), maps.values(), measure));
            listed(maps.offsets(), &entries.map(|entry| entry.saturating_add(measure.between())), measure)
        }
        DataType::Struct(fields) => {
            let around = Widths::Same { width: measure.names(fields), rows };
            let columns = values.as_struct().columns().iter();
            columns.fold(around, |whole, column| widths(column, measure).and(&whole))
        }
        DataType::Dictionary(_, _) => {
            let dictionary = values.as_any_dictionary();
            let (keys, shared) = (dictionary.keys(), dictionary.values());
            if shared.is_empty() {
                return Widths::Same { width: measure.around(), rows };
            }
            let (each, key) = (used(shared, rows, measure), dictionary.normalized_keys());
            Widths::of((0..rows).map(|row| if keys.is_null(row) { measure.around() } else { each(key[row]) }))
        }
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => values.as_any().downcast_ref().map(|runs| repeated::<Int16Type>(runs, measure)),
            DataType::Int32 => values.as_any().downcast_ref().map(|runs| repeated::<Int32Type>(runs, measure)),
            _ => values.as_any().downcast_ref().map(|runs| repeated::<Int64Type>(runs, measure)),
        }
        .unwrap_or_else(|| measure.plain(values)),
        _ => measure.plain(values),
    }
}

/// The widths of shared values by their numbers. All of them are measured once, unless few rows show any.
fn used<'a>(shared: &'a ArrayRef, rows: usize, measure: &'a impl WidthOf) -> Box<dyn Fn(usize) -> usize + 'a> {
    if rows < shared.len() {
        return Box::new(move |value| widths(&shared.slice(value, 1), measure).total());
    }
    let each = widths(shared, measure);
    Box::new(move |value| each.at(value))
}

fn repeated<R: RunEndIndexType>(runs: &RunArray<R>, measure: &impl WidthOf) -> Widths {
    let each = widths(&runs.values_slice(), measure);
    let ends = runs.run_ends().sliced_values().map(ArrowNativeType::as_usize);
    Widths::of_runs(ends.enumerate().map(|(run, to)| (each.at(run), to)))
}

/// The elements that lists with these ends show, from their first one on.
fn elements<O: OffsetSizeTrait>(ends: &OffsetBuffer<O>, elements: &ArrayRef, measure: &impl WidthOf) -> Widths {
    let (from, to) = (ends[0].as_usize(), ends[ends.len() - 1].as_usize());
    let shown = if from == 0 && to == elements.len() { Arc::clone(elements) } else { elements.slice(from, to - from) };
    widths(&shown, measure)
}

fn listed<O: OffsetSizeTrait>(ends: &OffsetBuffer<O>, elements: &Widths, measure: &impl WidthOf) -> Widths {
    let first = ends[0].as_usize();
    let list = |ends: &[O]| elements.between(ends[0].as_usize() - first, ends[1].as_usize() - first);
    Widths::of(ends.windows(2).map(|ends| list(ends).saturating_add(measure.around())))
}

fn viewed<O: OffsetSizeTrait>(lists: &GenericListViewArray<O>, measure: &impl WidthOf) -> Widths {
    let elements = widths(lists.values(), measure);
    let list = |(from, length): (&O, &O)| elements.between(from.as_usize(), from.as_usize() + length.as_usize());
    let lists = lists.offsets().iter().zip(lists.sizes().iter());
    Widths::of(lists.map(|shown| list(shown).saturating_add(measure.around())))
}

#[cfg(test)]
mod tests;
