//! The marks of conditions that protect what stands behind them.
//!
//! ```text
//! CASE true WHEN not_true(s) THEN false WHEN not_true(f) THEN false ELSE g END   s AND f AND g
//! CASE true WHEN given(s) THEN true WHEN given(f) THEN true ELSE g END           s OR f OR g
//! CASE true WHEN given(s) THEN v END                                             v, where s
//! ```
//!
//! A CASE with an operand lasts: no rule of the engine turns it into ANDs and ORs. A mark tells such a CASE from one
//! that a user has written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{not, prep_null_mask_filter};
use datafusion::common::Result;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, Operator, Volatility, lit};

use super::super::one_value::OneValue;

/// A condition, unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct IsGiven;

impl OneValue for IsGiven {
    const NAME: &'static str = "given";

    fn of(&self, conditions: &ArrayRef) -> Result<ArrayRef> {
        Ok(ArrayRef::clone(conditions))
    }
}

/// True where a condition is false or NULL. Unlike for `IS NOT TRUE`, operators know that the result is never NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct NotTrue;

impl OneValue for NotTrue {
    const NAME: &'static str = "not_true";
    const NEVER_NULL: bool = true;

    fn of(&self, conditions: &ArrayRef) -> Result<ArrayRef> {
        let conditions = conditions.as_boolean();
        Ok(Arc::new(match conditions.null_count() {
            0 => not(conditions)?,
            _ => not(&prep_null_mask_filter(conditions))?,
        }))
    }
}

/// A condition that operators leave where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct InPlace;

impl OneValue for InPlace {
    const NAME: &'static str = "in_place";
    const VOLATILITY: Volatility = Volatility::Volatile;

    fn of(&self, conditions: &ArrayRef) -> Result<ArrayRef> {
        Ok(ArrayRef::clone(conditions))
    }
}

/// A condition that operators leave where it is: they move others below joins.
pub(super) fn in_place(condition: Expr) -> Expr {
    InPlace.call(condition)
}

/// A CASE that the engine keeps.
pub(super) fn lasting(branches: Vec<(Box<Expr>, Box<Expr>)>, otherwise: Option<Box<Expr>>) -> Expr {
    Expr::Case(Case::new(Some(Box::new(lit(true))), branches, otherwise))
}

/// A chain of conditions, each evaluated only where those before it leave the chain open. One CASE has all of them: a
/// CASE within each other would take stack for every condition.
pub(super) fn guard(operator: Operator, mut parts: Vec<Expr>) -> Option<Expr> {
    let last = parts.pop()?;
    if parts.is_empty() {
        return Some(last);
    }
    let branch = |part: Expr| match operator {
        Operator::And => (Box::new(NotTrue.call(part)), Box::new(lit(false))),
        _ => (Box::new(IsGiven.call(part)), Box::new(lit(true))),
    };
    Some(lasting(parts.into_iter().map(branch).collect(), Some(Box::new(last))))
}

/// `value`, evaluated only where `condition` is true, and NULL elsewhere.
pub(super) fn only_where(condition: Expr, value: Expr) -> Expr {
    lasting(vec![(Box::new(IsGiven.call(condition)), Box::new(value))], None)
}

/// What a CASE of this module protects.
pub(super) enum Guarded<'a> {
    /// A chain of this operator, of [`guard`].
    Chain(Operator),
    /// The condition and the value of [`only_where`].
    Value(&'a Expr, &'a Expr),
}

/// Recognises what [`guard`] and [`only_where`] have made.
pub(super) fn guarded(expr: &Expr) -> Option<Guarded<'_>> {
    match expr {
        Expr::Case(case) => guarded_case(case),
        _ => None,
    }
}

/// As [`guarded`].
pub(super) fn guarded_case(case: &Case) -> Option<Guarded<'_>> {
    let (when, then) = case.when_then_expr.first()?;
    match (IsGiven::within(when), &case.else_expr) {
        (Some(condition), None) => Some(Guarded::Value(condition, then)),
        (Some(_), Some(_)) => Some(Guarded::Chain(Operator::Or)),
        (None, _) => NotTrue::within(when).map(|_| Guarded::Chain(Operator::And)),
    }
}

/// The conditions of a chain that [`guard`] has made.
pub(super) fn parts_of(case: Case) -> Vec<Expr> {
    let part = |when: Expr| IsGiven::within(&when).or_else(|| NotTrue::within(&when)).cloned().unwrap_or(when);
    let parts = case.when_then_expr.into_iter().map(|(when, _)| part(*when));
    parts.chain(case.else_expr.map(|last| *last)).collect()
}
