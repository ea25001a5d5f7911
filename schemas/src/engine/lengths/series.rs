//! The number of elements of `range` and `generate_series`.
//!
//! Invariant: a series that is computed comes to an end. A step whose parts have different signs may stand still:
//! `INTERVAL '1 month -29 days'` leads from 30 January to 30 January.

use arrow::array::{Array, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::ColumnarValue;

use super::arguments::{Numbers, Values};
use crate::engine::calendar::DAY;

/// The nanoseconds of a day.
const DAY_NANOS: i128 = DAY as i128 * 1000;

/// The most by which two clocks of one time zone differ, in nanoseconds.
const ZONE_NANOS: i128 = 2 * DAY_NANOS;

/// The days that a month has at least.
const MONTH_DAYS: i128 = 28;

/// The arguments, in numbers, days or nanoseconds.
pub(super) struct Series {
    start: Option<Positions>,
    stop: Positions,
    step: Option<SeriesStep>,
    /// Bytes of an element.
    pub(super) width: u64,
}

/// Places on the line of numbers, days or nanoseconds.
struct Positions {
    numbers: Numbers,
    unit: i128,
    has_zone: bool,
}

enum SeriesStep {
    Number(Numbers),
    Interval { intervals: IntervalMonthDayNanoArray, is_one: bool, is_in_days: bool },
}

impl Positions {
    fn of(values: &Values) -> Result<Self> {
        let (unit, has_zone) = match values.data_type() {
            DataType::Timestamp(unit, zone) => {
                let nanos = match unit {
                    TimeUnit::Second => 1_000_000_000,
                    TimeUnit::Millisecond => 1_000_000,
                    TimeUnit::Microsecond => 1_000,
                    TimeUnit::Nanosecond => 1,
                };
                (nanos, zone.is_some())
            }
            _ => (1, false),
        };
        Ok(Self { numbers: Numbers::of_values(values)?, unit, has_zone })
    }

    fn get(&self, row: usize) -> Option<i128> {
        self.numbers.get(row).map(|number| i128::from(number) * self.unit)
    }
}

impl SeriesStep {
    /// Errors: an interval has parts of different signs.
    fn of(argument: &ColumnarValue, is_in_days: bool) -> Result<Self> {
        let DataType::Interval(_) = argument.data_type() else {
            return Ok(Self::Number(Numbers::of(argument)?));
        };
        let intervals = cast(&argument.to_array(1)?, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>().clone();
        for interval in intervals.iter().flatten() {
            let parts = [interval.months.signum(), interval.days.signum(), interval.nanoseconds.signum() as i32];
            if parts.contains(&1) && parts.contains(&-1) {
                return exec_err!(
                    "range() and generate_series() take a step whose months, days and time have one sign. Others may \
                     never reach the end. Use one unit in the interval"
                );
            }
        }
        Ok(Self::Interval { intervals, is_one: matches!(argument, ColumnarValue::Scalar(_)), is_in_days })
    }

    /// The least step, whatever the months are that it leads over.
    fn get(&self, row: usize) -> Option<i128> {
        let (intervals, is_one, is_in_days) = match self {
            Self::Number(numbers) => return numbers.get(row).map(i128::from),
            Self::Interval { intervals, is_one, is_in_days } => (intervals, *is_one, *is_in_days),
        };
        let row = if is_one { 0 } else { row };
        let interval = intervals.is_valid(row).then(|| intervals.value(row))?;
        let days = i128::from(interval.months) * MONTH_DAYS + i128::from(interval.days);
        let nanos = i128::from(interval.nanoseconds);
        Some(if is_in_days { days + nanos / DAY_NANOS } else { days * DAY_NANOS + nanos })
    }
}

/// Errors: a series of this step may have no end.
pub(super) fn check_step(step: &ScalarValue) -> Result<()> {
    SeriesStep::of(&ColumnarValue::Scalar(step.clone()), false).map(drop)
}

impl Series {
    /// The series of one to three arguments; `None` for any other number.
    ///
    /// Errors: the step may stand still.
    pub(super) fn of(arguments: &[ColumnarValue]) -> Result<Option<Self>> {
        let (start, stop, step) = match arguments {
            [stop] => (None, stop, None),
            [start, stop] => (Some(start), stop, None),
            [start, stop, step] => (Some(start), stop, Some(step)),
            _ => return Ok(None),
        };
        let values = Values::of(stop)?;
        let is_in_days = matches!(values.data_type(), DataType::Date32 | DataType::Date64);
        let start = start.map(|start| Positions::of(&Values::of(start)?)).transpose()?;
        let step = step.map(|step| SeriesStep::of(step, is_in_days)).transpose()?;
        Ok(Some(Self { start, stop: Positions::of(&values)?, step, width: if is_in_days { 4 } else { 8 } }))
    }

    /// The number of elements, at most; 0 if an argument is NULL or the engine refuses the step.
    pub(super) fn elements(&self, row: usize) -> u64 {
        let start = self.start.as_ref().map_or(Some(0), |start| start.get(row));
        let step = self.step.as_ref().map_or(Some(1), |step| step.get(row));
        let (Some(start), Some(stop), Some(step)) = (start, self.stop.get(row), step) else { return 0 };
        if step == 0 {
            return 0;
        }
        let slack = if self.stop.has_zone { ZONE_NANOS * step.signum() } else { 0 };
        u64::try_from(((stop - start + slack) / step + 1).max(0)).unwrap_or(u64::MAX)
    }
}
