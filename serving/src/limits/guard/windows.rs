//! The memory of the values of window functions, counted as each is made.
//!
//! The engine makes one value for each row, and then one column of all of them. Each value of
//! `array_agg(x) OVER (ORDER BY t)` is as long as all rows before it, and `max(s) OVER ()` repeats its value for every
//! row, so the values can be far larger than the rows. A guard sees them only when all are there.
//!
//! ```text
//!  a value is made ─▶ reserved: the value, and its copy in the column ─▶ the guard above hands rows on ─▶ freed
//! ```
//!
//! [`CountWindows`] puts functions that count into the logical plan, because a physical window aggregate does not show
//! its FILTER. Functions such as `first_value` are replaced in the physical plan, where [`counted`] tells all of them
//! what the query may hold.
//!
//! Invariant: values are those of the engine. A reservation is freed at the latest with the plan.

mod values;

mod repeated;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::filter;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, ReversedUDAF, SetMonotonicity, Signature, Window,
    WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::physical_expr::window::{
    PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, WindowExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

use self::repeated::CountedCopies;
pub(super) use self::values::WindowValues;
use crate::limits::allowance::Allowance;

/// Puts functions that count their values in the place of window aggregates.
#[derive(Debug)]
pub(crate) struct CountWindows;

impl AnalyzerRule for CountWindows {
    fn name(&self) -> &'static str {
        "count_windows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let counted = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Window(Window { input, window_expr, schema }) = node else {
                return Ok(Transformed::no(node));
            };
            let window_expr = window_expr.into_iter().map(|expr| Ok(expr.transform_up(counting)?.data));
            let window = Window { input, window_expr: window_expr.collect::<Result<_>>()?, schema };
            Ok(Transformed::yes(LogicalPlan::Window(window)))
        });
        Ok(counted?.data)
    }
}

fn counting(expr: Expr) -> Result<Transformed<Expr>> {
    if !matches!(expr, Expr::WindowFunction(_)) {
        return Ok(Transformed::no(expr));
    }
    let name = expr.schema_name().to_string();
    let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let WindowFunctionDefinition::AggregateUDF(engine) = &call.fun else {
        return Ok(Transformed::no(Expr::WindowFunction(call)));
    };
    if engine.inner().is::<CountedFunction>() {
        return Ok(Transformed::no(Expr::WindowFunction(call)));
    }
    let is_constant = is_constant(&call);
    // The number of copies is that of all rows, and the engine would show only those that the filter keeps.
    let filter = if is_constant { call.params.filter.take() } else { None };
    let counted = CountedFunction {
        engine: AggregateUDF::clone(engine),
        name,
        // Arguments have been coerced already.
        signature: Signature::variadic_any(engine.signature().volatility),
        values: Arc::default(),
        is_constant,
        is_filtered: filter.is_some(),
    };
    call.params.args.extend(filter.map(|filter| *filter));
    call.fun = WindowFunctionDefinition::AggregateUDF(Arc::new(AggregateUDF::new_from_impl(counted)));
    Ok(Transformed::yes(Expr::WindowFunction(call)))
}

/// True if all rows of a partition have one value, which the engine makes once.
fn is_constant(call: &WindowFunction) -> bool {
    let frame = &call.params.window_frame;
    let ends = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => frame.units == WindowFrameUnits::Range && call.params.order_by.is_empty(),
        bound => bound.is_unbounded(),
    };
    ends(&frame.start_bound) && ends(&frame.end_bound)
}

/// An operator, and the values that each of its window functions makes.
pub(super) type CountedOperator = (Arc<dyn ExecutionPlan>, Vec<Arc<WindowValues>>);

/// `node` with functions that count in `allowance`, if it is an operator of window functions, and the values of each.
pub(super) fn counted(node: Arc<dyn ExecutionPlan>, allowance: &Arc<Allowance>) -> Result<CountedOperator> {
    let of_partition = node.downcast_ref::<WindowAggExec>();
    let of_rows = node.downcast_ref::<BoundedWindowAggExec>();
    let Some(functions) =
        of_partition.map(WindowAggExec::window_expr).or(of_rows.map(BoundedWindowAggExec::window_expr))
    else {
        return Ok((node, Vec::new()));
    };
    let mut values = Vec::new();
    let mut replaced = false;
    let mut counted: Vec<Arc<dyn WindowExpr>> = Vec::new();
    for function in functions {
        let standard = function.as_any().downcast_ref::<StandardWindowExpr>().filter(|standard| makes_copies(standard));
        if let Some(standard) = standard {
            let made = Arc::<WindowValues>::default();
            let engine = Arc::clone(standard.get_standard_func_expr());
            let (partition_by, order_by) = (standard.partition_by(), standard.order_by());
            let frame = Arc::clone(standard.get_window_frame());
            let copies = Arc::new(CountedCopies { engine, values: Arc::clone(&made) });
            counted.push(Arc::new(StandardWindowExpr::new(copies, partition_by, order_by, frame)));
            values.push(made);
            replaced = true;
        } else {
            values.extend(values_of(function).cloned());
            counted.push(Arc::clone(function));
        }
    }
    for made in &values {
        made.bind(allowance);
    }
    if !replaced {
        return Ok((node, values));
    }
    let input = Arc::clone(node.children()[0]);
    let node: Arc<dyn ExecutionPlan> = match (of_rows, of_partition) {
        (Some(exec), _) => Arc::new(BoundedWindowAggExec::try_new(
            counted,
            input,
            exec.input_order_mode.clone(),
            !exec.partition_keys().is_empty(),
        )?),
        (_, Some(exec)) => Arc::new(WindowAggExec::try_new(counted, input, !exec.partition_keys().is_empty())?),
        _ => node,
    };
    Ok((node, values))
}

