//! Arithmetic that fails where the engine's own arithmetic wraps around, and times that stay within the calendar.
//!
//! The engine computes `+`, `-` and `*` of integers modulo 2^n, and lets decimals exceed their precision. A function
//! takes the place of each such operator. Columns are named as for the operator, and no rule of the optimizer can fold
//! or reorder the function into a wrapped number.
//!
//! Invariant: a result is exact or an error that names the expression.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::numeric::{add, div, mul, neg, rem, sub};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Decimal256Type, Field, FieldRef, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::calendar::{self, DAYS, MICROS};

/// The SQL name of a type of numbers or times.
fn type_name(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Int8 => "TINYINT".into(),
        T::Int16 => "SMALLINT".into(),
        T::Int32 => "INT".into(),
        T::Int64 => "BIGINT".into(),
        T::Decimal128(precision, scale) | T::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        T::Date32 => "DATE".into(),
        T::Timestamp(_, _) => "TIMESTAMP".into(),
        other => other.to_string(),
    }
}

/// The longest text of an expression in a message.
const TEXT: usize = 100;

/// Shortens the text of an expression for a message.
pub(super) fn shorten(text: String) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// An operator on integers or decimals. With one argument, `-` negates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CheckedOperator {
    operator: Operator,
    /// The expression as messages show it.
    text: String,
    signature: Signature,
}

impl CheckedOperator {
    /// `text` is the whole expression.
    pub(super) fn new(operator: Operator, text: String) -> Self {
        Self { operator, text: shorten(text), signature: Signature::variadic_any(Volatility::Immutable) }
    }

    /// True for operators whose results the engine may wrap or leave without their expression in an error.
    pub(super) fn replaces(operator: Operator) -> bool {
        use Operator as O;
        matches!(operator, O::Plus | O::Minus | O::Multiply | O::Divide | O::Modulo)
    }

    fn fail(&self, error: &ArrowError, result: &DataType) -> datafusion::error::DataFusionError {
        let text = &self.text;
        if matches!(error, ArrowError::DivideByZero) {
            return exec_datafusion_err!("Division by zero in `{text}`. Write NULLIF(…, 0) around the divisor");
        }
        let wider = match result {
            DataType::Int64 | DataType::UInt64 => "DECIMAL(38, 0)",
            DataType::Decimal128(..) | DataType::Decimal256(..) => "a DECIMAL with fewer digits, or DOUBLE",
            _ => "BIGINT",
        };
        let name = type_name(result);
        exec_datafusion_err!("`{text}` does not fit {name} ({error}). Cast an operand to {wider}")
    }

    fn binary(&self, left: &ColumnarValue, right: &ColumnarValue, result: &DataType) -> Result<ColumnarValue> {
        let kernel = match self.operator {
            Operator::Plus => add,
            Operator::Minus => sub,
            Operator::Multiply => mul,
            Operator::Divide => div,
            Operator::Modulo => rem,
            other => return internal_err!("no checked operator {other}"),
        };
        let computed = apply(left, right, kernel).map_err(|error| match error {
            datafusion::error::DataFusionError::ArrowError(error, _) => self.fail(&error, result),
            other => other,
        })?;
        match &computed {
            ColumnarValue::Array(array) => check_precision(array),
            ColumnarValue::Scalar(scalar) if scalar.data_type().is_decimal() => check_precision(&scalar.to_array()?),
            ColumnarValue::Scalar(_) => Ok(()),
        }
        .map_err(|error| self.fail(&error, result))?;
        Ok(computed)
    }

    fn negate(&self, value: &ColumnarValue, result: &DataType) -> Result<ColumnarValue> {
        let fail = |error: ArrowError| self.fail(&error, result);
        Ok(match value {
            ColumnarValue::Array(array) => ColumnarValue::Array(neg(array).map_err(fail)?),
            ColumnarValue::Scalar(scalar) => {
                let one = neg(&scalar.to_array()?).map_err(fail)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?)
            }
        })
    }
}

