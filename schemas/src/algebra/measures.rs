//! Columns of a view over coarser groups than the view's own: `measure(column)`.
//!
//! ```text
//!  view:     SELECT device, minute, avg(x) AS mean, sum(y) / count(*) AS share FROM s GROUP BY 1, 2
//!  query:    SELECT device, measure(mean), measure(share) FROM view WHERE mean > 7 GROUP BY device
//!  plan:     finish[avg](_state_0), finish[sum](_state_1) / finish[count](_state_2)
//!            over the view's rows with mean > 7 and their states, GROUP BY device
//! ```
//!
//! Invariant: a measure over rows of the view is its column's expression over all events behind these rows.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result as PlanResult, plan_datafusion_err, plan_err};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::{AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder};

use super::compile::{ViewPlan, group_name, shown, state_name};
use super::split_plan::{position_column, replace_keyed_aggregate};
use crate::Result;
use crate::engine::measure::MEASURE;

/// The name of the column with the states of aggregate `i` behind the columns of a view, which never begin with `_`.
fn hidden_name(i: usize) -> String {
    format!("_state_{i}")
}

impl ViewPlan {
    /// The names of the columns that [`Self::finish_with_states`] adds.
    pub fn hidden_states(&self) -> Vec<String> {
        (0..self.aggregates.len()).map(hidden_name).collect()
    }

    /// Plans states into the view's rows as [`Self::finish`] does, with the states of each row behind its columns, as
    /// [`Self::hidden_states`] names them.
    ///
    /// Errors: [`crate::Error::PlanView`].
    pub fn finish_with_states(&self, states: LogicalPlan) -> Result<LogicalPlan> {
        self.rows_with_states(states).map_err(|source| self.planning(source))
    }

    fn rows_with_states(&self, states: LogicalPlan) -> PlanResult<LogicalPlan> {
        let column = |name: String| position_column(&states, &name).map(Expr::Column);
        let groups = (0..self.group_count()).map(|i| Ok(column(group_name(i))?.alias(group_name(i))));
        let groups = groups.collect::<PlanResult<Vec<_>>>()?;
        let mut calls = Vec::new();
        for (i, aggregate) in self.aggregates.iter().enumerate() {
            let state = column(state_name(i))?;
            calls.push(aggregate.finish.call(vec![state.clone()]).alias(state_name(i)));
            calls.push(aggregate.merge.call(vec![state]).alias(hidden_name(i)));
        }
        let finished = LogicalPlanBuilder::from(states).aggregate(groups, calls)?.build()?;
        let hidden = self.hidden_states();
        let mut columns = self.named_values();
        columns.extend(hidden.iter().map(|name| Expr::Column(Column::new_unqualified(name))));
        let values = LogicalPlanBuilder::from(finished).project(columns)?.build()?;
        shown(replace_keyed_aggregate(self.query(), values, &hidden)?)
    }

    /// The expression that `measure(column)` stands for, with aggregate calls over hidden states. `hidden` gives the
    /// states of aggregate `i`, and `filter` the condition of the call.
    ///
    /// Errors: the view has no such column, or the column depends on the view's groups.
    pub fn measure(
        &self,
        column: &str,
        hidden: impl Fn(&str) -> PlanResult<Expr>,
        filter: Option<&Expr>,
    ) -> PlanResult<Expr> {
        let output = Column::new_unqualified(column);
        let expr = self.over_aggregate(&output, self.query())?;
        let groups = self.group_count();
        let finish = |inner: Expr| {
            let Expr::Column(found) = &inner else { return Ok(Transformed::no(inner)) };
            let at = self.aggregate_schema.index_of_column(found)?;
            let Some(aggregate) = at.checked_sub(groups).and_then(|i| self.aggregates.get(i)) else {
                return plan_err!(
                    "measure() takes a column that a view aggregates, and `{column}` depends on a column by which the \
                     view groups"
                );
            };
            let states = hidden(&hidden_name(at - groups))?;
            // Rows of an outer join may have none.
            let is_there = states.clone().is_not_null();
            let filter = filter.map_or(is_there.clone(), |filter| is_there.and(filter.clone()));
            Ok(Transformed::yes(aggregate.finish.call(vec![states]).filter(filter).build()?))
        };
        expr.transform_up(finish).data()
    }

    /// A column of the query above the view's aggregate, in terms of the aggregate's columns.
    fn over_aggregate(&self, column: &Column, plan: &LogicalPlan) -> PlanResult<Expr> {
        let no_column = || plan_datafusion_err!("the view has no column `{}`", column.name);
        let at = plan.schema().columns().iter().position(|found| match &column.relation {
            Some(_) => found == column,
            None => found.name == column.name,
        });
        let at = at.ok_or_else(no_column)?;
        match plan {
            LogicalPlan::Aggregate(_) => Ok(Expr::Column(plan.schema().columns()[at].clone())),
            LogicalPlan::Projection(projection) => {
                let below = |inner: Expr| match &inner {
                    Expr::Column(inner) => Ok(Transformed::yes(self.over_aggregate(inner, &projection.input)?)),
                    _ => Ok(Transformed::no(inner)),
                };
                projection.expr[at].clone().unalias().transform_up(below).data()
            }
            LogicalPlan::SubqueryAlias(alias) => self.over_aggregate(&alias.input.schema().columns()[at], &alias.input),
            other => self.over_aggregate(&other.inputs()[0].schema().columns()[at], other.inputs()[0]),
        }
    }
}

/// The argument of a call and its condition, if it is a call of `measure`.
///
/// Errors: DISTINCT or an order within the parentheses.
pub fn measured<'c>(
    function: &AggregateUDF,
    params: &'c AggregateFunctionParams,
) -> PlanResult<Option<(&'c Expr, Option<&'c Expr>)>> {
    if function.name() != MEASURE {
        return Ok(None);
    }
    match params.args.as_slice() {
        [column] if !params.distinct && params.order_by.is_empty() => Ok(Some((column, params.filter.as_deref()))),
        _ => plan_err!("measure() takes one column of a view, without DISTINCT and ORDER BY"),
    }
}
