//! Splits a view's analysed plan at its aggregate, and puts other inputs below the two halves.
//!
//! ```text
//!   Projection, Filter (HAVING)      ── top: applied on reading
//!     Aggregate                      ── becomes update, merge and finish
//!       Projection, Filter (WHERE)   ── input: applied row by row, in both layers
//!         TableScan of the stream
//! ```
//!
//! Invariant: every operator below the aggregate maps one row to at most one row, so the operator means the same on
//! any part of the stream. All other operators are refused.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as PlanResult, internal_err};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection, SubqueryAlias, TableScan};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Volatility, try_cast};
use datafusion::sql::sqlparser::keywords::Keyword;

use super::places::QueryPlaces;
use crate::definition::message::{KEY, KEY_BYTES, ROW};
use crate::definition::stream::{OFFSET, PARTITION, REJECT};
use crate::error::TextSpan;
use crate::{Error, Result};

/// Finds the aggregate of a view's plan.
///
/// Errors: [`Error::RefuseDefinition`], which names the part that cannot be maintained and an alternative.
pub(super) fn find_aggregate<'p>(plan: &'p LogicalPlan, places: &QueryPlaces<'_>) -> Result<&'p Aggregate> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            check_input(&aggregate.input, places)?;
            Ok(aggregate)
        }
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            find_aggregate(plan.inputs()[0], places)
        }
        LogicalPlan::TableScan(_) => Err(Error::refuse(
            "A view is an aggregate query, and this one has no aggregate",
            "Add an aggregate or GROUP BY, or query the stream itself: it is a table.",
        )),
        other => Err(refuse_node(other).at(place_of_node(other, places))),
    }
}

fn check_input(plan: &LogicalPlan, places: &QueryPlaces<'_>) -> Result<()> {
    match plan {
        LogicalPlan::TableScan(_) => Ok(()),
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            check_input(plan.inputs()[0], places)
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Err(Error::refuse(
            "An aggregate over another aggregate cannot be merged from partial results",
            "Keep the inner aggregate as the view, and aggregate the view when you query it.",
        )),
        other => Err(refuse_node(other).at(place_of_node(other, places))),
    }
}

fn refuse_node(plan: &LogicalPlan) -> Error {
    let (reason, instead) = match plan {
        LogicalPlan::Sort(_) => (
            "ORDER BY: a view has no order of its own",
            "Leave it out here and add it to the queries that read the view.",
        ),
        LogicalPlan::Limit(_) => (
            "LIMIT keeps different groups as events arrive, so it cannot be maintained",
            "Leave it out here and add it to the queries that read the view.",
        ),
        LogicalPlan::Window(_) => (
            "Window functions (OVER) look at neighbouring rows, which may be in another layer",
            "Aggregate in the view, and use window functions in the queries that read it.",
        ),
        LogicalPlan::Join(_) | LogicalPlan::Subquery(_) => (
            "A view reads one stream; joins and subqueries are not maintained",
            "Create a view per stream and join the views when you query them.",
        ),
        LogicalPlan::Distinct(_) => (
            "SELECT DISTINCT over an aggregate cannot be maintained",
            "Use GROUP BY in the view, or DISTINCT in the queries that read it.",
        ),
        LogicalPlan::Union(_) => {
            ("UNION is not maintained", "Create one view per branch and UNION them when you query.")
        }
        LogicalPlan::Unnest(_) => (
            "unnest() makes several rows of one, which views do not support",
            "Unnest in the producer, or query the stream itself.",
        ),
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
            ("The query reads no stream", "A view is SELECT … FROM <stream> GROUP BY ….")
        }
        other => {
            return Error::refuse(
                format!("{} cannot be maintained in a view", other.display()),
                "A view is SELECT … FROM <stream> WHERE … GROUP BY … HAVING ….",
            );
        }
    };
    Error::refuse(reason, instead)
}

