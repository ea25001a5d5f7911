//! Roll-ups in the plan of a query: aggregates of a stream's rows that are read from the states of a view instead.
//!
//! Invariant: a roll-up reads the states of a view that is pinned at the frontier of the rows in whose place they
//! stand, so the answer is the same with roll-ups and without.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Distinct, Expr as SqlExpr, GroupByExpr, Select, Visit, Visitor};
use thalweg_schemas::ViewId;
use thalweg_schemas::algebra::{RollUp, TableAggregate};
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::engine::measure::MEASURE;
use thalweg_schemas::warehouse::versions::DataFile;

use crate::pin::{Pin, PinnedRows, PinnedView, Pins, RowsAbove, Tiles};
use crate::planned_table::{PlannedTable, TableContent, with_table};
use crate::tables;

/// The aggregates that a query calls, by the names of their functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CalledAggregates(BTreeSet<String>);

impl CalledAggregates {
    /// Reads a statement; `None` if nothing in it aggregates.
    pub(crate) fn of(statement: &EngineStatement, state: &SessionState) -> Option<Self> {
        let statement = match statement {
            EngineStatement::Statement(statement) => statement.as_ref(),
            EngineStatement::Explain(explain) => return Self::of(&explain.statement, state),
            _ => return None,
        };
        let mut found = FoundCalls { state, names: BTreeSet::new(), groups: false };
        // The visit never breaks.
        let _ = statement.visit(&mut found);
        (found.groups || !found.names.is_empty()).then_some(Self(found.names))
    }

    /// True if the query calls `measure`.
    pub(crate) fn measures(&self) -> bool {
        self.0.contains(MEASURE)
    }

    /// False only if no aggregate of the query can be answered by `view`.
    pub(crate) fn may_read(&self, view: &CompiledView) -> bool {
        let own: BTreeSet<&str> = view.plan.aggregates().iter().map(|aggregate| aggregate.function()).collect();
        self.0.is_empty() || self.0.iter().any(|name| own.contains(name.as_str()) || OF_GROUPS.contains(&name.as_str()))
    }
}

/// Aggregates that groups may answer without a state.
const OF_GROUPS: [&str; 5] = ["count", "min", "max", "bool_and", "bool_or"];

struct FoundCalls<'a> {
    state: &'a SessionState,
    names: BTreeSet<String>,
    groups: bool,
}

impl Visitor for FoundCalls<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Function(function) = expr
            && let Some(aggregate) = self.state.aggregate_functions().get(&function.name.to_string().to_lowercase())
        {
            self.names.insert(aggregate.name().to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let grouped = match &select.group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(list, _) => !list.is_empty(),
        };
        self.groups |= grouped || matches!(select.distinct, Some(Distinct::Distinct));
        ControlFlow::Continue(())
    }
}

/// Answers aggregates of an analysed plan from the states of pinned views, and returns the views that are read so.
///
/// Errors: those of the algebra.
pub(crate) fn roll_up(plan: LogicalPlan, pins: &Pins) -> EngineResult<(LogicalPlan, BTreeSet<ViewId>)> {
    let mut read = BTreeSet::new();
    let rolled = plan.transform_down_with_subqueries(|node| {
        let Some((view, states)) = of_node(&node, pins)? else { return Ok(Transformed::no(node)) };
        read.insert(view);
        // Subqueries of its conditions may be aggregates too.
        Ok(Transformed::new(states, true, TreeNodeRecursion::Continue))
    })?;
    let plan = match rolled.transformed {
        // States say less of NULL than rows do.
        true => {
            rolled.data.transform_up_with_subqueries(|node| Ok(Transformed::yes(node.recompute_schema()?))).data()?
        }
        false => rolled.data,
    };
    Ok((plan, read))
}

/// The roll-up of one aggregate, from the view with the fewest states.
fn of_node(node: &LogicalPlan, pins: &Pins) -> EngineResult<Option<(ViewId, LogicalPlan)>> {
    let Some((asked, scan)) = TableAggregate::of(node) else { return Ok(None) };
    let stream = |table: &PlannedTable| match &table.content {
        TableContent::Rows(stream) => Some(stream.clone()),
        TableContent::Rejects | TableContent::View(..) => None,
    };
    let pin = with_table(scan, stream).flatten().and_then(|stream| pins.get(&stream));
    let Some((pin, rows)) = pin.and_then(|pin| Some((pin, pin.rows.as_ref()?))) else { return Ok(None) };
    let most = rows_of(rows);
    let usable =
        pin.views.values().filter_map(|pinned| Some((states_of(pinned), pinned, pinned.view.plan.roll_up(&asked)?)));
    let best = usable.filter(|(states, ..)| *states <= most).min_by_key(|(states, ..)| *states);
    let Some((_, pinned, roll_up)) = best else { return Ok(None) };
    let id = pinned.view.plan.id().clone();
    let plan = over(pin, pinned, roll_up).map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(Some((id, plan)))
}

fn over(pin: &Pin, pinned: &PinnedView, roll_up: RollUp) -> thalweg_schemas::Result<LogicalPlan> {
    roll_up.over(tables::view_states(pin, pinned)?)
}

/// The number of rows and rejects, without those that are held elsewhere.
fn rows_of(rows: &PinnedRows) -> u64 {
    let above = match &rows.above {
        RowsAbove::Local(chunks) => {
            chunks.iter().flat_map(|chunk| &chunk.batches).map(|batch| batch.num_rows() as u64).sum()
        }
        RowsAbove::Remote(_) => 0,
    };
    count(&rows.master.files) + above
}

/// The number of states, without those that are held elsewhere.
fn states_of(pinned: &PinnedView) -> u64 {
    let above = match &pinned.tiles {
        Tiles::Local(tiles) => tiles.iter().map(|tile| tile.states.num_rows() as u64).sum(),
        Tiles::Remote(_) => 0,
    };
    count(&pinned.batch.files) + above
}

fn count(files: &[DataFile]) -> u64 {
    files.iter().filter_map(|file| file.rows).sum()
}
