//! One aggregate of a view, planned once over the stream's rows and wrapped in its forms.
//!
//! Invariant: the call over rows keeps the user's arguments, filter and order. The only change makes its result
//! independent of how the rows are cut: position breaks ties.

use std::sync::Arc;

use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};

use super::accumulator::{Input, Output};
use super::rounding::magnitudes;
use super::split_plan::{position_column, positions};
use super::state_function::StateFunction;
use super::support::{Equality, accept};
use crate::{Error, Result, ViewName};

/// One aggregate of a view, in its forms.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The name as SQL shows it.
    pub name: String,
    /// The rule by which two states are the same answer.
    pub equality: Equality,
    /// Sums over rows that scale the rounding of the states, where the states do not contain this scale; see
    /// [`super::rounding`].
    pub(super) magnitudes: Vec<Expr>,
    pub(super) planned: Arc<AggregateFunctionExpr>,
    /// True if a groups accumulator makes the states.
    pub(super) by_groups: bool,
    /// True if the states grow with the number of events in a group.
    pub(super) grows: bool,
    /// The call over rows: the user's arguments, filter and order, with the wrapper as the function.
    pub(super) update: Expr,
    pub(super) merge: Arc<AggregateUDF>,
    pub(super) finish: Arc<AggregateUDF>,
}

impl Aggregate {
    /// The name of the aggregate function.
    pub fn function(&self) -> &str {
        self.planned.fun().name()
    }

    /// Plans one aggregate over `rows` and wraps it in its forms.
    ///
    /// Errors: [`Error::RefuseDefinition`] if the aggregate cannot be maintained, [`Error::PlanView`] if DataFusion
    /// refuses it.
    pub(super) fn plan(expr: &Expr, rows: &LogicalPlan, grouped: bool, view: &ViewName) -> Result<Self> {
        let planning = |source| Error::PlanView { view: view.clone(), source, span: None };
        let Expr::AggregateFunction(call) = expr.clone().unalias() else {
            return Err(Error::Broken(format!("`{expr}` is not an aggregate call")));
        };
        let value = lower(&Expr::AggregateFunction(call.clone()), rows).map_err(planning)?;
        let known = accept(&call, value.field().data_type())?;
        let call =
            if known.ordered && !call.params.distinct { break_ties(call, rows).map_err(planning)? } else { call };
        let whole = Expr::AggregateFunction(call.clone());
        let planned = lower(&whole, rows).map_err(planning)?;
        // DataFusion refuses some combinations only when the first accumulator is created.
        planned.create_accumulator().map_err(planning)?;
        let name = whole.schema_name().to_string();
        let key = format!("{whole:?}: {}; grouped: {grouped}", planned.field().data_type());
        let form = |input, output| {
            let planned = Arc::clone(&planned);
            StateFunction::new(planned, rows.schema().as_arrow(), &key, known.ordered, grouped, input, output)
                .map(|function| Arc::new(AggregateUDF::new_from_impl(function)))
                .map_err(planning)
        };
        Ok(Self {
            equality: known.equality,
            magnitudes: match known.equality {
                Equality::Floats => magnitudes(&call),
                _ => vec![],
            },
            update: Expr::AggregateFunction(AggregateFunction::new_udf(
                form(Input::Rows, Output::States)?,
                call.params.args,
                // The planned aggregate is distinct. The wrapper must not be, or an optimizer rule would split it in
                // two.
                false,
                call.params.filter,
                call.params.order_by,
                None,
            )),
            merge: form(Input::States, Output::States)?,
            finish: form(Input::States, Output::Values)?,
            grows: known.grows,
            by_groups: grouped && planned.groups_accumulator_supported(),
            planned,
            name,
        })
    }
}

fn lower(expr: &Expr, rows: &LogicalPlan) -> PlanResult<Arc<AggregateFunctionExpr>> {
    Ok(LoweredAggregateBuilder::new(
        expr,
        rows.schema(),
        rows.schema().as_arrow(),
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .build()?
    .aggregate)
}

/// Appends `_partition, _offset` to the ordering keys, and `_row` if messages have several rows, so that no two rows
/// tie.
///
/// A key that repeats an earlier key orders nothing and is left out. The engine simplifies both keys and drops the
/// second one; if this function kept it, the rows and the accumulator would disagree on the number of keys.
fn break_ties(mut call: AggregateFunction, rows: &LogicalPlan) -> PlanResult<AggregateFunction> {
    let mut keys = std::mem::take(&mut call.params.order_by);
    for name in positions(rows) {
        let column = Expr::Column(position_column(rows, name)?);
        keys.push(Sort::new(column, true, false));
    }
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(rows.schema())).build());
    for mut key in keys {
        key.expr = simplifier.simplify(key.expr)?;
        let known = &mut call.params.order_by;
        if known.iter().all(|before| before.expr != key.expr) {
            known.push(key);
        }
    }
    Ok(call)
}
