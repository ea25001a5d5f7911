//! Roll-ups: aggregate queries of a stream that the states of a view answer.
//!
//! ```text
//!  view:     SELECT device, date_trunc('minute', ts), avg(x), count(*) FROM s WHERE ok GROUP BY 1, 2
//!  query:    SELECT date_trunc('hour', ts), avg(x) FROM s WHERE ok AND device <> 'a' GROUP BY 1
//!  roll-up:  SELECT date_trunc('hour', g1), finish[avg](a0) FROM states WHERE g0 <> 'a' GROUP BY 1
//! ```
//!
//! States of finer groups merge into those of coarser ones, so averages, distinct counts and percentiles roll up as
//! sums do.
//!
//! Invariant: a roll-up is made only if the query keeps every condition of the view, all else that the query asks of a
//! row is a function of the row's group, and its aggregates are those of the view. What is not known to fulfil this is
//! not rolled up.

mod groups;

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as PlanResult, internal_err};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::utils::{conjunction, grouping_set_to_exprlist, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};

use self::groups::GroupColumns;
use super::aggregate::Aggregate;
use super::compile::{ViewPlan, state_name};
use super::table_aggregate::TableAggregate;
use crate::{Error, Result};

/// Aggregates whose value does not depend on how often a row occurs.
const WITHOUT_REPEATS: [&str; 7] = ["min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "approx_distinct"];
/// Aggregates that depend on the set of values alone if they are DISTINCT.
const OF_SETS: [&str; 5] = ["count", "sum", "avg", "min", "max"];

/// A query over the states of a view.
#[derive(Debug)]
pub struct RollUp {
    condition: Option<Expr>,
    groups: Vec<Expr>,
    calls: Vec<Expr>,
    /// Where each column of the output is among those of the groups and the calls.
    places: Vec<usize>,
    output: DFSchemaRef,
}

impl ViewPlan {
    /// How the states of this view answer `asked`, a query of the view's stream. `None` if they do not.
    pub fn roll_up(&self, asked: &TableAggregate) -> Option<RollUp> {
        let own = self.shape.as_ref()?;
        // A view without groups has a state without events too, and groups have none.
        if own.groups.is_empty() && !asked.groups.is_empty() {
            return None;
        }
        let states = DFSchema::try_from(self.state_schema.as_ref().clone()).ok()?;
        let columns = GroupColumns::of(own);
        let left = without(&asked.conditions, &own.conditions)?;
        let left = left.into_iter().map(|condition| columns.express(condition)).collect::<Option<Vec<_>>>()?;
        let groups = asked.groups.iter().map(|group| columns.group(group)).collect::<Option<Vec<_>>>()?;
        // Grouping sets have a column more.
        let types = asked.output.fields().iter().skip(asked.output.fields().len() - asked.calls.len());
        let calls = asked.calls.iter().zip(types);
        let call = |(call, field): (&Expr, &Arc<Field>)| {
            let known = self.aggregates.iter().zip(&own.calls).enumerate();
            let of_view = known.filter_map(|(i, (aggregate, own))| finished(aggregate, own, i, call, &columns)).next();
            let call = of_view.or_else(|| of_groups(call, &columns))?;
            (call.get_type(&states).ok()? == *field.data_type()).then_some(call)
        };
        let calls = calls.map(call).collect::<Option<Vec<_>>>()?;
        let shown = asked.output.fields().len() - asked.calls.len();
        // Expressions that the query tells apart may be one over the states: `count(*)` and `count(1)`.
        let (groups, mut places) = match groups.as_slice() {
            [Expr::GroupingSet(_)] => {
                let sizes = [&groups, &asked.groups].map(|groups| Some(grouping_set_to_exprlist(groups).ok()?.len()));
                (sizes[0].is_some() && sizes[0] == sizes[1]).then_some((groups, (0..shown).collect::<Vec<_>>()))?
            }
            _ => once(groups),
        };
        let before = if asked.groups.len() == shown { groups.len() } else { shown };
        let (calls, of_calls) = once(calls);
        places.extend(of_calls.into_iter().map(|at| before + at));
        Some(RollUp { condition: conjunction(left), groups, calls, places, output: Arc::clone(&asked.output) })
    }
}

impl RollUp {
    /// The query over `states`, which have the view's state schema: a plan with the columns of the query's aggregate.
    ///
    /// Errors: [`Error::RunPlan`].
    pub fn over(self, states: LogicalPlan) -> Result<LogicalPlan> {
        self.plan(states).map_err(|source| Error::RunPlan { what: "rolling states up", source })
    }

    fn plan(self, states: LogicalPlan) -> PlanResult<LogicalPlan> {
        let mut states = LogicalPlanBuilder::from(states);
        if let Some(condition) = self.condition {
            states = states.filter(condition)?;
        }
        let rolled = states.aggregate(self.groups, self.calls)?.build()?;
        let columns = rolled.schema().columns();
        if columns.len() != self.places.iter().max().map_or(0, |last| last + 1) {
            return internal_err!("a roll-up has {} columns", columns.len());
        }
        let named = self.places.iter().zip(self.output.iter());
        let named = named.map(|(at, (relation, field))| {
            Expr::Column(columns[*at].clone()).alias_qualified(relation.cloned(), field.name())
        });
        let named = named.collect::<Vec<_>>();
        LogicalPlanBuilder::from(rolled).project(named)?.build()
    }
}

/// Each expression once, and where each of `all` is among them.
fn once(all: Vec<Expr>) -> (Vec<Expr>, Vec<usize>) {
    let mut found: Vec<Expr> = Vec::with_capacity(all.len());
    let mut places = Vec::with_capacity(all.len());
    for expr in all {
        let known = found.iter().position(|known| *known == expr);
        places.push(known.unwrap_or(found.len()));
        if known.is_none() {
            found.push(expr);
        }
    }
    (found, places)
}

/// The expressions of `all` that are not in `part`; `None` if `part` has one that `all` has not.
fn without<'a>(all: &'a [Expr], part: &[Expr]) -> Option<Vec<&'a Expr>> {
    let has_all = part.iter().all(|known| all.contains(known));
    has_all.then(|| all.iter().filter(|condition| !part.contains(condition)).collect())
}

