//! Arithmetic that is exact or an error: a function takes the place of every chain of `+`, `-`, `*`, `/` and `%`.
//!
//! The engine computes integers modulo 2^n, lets decimals exceed their precision and times leave the calendar, and
//! keeps the sign of a NaN. No rule of the optimizer can fold or reorder the function into such a value.
//!
//! ```text
//! (a + b) * c - 1  ─▶  arithmetic[0 1 + 2 * 3 -](a, b, c, 1)
//! ```
//!
//! One function stands for a whole chain, because the engine asks for names and types of nested functions again and
//! again: nested, a chain would cost the cube of its length. Invariant: a result is exact, the nearest float, or an
//! error that names the operation. Columns are named as for the operators.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::numeric::{add, div, mul, neg, rem, sub};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result, exec_datafusion_err, internal_datafusion_err, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::floats;
use super::in_calendar;
use super::texts::{Text, name_of};
use super::time_functions::on_arrays;

/// One step of a computation on a stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Operation {
    /// Puts an argument on the stack.
    Argument(usize),
    /// Takes two values, and puts the result of this type.
    Operator(Operator, DataType),
    /// Takes one value, and puts its negation.
    Negation(DataType),
}

/// A chain of operators.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Arithmetic {
    /// The name has the steps, because the text of a plan is part of a view's id.
    name: String,
    steps: Vec<Operation>,
    /// The arguments as messages show them.
    texts: Vec<Text>,
    result: DataType,
    signature: Signature,
}

/// The type of an expression whose types have been coerced.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    match arithmetic(expr) {
        Some((function, _)) => Ok(function.result.clone()),
        None => expr.get_type(schema),
    }
}

/// The chain that `expr` is, with its arguments.
pub(super) fn arithmetic(expr: &Expr) -> Option<(&Arithmetic, &[Expr])> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => Some((func.inner().downcast_ref()?, args)),
        _ => None,
    }
}

/// What messages show of an expression. Functions that rules have put in are shown as what they stand for.
pub(super) fn text_of(expr: &Expr) -> Text {
    let within = in_calendar::checked(expr).or_else(|| floats::in_set_value(expr));
    match (expr, arithmetic(expr), within) {
        (_, Some((chain, _)), _) => chain.text(chain.steps.len().saturating_sub(1)).unwrap_or_else(|_| Text::of(expr)),
        (_, _, Some(inner)) => text_of(inner),
        (Expr::Cast(Cast { expr: inner, .. }) | Expr::TryCast(TryCast { expr: inner, .. }), ..) => text_of(inner),
        (Expr::ScalarFunction(call), ..) => {
            Text::of_call(call.func.name(), &call.args.iter().map(text_of).collect::<Vec<_>>())
        }
        _ => Text::of(expr),
    }
}

/// The function for an operator, or the operator if the engine's own is right.
pub(super) fn of_operator(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    let BinaryExpr { left, op, right } = binary;
    let (left_type, right_type) = (type_of(&left, schema)?, type_of(&right, schema)?);
    let result = BinaryTypeCoercer::new(&left_type, &op, &right_type).get_result_type()?;
    let exact = needs_checks(&left_type) && needs_checks(&right_type);
    if !exact && !in_calendar::checks(&result) && !floats::is_float(&result) {
        return Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }));
    }
    let mut chain = Chain::default();
    chain.operand(*left);
    chain.operand(*right);
    chain.steps.push(Operation::Operator(op, result.clone()));
    Ok(chain.call(result))
}

/// The function for a negation, or the negation if the engine's own is right.
pub(super) fn of_negation(value: Expr, schema: &DFSchema) -> Result<Expr> {
    let result = type_of(&value, schema)?;
    if !needs_checks(&result) && !floats::is_float(&result) {
        return Ok(Expr::Negative(Box::new(value)));
    }
    let mut chain = Chain::default();
    chain.operand(value);
    chain.steps.push(Operation::Negation(result.clone()));
    Ok(chain.call(result))
}

/// True for operators of arithmetic.
pub(super) fn is_operator(operator: Operator) -> bool {
    use Operator as O;
    matches!(operator, O::Plus | O::Minus | O::Multiply | O::Divide | O::Modulo)
}

/// True for types whose operators the engine lets wrap around or leave their precision.
fn needs_checks(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_decimal()
}

#[derive(Default)]
struct Chain {
    steps: Vec<Operation>,
    args: Vec<Expr>,
    texts: Vec<Text>,
}

impl Chain {
    /// Adds the steps of an operand that is a chain itself, or the operand as an argument.
    fn operand(&mut self, operand: Expr) {
        let first = self.args.len();
        match arithmetic(&operand) {
            Some((inner, args)) => {
                self.steps.extend(inner.steps.iter().map(|step| match step {
                    Operation::Argument(at) => Operation::Argument(first + at),
                    other => other.clone(),
                }));
                self.texts.extend_from_slice(&inner.texts);
                self.args.extend_from_slice(args);
            }
            None => {
                self.steps.push(Operation::Argument(first));
                self.texts.push(text_of(&operand));
                self.args.push(operand);
            }
        }
    }

