//! The rule that plans a DISTINCT aggregate as two GROUP BYs, with the types that the query had before.
//!
//! The engine's rule adds the sums of the inner groups up by a second `sum`, which makes a DECIMAL of more digits. The
//! answer then has another type than its description.
//!
//! Invariant: the columns of a plan have the same types before and after the rule.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::guarded::Rule;

/// `rules` with the one rule that changes types held to them.
pub(super) fn held(mut rules: Vec<Rule>) -> Vec<Rule> {
    if let Some(rule) = rules.iter_mut().find(|rule| rule.name() == "single_distinct_aggregation_to_group_by") {
        *rule = Arc::new(SameTypes(Arc::clone(rule)));
    }
    rules
}

#[derive(Debug)]
struct SameTypes(Rule);

impl OptimizerRule for SameTypes {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let before = Arc::clone(plan.schema());
        let rewritten = self.0.rewrite(plan, config)?;
        let same = |plan: &LogicalPlan| {
            let types = plan.schema().fields().iter().map(|field| field.data_type());
            types.eq(before.fields().iter().map(|field| field.data_type()))
        };
        if !rewritten.transformed || same(&rewritten.data) {
            return Ok(rewritten);
        }
        rewritten.map_data(|plan| {
            let columns = plan.schema().columns().into_iter().zip(before.iter());
            let typed = columns.map(|(column, (relation, field))| {
                cast(Expr::Column(column), field.data_type().clone()).alias_qualified(relation.cloned(), field.name())
            });
            let typed = typed.collect::<Vec<_>>();
            LogicalPlanBuilder::from(plan).project(typed)?.build()
        })
    }
}
