//! Limits for functions that make long values of short arguments: `repeat('x', 2000000000)`.
//!
//! The memory of a value that a function makes is not in any memory pool. A function here computes the size of its
//! result first, and refuses a result that is too large. A query has a [`ResultBudget`] as well. A negative width is
//! zero, as in PostgreSQL; the engine's functions panic on some.
//!
//! Invariant: a result is allocated only after its size was found to fit. No argument is copied for each row before.

mod arguments;
mod matches;
mod series;
mod sizes;

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::delegate::as_the_engine;
use sizes::{Shape, Sizes};

/// The largest value that a function makes, in bytes.
const VALUE: u64 = 64 << 20;

/// The largest result of a function for one batch, in bytes. Columns of text hold less than 2 GiB.
const BATCH: u64 = 512 << 20;

/// The functions whose values can be far larger than their arguments.
const GROWING: [(&str, Shape); 10] = [
    ("repeat", Shape::Repeat),
    ("lpad", Shape::Pad),
    ("rpad", Shape::Pad),
    ("replace", Shape::Replace),
    ("regexp_replace", Shape::ReplacePattern),
    ("array_repeat", Shape::RepeatElement),
    ("array_resize", Shape::Resize),
    ("array_to_string", Shape::JoinElements),
    ("range", Shape::Series),
    ("generate_series", Shape::Series),
];

/// The names of the functions whose values can be far larger than their arguments.
pub const NAMES: [&str; GROWING.len()] = {
    let mut names = [""; GROWING.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = GROWING[at].0;
        at += 1;
    }
    names
};

/// The memory that the results of functions may take, beside the limits of this module.
pub trait ResultBudget: Debug + Send + Sync {
    /// The bytes that one result surely may have.
    fn room(&self) -> usize;

    /// Reserves the bytes of one result for the time of the call.
    ///
    /// Errors: the result must not be made.
    fn admit(&self, function: &str, rows: usize, bytes: usize) -> Result<MemoryReservation>;
}

/// Returns a limited function for the engine's function, if its results need a limit.
pub(super) fn limited(engine: &Arc<ScalarUDF>) -> Option<ScalarUDF> {
    let shape = match engine.name() {
        "array_position" => Shape::Position,
        name => GROWING.iter().find(|(growing, _)| *growing == name)?.1,
    };
    Some(ScalarUDF::new_from_impl(Limited { engine: Arc::clone(engine), shape, budget: None }))
}

/// `function` of a session, with a budget if its results need a limit.
pub fn budgeted(function: &Arc<ScalarUDF>, budget: Arc<dyn ResultBudget>) -> Arc<ScalarUDF> {
    match function.inner().downcast_ref::<Limited>() {
        Some(Limited { engine, shape, .. }) => {
            let limited = Limited { engine: Arc::clone(engine), shape: *shape, budget: Some(budget) };
            Arc::new(ScalarUDF::new_from_impl(limited))
        }
        None => Arc::clone(function),
    }
}

/// A function of the engine with a limit to the size of its results.
#[derive(Debug)]
struct Limited {
    engine: Arc<ScalarUDF>,
    shape: Shape,
    budget: Option<Arc<dyn ResultBudget>>,
}

impl PartialEq for Limited {
    fn eq(&self, other: &Self) -> bool {
        self.engine == other.engine
    }
}

impl Eq for Limited {}

impl Hash for Limited {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.engine.hash(state);
    }
}

impl Limited {
    /// The sizes of the results, exact where an estimate is too large.
    fn sizes(&self, arguments: &[ColumnarValue], rows: usize) -> Result<Sizes> {
        let enough = self.budget.as_ref().map_or(BATCH, |budget| BATCH.min(budget.room() as u64));
        let estimate = self.shape.estimate(arguments, rows)?;
        if estimate.largest <= VALUE && estimate.total <= enough {
            return Ok(estimate);
        }
        Ok(self.shape.count(arguments, rows)?.unwrap_or(estimate))
    }

    /// Reserves the result.
    ///
    /// Errors: the result is too large.
    fn admit(&self, arguments: &[ColumnarValue], rows: usize) -> Result<Option<MemoryReservation>> {
        let Sizes { largest, total } = self.sizes(arguments, rows)?;
        let name = self.engine.name();
        let bytes = usize::try_from(total).unwrap_or(usize::MAX);
        let held = self.budget.as_ref().map(|budget| budget.admit(name, rows, bytes)).transpose()?;
        if largest > VALUE {
            return exec_err!(
                "{name}() would make a value of {largest} bytes; the limit is {VALUE}. Use smaller arguments"
            );
        }
        if total > BATCH {
            return exec_err!(
                "{name}() would make {total} bytes for {rows} rows at a time; the limit is {BATCH}. Use smaller \
                 arguments, or a filter that keeps fewer rows"
            );
        }
        Ok(held)
    }

    /// The arguments, with zero for a negative width or place.
    fn arguments(&self, arguments: Vec<ColumnarValue>) -> Result<Vec<ColumnarValue>> {
        let place = match self.shape {
            Shape::Repeat | Shape::Pad | Shape::RepeatElement | Shape::Resize => 1,
            Shape::Position => 2,
            Shape::Series | Shape::Replace | Shape::ReplacePattern | Shape::JoinElements => return Ok(arguments),
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
                    ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?)
                }
            };
        }
        Ok(arguments)
    }
}

impl ScalarUDFImpl for Limited {
    as_the_engine! {
        name() -> &str;
        aliases() -> &[String];
        signature() -> &Signature;
        coerce_types(types: &[DataType]) -> Result<Vec<DataType>>;
        return_type(types: &[DataType]) -> Result<DataType>;
        output_ordering(inputs: &[ExprProperties]) -> Result<SortProperties>;
        documentation() -> Option<&Documentation>;
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        // The wrong step of a definition is an error of the definition, and not of its first row.
        if let (Shape::Series, [_, _, Some(step)]) = (self.shape, args.scalar_arguments) {
            series::check_step(step)?;
        }
        self.engine.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let number_rows = if is_constant { 1 } else { args.number_rows };
        let _held = self.admit(&args.args, number_rows)?;
        let arguments = self.arguments(args.args)?;
        let result = self.engine.invoke_with_args(ScalarFunctionArgs { args: arguments, number_rows, ..args })?;
        match result {
            ColumnarValue::Array(one) if is_constant => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
            }
            result => Ok(result),
        }
    }
}

#[cfg(test)]
mod tests;
