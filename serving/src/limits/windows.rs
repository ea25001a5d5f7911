//! Window functions whose values have no fixed width, such as `array_agg(x) OVER (ORDER BY k)`, within a query's
//! allowance.
//!
//! A window has a value for every row, and the engine holds the values of a whole batch, or of a whole partition,
//! before it hands one on. The values of a running `array_agg` grow with the square of the rows.
//!
//! Invariant: a window function here has the values of the function within. Their bytes are reserved before the next
//! value is computed.

mod aggregates;
mod functions;

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{
    AggregateUDF, Expr, LogicalPlan, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    WindowUDF,
};
use parking_lot::Mutex;

use super::allowance::Allowance;
use super::slices;

/// Bytes of one call and partition that are counted together.
const COUNTED_FROM: usize = 4 << 10;

/// `plan` with counted window functions.
///
/// Errors: those of the engine.
pub(crate) fn counted(plan: LogicalPlan, allowance: &Arc<Allowance>) -> Result<LogicalPlan> {
    let counted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => Ok(Transformed::yes(LogicalPlan::Window(count(window, allowance)?))),
        other => Ok(Transformed::no(other)),
    });
    Ok(counted?.data)
}

fn count(mut window: Window, allowance: &Arc<Allowance>) -> Result<Window> {
    let schema = Arc::clone(&window.schema);
    let types = schema.fields().iter().skip(window.input.schema().fields().len());
    let calls = std::mem::take(&mut window.window_expr).into_iter().zip(types);
    let counted = calls.map(|(call, field)| match slices::width(field.data_type()) {
        Some(_) => Ok(call),
        None => count_call(call, allowance),
    });
    window.window_expr = counted.collect::<Result<_>>()?;
    Ok(window)
}

fn count_call(call: Expr, allowance: &Arc<Allowance>) -> Result<Expr> {
    let counted = call.transform_down(|part| {
        let Expr::WindowFunction(mut call) = part else {
            return Ok(Transformed::no(part));
        };
        let frame = &call.params.window_frame;
        let terms = CountTerms {
            allowance: Arc::clone(allowance),
            is_constant: is_constant(frame, call.params.order_by.is_empty()),
            is_filtered: call.params.filter.is_some(),
            kept: frame.end_bound.is_unbounded().then(Arc::default),
        };
        call.fun = match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => WindowFunctionDefinition::AggregateUDF(Arc::new(
                AggregateUDF::new_from_impl(aggregates::CountedAggregate::new(Arc::clone(function), terms)),
            )),
            WindowFunctionDefinition::WindowUDF(function) => WindowFunctionDefinition::WindowUDF(Arc::new(
                WindowUDF::new_from_impl(functions::CountedFunction::new(Arc::clone(function), terms)),
            )),
        };
        Ok(Transformed::yes(Expr::WindowFunction(call)))
    });
    Ok(counted?.data)
}

/// True if all rows of a partition have one value, which the engine computes once and writes out for all of them.
fn is_constant(frame: &WindowFrame, is_unordered: bool) -> bool {
    let all_peers = frame.units == WindowFrameUnits::Range && is_unordered;
    let is_open = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => all_peers,
        other => other.is_unbounded(),
    };
    is_open(&frame.start_bound) && is_open(&frame.end_bound)
}

/// How the values of one call are counted.
#[derive(Debug, Clone)]
struct CountTerms {
    /// What counts until the query's end: an operator that needs whole partitions keeps the values of all of them.
    /// Freed before the allowance, whose end is the end of the query.
    kept: Option<Arc<Mutex<Option<MemoryReservation>>>>,
    allowance: Arc<Allowance>,
    is_constant: bool,
    /// True if the function sees only some rows of a batch, in arrays of their own.
    is_filtered: bool,
}

/// The values that one call has made for a batch.
#[derive(Debug)]
struct MadeValues {
    // Freed before the allowance.
    held: MemoryReservation,
    terms: CountTerms,
    /// Bytes that are not reserved yet.
    loose: usize,
    /// An argument of the batch. It is kept so that no other takes its place in memory.
    of: Option<ArrayRef>,
}

impl MadeValues {
    fn new(terms: &CountTerms) -> Self {
        let held = terms.allowance.reserve("values of a window function");
        Self { terms: terms.clone(), held, loose: 0, of: None }
    }

    /// Values for the batch of `arguments` follow. If it is another batch, the values before were handed on.
    fn begin(&mut self, arguments: &[ArrayRef]) {
        let Some(first) = arguments.first().filter(|_| !self.terms.is_filtered) else {
            return;
        };
        let (of, next) = (self.of.as_ref().map(|before| origin(&before.to_data())), origin(&first.to_data()));
        match of {
            Some(of) if of == next => return,
            Some(_) => {
                self.held.free();
                self.loose = 0;
            }
            None => {}
        }
        self.of = Some(Arc::clone(first));
    }

    /// Counts a value, which is there once by itself, and once in the column that is made of all.
    ///
    /// Errors: the value does not fit, or the query has ended.
    fn add(&mut self, bytes: usize) -> Result<()> {
        self.add_column(bytes.saturating_mul(2))
    }

    /// Counts the bytes of a column.
    ///
    /// Errors: those of [`Self::add`].
    fn add_column(&mut self, bytes: usize) -> Result<()> {
        self.loose = self.loose.saturating_add(bytes);
        if self.loose >= COUNTED_FROM {
            self.terms.allowance.check()?;
            self.held.try_grow(std::mem::take(&mut self.loose))?;
        }
        Ok(())
    }
}

impl Drop for MadeValues {
    fn drop(&mut self) {
        let made = self.held.free().saturating_add(self.loose);
        if let Some(kept) = &self.terms.kept {
            // The single values are gone, and the column stays.
            let stays = if self.terms.is_constant { made } else { made / 2 };
            kept.lock().get_or_insert_with(|| self.terms.allowance.reserve("values of windows")).grow(stays);
        }
    }
}

/// The memory that slices of one array share; `None` for an array without any.
fn origin(data: &ArrayData) -> Option<usize> {
    match data.buffers().first() {
        Some(buffer) => Some(buffer.data_ptr().as_ptr().addr()),
        None => data.child_data().iter().find_map(origin),
    }
}