/// The values of a window aggregate.
fn values_of(function: &Arc<dyn WindowExpr>) -> Option<&Arc<WindowValues>> {
    let function = function.as_any();
    let plain = function.downcast_ref::<PlainAggregateWindowExpr>().map(PlainAggregateWindowExpr::get_aggregate_expr);
    let sliding =
        || function.downcast_ref::<SlidingAggregateWindowExpr>().map(SlidingAggregateWindowExpr::get_aggregate_expr);
    let aggregate = plain.or_else(sliding)?;
    Some(&aggregate.fun().inner().downcast_ref::<CountedFunction>()?.values)
}

/// True for `first_value` and others, whose values are those of other rows.
fn makes_copies(function: &StandardWindowExpr) -> bool {
    let evaluator = function.get_standard_func_expr().create_evaluator();
    let is_wide = function.field().is_ok_and(|field| field.data_type().primitive_width().is_none());
    is_wide && evaluator.is_ok_and(|evaluator| evaluator.uses_window_frame())
}

/// The function of a window aggregate.
#[derive(Clone)]
struct CountedFunction {
    engine: AggregateUDF,
    /// The column as the engine names it.
    name: String,
    signature: Signature,
    values: Arc<WindowValues>,
    is_constant: bool,
    /// True if the last argument says which rows count.
    is_filtered: bool,
}

impl fmt::Debug for CountedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CountedFunction").field(&self.name).finish()
    }
}

impl PartialEq for CountedFunction {
    fn eq(&self, other: &Self) -> bool {
        self.engine == other.engine && self.name == other.name && self.is_filtered == other.is_filtered
    }
}

impl Eq for CountedFunction {}

impl Hash for CountedFunction {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.engine, &self.name, self.is_filtered).hash(hasher);
    }
}

impl CountedFunction {
    /// The arguments of the engine's function.
    fn own<'a, T>(&self, arguments: &'a [T]) -> &'a [T] {
        &arguments[..arguments.len() - usize::from(self.is_filtered)]
    }

    fn counted(
        &self,
        args: AccumulatorArgs<'_>,
        make: impl Fn(AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>>,
    ) -> Result<Box<dyn Accumulator>> {
        // Other states are parts of the rows that the operator keeps, or small.
        let grows = args.is_distinct || self.engine.name() == "string_agg";
        let state = if grows { self.values.reserve_state() } else { None };
        let args = AccumulatorArgs { exprs: self.own(args.exprs), expr_fields: self.own(args.expr_fields), ..args };
        Ok(Box::new(CountedAccumulator {
            engine: make(args)?,
            values: Arc::clone(&self.values),
            is_constant: self.is_constant,
            is_filtered: self.is_filtered,
            state,
            rows: 0,
            sized_at: 0,
        }))
    }
}

impl AggregateUDFImpl for CountedFunction {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn window_function_schema_name(&self, _: &WindowFunctionParams) -> Result<String> {
        Ok(self.name.clone())
    }

    fn window_function_display_name(&self, _: &WindowFunctionParams) -> Result<String> {
        Ok(self.name.clone())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.engine.return_type(self.own(types))
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.engine.return_field(self.own(fields))
    }

    fn is_nullable(&self) -> bool {
        self.engine.is_nullable()
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.engine.state_fields(StateFieldsArgs { input_fields: self.own(args.input_fields), ..args })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.counted(args, |args| self.engine.accumulator(args))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.counted(args, |args| self.engine.create_sliding_accumulator(args))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.engine.reverse_udf() {
            ReversedUDAF::Reversed(engine) => {
                let reversed = Self { engine: AggregateUDF::clone(&engine), ..self.clone() };
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::new_from_impl(reversed)))
            }
            other => other,
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.engine.order_sensitivity()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.engine.default_value(data_type)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.engine.inner().set_monotonicity(data_type)
    }
}

#[derive(Debug)]
struct CountedAccumulator {
    engine: Box<dyn Accumulator>,
    values: Arc<WindowValues>,
    is_constant: bool,
    is_filtered: bool,
    /// Set if the accumulator's state is counted.
    state: Option<MemoryReservation>,
    rows: usize,
    /// The rows at which the state was counted last. Its size may be a sum over all values.
    sized_at: usize,
}

impl Accumulator for CountedAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows += values.first().map_or(0, |column| column.len());
        match values.split_last() {
            Some((kept, values)) if self.is_filtered => {
                let values = values.iter().map(|column| filter(column, kept.as_boolean()));
                self.engine.update_batch(&values.collect::<std::result::Result<Vec<_>, _>>()?)?;
            }
            _ => self.engine.update_batch(values)?,
        }
        if let Some(state) = &self.state
            && self.rows > self.sized_at + self.sized_at / 8 + 64
        {
            state.try_resize(self.engine.size())?;
            self.sized_at = self.rows;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.engine.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.engine.supports_retract_batch()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.engine.evaluate()?;
        self.values.made(&value, if self.is_constant { self.rows } else { 1 })?;
        Ok(value)
    }

    fn size(&self) -> usize {
        self.engine.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.engine.state()
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a window has no states")
    }
}

#[cfg(test)]
mod tests;
