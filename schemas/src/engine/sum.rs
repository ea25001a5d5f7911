//! `sum` of integers, decimals and durations that never wraps around.
//!
//! The state of a sum is wider than its result, so partial sums may leave the result's range while the total does not,
//! in any order of rows and merges. Only a total that does not fit the result's type is an error, and the error is
//! made when the total is read.
//!
//! | argument | result | state | rows of the largest value that fit the state |
//! |---|---|---|---|
//! | BIGINT and smaller, durations | the same 64 bits | DECIMAL(38, 0) | 10^19 |
//! | DECIMAL(p, s), p <= 25 | DECIMAL(p + 10, s) | DECIMAL(38, s) | 10^13 |
//! | DECIMAL(p, s), p <= 38 | DECIMAL(38, s) | 256 bits | 10^38 |
//! | DECIMAL(p, s), p <= 63 | DECIMAL(p + 10, s), 76 digits at most | 256 bits | 10^13 |
//!
//! Invariant: a state holds the sum of all rows that can be read, so an addition never wraps around and is associative.
//! Longer decimals are refused. Floats and intervals are added by the engine's own `sum`; nothing else is.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef,
    Int64Type, TimeUnit, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err, plan_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

use super::delegate::as_the_engine;
use super::fold::{Fold, FoldGroups, FoldOne};

/// The largest precision of decimals whose sums are kept in 128 bits.
const NARROW: u8 = 25;

/// The largest precision of decimals whose sums are kept in 256 bits. Longer ones have no sum.
const WIDE: u8 = 63;

/// The type of the sum's state for an argument, if this sum adds such arguments.
fn state_type(argument: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match argument {
        T::Int64 | T::UInt64 | T::Duration(_) => T::Decimal128(38, 0),
        T::Decimal32(_, scale) | T::Decimal64(_, scale) => T::Decimal128(38, *scale),
        T::Decimal128(precision, scale) if *precision <= NARROW => T::Decimal128(38, *scale),
        T::Decimal128(_, scale) | T::Decimal256(_, scale) => T::Decimal256(76, *scale),
        _ => return None,
    })
}

/// A number of a state.
trait Wide: Copy + Ord + Send + Sync + std::fmt::Debug + 'static {
    /// 10 to the power of `digits`, and its negative.
    fn bounds(digits: u8) -> (Self, Self);
}

impl Wide for i128 {
    fn bounds(digits: u8) -> (Self, Self) {
        let bound = 10_i128.saturating_pow(digits.into());
        (bound, -bound)
    }
}

impl Wide for i256 {
    fn bounds(digits: u8) -> (Self, Self) {
        let bound = i256::from_i128(10).checked_pow(digits.into()).unwrap_or(i256::MAX);
        (bound, bound.wrapping_neg())
    }
}

/// A number that can be made of a wider one, if it fits.
trait NarrowFrom<W>: Sized {
    fn narrow(wide: W) -> Option<Self>;
}

macro_rules! narrow_from {
    ($($wide:ty => $narrow:ty: $convert:expr;)*) => {
        $(impl NarrowFrom<$wide> for $narrow {
            fn narrow(wide: $wide) -> Option<Self> {
                let convert: fn($wide) -> Option<$narrow> = $convert;
                convert(wide)
            }
        })*
    };
}

narrow_from! {
    i128 => i32: |wide| wide.try_into().ok();
    i128 => i64: |wide| wide.try_into().ok();
    i128 => u64: |wide| wide.try_into().ok();
    i128 => i128: Some;
    i256 => i128: i256::to_i128;
    i256 => i256: Some;
}

/// The sum of inputs `I`, kept as `S`, read as the type of the inputs.
#[derive(Debug)]
struct Addition<I, S> {
    /// The call as SQL shows it.
    call: Arc<str>,
    state: DataType,
    result: DataType,
    kinds: PhantomData<fn(I) -> S>,
}

impl<I, S> Clone for Addition<I, S> {
    fn clone(&self) -> Self {
        Self {
            call: Arc::clone(&self.call),
            state: self.state.clone(),
            result: self.result.clone(),
            kinds: PhantomData,
        }
    }
}

