//! A view's rows with the groups that they stand for, and states of some groups alone: what a comparison of a view at
//! two frontiers needs.
//!
//! Invariant: the columns of a view's rows are those of [`ViewPlan::finish`]; groups stand behind them.

use datafusion::common::{JoinType, NullEquality, Result as PlanResult};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::{ViewPlan, group_name, shown, text_of, unaliased};
use crate::Result;
use crate::algebra::split_plan::{position_column, replace_keyed_aggregate};

/// The name of the column with the values of group `i`. Columns of a view never begin with `_`.
pub fn key_name(i: usize) -> String {
    format!("_key_{i}")
}

impl ViewPlan {
    /// Plans states into the view's rows as [`ViewPlan::finish`] does, with the groups behind the columns, under
    /// their [`key_name`]s. A view need not show its groups.
    ///
    /// Errors: [`crate::Error::PlanView`].
    pub fn finish_with_keys(&self, states: LogicalPlan) -> Result<LogicalPlan> {
        let plan = || -> PlanResult<LogicalPlan> {
            let values = self.aggregate_values(states)?;
            let columns = values.schema().columns();
            let keys = columns.iter().take(self.groups.len()).enumerate();
            let keys = keys.map(|(i, group)| Expr::Column(group.clone()).alias(key_name(i))).collect::<Vec<_>>();
            let all = columns.iter().cloned().map(Expr::Column).chain(keys).collect::<Vec<_>>();
            let values = LogicalPlanBuilder::from(values).project(all)?.build()?;
            let names: Vec<String> = (0..self.groups.len()).map(key_name).collect();
            shown(replace_keyed_aggregate(&self.query, values, &names)?)
        };
        plan().map_err(|source| self.planning(source))
    }

    /// Plans the groups of states, each once, as columns `g0…` of the state schema.
    ///
    /// Errors: [`crate::Error::PlanView`].
    pub fn groups_of(&self, states: LogicalPlan) -> Result<LogicalPlan> {
        let plan = || -> PlanResult<LogicalPlan> {
            let groups = (0..self.groups.len()).map(|i| {
                let name = group_name(i);
                Ok(Expr::Column(position_column(&states, &name)?).alias(name))
            });
            let groups = groups.collect::<PlanResult<Vec<_>>>()?;
            LogicalPlanBuilder::from(states).project(groups)?.distinct()?.build()
        };
        plan().map_err(|source| self.planning(source))
    }

    /// Keeps the states of the groups in `groups`, a plan of [`Self::groups_of`].
    ///
    /// Errors: [`crate::Error::PlanView`].
    pub fn only_groups(&self, states: LogicalPlan, groups: LogicalPlan) -> Result<LogicalPlan> {
        let plan = || -> PlanResult<LogicalPlan> {
            let groups = LogicalPlanBuilder::from(groups).alias("touched")?.build()?;
            let column = |plan: &LogicalPlan, i: usize| position_column(plan, &group_name(i));
            let keys = 0..self.groups.len();
            let left = keys.clone().map(|i| column(&states, i)).collect::<PlanResult<Vec<_>>>()?;
            let right = keys.map(|i| column(&groups, i)).collect::<PlanResult<Vec<_>>>()?;
            LogicalPlanBuilder::from(states)
                .join_detailed(groups, JoinType::LeftSemi, (left, right), None, NullEquality::NullEqualsNull)?
                .build()
        };
        plan().map_err(|source| self.planning(source))
    }

    /// The view's groups as its reader knows them: the names of the columns that show them, or else their expressions.
    pub fn key_names(&self) -> Vec<String> {
        let shown = shown_columns(&self.query);
        let groups = self.groups.iter().zip(self.aggregate_schema.fields());
        let names = groups.map(|(group, field)| {
            let column = shown.iter().find(|(from, _)| from == field.name()).map(|(_, name)| name.clone());
            column.unwrap_or_else(|| match unaliased(group) {
                Expr::Column(column) => column.name.clone(),
                other => text_of(other),
            })
        });
        names.collect()
    }
}

/// The columns that the topmost projection of `plan` shows as they are, and their names there.
fn shown_columns(plan: &LogicalPlan) -> Vec<(String, String)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let columns = projection.expr.iter().zip(projection.schema.columns());
            let columns = columns.filter_map(|(expr, shown)| match unaliased(expr) {
                Expr::Column(column) => Some((column.name.clone(), shown.name)),
                _ => None,
            });
            columns.collect()
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => shown_columns(plan.inputs()[0]),
        _ => Vec::new(),
    }
}
