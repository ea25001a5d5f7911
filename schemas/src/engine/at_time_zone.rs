//! `time AT TIME ZONE 'zone'` for a time without a time zone: the instant at which the zone's clock shows the time.
//!
//! The engine's cast fails for a time that the clock skips or shows twice, and one such row would fail a view.
//!
//! Invariant: the result is an error only if the instant is outside of the calendar. A time that the clock skips is
//! moved on by what was skipped, and of a time that the clock shows twice the first is taken.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::calendar::{Clock, MICROS};
use super::time_functions::on_arrays;

/// The conversion to one time zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AtTimeZone {
    /// The name has the zone, because the text of a plan is part of a view's id.
    name: String,
    zone: Arc<str>,
    signature: Signature,
}

impl AtTimeZone {
    pub(super) fn new(zone: Arc<str>) -> Self {
        Self { name: format!("at_time_zone[{zone}]"), zone, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// True for a zone whose clock changes. The engine's cast is right for all others.
    pub(super) fn converts(zone: &str) -> bool {
        matches!(Clock::of(Some(zone)), Ok(Clock::Zone(_)))
    }

    fn convert(&self, times: &ArrayRef) -> Result<ArrayRef> {
        let clock = Clock::of(Some(&self.zone))?;
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let times = cast_with_options(times, &DataType::Timestamp(TimeUnit::Microsecond, None), &strict)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let instants: PrimitiveArray<TimestampMicrosecondType> = times.try_unary(|local| {
            let instant = clock.convert(local).filter(|instant| MICROS.contains(instant));
            instant.ok_or_else(|| {
                exec_datafusion_err!("AT TIME ZONE gives a time outside of the calendar, which has the years 1 to 9999")
            })
        })?;
        Ok(Arc::new(instants.with_timezone(Arc::clone(&self.zone))))
    }
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&self.zone))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [time] => on_arrays(time, |times| self.convert(times)),
            _ => internal_err!("at_time_zone takes one time"),
        }
    }
}
