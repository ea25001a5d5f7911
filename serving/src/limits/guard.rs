//! A check between all operators of a plan: time, a client that still waits, and the memory of batches.
//!
//! The engine's operators yield rarely: a join can compute for minutes within one poll of its stream. So every batch
//! that passes from one operator to the next is a place where a query can end, and so is every evaluation of a join's
//! filter. The engine does not count the batches under way; a guard does.
//!
//! Invariant: a guard changes no row and no order of rows. It only cuts a batch into pieces, or ends the query.

mod copies;
mod filter;
mod windows;

mod stream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, LikeExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};

use self::copies::CopyReservations;
pub(crate) use self::windows::CountWindows;
use self::windows::WindowValues;
use super::allowance::Allowance;
use super::growth;
use super::slices::Unnested;

/// Operators whose batches the engine does not count and that are new memory.
const MAKERS: [&str; 11] = [
    "FilterExec",
    "HashJoinExec",
    "NestedLoopJoinExec",
    "CrossJoinExec",
    "SortMergeJoinExec",
    "UnnestExec",
    "WindowAggExec",
    "BoundedWindowAggExec",
    "AggregateExec",
    "DataSourceExec",
    "RemoteExec",
];

/// Operators that keep all batches of their input without counting them.
const COLLECTORS: [&str; 2] = ["WindowAggExec", "BoundedWindowAggExec"];

/// Operators that join all batches of their left or only input to one, so that all are there twice for a while.
const COPIERS: [&str; 4] = ["HashJoinExec", "NestedLoopJoinExec", "CrossJoinExec", "WindowAggExec"];

/// Operators whose batches repeat rows of their inputs.
const JOINS: [&str; 4] = ["HashJoinExec", "NestedLoopJoinExec", "CrossJoinExec", "SortMergeJoinExec"];

/// Functions, beside `||`, whose values consist of their arguments.
const JOINING: [&str; 9] = [
    "concat",
    "concat_ws",
    "make_array",
    "array_concat",
    "array_append",
    "array_prepend",
    "array_insert",
    "array_union",
    "map",
];

/// The bytes from which a constant counts.
const LONG_CONSTANT: usize = 1 << 10;

/// The memory that a guard counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Nothing,
    /// The batch that was handed on last.
    Last,
    /// All batches: the operator above keeps them.
    All,
}

/// Where a guard cuts batches.
#[derive(Debug, Clone)]
enum Cut {
    Rows(usize),
    /// So that few rows come out of the operator above.
    Lists(Arc<[Unnested]>),
}

/// A join, and the widest rows of its two inputs.
#[derive(Debug)]
struct JoinAbove {
    /// The number of the join in the plan.
    number: usize,
    widths: [AtomicUsize; 2],
}

impl JoinAbove {
    /// Raises the width of one input and returns the width of a joined row.
    fn raise(&self, side: usize, width: usize) -> usize {
        self.widths[side].fetch_max(width, Ordering::Relaxed);
        self.widths.iter().map(|width| width.load(Ordering::Relaxed)).fold(0, usize::saturating_add)
    }
}

/// What a guard does beyond looking at the clock.
#[derive(Debug, Clone)]
struct Duty {
    counted: Counted,
    cut: Cut,
    /// The join above, and the side of it that the input is.
    join: Option<(Arc<JoinAbove>, usize)>,
    /// True if the operator above must read its input only once.
    once: bool,
    /// The copies that the operator above makes of this input.
    copied: Option<Arc<CopyReservations>>,
    /// The copies that the operator below made of its input, until its first batch.
    made: Option<Arc<CopyReservations>>,
    /// The columns that the operator above joins to longer values, as often as they occur there.
    joined: Arc<[usize]>,
    /// The values that the window functions of the operator below make.
    values: Arc<[Arc<WindowValues>]>,
}

/// The operator.
#[derive(Debug)]
pub(crate) struct GuardExec {
    input: Arc<dyn ExecutionPlan>,
    allowance: Arc<Allowance>,
    duty: Duty,
    /// Rows of a batch that the input makes.
    rows: usize,
    was_read: AtomicBool,
}

