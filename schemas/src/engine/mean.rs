//! `avg` of decimals and durations that never wraps around.
//!
//! | argument | sum of its values | rows of the largest value that fit the sum |
//! |---|---|---|
//! | durations | DECIMAL(38, 0) | 10^19 |
//! | DECIMAL(p, s), p <= 5 | 64 bits | 10^13 |
//! | DECIMAL(p, s), p <= 25 | DECIMAL(38, s) | 10^13 |
//! | DECIMAL(p, s), p <= 63 | 256 bits | 10^13 |
//! | DECIMAL(76, s), which views refuse | 256 bits | 5 |
//!
//! Invariant: a sum that leaves its type is an error. The mean of a sum that does not is exact, cut after the last
//! digit of the result, or does not fit the result and is an error. Floats and intervals are the engine's own.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, UInt64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::DecimalCast;
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, FieldRef,
    TimeUnit, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::average::Avg;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

use super::delegate::as_the_engine;

/// The type of a sum.
trait Sum: DecimalType<Native: DecimalCast> + Debug {}

impl<S: DecimalType<Native: DecimalCast> + Debug> Sum for S {}

/// The type of values that are added as `S`.
trait Summand<S: Sum>: ArrowPrimitiveType<Native: Into<S::Native> + DecimalCast> + Debug {}

impl<S: Sum, I: ArrowPrimitiveType<Native: Into<S::Native> + DecimalCast> + Debug> Summand<S> for I {}

/// The mean of inputs `I`, whose sum is an `S`, read as the type of the inputs.
#[derive(Debug)]
struct Mean<I, S> {
    /// The call as SQL shows it.
    call: Arc<str>,
    sum: DataType,
    result: DataType,
    /// What the sum is multiplied by to have the scale of the result.
    factor: i256,
    /// 10 to the power of the result's digits.
    bound: Option<i256>,
    kinds: PhantomData<fn(I) -> S>,
}

