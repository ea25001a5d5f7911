//! Functions whose values can be far larger than their arguments, such as `repeat`. Their size is known before
//! they run.
//!
//! Invariant: a function of [`NAMES`] in a query runs only after the bytes of its values were found to fit.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::allowance::Allowance;

/// The functions.
pub(crate) const NAMES: [&str; 9] =
    ["repeat", "lpad", "rpad", "replace", "regexp_replace", "array_repeat", "array_resize", "range", "generate_series"];

/// One of the functions, with a check of its values' size.
#[derive(Debug)]
struct Growing {
    inner: Arc<ScalarUDF>,
    allowance: Arc<Allowance>,
}

/// `function` for one query, with a check.
pub(crate) fn checked(function: &Arc<ScalarUDF>, allowance: &Arc<Allowance>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Growing { inner: Arc::clone(function), allowance: Arc::clone(allowance) }))
}

impl PartialEq for Growing {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Growing {}

impl Hash for Growing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Growing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn with_updated_config(&self, _: &ConfigOptions) -> Option<ScalarUDF> {
        None
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.allowance.check()?;
        let rows = if args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) { 1 } else { args.number_rows };
        let bytes = bytes_of(self.name(), &args.args, rows)?;
        if let Some(error) = self.allowance.too_wide(rows, bytes, self.allowance.call_bytes()) {
            return Err(error);
        }
        let held = self.allowance.reserve(self.name());
        held.try_grow(bytes)?;
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// An argument; a scalar has the same value in every row.
struct Argument {
    values: ArrayRef,
    is_scalar: bool,
}

impl Argument {
    fn of(args: &[ColumnarValue], index: usize) -> Result<Option<Self>> {
        let Some(value) = args.get(index) else {
            return Ok(None);
        };
        let is_scalar = matches!(value, ColumnarValue::Scalar(_));
        Ok(Some(Self { values: value.to_array(1)?, is_scalar }))
    }

    fn row(&self, row: usize) -> usize {
        if self.is_scalar { 0 } else { row }
    }

    /// Bytes of a text; 0 for anything else.
    fn length(&self, row: usize) -> usize {
        let row = self.row(row);
        match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value(row).len(),
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(row).len(),
            DataType::Utf8View => self.values.as_string_view().value(row).len(),
            _ => 0,
        }
    }

    /// Bytes of any value.
    fn width(&self, row: usize) -> usize {
        match self.length(row) {
            0 => self.values.slice(self.row(row), 1).to_data().get_slice_memory_size().unwrap_or(0).max(8),
            length => length,
        }
    }
}

/// Whole numbers of an argument, 0 where it is not one.
struct Numbers {
    values: Int64Array,
    is_scalar: bool,
}

impl Numbers {
    fn of(args: &[ColumnarValue], index: usize) -> Result<Option<Self>> {
        let Some(argument) = Argument::of(args, index)? else {
            return Ok(None);
        };
        if !argument.values.data_type().is_integer() {
            return Ok(None);
        }
        let values = cast(&argument.values, &DataType::Int64)?;
        Ok(Some(Self { values: values.as_primitive::<Int64Type>().clone(), is_scalar: argument.is_scalar }))
    }

    fn get(&self, row: usize) -> i64 {
        let row = if self.is_scalar { 0 } else { row };
        if self.values.is_null(row) { 0 } else { self.values.value(row) }
    }

    fn count(&self, row: usize) -> usize {
        usize::try_from(self.get(row)).unwrap_or(0)
    }
}

/// Bytes of the values of the function `name`, at most, for `rows` rows.
fn bytes_of(name: &str, args: &[ColumnarValue], rows: usize) -> Result<usize> {
    let sum = |of: &dyn Fn(usize) -> usize| (0..rows).map(of).fold(0_usize, usize::saturating_add);
    Ok(match name {
        "repeat" => match (Argument::of(args, 0)?, Numbers::of(args, 1)?) {
            (Some(text), Some(times)) => sum(&|row| text.length(row).saturating_mul(times.count(row))),
            _ => 0,
        },
        "lpad" | "rpad" => match (Numbers::of(args, 1)?, Argument::of(args, 2)?) {
            // A character has up to four bytes; padding with spaces has one.
            (Some(length), Some(_)) => sum(&|row| length.count(row).saturating_mul(4)),
            (Some(length), None) => sum(&|row| length.count(row)),
            _ => 0,
        },
        "replace" | "regexp_replace" => match (Argument::of(args, 0)?, Argument::of(args, 2)?) {
            (Some(text), Some(by)) => {
                sum(&|row| (text.length(row) + 1).saturating_mul(by.length(row)).saturating_add(text.length(row)))
            }
            _ => 0,
        },
        "array_repeat" => match (Argument::of(args, 0)?, Numbers::of(args, 1)?) {
            // Each element also has an index on the way.
            (Some(value), Some(times)) => sum(&|row| (value.width(row) + 8).saturating_mul(times.count(row))),
            _ => 0,
        },
        "array_resize" => match Numbers::of(args, 1)? {
            Some(length) => sum(&|row| length.count(row).saturating_mul(16)),
            None => 0,
        },
        "range" | "generate_series" => {
            let (first, second, step) = (Numbers::of(args, 0)?, Numbers::of(args, 1)?, Numbers::of(args, 2)?);
            sum(&|row| {
                let at = |numbers: &Option<Numbers>| numbers.as_ref().map(|numbers| numbers.get(row));
                let (from, to) = match (at(&first), at(&second)) {
                    (Some(from), Some(to)) => (from, to),
                    (Some(to), None) => (0, to),
                    _ => (0, 0),
                };
                let step = at(&step).unwrap_or(1).unsigned_abs().max(1);
                usize::try_from(to.abs_diff(from) / step).unwrap_or(usize::MAX).saturating_mul(8)
            })
        }
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;
    use datafusion::scalar::ScalarValue;

    use super::*;

    fn texts(values: &[&str]) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(StringArray::from(values.to_vec())))
    }

    fn number(value: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))
    }

    #[test]
    fn the_size_of_values_is_known_before_they_exist() {
        let check = |name, args: &[ColumnarValue], rows, expect| {
            assert_eq!(bytes_of(name, args, rows).unwrap(), expect, "{name}");
        };
        let numbers = ColumnarValue::Array(Arc::new(Int64Array::from(vec![Some(2), None])));
        check("repeat", &[texts(&["ab", "c"]), number(1000)], 2, 3000);
        check("repeat", &[texts(&["ab", "c"]), numbers.clone()], 2, 4);
        check("repeat", &[texts(&["ab"]), number(-1)], 1, 0);
        check("repeat", &[texts(&["abc"]), number(i64::MAX)], 1, usize::MAX);
        check("lpad", &[texts(&["ab", "c"]), number(10)], 2, 20);
        check("rpad", &[texts(&["ab"]), number(10), texts(&["é"])], 1, 40);
        check("replace", &[texts(&["ab"]), texts(&[""]), texts(&["xyz"])], 1, 11);
        check("array_repeat", &[number(7), number(100)], 1, 1600);
        check("array_resize", &[number(7), number(100)], 1, 1600);
        check("range", &[number(100)], 1, 800);
        check("generate_series", &[number(100), number(0), number(-2)], 1, 400);
        check("generate_series", &[number(i64::MIN), number(i64::MAX)], 1, usize::MAX);
        check("range", &[numbers], 2, 16);
        check("upper", &[texts(&["ab"])], 1, 0);
    }
}
