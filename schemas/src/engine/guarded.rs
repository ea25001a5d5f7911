//! Conditions that protect others: `b <> 0 AND a / b > 1` never divides by zero, and `CASE` evaluates one branch.
//!
//! The engine evaluates both sides of an AND for all rows of a batch, unless few of the rows need the second one. So an
//! error would depend on how rows are cut into batches, and the layers would disagree. And the engine turns a CASE of
//! conditions into ANDs and ORs.
//!
//! ```text
//! s AND f               ─▶   s AND CASE true WHEN s THEN f ELSE false END
//! s OR f                ─▶   s OR CASE true WHEN s THEN true ELSE f END
//! CASE WHEN c THEN f …  ─▶   CASE true WHEN c THEN f …
//! ```
//!
//! Here `f` may fail and `s` cannot, whatever their order. Of several that may fail, each protects those behind it.
//! `s` stays where it was as well, so it still chooses files.
//!
//! Invariant: a rewritten condition is true for the same rows. Conditions of WHERE, HAVING, FILTER and WHEN are
//! rewritten, of which only the truth matters.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::arithmetic::arithmetic;

/// Functions that give a value or NULL for all arguments.
const SAFE: [&str; 31] = [
    "array_has",
    "array_length",
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
    "greatest",
    "isnan",
    "iszero",
    "least",
    "length",
    "lower",
    "ltrim",
    "md5",
    "now",
    "nullif",
    "nvl",
    "octet_length",
    "rtrim",
    "starts_with",
    "strpos",
    "trunc",
    "trim",
    "upper",
];

/// Protects the conditions of a WHERE again after the engine has joined them with those of subqueries.
#[derive(Debug)]
pub(super) struct Guarded;

impl OptimizerRule for Guarded {
    fn name(&self) -> &'static str {
        "guarded"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) => where_clause(filter),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Rewrites the condition of a WHERE or HAVING.
pub(super) fn where_clause(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let before = filter.predicate.clone();
    let predicate = condition(filter.predicate, filter.input.schema())?;
    let changed = predicate != before;
    let plan = LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?);
    Ok(Transformed::new(plan, changed, TreeNodeRecursion::Continue))
}

/// Rewrites a condition of which only the truth matters.
pub(super) fn condition(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    match &expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) if may_fail(&expr, schema)? => {
            protected(*op, expr, schema)
        }
        _ => Ok(expr),
    }
}

/// Rewrites the conditions of a chain of one operator.
fn protected(operator: Operator, chain: Expr, schema: &DFSchema) -> Result<Expr> {
    let mut parts = Vec::new();
    split(chain, operator, &mut parts);
    let (mut safe, mut guards, mut failing, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let bound = is_bound(&part)?;
        let fails = may_fail(&part, schema)?;
        if fails && (bound || is_protected(&part)) {
            others.push(part);
        } else if fails {
            failing.push(condition(part, schema)?);
        } else {
            if !bound {
                guards.push(part.clone());
            }
            safe.push(part);
        }
    }
    if failing.is_empty() {
        guards.clear();
    }
    let join = |parts: Vec<Expr>| match operator {
        Operator::And => conjunction(parts),
        _ => disjunction(parts),
    };
    let tests: Vec<Expr> = join(guards).into_iter().chain(failing).collect();
    let guarded = tests.into_iter().rev().reduce(|behind, before| guard(operator, before, behind));
    let all: Vec<Expr> = join(safe).into_iter().chain(others).chain(guarded).collect();
    Ok(join(all).unwrap_or_else(|| lit(operator == Operator::And)))
}

/// `before`, and `behind` only where `before` does not decide.
fn guard(operator: Operator, before: Expr, behind: Expr) -> Expr {
    let (then, otherwise) = match operator {
        Operator::And => (behind, lit(false)),
        _ => (lit(true), behind),
    };
    lasting(vec![(Box::new(before), Box::new(then))], Some(Box::new(otherwise)))
}