impl<I, S> Fold for Addition<I, S>
where
    I: ArrowPrimitiveType + std::fmt::Debug,
    S: DecimalType + std::fmt::Debug,
    S::Native: Wide,
    I::Native: Into<S::Native> + NarrowFrom<S::Native>,
{
    type Input = I;
    type State = S;

    fn lift(&self, input: I::Native) -> S::Native {
        input.into()
    }

    fn join(&self, one: S::Native, other: S::Native) -> S::Native {
        // The table above says how many rows fit.
        one.add_wrapping(other)
    }

    fn state_type(&self) -> DataType {
        self.state.clone()
    }

    fn finish(&self, states: PrimitiveArray<S>) -> Result<ArrayRef> {
        let bounds = match &self.result {
            DataType::Decimal32(digits, _)
            | DataType::Decimal64(digits, _)
            | DataType::Decimal128(digits, _)
            | DataType::Decimal256(digits, _) => Some(S::Native::bounds(*digits)),
            _ => None,
        };
        let results: PrimitiveArray<I> = states.try_unary(|sum| {
            let fits = bounds.is_none_or(|(above, below)| sum < above && sum > below);
            fits.then(|| I::Native::narrow(sum)).flatten().ok_or_else(|| self.too_large(sum))
        })?;
        Ok(Arc::new(results.with_data_type(self.result.clone())))
    }
}

impl<I, S> Addition<I, S>
where
    S: DecimalType,
    S::Native: Wide,
{
    fn too_large(&self, sum: S::Native) -> datafusion::error::DataFusionError {
        let call = &self.call;
        let value = match &self.state {
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => S::format_decimal(sum, 76, *scale),
            _ => "too large".to_owned(),
        };
        match &self.result {
            DataType::Int64 | DataType::UInt64 => exec_datafusion_err!(
                "{call} is {value}, which does not fit BIGINT. Cast the argument: sum(CAST(… AS DECIMAL(20, 0)))"
            ),
            DataType::Decimal128(38, _) | DataType::Decimal256(76, _) => exec_datafusion_err!(
                "{call} is {value}, which has too many digits for DECIMAL. Cast the argument to a DECIMAL with fewer \
                 digits after the point, or to DOUBLE"
            ),
            other => exec_datafusion_err!("{call} is {value}, which does not fit {other}"),
        }
    }
}

/// A sum over a sliding window of rows.
#[derive(Debug)]
struct SlidingSum<I: ArrowPrimitiveType, S: ArrowPrimitiveType> {
    addition: Addition<I, S>,
    sum: S::Native,
    /// The rows in the window that are not null.
    count: usize,
    /// The rows of each value in the window, for a sum of distinct values.
    distinct: Option<BTreeMap<S::Native, usize>>,
}

impl<I, S> Accumulator for SlidingSum<I, S>
where
    I: ArrowPrimitiveType + std::fmt::Debug,
    S: DecimalType + std::fmt::Debug,
    S::Native: Wide,
    I::Native: Into<S::Native> + NarrowFrom<S::Native>,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for input in values[0].as_primitive::<I>().iter().flatten() {
            let value = input.into();
            self.count += 1;
            if let Some(distinct) = &mut self.distinct {
                let rows = distinct.entry(value).or_default();
                *rows += 1;
                if *rows > 1 {
                    continue;
                }
            }
            self.sum = self.sum.add_wrapping(value);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for input in values[0].as_primitive::<I>().iter().flatten() {
            let value = input.into();
            self.count -= 1;
            if let Some(distinct) = &mut self.distinct {
                let rows = distinct.entry(value).or_default();
                *rows = rows.saturating_sub(1);
                if *rows > 0 {
                    continue;
                }
                distinct.remove(&value);
            }
            self.sum = self.sum.sub_wrapping(value);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.count > 0).then_some(self.sum);
        let state = PrimitiveArray::<S>::from_iter([sum]).with_data_type(self.addition.state.clone());
        ScalarValue::try_from_array(&self.addition.finish(state)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a window has no state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a window has no state")
    }

    fn size(&self) -> usize {
        let values = self.distinct.as_ref().map_or(0, BTreeMap::len);
        size_of_val(self) + values * size_of::<(S::Native, usize)>()
    }
}

/// A sum of distinct values: the engine's accumulator finds them, and this one adds them.
#[derive(Debug)]
struct DistinctSum {
    values: Box<dyn Accumulator>,
    call: String,
    result: DataType,
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let Some(ScalarValue::List(list)) = state.first() else {
            return internal_err!("the state of a distinct sum is a list");
        };
        let values = list.value(0);
        let mut sum = one(&self.call, &self.result, &self.result)?;
        sum.update_batch(&[values])?;
        sum.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}