/// Finds the clause from which `plan` was made.
fn place_of_node(plan: &LogicalPlan, places: &QueryPlaces<'_>) -> Option<TextSpan> {
    match plan {
        LogicalPlan::Sort(_) => places.clause(&[Keyword::ORDER, Keyword::BY]),
        LogicalPlan::Limit(_) => {
            [Keyword::LIMIT, Keyword::OFFSET, Keyword::FETCH].iter().find_map(|k| places.clause(&[*k]))
        }
        LogicalPlan::Window(_) => places.window(),
        LogicalPlan::Join(_) => places.clause(&[Keyword::JOIN]),
        LogicalPlan::Subquery(_) => places.subquery(),
        LogicalPlan::Distinct(_) => places.clause(&[Keyword::SELECT, Keyword::DISTINCT]),
        LogicalPlan::Union(_) => places.clause(&[Keyword::UNION]),
        LogicalPlan::Unnest(_) => places.clause(&[Keyword::UNNEST]),
        _ => None,
    }
}

/// Refuses every expression whose value depends on more than its row.
///
/// The plan must not be simplified yet: the optimizer would replace `now()` by a constant.
///
/// Errors: [`Error::RefuseDefinition`].
pub(super) fn check_expressions(plan: &LogicalPlan, places: &QueryPlaces<'_>) -> Result<()> {
    let mut refused = None;
    // Nodes are visited first: the refusal of a window node is clearer than the refusal of its expression.
    let walked = plan.apply(|node| {
        node.apply_expressions(|top| {
            top.apply(|expr| {
                refused = refused.take().or_else(|| Some(refuse_expression(expr)?.at(place_of(expr, places))));
                Ok(match refused {
                    Some(_) => TreeNodeRecursion::Stop,
                    None => TreeNodeRecursion::Continue,
                })
            })
        })
    });
    match (refused, walked) {
        (Some(error), _) => Err(error),
        (None, Ok(_)) => Ok(()),
        (None, Err(source)) => Err(Error::RunPlan { what: "reading the query", source }),
    }
}

fn refuse_expression(expr: &Expr) -> Option<Error> {
    let (reason, instead): (String, &str) = match expr {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => (
            format!("{}() gives another value when the batch layer computes it again", call.func.name()),
            "Use the event's own time or a column, or apply the function when you query.",
        ),
        Expr::AggregateFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            (format!("{}() is not the same each time", call.func.name()), "Use an immutable aggregate.")
        }
        Expr::WindowFunction(_) => (
            "Window functions (OVER) look at neighbouring rows, which may be in another layer".into(),
            "Aggregate in the view, and use window functions in the queries that read it.",
        ),
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => (
            "A view reads one stream; subqueries are not maintained".into(),
            "Create a view per query and combine them when you query.",
        ),
        Expr::GroupingSet(_) => {
            // The syntax tree of a query has been checked for them.
            ("GROUPING SETS, CUBE and ROLLUP are not maintained".into(), "Create one view per grouping.")
        }
        Expr::Placeholder(_) | Expr::ScalarVariable(..) => {
            ("Parameters and variables have no value in a definition".into(), "Write the value itself.")
        }
        Expr::Unnest(_) => (
            "unnest() makes several rows of one, which views do not support".into(),
            "Unnest in the producer, or query the stream itself.",
        ),
        Expr::Alias(alias) if alias.name.starts_with('_') => (
            format!("The name `{}` is reserved: it starts with `_`", alias.name),
            "Choose a name that starts with a letter.",
        ),
        _ => return None,
    };
    Some(Error::refuse(reason, instead))
}

/// Finds the text from which `expr` was made.
fn place_of(expr: &Expr, places: &QueryPlaces<'_>) -> Option<TextSpan> {
    match expr {
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => places.subquery(),
        Expr::Alias(alias) => places.identifier(&alias.name),
        call => places.call(call)?.span,
    }
}

/// Returns the plan `top` with its aggregate replaced by `with`, which has the aggregate's schema.
pub(super) fn replace_aggregate(top: &LogicalPlan, with: LogicalPlan) -> PlanResult<LogicalPlan> {
    match top {
        LogicalPlan::Aggregate(_) => Ok(with),
        other => {
            let [input] = other.inputs()[..] else {
                return internal_err!("{} above an aggregate", other.display());
            };
            other.with_new_exprs(other.expressions(), vec![replace_aggregate(input, with)?])
        }
    }
}

