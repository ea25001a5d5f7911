//! Dates and times that the engine computed, checked against the calendar.
//!
//! Invariant: a time is one of the years 1 to 9999 or an error that names the expression.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::calendar::{self, DAYS, MICROS};
use super::texts::{Text, name_of};
use super::time_functions::on_arrays;

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

/// A date or time that the engine computed, checked against the calendar: years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InCalendar {
    text: Text,
    /// True if a time outside the calendar becomes NULL, as TRY_CAST has it.
    or_null: bool,
    signature: Signature,
}

impl InCalendar {
    pub(super) fn new(computed: &Expr, or_null: bool) -> Self {
        Self { text: Text::of(computed), or_null, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn check(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match first_outside(array) {
            None => Ok(Arc::clone(array)),
            Some(_) if self.or_null => Ok(only_inside(array)),
            Some(value) => Err(error(&self.text, value, array.data_type())),
        }
    }
}

impl ScalarUDFImpl for InCalendar {
    fn name(&self) -> &'static str {
        "in_calendar"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [time] => Ok(time.clone()),
            _ => internal_err!("in_calendar takes one value"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [time] = args.arg_fields else { return internal_err!("in_calendar takes one value") };
        let nullable = time.is_nullable() || self.or_null;
        Ok(Arc::new(Field::new(self.name(), time.data_type().clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [time] = args.args.as_slice() else { return internal_err!("in_calendar takes one value") };
        on_arrays(time, |array| self.check(array))
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(inputs.first().map_or(SortProperties::Unordered, |time| time.sort_properties))
    }
}
