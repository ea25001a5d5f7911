//! How the size of a result follows from the arguments.
//!
//! Invariant: an estimate is never below the bytes of the result.

use std::collections::HashMap;

use arrow::array::new_null_array;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

use super::arguments::{Numbers, TextArgument, Values, bytes_between, scalar_bytes};
use super::matches::{Replace, ReplacePattern};
use super::series::Series;

/// Bytes of the place from which an element of a list is copied.
const PLACE: u64 = 8;

/// The sizes of a function's results in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The largest value.
    pub(super) largest: u64,
    /// All values, and the scalars that the function writes out for every row.
    pub(super) total: u64,
}

/// What a function makes of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The text of the first argument, as often as the second says.
    Repeat,
    /// As many characters as the second argument says.
    Pad,
    /// A list of the first argument, as often as the second says.
    RepeatElement,
    /// A list with as many elements as the second argument says.
    Resize,
    /// The text of all elements of the first argument, with the second between them and the third in place of NULL.
    JoinElements,
    /// A list from one bound to another.
    Series,
    /// The first argument, with every occurrence of the second replaced by the third.
    Replace,
    /// The first argument, with one match of a pattern replaced by the third, or with all if the fourth has a `g`.
    ReplacePattern,
    /// A position in the first argument, from the place that the third argument says. The size needs no limit.
    Position,
}

impl Shape {
    /// The sizes of the results of `rows` rows, at most. Wrong numbers of arguments have no result.
    ///
    /// Errors: a series may have no end.
    pub(super) fn estimate(self, arguments: &[ColumnarValue], rows: usize) -> Result<Sizes> {
        let sizes = match (self, arguments) {
            (Self::Repeat, [text, count]) => {
                let (text, count) = (TextArgument::of(text), Numbers::of(count)?);
                of_rows(rows, |row| text.bytes(row).saturating_mul(count.count(row)))
            }
            (Self::Pad, [text, width, fill @ ..]) => padded(text, width, fill.first(), rows)?,
            (Self::RepeatElement, [element, count]) => {
                let (element, count) = (Values::of(element)?, Numbers::of(count)?);
                of_rows(rows, |row| {
                    let places = element.elements(row).unwrap_or(1).max(1) * PLACE;
                    element.bytes(row).saturating_add(places).saturating_mul(count.count(row))
                })
            }
            (Self::Resize, [list, count, fill @ ..]) => resized(list, count, fill.first(), rows)?,
            (Self::JoinElements, [list, between, null @ ..]) => {
                let (list, between) = (Values::of(list)?, TextArgument::of(between));
                let null = null.first().map(TextArgument::of);
                of_rows(rows, |row| {
                    let elements = list.leaves(row);
                    let null = null.as_ref().map_or(0, |null| null.bytes(row));
                    let each = elements.text_width.max(null).saturating_add(between.bytes(row));
                    elements.count.saturating_mul(each).saturating_add(list.bytes(row))
                })
            }
            (Self::Series, bounds) => match Series::of(bounds)? {
                Some(series) => of_rows(rows, |row| series.elements(row).saturating_mul(series.width)),
                None => of_rows(rows, |_| 0),
            },
            (Self::Replace, [text, from, to]) => {
                let replace = Replace::of(text, from, to);
                of_rows(rows, |row| replace.estimate(row))
            }
            (Self::ReplacePattern, [text, pattern, by, flags @ ..]) => {
                let replace = ReplacePattern::of(text, pattern, by, flags.first());
                of_rows(rows, |row| replace.estimate(row))
            }
            _ => of_rows(rows, |_| 0),
        };
        Ok(sizes.beside(self.written_out(arguments, rows)?))
    }

