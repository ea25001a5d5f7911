//! `min` and `max` of floats in total order: -0.0 is below 0.0, and NaN is above everything, as in PostgreSQL.
//!
//! The engine's grouped `min` and `max` compare floats with `<`, which is false for NaN, and start from the largest
//! finite number. Their results depend on the position of a NaN, and the minimum of infinities is finite.
//!
//! Invariant: all NaNs are one NaN. Other types than floats are the engine's.

use std::cmp::Ordering;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::datatypes::FieldRef;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};

use super::delegate::as_the_engine;
use super::fold::{Fold, FoldGroups, FoldOne};

/// A float with a total order.
trait Ordered: Copy {
    /// The number, or the one NaN.
    fn canonical(self) -> Self;
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! ordered {
    ($($float:ty),*) => {
        $(impl Ordered for $float {
            fn canonical(self) -> Self {
                if self.is_nan() { <$float>::NAN } else { self }
            }

            fn order(&self, other: &Self) -> Ordering {
                self.total_cmp(other)
            }
        })*
    };
}

ordered!(f32, f64);

/// The least or the greatest of floats.
#[derive(Debug)]
struct Extreme<T> {
    /// The ordering of a better value to the value that it replaces.
    better: Ordering,
    floats: PhantomData<fn() -> T>,
}

impl<T> Clone for Extreme<T> {
    fn clone(&self) -> Self {
        Self { better: self.better, floats: PhantomData }
    }
}

impl<T> Fold for Extreme<T>
where
    T: ArrowPrimitiveType + std::fmt::Debug,
    T::Native: Ordered,
{
    type Input = T;
    type State = T;

    fn lift(&self, input: T::Native) -> T::Native {
        input.canonical()
    }

    fn join(&self, one: T::Native, other: T::Native) -> T::Native {
        if other.order(&one) == self.better { other } else { one }
    }

    fn state_type(&self) -> DataType {
        T::DATA_TYPE
    }

    fn finish(&self, states: PrimitiveArray<T>) -> Result<ArrayRef> {
        Ok(Arc::new(states))
    }
}

/// The function `min` or `max`. `E` is the engine's function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FloatExtreme<E> {
    better: Ordering,
    engine: E,
}

pub(super) fn min() -> FloatExtreme<Min> {
    FloatExtreme { better: Ordering::Less, engine: Min::new() }
}

pub(super) fn max() -> FloatExtreme<Max> {
    FloatExtreme { better: Ordering::Greater, engine: Max::new() }
}

impl<E: AggregateUDFImpl + Eq + Hash> AggregateUDFImpl for FloatExtreme<E> {
    as_the_engine! {
        name() -> &str;
        aliases() -> &[String];
        signature() -> &Signature;
        coerce_types(types: &[DataType]) -> Result<Vec<DataType>>;
        return_type(types: &[DataType]) -> Result<DataType>;
        return_field(fields: &[FieldRef]) -> Result<FieldRef>;
        state_fields(args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>>;
        groups_accumulator_supported(args: AccumulatorArgs<'_>) -> bool;
        create_sliding_accumulator(args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>>;
        is_descending() -> Option<bool>;
        order_sensitivity() -> AggregateOrderSensitivity;
        reverse_expr() -> ReversedUDAF;
        set_monotonicity(data_type: &DataType) -> SetMonotonicity;
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let better = self.better;
        Ok(match args.return_field.data_type() {
            DataType::Float32 => Box::new(FoldOne::new(Extreme::<Float32Type> { better, floats: PhantomData })),
            DataType::Float64 => Box::new(FoldOne::new(Extreme::<Float64Type> { better, floats: PhantomData })),
            _ => return self.engine.accumulator(args),
        })
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let better = self.better;
        Ok(match args.return_field.data_type() {
            DataType::Float32 => Box::new(FoldGroups::new(Extreme::<Float32Type> { better, floats: PhantomData })),
            DataType::Float64 => Box::new(FoldGroups::new(Extreme::<Float64Type> { better, floats: PhantomData })),
            _ => return self.engine.create_groups_accumulator(args),
        })
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        // Statistics leave NaN out.
        if args.return_type.is_floating() { None } else { self.engine.value_from_stats(args) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array};
    use datafusion::logical_expr::EmitTo;

    use super::*;

    #[track_caller]
    fn check(values: &[f64], least: f64, greatest: f64) {
        for (better, expect) in [(Ordering::Less, least), (Ordering::Greater, greatest)] {
            let mut values = values.to_vec();
            for _ in 0..values.len() {
                values.rotate_left(1);
                let column: ArrayRef = Arc::new(Float64Array::from(values.clone()));
                let extreme = Extreme::<Float64Type> { better, floats: PhantomData };
                let mut groups = FoldGroups::new(extreme.clone());
                groups.update_batch(&[Arc::clone(&column)], &vec![0; values.len()], None, 1).unwrap();
                let found = groups.evaluate(EmitTo::All).unwrap();
                assert_eq!(found.as_primitive::<Float64Type>().value(0).to_bits(), expect.to_bits(), "{values:?}");
                let mut one = FoldOne::new(extreme);
                one.update_batch(&[column]).unwrap();
                assert_eq!(one.evaluate().unwrap(), ScalarValue::Float64(Some(expect)), "{values:?}");
            }
        }
    }

    #[test]
    fn nan_is_above_everything_in_any_order() {
        check(&[1.0, f64::NAN, 2.0], 1.0, f64::NAN);
        check(&[f64::NAN, -f64::NAN], f64::NAN, f64::NAN);
        check(&[f64::INFINITY], f64::INFINITY, f64::INFINITY);
        check(&[f64::NEG_INFINITY, -f64::NAN], f64::NEG_INFINITY, f64::NAN);
        check(&[0.0, -0.0], -0.0, 0.0);
        check(&[f64::MAX, f64::INFINITY], f64::MAX, f64::INFINITY);
    }
}
