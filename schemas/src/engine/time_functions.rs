//! `date_trunc`, `date_bin`, `to_timestamp` and `now` over the whole calendar, in microseconds.
//!
//! The engine's functions of these names compute in nanoseconds: they fail for the year 9999, and `now()` makes the
//! times that it is compared with fail. With a time zone, units and bins are those of the local clock.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float64Type, IntervalMonthDayNano, IntervalUnit, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_err, plan_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::calendar::{Clock, DAY, MICROS, MILLISECOND, SECOND, Stride, Unit};

/// The time zone of times that a function makes.
pub(super) const ZONE: &str = "+00:00";

const NANOS: i64 = 1_000;

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_time_of_day(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Time32(_) | DataType::Time64(_))
}

/// The type of time that an argument of type `given` becomes.
fn time_argument(function: &str, given: &DataType) -> Result<DataType> {
    Ok(match given {
        DataType::Timestamp(_, _) => given.clone(),
        of_day if is_time_of_day(of_day) => of_day.clone(),
        DataType::Date32 | DataType::Date64 | DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
        text if is_text(text) => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => return plan_err!("{function}() takes a timestamp or a date, not {other}"),
    })
}

fn zone_of(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.as_deref(),
        _ => None,
    }
}

/// The microseconds, if they are a time of the calendar. Of a time with a zone, the clock of the zone counts, which no
/// zone has a day apart.
fn within(micros: i64, zoned: bool) -> Option<i64> {
    let apart = if zoned { DAY } else { 0 };
    (MICROS.start() - apart..=MICROS.end() + apart).contains(&micros).then_some(micros)
}

/// Maps the microseconds of every timestamp. `map` gives `None` for times that it cannot represent.
fn map_times(times: &ArrayRef, name: &str, map: impl Fn(i64) -> Option<i64>) -> Result<ArrayRef> {
    fn each<T: ArrowPrimitiveType<Native = i64>>(
        times: &ArrayRef,
        name: &str,
        map: impl Fn(i64) -> Option<i64>,
    ) -> Result<ArrayRef> {
        let mapped: PrimitiveArray<T> = times.as_primitive::<T>().try_unary(|time| {
            map(time).ok_or_else(|| exec_datafusion_err!("{name}() of the time {time} is outside of the calendar"))
        })?;
        Ok(Arc::new(mapped.with_data_type(times.data_type().clone())))
    }
    let zoned = zone_of(times.data_type()).is_some_and(|zone| zone != ZONE);
    let scaled = |unit: i64| {
        let map = &map;
        move |time: i64| Some(within(map(time.checked_mul(unit)?)?, zoned)?.div_euclid(unit))
    };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => each::<TimestampSecondType>(times, name, scaled(SECOND)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            each::<TimestampMillisecondType>(times, name, scaled(MILLISECOND))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            each::<TimestampMicrosecondType>(times, name, |time| within(map(time)?, zoned))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            each::<TimestampNanosecondType>(times, name, |time| map(time.div_euclid(NANOS))?.checked_mul(NANOS))
        }
        other => internal_err!("{name}() of {other}"),
    }
}

/// Applies `map` to an array, or to the one value of a scalar.
pub(super) fn on_arrays(value: &ColumnarValue, map: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(map(array)?),
        ColumnarValue::Scalar(scalar) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&map(&scalar.to_array()?)?, 0)?)
        }
    })
}

/// `date_trunc(unit, time)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    signature: Signature,
    aliases: Vec<String>,
    /// The engine's function, for times of a day.
    of_day: Arc<ScalarUDF>,
}