    /// The sizes of the results with the matches counted; `None` if the function replaces no matches.
    pub(super) fn count(self, arguments: &[ColumnarValue], rows: usize) -> Result<Option<Sizes>> {
        let sizes = match (self, arguments) {
            (Self::Replace, [text, from, to]) => {
                let replace = Replace::of(text, from, to);
                of_rows(rows, |row| replace.count(row))
            }
            (Self::ReplacePattern, [text, pattern, by, flags @ ..]) => {
                let replace = ReplacePattern::of(text, pattern, by, flags.first());
                let mut known = HashMap::new();
                of_rows(rows, |row| replace.count(row, &mut known))
            }
            _ => return Ok(None),
        };
        Ok(Some(sizes.beside(self.written_out(arguments, rows)?)))
    }

    /// The bytes of the scalars that the engine's function writes out for every row beside a column.
    fn written_out(self, arguments: &[ColumnarValue], rows: usize) -> Result<u64> {
        let is_scalar = |argument: &ColumnarValue| matches!(argument, ColumnarValue::Scalar(_));
        let others = arguments.get(1..).unwrap_or_default();
        let keeps_scalars = match self {
            Self::Replace | Self::ReplacePattern => others.iter().all(is_scalar),
            _ => false,
        };
        let mut bytes = 0_u64;
        if arguments.iter().all(is_scalar) {
            return Ok(bytes);
        }
        for (place, argument) in arguments.iter().enumerate() {
            if let ColumnarValue::Scalar(scalar) = argument
                && !(keeps_scalars && place > 0)
            {
                bytes = bytes.saturating_add(scalar_bytes(scalar)?.saturating_mul(rows as u64));
            }
        }
        Ok(bytes)
    }
}

impl Sizes {
    fn beside(self, bytes: u64) -> Self {
        Self { total: self.total.saturating_add(bytes), ..self }
    }
}

fn of_rows(rows: usize, mut size: impl FnMut(usize) -> u64) -> Sizes {
    (0..rows).fold(Sizes { largest: 0, total: 0 }, |sizes, row| {
        let size = size(row);
        Sizes { largest: sizes.largest.max(size), total: sizes.total.saturating_add(size) }
    })
}

/// The sizes of texts of `width` characters. Without `fill`, spaces fill them.
fn padded(text: &ColumnarValue, width: &ColumnarValue, fill: Option<&ColumnarValue>, rows: usize) -> Result<Sizes> {
    let (text, width) = (TextArgument::of(text), Numbers::of(width)?);
    let fill = fill.map_or(TextArgument::One(Some(" ")), TextArgument::of);
    let longest = |fill: Option<&str>| fill.and_then(|fill| fill.chars().map(char::len_utf8).max()).unwrap_or(0) as u64;
    let longest_of_all = match fill {
        TextArgument::One(fill) => Some(longest(fill)),
        _ => None,
    };
    Ok(of_rows(rows, |row| {
        let width = width.count(row);
        // The engine makes room for one byte per character, also where a text is NULL.
        let Some(text) = text.get(row) else { return width };
        let missing = width.saturating_sub(text.chars().count() as u64);
        let longest = longest_of_all.unwrap_or_else(|| longest(fill.get(row)));
        missing.saturating_mul(longest).saturating_add(text.len() as u64).max(width)
    }))
}

/// The sizes of lists of `count` elements. Without `fill`, nulls fill them.
fn resized(list: &ColumnarValue, count: &ColumnarValue, fill: Option<&ColumnarValue>, rows: usize) -> Result<Sizes> {
    let (list, count) = (Values::of(list)?, Numbers::of(count)?);
    let fill = fill.map(Values::of).transpose()?;
    let null = match list.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            bytes_between(&new_null_array(item.data_type(), 1), 0, 1)
        }
        _ => PLACE,
    };
    Ok(of_rows(rows, |row| {
        if !list.is_valid(row) {
            return 0;
        }
        let missing = count.count(row).saturating_sub(list.elements(row).unwrap_or(0));
        let width = fill.as_ref().map_or(null, |fill| fill.bytes(row).max(null));
        // The elements are made once before they are copied into the list.
        missing.saturating_mul(width).saturating_mul(2).saturating_add(list.bytes(row))
    }))
}