/// A CASE of conditions that the engine does not turn into ANDs and ORs: it has an operand.
fn lasting(branches: Vec<(Box<Expr>, Box<Expr>)>, otherwise: Option<Box<Expr>>) -> Expr {
    Expr::Case(Case::new(Some(Box::new(lit(true))), branches, otherwise))
}

/// True for a condition that [`guard`] has made: an analysis that is repeated must not protect it again.
fn is_protected(expr: &Expr) -> bool {
    match expr {
        Expr::Case(Case { expr: Some(operand), when_then_expr, else_expr: Some(otherwise) }) => {
            let [(_, then)] = when_then_expr.as_slice() else { return false };
            **operand == lit(true) && (**then == lit(true) || **otherwise == lit(false))
        }
        _ => false,
    }
}

fn split(expr: Expr, operator: Operator, parts: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == operator => {
            split(*left, operator, parts);
            split(*right, operator, parts);
        }
        other => parts.push(other),
    }
}

/// Rewrites a CASE of which a part may fail. Its conditions protect what follows, and the engine keeps them only if the
/// CASE has an operand.
pub(super) fn case(case: Case, schema: &DFSchema) -> Result<Expr> {
    let Case { expr, when_then_expr, else_expr } = case;
    if expr.is_some() {
        return Ok(Expr::Case(Case { expr, when_then_expr, else_expr }));
    }
    let mut branches = Vec::with_capacity(when_then_expr.len());
    for (when, then) in when_then_expr {
        branches.push((Box::new(condition(*when, schema)?), then));
    }
    let mut fails = false;
    for part in branches.iter().flat_map(|(when, then)| [when, then]).chain(&else_expr) {
        fails = fails || may_fail(part, schema)?;
    }
    let boolean = match branches.first() {
        Some((_, then)) => matches!(then.get_type(schema)?, DataType::Boolean | DataType::Null),
        None => false,
    };
    Ok(match fails && boolean {
        true => lasting(branches, else_expr),
        false => Expr::Case(Case { expr: None, when_then_expr: branches, else_expr }),
    })
}

/// True for an expression that must stay a condition of its own: rules of the engine look for it there.
fn is_bound(expr: &Expr) -> Result<bool> {
    Ok(expr.is_volatile()
        || expr.exists(|inner| {
            Ok(matches!(
                inner,
                Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        })?)
}

/// True if evaluating `expr` may be an error for some row.
fn may_fail(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let mut fails = false;
    expr.apply(|inner| {
        fails = match inner {
            Expr::ScalarFunction(call) => match arithmetic(inner) {
                Some((chain, _)) => !chain.is_safe(),
                None => !SAFE.contains(&call.func.name()),
            },
            Expr::HigherOrderFunction(_) | Expr::Negative(_) => true,
            Expr::Cast(Cast { expr, field }) => !is_safe_cast(&expr.get_type(schema)?, field.data_type()),
            _ => false,
        };
        Ok(if fails { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(fails)
}

/// True for casts that have a result for every value.
fn is_safe_cast(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let text = |data_type: &T| matches!(data_type, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let bits = |data_type: &T| data_type.primitive_width().unwrap_or(usize::MAX);
    match (from, to) {
        (from, to) if from == to => true,
        (T::Null, _) => true,
        (_, to) if text(to) => !from.is_nested(),
        (from, T::Float32 | T::Float64) => from.is_numeric(),
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => bits(from) <= bits(to),
        (from, to) if from.is_unsigned_integer() && to.is_unsigned_integer() => bits(from) <= bits(to),
        (from, to) if from.is_unsigned_integer() && to.is_signed_integer() => bits(from) < bits(to),
        (T::Date32, T::Timestamp(unit, None)) => !matches!(unit, arrow::datatypes::TimeUnit::Nanosecond),
        _ => false,
    }
}
