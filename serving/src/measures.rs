//! `measure(column)` in the plan of a query: calls over columns of views become calls over the states behind them.
//!
//! The states are carried from the view's table up to the aggregate that calls `measure`, through filters, projections,
//! aliases and joins.
//!
//! Invariant: every call is replaced, or the query is refused with the reason.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as EngineResult, internal_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_schemas::algebra::measured;
use thalweg_schemas::engine::measure::MEASURE;

use crate::pin::{PinnedView, Pins};
use crate::planned_table::{TableContent, with_table};
use crate::tables;

/// Replaces the calls of `measure` in an analysed plan.
///
/// Errors: the argument is not a column of a view, or depends on the view's groups; a part of the plan between the view
/// and the call does not keep rows.
pub(crate) fn replace_measures(plan: LogicalPlan, pins: &Pins) -> EngineResult<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Aggregate(aggregate) => Ok(match without_measures(aggregate, pins)? {
            Some(replaced) => Transformed::yes(replaced),
            None => Transformed::no(node),
        }),
        _ => Ok(Transformed::no(node)),
    })?;
    refuse_left(&replaced.data)?;
    if !replaced.transformed {
        return Ok(replaced.data);
    }
    // States of a row that an outer join has added are NULL.
    replaced.data.transform_up_with_subqueries(|node| Ok(Transformed::yes(node.recompute_schema()?))).data()
}

/// Errors: a call of `measure` is left, such as one with OVER.
fn refuse_left(plan: &LogicalPlan) -> EngineResult<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            let is_left = expr.exists(|inner| Ok(is_measure(inner)))?;
            match is_left {
                true => plan_err!(
                    "measure() takes a column of a view, without OVER: SELECT device, measure(mean) FROM device_minutes \
                     GROUP BY device"
                ),
                false => Ok(TreeNodeRecursion::Continue),
            }
        })
    })?;
    Ok(())
}

fn is_measure(expr: &Expr) -> bool {
    match expr {
        Expr::AggregateFunction(call) => call.func.name() == MEASURE,
        Expr::WindowFunction(call) => call.fun.name() == MEASURE,
        _ => false,
    }
}

/// The aggregate with calls over states in the places of its calls of `measure`, and with the same columns. `None` if
/// it has no such call.
fn without_measures(aggregate: &Aggregate, pins: &Pins) -> EngineResult<Option<LogicalPlan>> {
    let mut input = aggregate.input.as_ref().clone();
    let mut carried: BTreeMap<Vec<usize>, Vec<Column>> = BTreeMap::new();
    let mut calls = Vec::new();
    let mut values = Vec::new();
    for call in &aggregate.aggr_expr {
        let Some((argument, filter)) = measure_of(call)? else {
            values.push(column_of(&mut calls, call));
            continue;
        };
        let source = source_of(&aggregate.input, argument)?;
        let pinned = pinned_view(&source.content, pins)?;
        let hidden = pinned.view.plan.hidden_states();
        if !carried.contains_key(&source.path) {
            let rows = rows_with_states(&source.content, pins)?;
            let (plan, states) = carry(&input, &source.path, rows, &hidden)?;
            input = plan;
            carried.insert(source.path.clone(), states);
        }
        let states = &carried[&source.path];
        let state = |name: &str| match hidden.iter().position(|hidden| hidden == name) {
            Some(i) => Ok(Expr::Column(states[i].clone())),
            None => internal_err!("a view has no states {name}"),
        };
        let measure = pinned.view.plan.measure(&source.column, state, filter)?;
        let value = measure.transform_down(|inner| {
            Ok(match inner {
                Expr::AggregateFunction(_) => Transformed::yes(column_of(&mut calls, &inner)),
                other => Transformed::no(other),
            })
        });
        values.push(value.data()?);
    }
    if carried.is_empty() {
        return Ok(None);
    }
    let called = calls.into_iter().enumerate().map(|(i, call)| call.alias(call_name(i))).collect::<Vec<_>>();
    let rolled = LogicalPlanBuilder::from(input).aggregate(aggregate.group_expr.clone(), called)?.build()?;
    let groups = aggregate.schema.fields().len() - values.len();
    let groups = rolled.schema().columns().into_iter().take(groups).map(Expr::Column);
    let named = groups.chain(values).zip(aggregate.schema.iter());
    let named = named.map(|(value, (relation, field))| value.alias_qualified(relation.cloned(), field.name()));
    let named = named.collect::<Vec<_>>();
    LogicalPlanBuilder::from(rolled).project(named)?.build().map(Some)
}

fn call_name(i: usize) -> String {
    format!("_call_{i}")
}