    fn call(self, result: DataType) -> Expr {
        let Self { steps, args, texts } = self;
        let mut name = "arithmetic[".to_owned();
        for step in &steps {
            let space = if name.ends_with('[') { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = match step {
                Operation::Argument(at) => write!(name, "{space}{at}"),
                Operation::Operator(operator, _) => write!(name, "{space}{operator}"),
                Operation::Negation(_) => write!(name, "{space}neg"),
            };
        }
        name.push(']');
        let signature = Signature::variadic_any(Volatility::Immutable);
        ScalarUDF::new_from_impl(Arithmetic { name, steps, texts, result, signature }).call(args)
    }
}

impl Arithmetic {
    /// True if no step can be an error: operators on floats.
    pub(super) fn is_safe(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Operation::Argument(_) => true,
            Operation::Operator(_, result) | Operation::Negation(result) => floats::is_float(result),
        })
    }

    /// Runs the first `steps` on a stack of values that `argument`, `operator` and `negation` make.
    fn replay<T>(
        &self,
        steps: usize,
        argument: impl Fn(usize) -> Result<T>,
        operator: impl Fn(usize, Operator, &DataType, T, T) -> Result<T>,
        negation: impl Fn(usize, &DataType, T) -> Result<T>,
    ) -> Result<T> {
        let short = || internal_datafusion_err!("a step of {} lacks an operand", self.name);
        let mut stack = Vec::new();
        for (at, step) in self.steps.iter().take(steps).enumerate() {
            let value = match step {
                Operation::Argument(index) => argument(*index)?,
                Operation::Operator(of, result) => {
                    let right = stack.pop().ok_or_else(short)?;
                    let left = stack.pop().ok_or_else(short)?;
                    operator(at, *of, result, left, right)?
                }
                Operation::Negation(result) => negation(at, result, stack.pop().ok_or_else(short)?)?,
            };
            stack.push(value);
        }
        stack.pop().ok_or_else(short)
    }

    /// The operation of one step, as messages show it.
    fn text(&self, at: usize) -> Result<Text> {
        self.replay(
            at + 1,
            |index| self.texts.get(index).cloned().ok_or_else(|| internal_datafusion_err!("no argument {index}")),
            |_, operator, _, left, right| Ok(Text::of_operator(&left, operator, &right)),
            |_, _, value| Ok(Text::of_negation(&value)),
        )
    }

    fn fail(&self, at: usize, error: &ArrowError, result: &DataType) -> DataFusionError {
        let text = match self.text(at) {
            Ok(text) => text,
            Err(error) => return error,
        };
        if matches!(error, ArrowError::DivideByZero) {
            return exec_datafusion_err!("Division by zero in `{text}`. Write NULLIF(…, 0) around the divisor");
        }
        let name = name_of(result);
        let wider = match result {
            DataType::Int64 | DataType::UInt64 => "DECIMAL(38, 0)",
            decimal if decimal.is_decimal() => "a DECIMAL with fewer digits, or DOUBLE",
            time if in_calendar::checks(time) => return exec_datafusion_err!("`{text}` does not fit {name} ({error})"),
            _ => "BIGINT",
        };
        exec_datafusion_err!("`{text}` does not fit {name} ({error}). Cast an operand to {wider}")
    }

    /// The result of one step, if it is a value of its type.
    fn checked(&self, at: usize, computed: Result<ColumnarValue>, result: &DataType) -> Result<ColumnarValue> {
        let computed = computed.map_err(|error| match error {
            DataFusionError::ArrowError(error, _) => self.fail(at, &error, result),
            other => other,
        })?;
        if !has_limits(result) {
            return Ok(computed);
        }
        let array = match &computed {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(scalar) => scalar.to_array()?,
        };
        check_precision(&array).map_err(|error| self.fail(at, &error, result))?;
        match in_calendar::first_outside(&array) {
            Some(value) => Err(in_calendar::error(&self.text(at)?, value, result)),
            None => Ok(computed),
        }
    }
}

/// True for types that the engine's kernels leave.
fn has_limits(data_type: &DataType) -> bool {
    data_type.is_decimal() || in_calendar::checks(data_type)
}

/// Fails if a decimal has more digits than its type. Only results of the largest precision can: the engine makes the
/// precision of all others large enough.
fn check_precision(array: &ArrayRef) -> std::result::Result<(), ArrowError> {
    match array.data_type() {
        DataType::Decimal32(9, _) => array.as_primitive::<Decimal32Type>().validate_decimal_precision(9),
        DataType::Decimal64(18, _) => array.as_primitive::<Decimal64Type>().validate_decimal_precision(18),
        DataType::Decimal128(38, _) => array.as_primitive::<Decimal128Type>().validate_decimal_precision(38),
        DataType::Decimal256(76, _) => array.as_primitive::<Decimal256Type>().validate_decimal_precision(76),
        _ => Ok(()),
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.replay(
            self.steps.len(),
            |index| Ok(args.get(index).map(|arg| arg.schema_name().to_string()).unwrap_or_default()),
            |_, operator, _, mut left, right| {
                write!(left, " {operator} {right}")?;
                Ok(left)
            },
            |_, _, value| Ok(format!("(- {value})")),
        )
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(&self.name, self.result.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = self.replay(
            self.steps.len(),
            |index| match args.args.get(index) {
                Some(arg) => Ok(arg.clone()),
                None => internal_err!("{} lacks an argument", self.name),
            },
            |at, operator, result, left, right| {
                let kernel = match operator {
                    Operator::Plus => add,
                    Operator::Minus => sub,
                    Operator::Multiply => mul,
                    Operator::Divide => div,
                    _ => rem,
                };
                self.checked(at, apply(&left, &right, kernel), result)
            },
            |at, result, value| self.checked(at, on_arrays(&value, |array| Ok(neg(array)?)), result),
        )?;
        // A NaN stays NaN on its way, so the last step alone decides its sign.
        if floats::is_float(&self.result) { floats::one_nan(&result) } else { Ok(result) }
    }
}
