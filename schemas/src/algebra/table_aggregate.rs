//! An aggregate over one table, with everything written in terms of the table's own columns, so that two queries can be
//! compared whatever subqueries, aliases and projections their authors used.
//!
//! ```text
//!  SELECT d, avg(x) FROM (SELECT device AS d, temp * 2 AS x FROM events e WHERE ok) WHERE d <> 'a' GROUP BY d
//!  conditions: ok, device <> 'a'      groups: device      calls: avg(temp * 2)
//! ```
//!
//! Invariant: the aggregate of the calls by the groups, over the table's rows that meet all conditions, is the query.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as PlanResult, plan_err};
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, split_conjunction_owned};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// An aggregate over one table.
#[derive(Debug, Clone)]
pub struct TableAggregate {
    pub(super) conditions: Vec<Expr>,
    pub(super) groups: Vec<Expr>,
    pub(super) calls: Vec<Expr>,
    /// The columns of the table, under their bare names.
    pub(super) columns: DFSchemaRef,
    /// The columns of the query's node: groups, then calls.
    pub(super) output: DFSchemaRef,
}

impl TableAggregate {
    /// Reads an aggregate, or a DISTINCT, of an analysed plan over one table, and returns the table's scan with it.
    /// `None` for other plans: joins, unions, limits, or functions that give another value for each row.
    pub fn of(node: &LogicalPlan) -> Option<(TableAggregate, &TableScan)> {
        let columns = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect();
        let (input, groups, calls): (&LogicalPlan, Vec<Expr>, &[Expr]) = match node {
            LogicalPlan::Aggregate(aggregate) => (&aggregate.input, aggregate.group_expr.clone(), &aggregate.aggr_expr),
            LogicalPlan::Distinct(Distinct::All(input)) => (input, columns(input), &[]),
            _ => return None,
        };
        let (scan, conditions) = table_below(input)?;
        let table = DFSchema::try_from(scan.source.schema().as_ref().clone()).ok()?;
        let table = Arc::new(table);
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(&table)).build());
        let resolved = |expr: &Expr, plan: &LogicalPlan| -> Option<Expr> {
            let expr = resolve(expr.clone().unalias(), plan).ok()?;
            let expr = simplifier.simplify(expr).ok()?.unalias_nested().data;
            (!expr.is_volatile()).then_some(expr)
        };
        let mut split = Vec::new();
        for (condition, plan) in conditions.into_iter().rev() {
            for part in split_conjunction_owned(condition.clone()) {
                split.extend(split_conjunction_owned(resolved(&part, plan)?));
            }
        }
        let of_input = |expr: &Expr| resolved(expr, input);
        let output = Arc::clone(node.schema());
        let shown = output.fields().len() - calls.len();
        // `GROUP BY k, k` shows one group.
        let groups = match node {
            LogicalPlan::Aggregate(_) if !matches!(groups.as_slice(), [Expr::GroupingSet(_)]) => {
                grouping_set_to_exprlist(&groups).ok()?.into_iter().cloned().collect()
            }
            _ => groups,
        };
        if groups.len() != shown && !matches!(groups.as_slice(), [Expr::GroupingSet(_)]) {
            return None;
        }
        let groups = groups.iter().map(of_input).collect::<Option<_>>()?;
        let calls = calls.iter().map(of_input).collect::<Option<_>>()?;
        Some((TableAggregate { conditions: split, groups, calls, columns: table, output }, scan))
    }
}

/// The one table below `plan`, and every condition with the plan whose columns it has.
fn table_below(plan: &LogicalPlan) -> Option<(&TableScan, Vec<(&Expr, &LogicalPlan)>)> {
    match plan {
        LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => Some((scan, Vec::new())),
        LogicalPlan::Filter(filter) => {
            let (scan, mut conditions) = table_below(&filter.input)?;
            conditions.insert(0, (&filter.predicate, filter.input.as_ref()));
            Some((scan, conditions))
        }
        LogicalPlan::Projection(projection) => table_below(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => table_below(&alias.input),
        _ => None,
    }
}

/// Writes `expr`, an expression over the columns of `plan`, in terms of the columns of the table below.
fn resolve(expr: Expr, plan: &LogicalPlan) -> PlanResult<Expr> {
    let column = |inner: Expr| match inner {
        Expr::Column(column) => Ok(Transformed::yes(column_below(&column, plan)?)),
        other => Ok(Transformed::no(other)),
    };
    expr.transform_up(column).data()
}

fn column_below(column: &Column, plan: &LogicalPlan) -> PlanResult<Expr> {
    let at = plan.schema().index_of_column(column)?;
    match plan {
        LogicalPlan::TableScan(_) => Ok(Expr::Column(Column::new_unqualified(&column.name))),
        LogicalPlan::Projection(projection) => resolve(projection.expr[at].clone().unalias(), &projection.input),
        LogicalPlan::SubqueryAlias(alias) => {
            column_below(&Column::from(alias.input.schema().qualified_field(at)), &alias.input)
        }
        LogicalPlan::Filter(filter) => column_below(column, &filter.input),
        other => plan_err!("{} between an aggregate and its table", other.display()),
    }
}