impl DateTrunc {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["datetrunc".into()],
            of_day: datetime::date_trunc(),
        }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &'static str {
        "date_trunc"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [unit, time] if is_text(unit) => Ok(vec![DataType::Utf8, time_argument(self.name(), time)?]),
            _ => plan_err!("date_trunc() takes a unit and a time: date_trunc('month', ts)"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [_, time] => Ok(time.clone()),
            _ => internal_err!("date_trunc() takes two arguments"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [_, time] = args.arg_fields else { return internal_err!("date_trunc() takes two arguments") };
        Ok(Arc::new(Field::new(self.name(), time.data_type().clone(), time.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [unit, time] = args.args.as_slice() else { return internal_err!("date_trunc() takes two arguments") };
        let data_type = time.data_type();
        if is_time_of_day(&data_type) {
            return self.of_day.invoke_with_args(args);
        }
        let ColumnarValue::Scalar(ScalarValue::Utf8(Some(unit))) = unit else {
            return exec_err!("date_trunc() takes its unit as a text constant: date_trunc('month', ts)");
        };
        let unit: Unit = unit.parse().map_err(|reason: String| exec_datafusion_err!("{reason}"))?;
        let clock = Clock::of(zone_of(&data_type))?;
        on_arrays(time, |times| {
            map_times(times, "date_trunc", |time| clock.start(time, unit.is_short(), |local| unit.start(local)))
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        match inputs {
            [unit, time] if unit.sort_properties == SortProperties::Singleton => Ok(time.sort_properties),
            _ => Ok(SortProperties::Unordered),
        }
    }
}

/// `date_bin(width, time[, origin])`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateBin {
    signature: Signature,
    /// The engine's function, for times of a day.
    of_day: Arc<ScalarUDF>,
}

impl DateBin {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), of_day: datetime::date_bin() }
    }

    fn stride(width: &ColumnarValue) -> Result<Option<Stride>> {
        match width {
            ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(width)) => width.map(Self::stride_of).transpose(),
            _ => exec_err!("date_bin() takes its width as a constant: date_bin(INTERVAL '15 minutes', ts)"),
        }
    }

    /// Errors: the width is not above zero, or mixes months with days or times.
    pub(super) fn stride_of(width: IntervalMonthDayNano) -> Result<Stride> {
        let IntervalMonthDayNano { months, days, nanoseconds } = width;
        if months != 0 && (days != 0 || nanoseconds != 0) {
            return exec_err!("date_bin() takes months, or days and times, not both");
        }
        if months > 0 {
            return Ok(Stride::Months(i64::from(months)));
        }
        if nanoseconds % NANOS != 0 {
            return exec_err!("date_bin() takes whole microseconds");
        }
        let micros = i64::from(days).checked_mul(DAY).and_then(|days| days.checked_add(nanoseconds / NANOS));
        match micros {
            Some(micros) if micros > 0 => Ok(Stride::Micros(micros)),
            _ => exec_err!("date_bin() takes a width above zero and below 292,000 years"),
        }
    }
}

impl ScalarUDFImpl for DateBin {
    fn name(&self) -> &'static str {
        "date_bin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (width, time, origin) = match types {
            [width, time] => (width, time, None),
            [width, time, origin] => (width, time, Some(origin)),
            _ => return plan_err!("date_bin() takes a width, a time and perhaps an origin"),
        };
        if !matches!(width, DataType::Interval(_) | DataType::Null) && !is_text(width) {
            return plan_err!("date_bin() takes its width as an INTERVAL, not {width}");
        }
        let time = time_argument(self.name(), time)?;
        let mut coerced = vec![DataType::Interval(IntervalUnit::MonthDayNano), time.clone()];
        if origin.is_some() {
            coerced.push(match &time {
                DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                of_day => of_day.clone(),
            });
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [_, time, ..] => Ok(time.clone()),
            _ => internal_err!("date_bin() takes two or three arguments"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (width, time, origin) = match args.args.as_slice() {
            [width, time] => (width, time, None),
            [width, time, origin] => (width, time, Some(origin)),
            _ => return internal_err!("date_bin() takes two or three arguments"),
        };
        let data_type = time.data_type();
        if is_time_of_day(&data_type) {
            return self.of_day.invoke_with_args(args);
        }
        let clock = Clock::of(zone_of(&data_type))?;
        let origin = match origin {
            None => Some(0),
            Some(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(origin, _))) => match origin {
                Some(origin) => Some(
                    clock
                        .local(*origin)
                        .ok_or_else(|| exec_datafusion_err!("date_bin() has an origin outside of the calendar"))?,
                ),
                None => None,
            },
            Some(_) => return exec_err!("date_bin() takes its origin as a constant"),
        };
        let (Some(stride), Some(origin)) = (Self::stride(width)?, origin) else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(&data_type)?));
        };
        on_arrays(time, |times| {
            map_times(times, "date_bin", |time| {
                clock.start(time, stride.is_short(), |local| stride.start(local, origin))
            })
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let constant = |input: &ExprProperties| input.sort_properties == SortProperties::Singleton;
        match inputs {
            [width, time, rest @ ..] if constant(width) && rest.iter().all(constant) => Ok(time.sort_properties),
            _ => Ok(SortProperties::Unordered),
        }
    }
}