/// As [`replace_aggregate`], and carries the columns `keys` of `with` up to the top.
pub(super) fn replace_keyed_aggregate(
    top: &LogicalPlan,
    with: LogicalPlan,
    keys: &[String],
) -> PlanResult<LogicalPlan> {
    if matches!(top, LogicalPlan::Aggregate(_)) {
        return Ok(with);
    }
    let [input] = top.inputs()[..] else {
        return internal_err!("{} above an aggregate", top.display());
    };
    let below = replace_keyed_aggregate(input, with, keys)?;
    match top {
        LogicalPlan::Projection(projection) => {
            let mut columns = projection.expr.clone();
            for key in keys {
                columns.push(Expr::Column(position_column(&below, key)?));
            }
            LogicalPlanBuilder::from(below).project(columns)?.build()
        }
        other => other.with_new_exprs(other.expressions(), vec![below]),
    }
}

/// Returns the plan `input` over `rows` (of a stream's row schema) in place of the stream's scan. Rejects are left
/// out, and the columns with the position of a row are carried up to the top.
pub(super) fn replace_scan(input: &LogicalPlan, rows: LogicalPlan) -> PlanResult<LogicalPlan> {
    match input {
        LogicalPlan::TableScan(scan) => as_stream_table(scan, rows),
        LogicalPlan::Projection(projection) => {
            let below = replace_scan(&projection.input, rows)?;
            let mut exprs = projection.expr.clone();
            for name in positions(&below) {
                let position = Expr::Column(position_column(&below, name)?);
                if !exprs.contains(&position) {
                    exprs.push(position);
                }
            }
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below))?))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = replace_scan(&alias.input, rows)?;
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(below), alias.alias.clone())?))
        }
        LogicalPlan::Filter(filter) => {
            let below = replace_scan(&filter.input, rows)?;
            LogicalPlanBuilder::from(below).filter(filter.predicate.clone())?.build()
        }
        other => internal_err!("{} below an aggregate", other.display()),
    }
}

/// Returns `rows` as the table that `scan` reads: its columns under the names that the plan above uses.
fn as_stream_table(scan: &TableScan, rows: LogicalPlan) -> PlanResult<LogicalPlan> {
    let exprs = scan
        .projected_schema
        .fields()
        .iter()
        .map(|field| {
            Ok(stream_column(&rows, field.name())?.alias_qualified(Some(scan.table_name.clone()), field.name()))
        })
        .collect::<PlanResult<Vec<_>>>()?;
    let reject = Expr::Column(position_column(&rows, REJECT)?);
    LogicalPlanBuilder::from(rows).filter(reject.is_null())?.project(exprs)?.build()
}

/// The column `name` of a stream's table, computed from `rows` of its row schema. A key that is not UTF-8 has no text.
///
/// Errors: the stream has no column of that name.
pub fn stream_column(rows: &LogicalPlan, name: &str) -> PlanResult<Expr> {
    Ok(match name {
        KEY => try_cast(Expr::Column(position_column(rows, KEY)?), DataType::Utf8),
        KEY_BYTES => Expr::Column(position_column(rows, KEY)?),
        _ => Expr::Column(position_column(rows, name)?),
    })
}

/// The columns that order the rows of `plan` as they were read: `_row` too, if `plan` has it.
pub(super) fn positions(plan: &LogicalPlan) -> impl Iterator<Item = &'static str> + use<> {
    let row = plan.schema().has_column_with_unqualified_name(ROW).then_some(ROW);
    [PARTITION, OFFSET].into_iter().chain(row)
}

/// Finds the column called `name` in a plan's output, whatever its qualifier.
pub(super) fn position_column(plan: &LogicalPlan, name: &str) -> PlanResult<Column> {
    match plan.schema().columns().into_iter().find(|c| c.name == name) {
        Some(column) => Ok(column),
        None => internal_err!("no column {name} in {}", plan.schema()),
    }
}