/// Fails if a decimal has more digits than its type. Only results of the largest precision can: the engine makes the
/// precision of all others large enough.
fn check_precision(array: &ArrayRef) -> std::result::Result<(), ArrowError> {
    match array.data_type() {
        DataType::Decimal128(38, _) => array.as_primitive::<Decimal128Type>().validate_decimal_precision(38),
        DataType::Decimal256(76, _) => array.as_primitive::<Decimal256Type>().validate_decimal_precision(76),
        _ => Ok(()),
    }
}

impl ScalarUDFImpl for CheckedOperator {
    fn name(&self) -> &'static str {
        match self.operator {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            Operator::Multiply => "checked_multiply",
            Operator::Divide => "checked_divide",
            _ => "checked_remainder",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args {
            [value] => format!("(- {})", value.schema_name()),
            [left, right] => format!("{} {} {}", left.schema_name(), self.operator, right.schema_name()),
            _ => return internal_err!("an operator of {} operands", args.len()),
        })
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value] => Ok(value.clone()),
            [left, right] => BinaryTypeCoercer::new(left, &self.operator, right).get_result_type(),
            _ => internal_err!("an operator of {} operands", types.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = args.return_field.data_type();
        match args.args.as_slice() {
            [value] => self.negate(value, result),
            [left, right] => self.binary(left, right, result),
            other => exec_err!("an operator of {} operands", other.len()),
        }
    }
}

/// A date or time that the engine computed, checked against the calendar: years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InCalendar {
    /// The expression as messages show it.
    text: String,
    /// True if a time outside the calendar becomes NULL, as TRY_CAST has it.
    or_null: bool,
    signature: Signature,
}

impl InCalendar {
    pub(super) fn new(text: String, or_null: bool) -> Self {
        Self { text: shorten(text), or_null, signature: Signature::any(1, Volatility::Immutable) }
    }

    /// True if values of this type are dates or times that this function checks.
    pub(super) fn checks(data_type: &DataType) -> bool {
        use TimeUnit::{Microsecond, Millisecond, Second};
        matches!(data_type, DataType::Date32 | DataType::Timestamp(Second | Millisecond | Microsecond, _))
    }

    fn check(&self, array: &ArrayRef) -> Result<ArrayRef> {
        macro_rules! within {
            ($t:ty, $range:expr) => {{
                let values = array.as_primitive::<$t>();
                let range = $range;
                let outside = values.iter().flatten().find(|value| !range.contains(value));
                match outside {
                    None => Ok(Arc::clone(array)),
                    Some(_) if self.or_null => {
                        let kept = values.unary_opt::<_, $t>(|value| range.contains(&value).then_some(value));
                        Ok(Arc::new(kept.with_data_type(array.data_type().clone())))
                    }
                    Some(value) => exec_err!(
                        "`{}` is outside of the calendar, which has the years 1 to 9999 (value {value} of {})",
                        self.text,
                        type_name(array.data_type())
                    ),
                }
            }};
        }
        let scaled = |unit: i64| *MICROS.start() / unit..=*MICROS.end() / unit;
        match array.data_type() {
            DataType::Date32 => within!(Date32Type, DAYS),
            DataType::Timestamp(TimeUnit::Second, _) => within!(TimestampSecondType, scaled(calendar::SECOND)),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                within!(TimestampMillisecondType, scaled(calendar::MILLISECOND))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => within!(TimestampMicrosecondType, MICROS),
            _ => Ok(Arc::clone(array)),
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
        Ok(match time {
            ColumnarValue::Array(array) => ColumnarValue::Array(self.check(array)?),
            ColumnarValue::Scalar(scalar) => {
                let one = self.check(&scalar.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?)
            }
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(inputs.first().map_or(SortProperties::Unordered, |time| time.sort_properties))
    }
}
