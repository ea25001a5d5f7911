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

use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::expr::{AggregateFunction, Case, Cast};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

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

/// Plans a query whose conditions of WHERE and HAVING are protected. The engine joins conditions of subqueries with
/// others, and computes what two conditions share below both. So they are protected after it has done so.
#[derive(Debug)]
pub(super) struct GuardedPlanner;

#[async_trait]
impl QueryPlanner for GuardedPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = logical_plan.clone().transform_up_with_subqueries(|node| match node {
            LogicalPlan::Filter(filter) => where_clause(filter),
            other => Ok(Transformed::no(other)),
        });
        DefaultPhysicalPlanner::default().create_physical_plan(&guarded?.data, session).await
    }
}

fn where_clause(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let predicate = condition(filter.predicate, filter.input.schema())?;
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
}

/// The engine's rules, and one that puts conditions that may fail behind all others. What two of them share would be
/// computed for all rows if one of them came first.
pub(super) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let shares = rules.iter().position(|rule| rule.name() == "common_sub_expression_eliminate");
    rules.insert(shares.unwrap_or(rules.len()), Arc::new(FailingLast));
    rules
}

#[derive(Debug)]
struct FailingLast;

impl OptimizerRule for FailingLast {
    fn name(&self) -> &'static str {
        "failing_last"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let schema = Arc::clone(filter.input.schema());
        let ordered = failing_last(filter.predicate, &schema)?;
        let plan = LogicalPlan::Filter(Filter::try_new(ordered.data, filter.input)?);
        Ok(Transformed::new(plan, ordered.transformed, TreeNodeRecursion::Continue))
    }
}

/// Sorts the conditions of a chain; the order among those that may fail, and among the others, stays.
fn failing_last(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let operator = match &expr {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => *op,
        _ => return Ok(Transformed::no(expr)),
    };
    let mut parts = Vec::new();
    split(expr, operator, &mut parts);
    let mut changed = false;
    let (mut safe, mut failing) = (Vec::new(), Vec::new());
    for part in parts {
        let part = failing_last(part, schema)?;
        changed |= part.transformed;
        if may_fail(&part.data, schema)? {
            failing.push(part.data);
        } else {
            changed |= !failing.is_empty();
            safe.push(part.data);
        }
    }
    safe.append(&mut failing);
    let joined = join(operator, safe).unwrap_or_else(|| lit(operator == Operator::And));
    Ok(Transformed::new(joined, changed, TreeNodeRecursion::Continue))
}

fn join(operator: Operator, parts: Vec<Expr>) -> Option<Expr> {
    match operator {
        Operator::And => conjunction(parts),
        _ => disjunction(parts),
    }
}

/// Rewrites the arguments of an aggregate that may fail: rows that its FILTER leaves out do not reach them.
pub(super) fn aggregate(mut call: AggregateFunction, schema: &DFSchema) -> Result<AggregateFunction> {
    let Some(filter) = call.params.filter.take() else { return Ok(call) };
    let filter = condition(*filter, schema)?;
    let keys = call.params.order_by.iter_mut().map(|key| &mut key.expr);
    for value in call.params.args.iter_mut().chain(keys) {
        if may_fail(value, schema)? && !is_filtered(value, &filter) {
            *value = lasting(vec![(Box::new(filter.clone()), Box::new(std::mem::take(value)))], None);
        }
    }
    call.params.filter = Some(Box::new(filter));
    Ok(call)
}

/// True for a value that [`aggregate`] has rewritten.
fn is_filtered(value: &Expr, filter: &Expr) -> bool {
    match value {
        Expr::Case(Case { when_then_expr, else_expr: None, .. }) => {
            matches!(when_then_expr.as_slice(), [(when, _)] if **when == *filter)
        }
        _ => false,
    }
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
    let tests: Vec<Expr> = join(operator, guards).into_iter().chain(failing).collect();
    let guarded = tests.into_iter().rev().reduce(|behind, before| guard(operator, before, behind));
    let all: Vec<Expr> = join(operator, safe).into_iter().chain(others).chain(guarded).collect();
    Ok(join(operator, all).unwrap_or_else(|| lit(operator == Operator::And)))
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

#[cfg(test)]
mod tests;
