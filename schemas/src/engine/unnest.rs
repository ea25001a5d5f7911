//! `a CROSS JOIN UNNEST(a.tags) AS t(tag)`: the rows of `a`, each repeated for every item of its list.
//!
//! DataFusion plans an UNNEST on the right of a join as a subquery of its own, whose reference to the left side its
//! optimizer cannot resolve. Here the list becomes a column of the left side, and is unnested there.
//!
//! Invariant: a row whose list is empty or null gives no row; a LEFT JOIN gives one, with nulls.

use datafusion::common::{Column, Result, TableReference, UnnestOptions, not_impl_err, plan_err};
use datafusion::functions_nested::expr_fn::array_length;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins, Value, ValueWithSpan,
};

/// Plans the nested joins into which [`crate::definition::syntax::rewrite`] puts every UNNEST.
#[derive(Debug)]
pub(super) struct UnnestJoins;

impl RelationPlanner for UnnestJoins {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { table_with_joins, alias: None } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        match *table_with_joins {
            TableWithJoins { relation: left, joins } if is_one_unnest(&joins) => {
                let plan = plan(left, joins, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            other => Ok(RelationPlanning::Original(Box::new(TableFactor::NestedJoin {
                table_with_joins: Box::new(other),
                alias: None,
            }))),
        }
    }
}

fn is_one_unnest(joins: &[Join]) -> bool {
    matches!(joins, [join] if matches!(join.relation, TableFactor::UNNEST { .. }))
}

fn plan(left: TableFactor, joins: Vec<Join>, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let Some(join) = joins.into_iter().next() else {
        return plan_err!("a join without a right side");
    };
    let TableFactor::UNNEST { alias, array_exprs, .. } = join.relation else {
        return plan_err!("a join that is not with UNNEST");
    };
    let keeps_rows = match join.join_operator {
        JoinOperator::CrossJoin(JoinConstraint::None) => false,
        JoinOperator::Join(on) | JoinOperator::Inner(on) if is_true(&on) => false,
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) if is_true(&on) => true,
        _ => {
            return not_impl_err!(
                "UNNEST of a column of another table takes CROSS JOIN or LEFT JOIN … ON true; put conditions into WHERE"
            );
        }
    };
    let left = context.plan(left)?;
    let names = names(alias, array_exprs.len(), context)?;
    let mut exprs: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    // The items are named when they are apart, because the unnested columns have no qualifier.
    let held: Vec<String> = (0..array_exprs.len()).map(|at| format!("__unnest_{at}")).collect();
    for (array, name) in array_exprs.into_iter().zip(&held) {
        let list = context.sql_to_expr(array, left.schema())?;
        // An unnest that preserves nulls still drops empty lists.
        let list = if keeps_rows { when(array_length(list.clone()).gt(lit(0)), list).end()? } else { list };
        exprs.push(list.alias(name));
    }
    let mut output: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    let columns: Vec<Column> = held.iter().map(Column::new_unqualified).collect();
    let items = columns.iter().cloned().zip(names);
    output.extend(items.map(|(column, (table, name))| Expr::Column(column).alias_qualified(Some(table), name)));
    LogicalPlanBuilder::from(left)
        .project(exprs)?
        .unnest_columns_with_options(columns, UnnestOptions::new().with_preserve_nulls(keeps_rows))?
        .project(output)?
        .build()
}

fn is_true(constraint: &JoinConstraint) -> bool {
    match constraint {
        JoinConstraint::None => true,
        JoinConstraint::On(SqlExpr::Value(ValueWithSpan { value, .. })) => *value == Value::Boolean(true),
        _ => false,
    }
}

/// The table and the column of each unnested list.
fn names(
    alias: Option<TableAlias>,
    lists: usize,
    context: &dyn RelationPlannerContext,
) -> Result<Vec<(TableReference, String)>> {
    let (table, columns) = match alias {
        Some(alias) => (context.normalize_ident(alias.name), alias.columns),
        None => ("unnest".to_owned(), Vec::new()),
    };
    let qualify = |name| (TableReference::bare(table.clone()), name);
    if !columns.is_empty() && columns.len() != lists {
        return plan_err!("UNNEST of {lists} lists has {} names of columns; a STRUCT stays one column", columns.len());
    }
    if !columns.is_empty() {
        return Ok(columns.into_iter().map(|column| qualify(context.normalize_ident(column.name))).collect());
    }
    // As in PostgreSQL, the table's alias names the column of a single list.
    Ok(match lists {
        1 => vec![qualify(table.clone())],
        _ => (1..=lists).map(|at| qualify(format!("unnest_{at}"))).collect(),
    })
}