/// `plan` with a guard above each of its operators.
///
/// Errors: those of the engine.
pub(crate) fn guarded(plan: Arc<dyn ExecutionPlan>, allowance: &Arc<Allowance>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut calls = 0;
    plan.apply(|node| {
        calls += growing_calls(node)?;
        let constants = constants(node)?;
        let (rows, bytes) = (allowance.batch_rows(), constants.saturating_mul(allowance.batch_rows()));
        if let Some(error) = allowance.too_wide(rows, bytes, allowance.batch_bytes()) {
            return Err(error);
        }
        if constants > allowance.row_bytes() {
            return allowance.exhausted("a row of constants", constants);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    allowance.set_growing_calls(calls);
    let mut joins = 0;
    let plan = plan.transform_up(|node| {
        let number = joins;
        joins += usize::from(JOINS.contains(&node.name()));
        Ok(Transformed::yes(guard(node, number, allowance)?))
    })?;
    Ok(plan.data)
}

/// The calls in the expressions of one operator whose values can be far larger than their arguments.
fn growing_calls(node: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let mut calls = 0;
    node.apply_expressions(&mut |expression: &Arc<dyn PhysicalExpr>| {
        expression.apply(|inner| {
            let call = inner.downcast_ref::<ScalarFunctionExpr>();
            calls += usize::from(call.is_some_and(|call| growth::NAMES.contains(&call.fun().name())));
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(calls)
}

/// The bytes of the long constants in the expressions of one operator, which writes them out for every row of a batch.
fn constants(node: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let mut bytes: usize = 0;
    node.apply_expressions(&mut |expression: &Arc<dyn PhysicalExpr>| {
        bytes = bytes.saturating_add(constants_of(expression));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

fn constants_of(expression: &Arc<dyn PhysicalExpr>) -> usize {
    let own = expression.downcast_ref::<Literal>().map_or(0, |literal| literal.value().size());
    let own = if own >= LONG_CONSTANT { own } else { 0 };
    // A constant that is only compared is not written out.
    let is_compared = compares(expression);
    let parts = expression.children().into_iter().filter(|part| !is_compared || !part.is::<Literal>());
    parts.map(constants_of).fold(own, usize::saturating_add)
}

/// True for an expression whose value says only how its parts compare.
fn compares(expression: &Arc<dyn PhysicalExpr>) -> bool {
    use Operator as O;
    let operator = expression.downcast_ref::<BinaryExpr>().map(BinaryExpr::op);
    expression.is::<InListExpr>()
        || expression.is::<LikeExpr>()
        || matches!(
            operator,
            Some(O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
        )
}

/// The columns of its input that an operator joins to longer values, as often as they occur there.
fn joined_columns(node: &Arc<dyn ExecutionPlan>) -> Result<Vec<usize>> {
    let mut columns = Vec::new();
    // The arguments of a final aggregate are columns of another input.
    let aggregate = node.downcast_ref::<AggregateExec>();
    let is_final = aggregate.is_some_and(|found| found.mode().input_mode() == AggregateInputMode::Partial);
    if node.children().len() != 1 || is_final {
        return Ok(columns);
    }
    node.apply_expressions(&mut |expression: &Arc<dyn PhysicalExpr>| {
        expression.apply(|inner| {
            if !joins_values(inner) {
                return Ok(TreeNodeRecursion::Continue);
            }
            inner.apply(|part| {
                columns.extend(part.downcast_ref::<Column>().map(Column::index));
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(TreeNodeRecursion::Jump)
        })
    })?;
    Ok(columns)
}

fn joins_values(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let operator = expression.downcast_ref::<BinaryExpr>().map(BinaryExpr::op);
    let call = expression.downcast_ref::<ScalarFunctionExpr>().map(|call| call.fun().name());
    operator == Some(&Operator::StringConcat) || call.is_some_and(|name| JOINING.contains(&name))
}

/// A guard above `node`, whose inputs have guards already; these get the duties that `node` needs. `number` is that of
/// the node among joins, if it is one.
fn guard(node: Arc<dyn ExecutionPlan>, number: usize, allowance: &Arc<Allowance>) -> Result<Arc<dyn ExecutionPlan>> {
    let node = with_checked_filter(node, allowance)?;
    let (node, values) = windows::counted(node, allowance)?;
    let made = COPIERS.contains(&node.name()).then(Arc::<CopyReservations>::default);
    let node = with_duties(node, number, made.as_ref(), allowance)?;
    let counted = match node.name() {
        "ProjectionExec" if computes(&node)? => Counted::Last,
        name if MAKERS.contains(&name) => Counted::Last,
        _ => Counted::Nothing,
    };
    let cut = Cut::Rows(allowance.batch_rows());
    let values = values.into();
    let duty = Duty { counted, cut, join: None, once: false, copied: None, made, joined: Arc::default(), values };
    let rows = match JOINS.contains(&node.name()) {
        true => allowance.join_rows(number),
        false => allowance.batch_rows(),
    };
    Ok(Arc::new(GuardExec::new(node, Arc::clone(allowance), duty, rows)))
}

/// True if an expression of `node` is more than a column.
fn computes(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut computes = false;
    node.apply_expressions(&mut |expression: &Arc<dyn PhysicalExpr>| {
        computes |= !expression.is::<Column>();
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(computes)
}

fn with_checked_filter(node: Arc<dyn ExecutionPlan>, allowance: &Arc<Allowance>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = filter::checked_filter(join.filter(), *join.join_type(), allowance)
    {
        let builder = NestedLoopJoinExecBuilder::from(join);
        return Ok(Arc::new(builder.with_filter(Some(filter)).build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = filter::checked_filter(join.filter(), *join.join_type(), allowance)
    {
        return join.builder().with_filter(Some(filter)).build_exec();
    }
    Ok(node)
}

fn with_duties(
    node: Arc<dyn ExecutionPlan>,
    number: usize,
    made: Option<&Arc<CopyReservations>>,
    allowance: &Arc<Allowance>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let unnested = node.downcast_ref::<UnnestExec>().map(|unnest| {
        let lists = unnest.list_column_indices().iter();
        lists.map(|list| Unnested { column: list.index_in_input_schema, depth: list.depth }).collect::<Arc<[_]>>()
    });
    let joins = JOINS.contains(&node.name());
    let collects = COLLECTORS.contains(&node.name());
    let joined: Arc<[usize]> = joined_columns(&node)?.into();
    if !(joins || collects || !joined.is_empty() || unnested.is_some()) {
        return Ok(node);
    }
    let join = Arc::new(JoinAbove { number, widths: Default::default() });
    let reads_once = node.is::<NestedLoopJoinExec>();
    let inputs = node.children().into_iter().enumerate().map(|(side, input)| -> Arc<dyn ExecutionPlan> {
        let Some(found) = input.downcast_ref::<GuardExec>() else {
            return Arc::clone(input);
        };
        let mut duty = found.duty.clone();
        if joins && side < 2 {
            duty.join = Some((Arc::clone(&join), side));
        }
        // A nested-loop join that runs out of memory reads its left input again, and operators below cannot be read
        // twice: a repartitioning panics. Left, semi and anti joins would also be wrong then.
        duty.once |= reads_once && side == 0;
        duty.joined = Arc::clone(&joined);
        duty.copied = made.filter(|_| side == 0).cloned();
        if collects {
            duty.counted = Counted::All;
        }
        if let Some(lists) = &unnested {
            duty.cut = Cut::Lists(Arc::clone(lists));
        }
        Arc::new(GuardExec::new(Arc::clone(&found.input), Arc::clone(allowance), duty, found.rows))
    });
    let inputs = inputs.collect();
    node.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
}

impl GuardExec {
    fn new(input: Arc<dyn ExecutionPlan>, allowance: Arc<Allowance>, duty: Duty, rows: usize) -> Self {
        Self { input, allowance, duty, rows, was_read: AtomicBool::new(false) }
    }

    fn over(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self::new(input, Arc::clone(&self.allowance), self.duty.clone(), self.rows)
    }
}

/// `context` with batches of `rows` rows.
fn with_batch_rows(context: Arc<TaskContext>, rows: usize) -> Arc<TaskContext> {
    if context.session_config().batch_size() == rows {
        return context;
    }
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone().with_batch_size(rows.max(1)),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardExec")
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &'static str {
        "GuardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(self.over(input)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut children = children;
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(self.over(input)))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.allowance.check()?;
        if self.duty.once && self.was_read.swap(true, Ordering::Relaxed) {
            return self
                .allowance
                .exhausted("the smaller side of a join without an equality", self.allowance.batch_bytes());
        }
        let input = self.input.execute(partition, with_batch_rows(context, self.rows))?;
        Ok(Box::pin(stream::GuardStream::new(input, partition, Arc::clone(&self.allowance), self.duty.clone())))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        inputs.first().map_or_else(|| internal_err!("a guard has one input"), |input| Ok(Arc::clone(input)))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

#[cfg(test)]
mod tests;
