//! Where conditions of WHERE, ON and HAVING are protected: among the engine's rules, and before the plan of operators.
//!
//! The engine moves conditions. It joins those of subqueries with others, moves them below joins, and infers new ones.
//! So [`Protect`] rewrites conditions before the first rule moves them, and [`Guided`] leads the rule that does. A
//! condition that may fail never goes below an operator that would have kept rows from it, such as a join.
//!
//! Invariant: conditions that cannot fail go where the engine moves them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, lit};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::conditions::{is_bound, is_key};
use super::fallible::may_fail;
use super::given::in_place;
use super::values::root;

pub(in super::super) type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The engine's rules, and ours among them.
pub(in super::super) fn rules() -> Vec<Rule> {
    let mut rules = Optimizer::new().rules;
    if let Some(moving) = rules.iter_mut().find(|rule| rule.name() == "push_down_filter") {
        *moving = Arc::new(Guided(Arc::clone(moving)));
    }
    // Constants are folded first: a time like `now() - INTERVAL '1 hour'` cannot fail then.
    let folded = rules.iter().position(|rule| rule.name() == "simplify_expressions");
    rules.insert(folded.map_or(0, |at| at + 1), Arc::new(Protect));
    rules
}

/// Protects the conditions of WHERE, ON and HAVING.
#[derive(Debug)]
struct Protect;

impl OptimizerRule for Protect {
    fn name(&self) -> &'static str {
        "protect_conditions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        protected(plan)
    }
}

/// The engine's rule that moves conditions towards the tables, kept from moving some too far.
#[derive(Debug)]
struct Guided(Rule);

impl OptimizerRule for Guided {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let Transformed { data: plan, transformed: changed, .. } = protected(plan)?;
        let mut moved = match plan {
            LogicalPlan::Filter(filter) => self.move_filter(filter, config)?,
            LogicalPlan::Join(join) => self.move_on(join, config)?,
            other => self.0.rewrite(other, config)?,
        };
        moved.transformed |= changed;
        Ok(moved)
    }
}

impl Guided {
    fn move_filter(&self, filter: Filter, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let Filter { predicate, input, .. } = filter;
        let schema = Arc::clone(input.schema());
        let (held, moving) = divide(predicate, &schema, |part| lets_through(&input, part))?;
        let Some(held) = conjunction(held) else {
            return match conjunction(moving) {
                Some(moving) => self.0.rewrite(LogicalPlan::Filter(Filter::try_new(moving, input)?), config),
                None => Ok(Transformed::no(Arc::unwrap_or_clone(input))),
            };
        };
        let Some(moving) = conjunction(moving) else {
            return Ok(Transformed::no(LogicalPlan::Filter(Filter::try_new(held, input)?)));
        };
        let moved = self.0.rewrite(LogicalPlan::Filter(Filter::try_new(moving, input)?), config)?;
        moved.map_data(|below| Ok(LogicalPlan::Filter(Filter::try_new(held, Arc::new(below))?)))
    }

    fn move_on(&self, join: Join, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut join = join;
        let Some(condition) = join.filter.take() else { return self.0.rewrite(LogicalPlan::Join(join), config) };
        let (held, moving) = divide(condition, &join_schema(&join), |_| false)?;
        join.filter = conjunction(moving);
        let mut moved = self.0.rewrite(LogicalPlan::Join(join), config)?;
        if let (LogicalPlan::Join(join), Some(held)) = (&mut moved.data, conjunction(held)) {
            join.filter = Some(match join.filter.take() {
                Some(condition) => condition.and(held),
                None => held,
            });
        }
        Ok(moved)
    }
}

/// Parts of a condition that stay, because they may fail and `moves` is false for them, and parts that move.
fn divide(condition: Expr, schema: &DFSchema, moves: impl Fn(&Expr) -> bool) -> Result<(Vec<Expr>, Vec<Expr>)> {
    let (mut held, mut moving) = (Vec::new(), Vec::new());
    for part in split_conjunction_owned(condition) {
        let stays = may_fail(&part, schema)? && !is_bound(&part)? && !is_key(&part) && !moves(&part);
        if stays { held.push(part) } else { moving.push(part) }
    }
    Ok((held, moving))
}

/// True if every row of the part's columns that is below `plan` is above it as well.
fn lets_through(plan: &LogicalPlan, part: &Expr) -> bool {
    let columns = part.column_refs();
    let only = |side: &LogicalPlan| columns.iter().all(|column| side.schema().has_column(column));
    match plan {
        LogicalPlan::Join(join) => {
            // The engine infers the same condition for the other table of the key.
            let keys = join.on.iter().flat_map(|(left, right)| [left, right]);
            let of_key = keys.flat_map(Expr::column_refs).any(|column| columns.contains(column));
            let moves = match join.join_type {
                JoinType::Left | JoinType::LeftMark => only(&join.left),
                JoinType::Right | JoinType::RightMark => only(&join.right),
                // A condition on both tables becomes a condition of the join.
                JoinType::Inner => !only(&join.left) && !only(&join.right),
                _ => false,
            };
            moves && !of_key
        }
        LogicalPlan::Unnest(_) => false,
        _ => true,
    }
}

fn join_schema(join: &Join) -> DFSchema {
    let mut schema = join.left.schema().as_ref().clone();
    schema.merge(join.right.schema());
    schema
}

/// Protects the condition of one operator. Conditions of a subquery come before those around it.
fn protected(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let Filter { mut predicate, mut input, .. } = filter;
            let mut changed = false;
            while let LogicalPlan::Filter(inner) = input.as_ref() {
                predicate = inner.predicate.clone().and(predicate);
                input = Arc::clone(&inner.input);
                changed = true;
            }
            if may_fail(&predicate, input.schema())? {
                let rewritten = root(predicate.clone(), input.schema())?;
                changed |= rewritten != predicate;
                predicate = rewritten;
            }
            let plan = LogicalPlan::Filter(Filter::try_new(predicate, input)?);
            Ok(Transformed::new_transformed(plan, changed))
        }
        LogicalPlan::Join(mut join) => {
            let mut changed = false;
            if let Some(condition) = join.filter.take() {
                let schema = join_schema(&join);
                let rewritten = match may_fail(&condition, &schema)? {
                    true => root(condition.clone(), &schema)?,
                    false => condition.clone(),
                };
                changed = rewritten != condition;
                join.filter = Some(rewritten);
            }
            Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Makes operators of a plan, which leave conditions that may fail where they are.
#[derive(Debug)]
pub(in super::super) struct GuardedPlanner;

#[async_trait]
impl QueryPlanner for GuardedPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = logical_plan.clone().transform_up_with_subqueries(|node| {
            protected(node)?.transform_data(|node| match node {
                LogicalPlan::Filter(filter) => held_in_place(filter),
                other => Ok(Transformed::no(other)),
            })
        });
        DefaultPhysicalPlanner::default().create_physical_plan(&guarded?.data, session).await
    }
}

fn held_in_place(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let schema = Arc::clone(filter.input.schema());
    if !may_fail(&filter.predicate, &schema)? {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let (held, moving) = divide(filter.predicate, &schema, |_| false)?;
    let parts = moving.into_iter().chain(held.into_iter().map(in_place));
    let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
}
