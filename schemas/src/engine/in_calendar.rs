//! Dates and times that the engine computed, checked against the calendar.
//!
//! Invariant: a time is one of the years 1 to 9999 or an error that names the expression.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Date32Type, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;

use super::calendar::{self, DAYS, MICROS};
use super::one_value::OneValue;
use super::texts::{Text, name_of};

/// Calls `$within` with the type of the array's values and the range of the calendar; `$otherwise` for other types.
macro_rules! with_range {
    ($array:expr, $within:ident, $otherwise:expr) => {{
        let scaled = |unit: i64| *MICROS.start() / unit..=*MICROS.end() / unit;
        match $array.data_type() {
            DataType::Date32 => $within!(Date32Type, DAYS),
            DataType::Timestamp(TimeUnit::Second, _) => $within!(TimestampSecondType, scaled(calendar::SECOND)),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                $within!(TimestampMillisecondType, scaled(calendar::MILLISECOND))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => $within!(TimestampMicrosecondType, MICROS),
            _ => $otherwise,
        }
    }};
}

/// True if values of this type are dates or times that are checked.
pub(super) fn checks(data_type: &DataType) -> bool {
    use TimeUnit::{Microsecond, Millisecond, Second};
    matches!(data_type, DataType::Date32 | DataType::Timestamp(Second | Millisecond | Microsecond, _))
}

/// The first value outside of the calendar.
pub(super) fn first_outside(array: &ArrayRef) -> Option<i64> {
    macro_rules! first {
        ($t:ty, $range:expr) => {{
            let range = $range;
            let found = array.as_primitive::<$t>().iter().flatten().find(|value| !range.contains(value));
            found.map(i64::from)
        }};
    }
    with_range!(array, first, None)
}

/// The values of the calendar; the others become NULL.
fn only_inside(array: &ArrayRef) -> ArrayRef {
    macro_rules! only {
        ($t:ty, $range:expr) => {{
            let range = $range;
            let kept = array.as_primitive::<$t>().unary_opt::<_, $t>(|value| range.contains(&value).then_some(value));
            Arc::new(kept.with_data_type(array.data_type().clone()))
        }};
    }
    with_range!(array, only, Arc::clone(array))
}

/// The error for a value that is outside of the calendar.
pub(super) fn error(text: &Text, value: i64, data_type: &DataType) -> DataFusionError {
    exec_datafusion_err!(
        "`{text}` is outside of the calendar, which has the years 1 to 9999 (value {value} of {})",
        name_of(data_type)
    )
}

/// A check of dates or times that the engine computed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct InCalendar {
    text: Text,
    /// True if a time outside the calendar becomes NULL, as TRY_CAST has it.
    or_null: bool,
}

impl OneValue for InCalendar {
    const NAME: &'static str = "in_calendar";
    const KEEPS_ORDER: bool = true;

    fn makes_nulls(&self) -> bool {
        self.or_null
    }

    fn of(&self, times: &ArrayRef) -> Result<ArrayRef> {
        match first_outside(times) {
            None => Ok(Arc::clone(times)),
            Some(_) if self.or_null => Ok(only_inside(times)),
            Some(value) => Err(error(&self.text, value, times.data_type())),
        }
    }
}

/// A computed date or time, checked against the calendar: years 1 to 9999. A time outside of it is NULL, or an error
/// with `text`.
pub(super) fn in_calendar(computed: Expr, text: Text, or_null: bool) -> Expr {
    InCalendar { text, or_null }.call(computed)
}

/// The time that is checked, if `expr` is a check.
pub(crate) fn checked(expr: &Expr) -> Option<&Expr> {
    InCalendar::within(expr)
}
