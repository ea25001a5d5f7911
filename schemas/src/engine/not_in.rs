//! `NOT IN (SELECT …)` by the rules of SQL: unknown, and so not true, if the subquery has a NULL.
//!
//! The engine plans `NOT IN` as a join that finds no partner. Only if a plain column is compared with an uncorrelated
//! subquery does the join know of NULLs. All other forms become `NOT EXISTS` over the rows that are equal or unknown.
//!
//! ```text
//! x NOT IN (SELECT y FROM t)   ─▶   NOT EXISTS (SELECT * FROM (SELECT y FROM t) WHERE y = x OR y IS NULL OR x IS NULL)
//! ```
//!
//! Invariant: both are true for the same rows. They differ in being false or unknown, so only conditions that are
//! joined by AND and OR are rewritten; a condition within another expression is refused.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::logical_plan::{Filter, Subquery};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// Rewrites `NOT IN (SELECT …)` in the conditions of WHERE and HAVING.
#[derive(Debug)]
pub(super) struct NotIn;

impl AnalyzerRule for NotIn {
    fn name(&self) -> &'static str {
        "not_in"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|inner| match inner {
                    Expr::InSubquery(InSubquery { subquery, .. }) | Expr::Exists(Exists { subquery, .. }) => {
                        refuse_lost_row(subquery)?;
                        Ok(TreeNodeRecursion::Continue)
                    }
                    _ => Ok(TreeNodeRecursion::Continue),
                })
            })
        })?;
        let rewritten = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Filter(filter) if has_in_subquery(&filter.predicate)? => {
                let predicate = condition(filter.predicate, filter.input.schema(), true)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(rewritten?.data)
    }
}

/// Refuses a correlated subquery with an aggregate over all its rows. Such a subquery has a row even if there is
/// nothing to aggregate. The engine groups the aggregate by the correlation, and so loses that row.
fn refuse_lost_row(subquery: &Subquery) -> Result<()> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(());
    }
    if subquery.subquery.exists(|node| Ok(is_overall(node) && depends_on_outer(node)?))? {
        return plan_err!(
            "IN (SELECT …) and EXISTS take no aggregate without GROUP BY over rows that depend on the outer query. Compare \
             with the subquery itself: x = (SELECT max(y) …)"
        );
    }
    Ok(())
}

/// True for an aggregate over all rows.
fn is_overall(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Aggregate(call) if call.group_expr.is_empty())
}

/// True if the rows or the expressions of a plan depend on the outer query.
fn depends_on_outer(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let mut depends = false;
        node.apply_expressions(|expr| {
            depends |= expr.contains_outer();
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(depends)
    })
}

fn has_in_subquery(expr: &Expr) -> Result<bool> {
    expr.exists(|inner| Ok(matches!(inner, Expr::InSubquery(_))))
}

/// Rewrites a condition of which only the truth matters. `top` says that the condition is not part of an OR.
fn condition(expr: Expr, schema: &DFSchema, top: bool) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let top = top && op == Operator::And;
            let left = Box::new(condition(*left, schema, top)?);
            let right = Box::new(condition(*right, schema, top)?);
            Ok(Expr::BinaryExpr(BinaryExpr::new(left, op, right)))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                membership(InSubquery { expr, subquery, negated: !negated }, schema, top)
            }
            Expr::Not(inner) => condition(*inner, schema, top),
            // NOT (a OR b) is NOT a AND NOT b.
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right })
                if has_in_subquery(&left)? || has_in_subquery(&right)? =>
            {
                let op = if op == Operator::And { Operator::Or } else { Operator::And };
                let (left, right) = (Box::new(Expr::Not(left)), Box::new(Expr::Not(right)));
                condition(Expr::BinaryExpr(BinaryExpr::new(left, op, right)), schema, top)
            }
            other => elsewhere(Expr::Not(Box::new(other))),
        },
        Expr::InSubquery(membership_test) => membership(membership_test, schema, top),
        other => elsewhere(other),
    }
}

/// Refuses a subquery after IN whose result may be unknown where unknown is not the same as false.
fn elsewhere(expr: Expr) -> Result<Expr> {
    if has_in_subquery(&expr)? {
        return plan_err!(
            "IN (SELECT …) is supported as a condition of its own, joined by AND, OR and NOT, not within another \
             expression. Use EXISTS"
        );
    }
    Ok(expr)
}

fn membership(test: InSubquery, schema: &DFSchema, top: bool) -> Result<Expr> {
    let known = top && matches!(*test.expr, Expr::Column(_)) && test.subquery.outer_ref_columns.is_empty();
    if !test.negated || known {
        return Ok(Expr::InSubquery(test));
    }
    let InSubquery { expr, subquery, .. } = test;
    let Subquery { subquery: plan, mut outer_ref_columns, spans } = subquery;
    let value = Expr::Column(
        plan.schema().columns().into_iter().next().ok_or_else(|| plan_datafusion_err!("a subquery has no column"))?,
    );
    let outer = expr.transform(|inner| match inner {
        Expr::Column(column) => {
            let field = Arc::clone(schema.field_from_column(&column)?);
            let reference = Expr::OuterReferenceColumn(field, column);
            outer_ref_columns.push(reference.clone());
            Ok(Transformed::new(reference, true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let outer = outer.data;
    let equal_or_unknown = value.clone().eq(outer.clone()).or(value.is_null()).or(outer.is_null());
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(plan)).filter(equal_or_unknown)?.build()?;
    let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans };
    Ok(Expr::Exists(Exists::new(subquery, true)))
}
