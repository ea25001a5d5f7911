//! Limits for functions that make long values of short arguments: `repeat('x', 2000000000)`.
//!
//! The memory of a value that a function makes is not in any memory pool. A function here computes the size of its
//! result first, and refuses a result that is too large. A negative width is zero, as in PostgreSQL; the engine's
//! functions panic on some.
//!
//! Invariant: nothing is allocated for a result that is refused.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimestampNanosecondType,
};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::calendar::DAY;

/// The largest value that a function makes, in bytes.
const VALUE: u64 = 64 << 20;

/// The largest result of a function for one batch, in bytes. Columns of text hold less than 2 GiB.
const BATCH: u64 = 512 << 20;

/// The largest result of a replacement whose occurrences are not counted, in bytes.
const SHORT: u64 = 4 << 10;

/// The assumed size of a list's element, in bytes.
const ELEMENT: u64 = 16;

/// How the size of a result follows from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// The text of the first argument, as often as the second says.
    Repeat,
    /// As many characters as the second argument says.
    Pad,
    /// A list of the first argument, as often as the second says.
    RepeatElement,
    /// A list with as many elements as the second argument says.
    Resize,
    /// A list from one bound to another.
    Series,
    /// The first argument, with every occurrence of the second replaced by the third.
    Replace,
    /// The first argument, with one match of a pattern replaced by the third, or with all if there is a fourth.
    ReplacePattern,
    /// A position in the first argument, from the place that the third argument says. The size needs no limit.
    Position,
}

/// The functions with a limit.
const LIMITED: [(&str, Shape); 10] = [
    ("repeat", Shape::Repeat),
    ("lpad", Shape::Pad),
    ("rpad", Shape::Pad),
    ("array_repeat", Shape::RepeatElement),
    ("array_resize", Shape::Resize),
    ("range", Shape::Series),
    ("generate_series", Shape::Series),
    ("replace", Shape::Replace),
    ("regexp_replace", Shape::ReplacePattern),
    ("array_position", Shape::Position),
];

/// Returns a limited function for the engine's function, if its results need a limit.
pub(super) fn limited(engine: &Arc<ScalarUDF>) -> Option<ScalarUDF> {
    let shape = LIMITED.iter().find(|(name, _)| *name == engine.name())?.1;
    Some(ScalarUDF::new_from_impl(Limited { engine: Arc::clone(engine), shape }))
}

/// A function of the engine with a limit to the size of its results.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    engine: Arc<ScalarUDF>,
    shape: Shape,
}

/// A column of numbers, or `None` where the argument is null. Numbers below zero are zero.
fn counts(argument: &ArrayRef) -> Result<Vec<Option<u64>>> {
    let numbers = cast(argument, &DataType::Int64)?;
    Ok(numbers.as_primitive::<Int64Type>().iter().map(|n| n.map(|n| u64::try_from(n).unwrap_or(0))).collect())
}

/// The size of every value, in bytes.
fn sizes(argument: &ArrayRef) -> Result<Vec<u64>> {
    if matches!(argument.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let texts = cast(argument, &DataType::LargeUtf8)?;
        return Ok(texts.as_string::<i64>().iter().map(|text| text.map_or(0, |text| text.len() as u64)).collect());
    }
    let each = argument.get_array_memory_size() as u64 / argument.len().max(1) as u64;
    Ok(vec![each.clamp(1, ELEMENT * 64); argument.len()])
}

/// The number of elements between two bounds, or `None` if one of the arguments is null.
fn elements(arguments: &[ArrayRef]) -> Result<Vec<Option<u64>>> {
    let rows = arguments.first().map_or(0, |argument| argument.len());
    let numbers = |argument: &ArrayRef| -> Result<Int64Array> {
        let wide = match argument.data_type() {
            DataType::Interval(_) => {
                let intervals = cast(argument, &DataType::Interval(IntervalUnit::MonthDayNano))?;
                let nanos = intervals.as_primitive::<IntervalMonthDayNanoType>().iter().map(|interval| {
                    let interval = interval?;
                    let days = i64::from(interval.months) * 28 + i64::from(interval.days);
                    Some(days.saturating_mul(DAY).saturating_mul(1000).saturating_add(interval.nanoseconds))
                });
                return Ok(nanos.collect());
            }
            DataType::Date32 | DataType::Date64 => {
                let days = cast(&cast(argument, &DataType::Date32)?, &DataType::Int32)?;
                let days = cast(&days, &DataType::Int64)?;
                let nanos = days.as_primitive::<Int64Type>().unary::<_, Int64Type>(|d| d.saturating_mul(DAY * 1000));
                return Ok(nanos);
            }
            DataType::Timestamp(_, _) => {
                let zone = None;
                let nanos = cast(argument, &DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, zone))?;
                return Ok(nanos.as_primitive::<TimestampNanosecondType>().reinterpret_cast::<Int64Type>());
            }
            _ => cast(argument, &DataType::Int64)?,
        };
        Ok(wide.as_primitive::<Int64Type>().clone())
    };
    let columns = arguments.iter().map(numbers).collect::<Result<Vec<_>>>()?;
    let at = |column: usize, row: usize| columns[column].is_valid(row).then(|| i128::from(columns[column].value(row)));
    let count = |row: usize| {
        let (start, stop, step) = match columns.len() {
            1 => (0, at(0, row)?, 1),
            2 => (at(0, row)?, at(1, row)?, 1),
            _ => (at(0, row)?, at(1, row)?, at(2, row)?),
        };
        // The engine refuses a step of zero.
        let count = if step == 0 { 0 } else { (stop - start) / step + 1 };
        Some(u64::try_from(count.max(0)).unwrap_or(u64::MAX))
    };
    Ok((0..rows).map(count).collect())
}