/// Precision and scale of a decimal type.
fn digits(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

fn power_of_ten(exponent: u8) -> i256 {
    i256::from_i128(10).checked_pow(exponent.into()).unwrap_or(i256::MAX)
}

impl<I: Summand<S>, S: Sum> Mean<I, S> {
    fn new(call: &str, sum: &DataType, result: &DataType) -> Result<Self> {
        let (factor, bound) = match (digits(sum), digits(result)) {
            (Some((_, from)), Some((precision, to))) => {
                let Ok(more) = u8::try_from(to.saturating_sub(from)) else {
                    return internal_err!("avg() of {sum} has fewer digits after the point: {result}");
                };
                (power_of_ten(more), Some(power_of_ten(precision)))
            }
            _ => (i256::ONE, None),
        };
        let (call, sum, result) = (Arc::from(call), sum.clone(), result.clone());
        Ok(Self { call, sum, result, factor, bound, kinds: PhantomData })
    }

    fn add(&self, one: S::Native, other: S::Native) -> Result<S::Native> {
        one.add_checked(other).map_err(|_| self.too_large("the sum of", &self.sum))
    }

    /// The mean of `count` values with this sum.
    fn divide(&self, sum: S::Native, count: u64) -> Result<I::Native> {
        let rows = i256::from_i128(count.into());
        // The factor comes after the division: before it, the sum of many rows would leave 256 bits.
        let mean = sum.to_i256().and_then(|sum| {
            let whole = sum.checked_div(rows)?.checked_mul(self.factor)?;
            let rest = sum.checked_rem(rows)?.checked_mul(self.factor)?.checked_div(rows)?;
            whole.checked_add(rest)
        });
        let fits = |mean: &i256| self.bound.is_none_or(|bound| *mean < bound && *mean > bound.wrapping_neg());
        mean.filter(fits).and_then(I::Native::from_decimal).ok_or_else(|| self.too_large("the value of", &self.result))
    }

    fn too_large(&self, what: &str, data_type: &DataType) -> DataFusionError {
        let call = &self.call;
        let (precision, scale) = digits(data_type).unwrap_or((19, 0));
        exec_datafusion_err!(
            "{what} {call} has too many digits for DECIMAL({precision}, {scale}). Cast the argument to a DECIMAL with \
             fewer digits, or to DOUBLE"
        )
    }

    fn results(&self, means: PrimitiveArray<I>) -> ArrayRef {
        Arc::new(means.with_data_type(self.result.clone()))
    }
}

/// The accumulator for one group, or for the rows of a window.
#[derive(Debug)]
struct MeanOfOne<I, S: ArrowPrimitiveType> {
    mean: Mean<I, S>,
    sum: Option<S::Native>,
    count: u64,
}

impl<I: Summand<S>, S: Sum> MeanOfOne<I, S> {
    fn new(mean: Mean<I, S>) -> Self {
        Self { mean, sum: None, count: 0 }
    }

    fn add(&mut self, sum: S::Native) -> Result<()> {
        self.sum = Some(match self.sum {
            Some(before) => self.mean.add(before, sum)?,
            None => sum,
        });
        Ok(())
    }
}

impl<I: Summand<S>, S: Sum> Accumulator for MeanOfOne<I, S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<I>().iter().flatten() {
            self.add(value.into())?;
            self.count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<I>().iter().flatten() {
            self.count -= 1;
            let sum = self.sum.unwrap_or_default().sub_checked(value.into());
            self.sum = Some(sum.map_err(|_| self.mean.too_large("the sum of", &self.mean.sum))?);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = states[0].as_primitive::<UInt64Type>();
        let sums = states[1].as_primitive::<S>();
        for (count, sum) in counts.iter().zip(sums) {
            self.count += count.unwrap_or(0);
            if let Some(sum) = sum {
                self.add(sum)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.sum.filter(|_| self.count > 0);
        let mean = sum.map(|sum| self.mean.divide(sum, self.count)).transpose()?;
        ScalarValue::try_from_array(&self.mean.results(PrimitiveArray::from_iter([mean])), 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = ScalarValue::new_primitive::<S>(self.sum, &self.mean.sum)?;
        Ok(vec![ScalarValue::from(self.count), sum])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The accumulator for all groups of a plan. A group has values if its count is not zero.
#[derive(Debug)]
struct MeanOfGroups<I, S: ArrowPrimitiveType> {
    mean: Mean<I, S>,
    sums: Vec<S::Native>,
    counts: Vec<u64>,
}

impl<I: Summand<S>, S: Sum> MeanOfGroups<I, S> {
    fn new(mean: Mean<I, S>) -> Self {
        Self { mean, sums: Vec::new(), counts: Vec::new() }
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, S::Native::default());
        self.counts.resize(groups, 0);
    }

    fn add(&mut self, group: usize, sum: S::Native, count: u64) -> Result<()> {
        self.sums[group] = self.mean.add(self.sums[group], sum)?;
        self.counts[group] += count;
        Ok(())
    }
}

/// True for rows that a filter keeps.
fn kept(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl<I: Summand<S>, S: Sum> GroupsAccumulator for MeanOfGroups<I, S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        for (row, value) in values[0].as_primitive::<I>().iter().enumerate() {
            if let Some(value) = value
                && kept(opt_filter, row)
            {
                self.add(group_indices[row], value.into(), 1)?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        let counts = values[0].as_primitive::<UInt64Type>();
        let sums = values[1].as_primitive::<S>();
        for ((count, sum), group) in counts.iter().zip(sums).zip(group_indices) {
            if let (Some(count), Some(sum)) = (count, sum) {
                self.add(*group, sum, count)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = emit_to.take_needed(&mut self.counts);
        let means = sums.into_iter().zip(counts).map(|(sum, count)| match count {
            0 => Ok(None),
            count => self.mean.divide(sum, count).map(Some),
        });
        Ok(self.mean.results(means.collect::<Result<_>>()?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = emit_to.take_needed(&mut self.counts);
        let filled = NullBuffer::new(BooleanBuffer::from_iter(counts.iter().map(|count| *count > 0)));
        let nulls = Some(filled).filter(|nulls| nulls.null_count() > 0);
        let sums = PrimitiveArray::<S>::new(sums.into(), nulls.clone()).with_data_type(self.mean.sum.clone());
        Ok(vec![Arc::new(UInt64Array::new(counts.into(), nulls)), Arc::new(sums)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<I>().iter().enumerate();
        let sums: PrimitiveArray<S> =
            values.map(|(row, value)| value.filter(|_| kept(opt_filter, row)).map(Into::into)).collect();
        let counts = UInt64Array::new(vec![1; sums.len()].into(), sums.nulls().cloned());
        Ok(vec![Arc::new(counts), Arc::new(sums.with_data_type(self.mean.sum.clone()))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<S::Native>() + self.counts.capacity() * size_of::<u64>()
    }
}

/// A mean of distinct values: the engine's accumulator finds them, and this one divides their sum.
#[derive(Debug)]
struct MeanOfDistinct {
    values: Box<dyn Accumulator>,
    call: String,
    sum: DataType,
    result: DataType,
}

impl Accumulator for MeanOfDistinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        let Some(ScalarValue::List(list)) = state.first() else {
            return internal_err!("the state of a distinct mean is a list");
        };
        let values = list.value(0);
        let mut mean = one(&self.call, values.data_type(), &self.sum, &self.result)?;
        mean.update_batch(&[values])?;
        mean.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}

/// Calls a function with the kinds of input and sum of an argument's type.
macro_rules! with_kinds {
    ($call:expr, $argument:expr, $sum:expr, $result:expr, $make:ident) => {{
        let (argument, sum): (&DataType, &DataType) = ($argument, $sum);
        macro_rules! of {
            ($i:ty, $s:ty) => {
                Ok($make(Mean::<$i, $s>::new($call, sum, $result)?))
            };
        }
        match (argument, sum) {
            (DataType::Decimal32(..), DataType::Decimal64(..)) => of!(Decimal32Type, Decimal64Type),
            (DataType::Decimal32(..), DataType::Decimal128(..)) => of!(Decimal32Type, Decimal128Type),
            (DataType::Decimal64(..), DataType::Decimal64(..)) => of!(Decimal64Type, Decimal64Type),
            (DataType::Decimal64(..), DataType::Decimal128(..)) => of!(Decimal64Type, Decimal128Type),
            (DataType::Decimal128(..), DataType::Decimal128(..)) => of!(Decimal128Type, Decimal128Type),
            (DataType::Decimal128(..), DataType::Decimal256(..)) => of!(Decimal128Type, Decimal256Type),
            (DataType::Decimal256(..), DataType::Decimal256(..)) => of!(Decimal256Type, Decimal256Type),
            (DataType::Duration(TimeUnit::Second), _) => of!(DurationSecondType, Decimal128Type),
            (DataType::Duration(TimeUnit::Millisecond), _) => of!(DurationMillisecondType, Decimal128Type),
            (DataType::Duration(TimeUnit::Microsecond), _) => of!(DurationMicrosecondType, Decimal128Type),
            (DataType::Duration(TimeUnit::Nanosecond), _) => of!(DurationNanosecondType, Decimal128Type),
            (argument, sum) => internal_err!("avg() of {argument} has no sum of type {sum}"),
        }
    }};
}

fn one(call: &str, argument: &DataType, sum: &DataType, result: &DataType) -> Result<Box<dyn Accumulator>> {
    fn make<I: Summand<S>, S: Sum>(mean: Mean<I, S>) -> Box<dyn Accumulator> {
        Box::new(MeanOfOne::new(mean))
    }
    with_kinds!(call, argument, sum, result, make)
}

fn groups(call: &str, argument: &DataType, sum: &DataType, result: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
    fn make<I: Summand<S>, S: Sum>(mean: Mean<I, S>) -> Box<dyn GroupsAccumulator> {
        Box::new(MeanOfGroups::new(mean))
    }
    with_kinds!(call, argument, sum, result, make)
}

/// The function `avg`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactMean {
    /// The engine's function: the types that it takes and gives, and the means of floats.
    engine: Avg,
}

impl ExactMean {
    pub(super) fn new() -> Self {
        Self { engine: Avg::new() }
    }

    /// The type of the sum of an argument, if this function adds such arguments.
    fn sum_type(&self, argument: &FieldRef, result: &FieldRef) -> Result<Option<DataType>> {
        match argument.data_type() {
            DataType::Duration(_) => Ok(Some(DataType::Decimal128(38, 0))),
            other if other.is_decimal() => {
                // The engine's type is wide enough, and stored states have this type.
                let state = self.engine.state_fields(StateFieldsArgs {
                    name: "avg",
                    input_fields: std::slice::from_ref(argument),
                    return_field: Arc::clone(result),
                    ordering_fields: &[],
                    is_distinct: false,
                })?;
                Ok(state.get(1).map(|sum| sum.data_type().clone()))
            }
            _ => Ok(None),
        }
    }
}

impl AggregateUDFImpl for ExactMean {
    as_the_engine! {
        name() -> &str;
        aliases() -> &[String];
        signature() -> &Signature;
        return_type(types: &[DataType]) -> Result<DataType>;
        groups_accumulator_supported(args: AccumulatorArgs<'_>) -> bool;
        reverse_expr() -> ReversedUDAF;
        order_sensitivity() -> AggregateOrderSensitivity;
        set_monotonicity(data_type: &DataType) -> SetMonotonicity;
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match args.input_fields[0].data_type() {
            DataType::Duration(_) if !args.is_distinct => {
                let field = |name, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
                Ok(vec![field("count", DataType::UInt64), field("sum", DataType::Decimal128(38, 0))])
            }
            _ => self.engine.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let argument = &args.expr_fields[0];
        let Some(sum) = self.sum_type(argument, &args.return_field)? else {
            return self.engine.accumulator(args);
        };
        let (call, result) = (args.name, args.return_field.data_type().clone());
        if args.is_distinct {
            let call = call.to_owned();
            return Ok(Box::new(MeanOfDistinct { values: self.engine.accumulator(args)?, call, sum, result }));
        }
        one(call, argument.data_type(), &sum, &result)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let argument = &args.expr_fields[0];
        match self.sum_type(argument, &args.return_field)? {
            Some(sum) => groups(args.name, argument.data_type(), &sum, args.return_field.data_type()),
            None => self.engine.create_groups_accumulator(args),
        }
    }
}

#[cfg(test)]
mod tests;