/// `to_timestamp(value[, format…])` and its relatives in other units.
///
/// `to_timestamp` takes seconds since 1970 as a number, and gives microseconds. The relatives give the unit that their
/// names say.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToTimestamp {
    name: String,
    unit: TimeUnit,
    signature: Signature,
    /// The engine's function of the same unit: for texts with a format, and for the numbers of the relatives.
    engine: Arc<ScalarUDF>,
}

impl ToTimestamp {
    pub(super) fn new(name: &str, unit: TimeUnit, engine: Arc<ScalarUDF>) -> Self {
        Self { name: name.to_owned(), unit, signature: Signature::variadic_any(Volatility::Immutable), engine }
    }

    fn data_type(&self) -> DataType {
        DataType::Timestamp(self.unit, Some(ZONE.into()))
    }

    fn of_texts(&self, texts: &ArrayRef) -> Result<ArrayRef> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(texts, &self.data_type(), &strict)?)
    }

    fn of_seconds(numbers: &ArrayRef) -> Result<ArrayRef> {
        let out_of_range = || exec_datafusion_err!("to_timestamp() takes seconds since 1970 of the years 1 to 9999");
        let within = |micros: i128| i64::try_from(micros).ok().filter(|m| MICROS.contains(m)).ok_or_else(out_of_range);
        let times: PrimitiveArray<TimestampMicrosecondType> = if numbers.data_type().is_floating() {
            let seconds = cast(numbers, &DataType::Float64)?;
            seconds.as_primitive::<Float64Type>().try_unary(|seconds| {
                let micros = (seconds * SECOND as f64).round();
                // A float that is not finite or too large becomes the largest or smallest integer.
                if micros.is_nan() { Err(out_of_range()) } else { within(micros as i128) }
            })?
        } else {
            let seconds = cast(numbers, &DataType::Decimal128(38, 6)).map_err(|_| out_of_range())?;
            seconds.as_primitive::<Decimal128Type>().try_unary(within)?
        };
        Ok(Arc::new(times.with_timezone(ZONE)))
    }
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [number] if self.name == "to_timestamp" && number.data_type().is_numeric() => {
                on_arrays(number, Self::of_seconds)
            }
            [text] if is_text(&text.data_type()) => on_arrays(text, |texts| self.of_texts(texts)),
            _ => self.engine.invoke_with_args(args),
        }
    }
}

/// `now()` in microseconds.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl Now {
    pub(super) fn new() -> Self {
        Self { signature: Signature::nullary(Volatility::Stable), aliases: vec!["current_timestamp".into()] }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &'static str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(ZONE.into())))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match info.query_execution_start_time() {
            Some(now) => ExprSimplifyResult::Simplified(Expr::Literal(
                ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), Some(ZONE.into())),
                None,
            )),
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("now() is replaced when a query is planned")
    }
}
