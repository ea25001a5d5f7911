//! One aggregate of a view: planned once over the stream's rows, and wrapped in its forms.
//!
//! Invariant: the call over rows keeps the user's arguments, filter and order; what is changed is only what makes its
//! result independent of how the rows were cut: ties are broken by position, and floats are compared in total order.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, ScalarUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};

use super::accumulator::{Input, Output};
use super::float_order::FloatKey;
use super::rounding::magnitudes;
use super::split_plan::position_column;
use super::state_function::StateFunction;
use super::support::{Equality, accept};
use crate::definition::stream::{OFFSET, PARTITION};
use crate::{Error, Result, ViewName};

/// One aggregate of a view, in its forms.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// As SQL shows it.
    pub name: String,
    /// When two of its states are the same answer.
    pub equality: Equality,
    /// Over rows: what the rounding of its states is relative to, if they do not tell.
    pub(super) magnitudes: Vec<Expr>,
    pub(super) planned: Arc<AggregateFunctionExpr>,
    /// Whether its states are made by a groups accumulator.
    pub(super) by_groups: bool,
    /// Whether its states grow with the number of events in a group.
    pub(super) grows: bool,
    /// The float type to which finished keys are turned back; see [`super::float_order`].
    pub(super) float_type: Option<DataType>,
    /// The call over rows: arguments, filter and order are the user's, the function is the wrapper.
    pub(super) update: Expr,
    pub(super) merge: Arc<AggregateUDF>,
    pub(super) finish: Arc<AggregateUDF>,
}

impl Aggregate {
    /// Plans one aggregate over `rows` and wraps it in its forms.
    ///
    /// Errors: [`Error::RefuseDefinition`] for what cannot be maintained, [`Error::PlanView`] for what DataFusion
    /// refuses.
    pub(super) fn plan(expr: &Expr, rows: &LogicalPlan, grouped: bool, view: &ViewName) -> Result<Self> {
        let planning = |source| Error::PlanView { view: view.clone(), source, span: None };
        let Expr::AggregateFunction(call) = expr.clone().unalias() else {
            return Err(Error::Broken(format!("`{expr}` is not an aggregate call")));
        };
        let value = lower(&Expr::AggregateFunction(call.clone()), rows).map_err(planning)?;
        let known = accept(&call, value.field().data_type())?;
        let mut call =
            if known.ordered && !call.params.distinct { break_ties(call, rows).map_err(planning)? } else { call };
        let float_type = known.by_float_keys.then(|| value.field().data_type().clone());
        if float_type.is_some() {
            let key = ScalarUDF::new_from_impl(FloatKey::to_key());
            call.params.args = vec![key.call(call.params.args)];
        }
        let whole = Expr::AggregateFunction(call.clone());
        let planned = lower(&whole, rows).map_err(planning)?;
        // Some combinations are refused by DataFusion only when the first accumulator is made.
        planned.create_accumulator().map_err(planning)?;
        let name = whole.schema_name().to_string();
        let key = format!("{whole:?}: {}; grouped: {grouped}", planned.field().data_type());
        let form = |input, output| {
            let planned = Arc::clone(&planned);
            StateFunction::new(planned, &key, known.ordered, grouped, input, output)
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
                // The planned aggregate is distinct; the wrapper must not be, or a rule would split it in two.
                false,
                call.params.filter,
                call.params.order_by,
                None,
            )),
            merge: form(Input::States, Output::States)?,
            finish: form(Input::States, Output::Values)?,
            float_type,
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

/// Adds `_partition, _offset` as last ordering keys: no two rows tie. A key that has stood before orders nothing any
/// more; the engine leaves it out once it has simplified both, so it must be left out here too, or rows and the
/// accumulator would not agree on how many keys there are.
fn break_ties(mut call: AggregateFunction, rows: &LogicalPlan) -> PlanResult<AggregateFunction> {
    let mut keys = std::mem::take(&mut call.params.order_by);
    for name in [PARTITION, OFFSET] {
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