/// The sizes of texts in which every occurrence of one text is replaced by another.
fn replaced(text: &ArrayRef, from: &ArrayRef, to: &ArrayRef) -> Result<Vec<u64>> {
    let large = |texts: &ArrayRef| cast(texts, &DataType::LargeUtf8);
    let (text, from, to) = (large(text)?, large(from)?, large(to)?);
    let rows = text.as_string::<i64>().iter().zip(from.as_string::<i64>()).zip(to.as_string::<i64>());
    let size = |((text, from), to): ((Option<&str>, Option<&str>), Option<&str>)| {
        let (Some(text), Some(from), Some(to)) = (text, from, to) else { return 0 };
        let longest = (text.len() + 1) as u64 * to.len() as u64;
        // Only a result that may be long is worth counting.
        let added = if longest <= SHORT { longest } else { (text.matches(from).count() * to.len()) as u64 };
        text.len() as u64 + added
    };
    Ok(rows.map(size).collect())
}

impl Limited {
    /// The sizes of the results in bytes, at most.
    fn sizes(&self, arguments: &[ArrayRef]) -> Result<Vec<u64>> {
        let times = |sizes: Vec<u64>, counts: Vec<Option<u64>>| -> Vec<u64> {
            sizes.into_iter().zip(counts).map(|(size, count)| size.saturating_mul(count.unwrap_or(0))).collect()
        };
        Ok(match (self.shape, arguments) {
            (Shape::Repeat, [text, count]) => times(sizes(text)?, counts(count)?),
            // A character has at most four bytes.
            (Shape::Pad, [text, width, ..]) => times(vec![4; text.len()], counts(width)?),
            (Shape::RepeatElement, [element, count]) => {
                let sizes = sizes(element)?.into_iter().map(|size| size.max(ELEMENT)).collect();
                times(sizes, counts(count)?)
            }
            (Shape::Resize, [list, count, ..]) => times(vec![ELEMENT; list.len()], counts(count)?),
            (Shape::Series, bounds) => {
                let elements = elements(bounds)?;
                times(vec![ELEMENT; elements.len()], elements)
            }
            (Shape::Replace, [text, from, to]) => replaced(text, from, to)?,
            (Shape::ReplacePattern, [text, _, to, flags @ ..]) => {
                let matches = |size: u64| if flags.is_empty() { 1 } else { size + 1 };
                let pairs = sizes(text)?.into_iter().zip(sizes(to)?);
                pairs.map(|(text, to)| text.saturating_add(matches(text).saturating_mul(to))).collect()
            }
            _ => vec![],
        })
    }

    fn check(&self, arguments: &[ColumnarValue], rows: usize) -> Result<()> {
        let scalars = arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { rows };
        let arrays = arguments.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let sizes = self.sizes(&arrays)?;
        let name = self.engine.name();
        if let Some(size) = sizes.iter().find(|size| **size > VALUE) {
            return exec_err!(
                "{name}() would make a value of {size} bytes; the limit is {VALUE}. Use smaller arguments"
            );
        }
        let total = sizes.iter().fold(0_u64, |total, size| total.saturating_add(*size));
        // The matches of a pattern are not counted, so the sizes of most rows are far too large.
        if total > BATCH && self.shape != Shape::ReplacePattern {
            return exec_err!(
                "{name}() would make {total} bytes for {rows} rows at a time; the limit is {BATCH}. Use smaller \
                 arguments, or a filter that keeps fewer rows"
            );
        }
        Ok(())
    }

    /// The arguments, with zero for a negative width or place.
    fn arguments(&self, arguments: Vec<ColumnarValue>) -> Result<Vec<ColumnarValue>> {
        let place = match self.shape {
            Shape::Repeat | Shape::Pad | Shape::RepeatElement | Shape::Resize => 1,
            Shape::Position => 2,
            Shape::Series | Shape::Replace | Shape::ReplacePattern => return Ok(arguments),
        };
        let mut arguments = arguments;
        if let Some(width) = arguments.get_mut(place)
            && width.data_type() == DataType::Int64
        {
            let above_zero = |array: &ArrayRef| -> ArrayRef {
                Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int64Type>(|width| width.max(0)))
            };
            *width = match &*width {
                ColumnarValue::Array(array) => ColumnarValue::Array(above_zero(array)),
                ColumnarValue::Scalar(scalar) => {
                    let one = above_zero(&scalar.to_array()?);
                    ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&one, 0)?)
                }
            };
        }
        Ok(arguments)
    }
}

impl ScalarUDFImpl for Limited {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.engine.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.engine.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.engine.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args.args, args.number_rows)?;
        let arguments = self.arguments(args.args)?;
        self.engine.invoke_with_args(ScalarFunctionArgs { args: arguments, ..args })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.engine.output_ordering(inputs)
    }
}