/// Calls a function with the kinds of input and state of an argument's type.
macro_rules! with_kinds {
    ($call:expr, $argument:expr, $result:expr, $make:ident) => {{
        let (argument, result): (&DataType, &DataType) = ($argument, $result);
        let Some(state) = state_type(argument) else {
            return internal_err!("sum() of {argument} is the engine's");
        };
        macro_rules! of {
            ($i:ty, $s:ty) => {
                Ok($make(Addition::<$i, $s> {
                    call: Arc::from($call),
                    state: state.clone(),
                    result: result.clone(),
                    kinds: PhantomData,
                }))
            };
        }
        match (argument, &state) {
            (DataType::Int64, _) => of!(Int64Type, Decimal128Type),
            (DataType::UInt64, _) => of!(UInt64Type, Decimal128Type),
            (DataType::Duration(TimeUnit::Second), _) => of!(DurationSecondType, Decimal128Type),
            (DataType::Duration(TimeUnit::Millisecond), _) => of!(DurationMillisecondType, Decimal128Type),
            (DataType::Duration(TimeUnit::Microsecond), _) => of!(DurationMicrosecondType, Decimal128Type),
            (DataType::Duration(TimeUnit::Nanosecond), _) => of!(DurationNanosecondType, Decimal128Type),
            (DataType::Decimal32(..), _) => of!(Decimal32Type, Decimal128Type),
            (DataType::Decimal64(..), _) => of!(Decimal64Type, Decimal128Type),
            (DataType::Decimal128(..), DataType::Decimal128(..)) => of!(Decimal128Type, Decimal128Type),
            (DataType::Decimal128(..), _) => of!(Decimal128Type, Decimal256Type),
            (DataType::Decimal256(..), _) => of!(Decimal256Type, Decimal256Type),
            (other, _) => internal_err!("sum() of {other} is the engine's"),
        }
    }};
}

fn one(call: &str, argument: &DataType, result: &DataType) -> Result<Box<dyn Accumulator>> {
    fn make<F: Fold>(fold: F) -> Box<dyn Accumulator> {
        Box::new(FoldOne::new(fold))
    }
    with_kinds!(call, argument, result, make)
}

fn groups(call: &str, argument: &DataType, result: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
    fn make<F: Fold>(fold: F) -> Box<dyn GroupsAccumulator> {
        Box::new(FoldGroups::new(fold))
    }
    with_kinds!(call, argument, result, make)
}

/// Makes a sum over a sliding window, of all values or of distinct ones.
type SlidingKind = Box<dyn FnOnce(bool) -> Box<dyn Accumulator>>;

fn sliding(call: &str, argument: &DataType, result: &DataType, is_distinct: bool) -> Result<Box<dyn Accumulator>> {
    fn make<I, S>(addition: Addition<I, S>) -> SlidingKind
    where
        I: ArrowPrimitiveType + std::fmt::Debug,
        S: DecimalType + std::fmt::Debug,
        S::Native: Wide,
        I::Native: Into<S::Native> + NarrowFrom<S::Native>,
    {
        Box::new(move |is_distinct| {
            let distinct = is_distinct.then(BTreeMap::new);
            Box::new(SlidingSum { addition, sum: S::Native::default(), count: 0, distinct })
        })
    }
    let make: Result<SlidingKind> = with_kinds!(call, argument, result, make);
    Ok(make?(is_distinct))
}

/// The function `sum`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WideSum {
    /// The engine's function: the types that it takes and gives, and the sums of all other types.
    engine: Sum,
}

impl WideSum {
    pub(super) fn new() -> Self {
        Self { engine: Sum::new() }
    }
}

impl AggregateUDFImpl for WideSum {
    as_the_engine! {
        name() -> &str;
        signature() -> &Signature;
        groups_accumulator_supported(args: AccumulatorArgs<'_>) -> bool;
        reverse_expr() -> ReversedUDAF;
        order_sensitivity() -> AggregateOrderSensitivity;
        set_monotonicity(data_type: &DataType) -> SetMonotonicity;
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Decimal256(digits, scale)] if *digits > WIDE => plan_err!(
                "sum() takes decimals of at most {WIDE} digits, not DECIMAL({digits}, {scale}). Cast the argument to a \
                 shorter DECIMAL, or to DOUBLE"
            ),
            types => self.engine.return_type(types),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match args.input_fields.first().and_then(|field| state_type(field.data_type())) {
            Some(state) if !args.is_distinct => {
                Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), state, true))])
            }
            _ => self.engine.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (argument, result) = (args.expr_fields[0].data_type().clone(), args.return_field.data_type().clone());
        let call = args.name.to_owned();
        if state_type(&argument).is_none() {
            return self.engine.accumulator(args);
        }
        if args.is_distinct {
            return Ok(Box::new(DistinctSum { values: self.engine.accumulator(args)?, call, result }));
        }
        one(&call, &argument, &result)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let argument = args.expr_fields[0].data_type();
        if state_type(argument).is_none() {
            return self.engine.create_groups_accumulator(args);
        }
        groups(args.name, argument, args.return_field.data_type())
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let argument = args.expr_fields[0].data_type();
        if state_type(argument).is_none() {
            return self.engine.create_sliding_accumulator(args);
        }
        sliding(args.name, argument, args.return_field.data_type(), args.is_distinct)
    }
}

#[cfg(test)]
mod tests;