fn conditions_of(call: &AggregateFunction) -> Vec<Expr> {
    call.params.filter.iter().flat_map(|filter| split_conjunction_owned(filter.as_ref().clone())).collect()
}

/// The call that finishes the states of aggregate `i` of a view, if that is what `asked` computes.
fn finished(aggregate: &Aggregate, own: &Expr, i: usize, asked: &Expr, columns: &GroupColumns<'_>) -> Option<Expr> {
    let (Expr::AggregateFunction(own), Expr::AggregateFunction(asked)) = (own, asked) else { return None };
    let unfiltered = |call: &AggregateFunction| AggregateFunction {
        params: AggregateFunctionParams { filter: None, ..call.params.clone() },
        ..call.clone()
    };
    if unfiltered(own) != unfiltered(asked) {
        return None;
    }
    let (asked, own) = (conditions_of(asked), conditions_of(own));
    let left = without(&asked, &own)?.into_iter().map(|condition| columns.express(condition));
    let left = conjunction(left.collect::<Option<Vec<_>>>()?);
    let Expr::AggregateFunction(mut call) = aggregate.finish.call(vec![state_column(i)]) else { return None };
    call.params.filter = left.map(Box::new);
    Some(Expr::AggregateFunction(call))
}

/// The call over the groups themselves, if every one of its expressions is a function of the groups and its value does
/// not depend on the number of rows in a group.
fn of_groups(asked: &Expr, columns: &GroupColumns<'_>) -> Option<Expr> {
    let Expr::AggregateFunction(call) = asked else { return None };
    let known = if call.params.distinct { &OF_SETS[..] } else { &WITHOUT_REPEATS[..] };
    if !known.contains(&call.func.name()) || !call.params.order_by.is_empty() {
        return None;
    }
    let express = |expr: &Expr| columns.express(expr);
    let mut call = call.clone();
    call.params.args = call.params.args.iter().map(express).collect::<Option<_>>()?;
    if let Some(filter) = &mut call.params.filter {
        **filter = express(filter)?;
    }
    Some(Expr::AggregateFunction(call))
}

fn state_column(i: usize) -> Expr {
    Expr::Column(Column::new_unqualified(state_name(i)))
}