/// The column with the value of `call`, which is added to `calls` if it is not there.
fn column_of(calls: &mut Vec<Expr>, call: &Expr) -> Expr {
    let call = unaliased(call);
    let at = calls.iter().position(|known| known == call).unwrap_or_else(|| {
        calls.push(call.clone());
        calls.len() - 1
    });
    Expr::Column(Column::new_unqualified(call_name(at)))
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The column that a call measures, and the condition of the call; `None` for other calls.
fn measure_of(call: &Expr) -> EngineResult<Option<(&Column, Option<&Expr>)>> {
    let measured = match unaliased(call) {
        Expr::AggregateFunction(AggregateFunction { func, params }) => measured(func, params)?,
        _ => None,
    };
    match measured {
        None => Ok(None),
        Some((argument, filter)) => match unaliased(argument) {
            Expr::Column(column) => Ok(Some((column, filter))),
            other => plan_err!(
                "measure() takes a column of a view, and `{other}` is computed; measure the columns and compute with the \
                 results"
            ),
        },
    }
}

/// Where a column of a plan comes from.
struct ColumnSource {
    /// Which input of each node leads to the table.
    path: Vec<usize>,
    content: TableContent,
    column: String,
}

fn source_of(plan: &LogicalPlan, column: &Column) -> EngineResult<ColumnSource> {
    let below = |input: usize, column: &Column| {
        let mut source = source_of(plan.inputs()[input], column)?;
        source.path.insert(0, input);
        Ok(source)
    };
    let at = |schema: &DFSchema| schema.index_of_column(column);
    match plan {
        LogicalPlan::TableScan(scan) => match with_table(scan, |table| table.content.clone()) {
            Some(content) => Ok(ColumnSource { path: Vec::new(), content, column: column.name.clone() }),
            None => not_of_view(&scan.table_name.to_string()),
        },
        LogicalPlan::SubqueryAlias(alias) => {
            let at = at(&alias.schema)?;
            below(0, &alias.input.schema().columns()[at])
        }
        LogicalPlan::Projection(projection) => match unaliased(&projection.expr[at(&projection.schema)?]) {
            Expr::Column(inner) => below(0, inner),
            other => plan_err!("measure() takes a column of a view, and `{}` is computed as `{other}`", column.name),
        },
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => below(0, column),
        LogicalPlan::Join(join) => below(usize::from(at(join.left.schema()).is_err()), column),
        other => plan_err!(
            "measure() takes a column of a view, through conditions and joins alone; between `{}` and its view is {}",
            column.name,
            other.display()
        ),
    }
}

fn not_of_view<T>(table: &str) -> EngineResult<T> {
    plan_err!("measure() takes a column of a view, and `{table}` is not one")
}

fn pinned_view<'p>(content: &TableContent, pins: &'p Pins) -> EngineResult<&'p PinnedView> {
    match content {
        TableContent::View(stream, id, _) => match pins.get(stream).and_then(|pin| pin.views.get(id)) {
            Some(pinned) => Ok(pinned),
            None => internal_err!("a view is measured that is not pinned"),
        },
        TableContent::Rows(stream) => not_of_view(stream.as_str()),
        TableContent::Rejects => not_of_view("rejects"),
    }
}

fn rows_with_states(content: &TableContent, pins: &Pins) -> EngineResult<LogicalPlan> {
    let TableContent::View(stream, id, side) = content else { return internal_err!("states of rows") };
    let Some((pin, pinned)) = pins.get(stream).and_then(|pin| Some((pin, pin.views.get(id)?))) else {
        return internal_err!("a view is measured that is not pinned");
    };
    let rows = tables::side_states(pin, pinned, *side).and_then(|states| pinned.view.plan.finish_with_states(states));
    rows.map_err(|error| DataFusionError::External(Box::new(error)))
}

/// The plan with `rows` in the place of the table at the end of `path`, and with their columns `hidden` carried up to
/// the top, where they have the returned names.
fn carry(
    plan: &LogicalPlan,
    path: &[usize],
    rows: LogicalPlan,
    hidden: &[String],
) -> EngineResult<(LogicalPlan, Vec<Column>)> {
    let Some((input, rest)) = path.split_first() else {
        let LogicalPlan::TableScan(scan) = plan else { return internal_err!("{} is not a table", plan.display()) };
        let table = LogicalPlanBuilder::from(rows).alias(scan.table_name.clone())?.build()?;
        let states = hidden.iter().map(|name| Column::new(Some(scan.table_name.clone()), name));
        return Ok((table, states.collect()));
    };
    let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
    let (below, states) = carry(&inputs[*input], rest, rows, hidden)?;
    inputs[*input] = below.clone();
    Ok(match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let states = states.iter().map(|state| Column::new(Some(alias.alias.clone()), &state.name)).collect();
            (LogicalPlanBuilder::from(below).alias(alias.alias.clone())?.build()?, states)
        }
        LogicalPlan::Projection(projection) => {
            let carried = states.iter().cloned().map(Expr::Column);
            let columns = projection.expr.iter().cloned().chain(carried).collect::<Vec<_>>();
            (LogicalPlanBuilder::from(below).project(columns)?.build()?, states)
        }
        other => (other.with_new_exprs(other.expressions(), inputs)?, states),
    })
}
