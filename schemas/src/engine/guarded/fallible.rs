//! Which expressions may fail: those whose evaluation is an error for some values of their columns.
//!
//! Invariant: an expression that is called safe here has a value or NULL for every row. Functions are safe only if they
//! are listed.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use super::super::arithmetic::{self, arithmetic};

/// Functions that give a value or NULL for all arguments.
const SAFE: [&str; 36] = [
    "array_has",
    "ascii",
    "bit_length",
    "btrim",
    "cardinality",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "date_part",
    "ends_with",
    "float_in_set",
    "get_field",
    "given",
    "greatest",
    "initcap",
    "isnan",
    "iszero",
    "least",
    "length",
    "lower",
    "ltrim",
    "md5",
    "not_true",
    "now",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "reverse",
    "rtrim",
    "starts_with",
    "strpos",
    "trim",
    "upper",
];

/// Units to which every time of the calendar can be truncated.
const UNITS: [&str; 10] =
    ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"];

/// True if evaluating `expr` may be an error for some row.
pub(super) fn may_fail(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let mut fails = false;
    expr.apply(|inner| {
        fails = match inner {
            Expr::ScalarFunction(call) => match arithmetic(inner) {
                Some((chain, _)) => !chain.is_safe(),
                None => !is_safe_call(call, schema)?,
            },
            Expr::HigherOrderFunction(_) | Expr::Negative(_) => true,
            Expr::BinaryExpr(BinaryExpr { op, right, .. }) => {
                arithmetic::is_operator(*op) || (is_pattern(*op) && !is_literal(right))
            }
            Expr::SimilarTo(like) => !is_literal(&like.pattern),
            Expr::Cast(Cast { expr, field }) => !is_safe_cast(&expr.get_type(schema)?, field.data_type()),
            _ => false,
        };
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(fails)
}

fn is_safe_call(call: &ScalarFunction, schema: &DFSchema) -> Result<bool> {
    let name = call.func.name();
    Ok(match (name, call.args.as_slice()) {
        // The engine looks into the first element of a list, also of an empty one.
        ("array_length", args) => args.len() == 1,
        ("regexp_like", [_, pattern, flags @ ..]) => is_literal(pattern) && flags.iter().all(is_literal),
        ("split_part", [_, _, place]) => integer(place).is_some_and(|place| place != 0),
        ("substr", [_, start]) => integer(start).is_some(),
        ("substr", [_, start, length]) => integer(start).zip(integer(length)).is_some_and(|(_, length)| length >= 0),
        ("trunc", [float, ..]) => float.get_type(schema)?.is_floating(),
        ("date_trunc", [unit, time]) => {
            let known = text(unit).is_some_and(|unit| UNITS.contains(&unit.to_ascii_lowercase().as_str()));
            let local = matches!(time.get_type(schema)?, DataType::Timestamp(TimeUnit::Microsecond, None));
            known && local
        }
        _ => SAFE.contains(&name),
    })
}

fn is_pattern(operator: Operator) -> bool {
    use Operator as O;
    matches!(operator, O::RegexMatch | O::RegexIMatch | O::RegexNotMatch | O::RegexNotIMatch)
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(_, _))
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// A constant within the range in which functions of texts count characters.
fn integer(expr: &Expr) -> Option<i64> {
    let value = match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => *value,
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => i64::from(*value),
        _ => return None,
    };
    i32::try_from(value).is_ok().then_some(value)
}

/// The most digits before and after the point of the values of a type of exact numbers.
fn digits(data_type: &DataType) -> Option<(i16, i16)> {
    use DataType as T;
    Some(match data_type {
        T::Int8 | T::UInt8 => (3, 0),
        T::Int16 | T::UInt16 => (5, 0),
        T::Int32 | T::UInt32 => (10, 0),
        T::Int64 => (19, 0),
        T::UInt64 => (20, 0),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => {
            (i16::from(*p) - i16::from(*s), i16::from(*s))
        }
        _ => return None,
    })
}

/// True for casts that have a result for every value.
fn is_safe_cast(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let text = |data_type: &T| matches!(data_type, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let bytes = matches!(from, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
    let bits = |data_type: &T| data_type.primitive_width().unwrap_or(usize::MAX);
    match (from, to) {
        (from, to) if from == to => true,
        (T::Null, _) => true,
        (_, to) if text(to) => !from.is_nested() && !bytes,
        (from, T::Float32 | T::Float64) => from.is_numeric(),
        (from, to) if to.is_decimal() => {
            digits(from).zip(digits(to)).is_some_and(|(from, to)| from.0 <= to.0 && from.1 <= to.1)
        }
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => bits(from) <= bits(to),
        (from, to) if from.is_unsigned_integer() && to.is_unsigned_integer() => bits(from) <= bits(to),
        (from, to) if from.is_unsigned_integer() && to.is_signed_integer() => bits(from) < bits(to),
        (T::Date32, T::Timestamp(unit, None)) => !matches!(unit, TimeUnit::Nanosecond),
        (T::Timestamp(unit, None), T::Date32) => !matches!(unit, TimeUnit::Nanosecond),
        _ => false,
    }
}
