//! Both sides of a step as tables: the rows of touched groups at its start and at its end.
//!
//! Touched are the groups of the rows between the two frontiers. The states at the start are those of a pin that is
//! still held. For a client that comes back they are computed: from the batch version and the rows above its cut, if
//! the cut lies below the start, and otherwise from all rows below the start.
//!
//! Invariant: both sides are finished by the view's own plan, so a row here is the row that a query of the view shows.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParser, Statement as EngineStatement};
use thalweg_schemas::algebra::between;
use thalweg_schemas::{Frontier, Result as SharedResult};

use super::held::HeldView;
use crate::engine::AssembledTables;
use crate::{Error, Result, tables};

/// The table of rows at the start of a step.
pub(super) const BEFORE: &str = "before";

/// The table of rows at the end of a step, and of all rows at one frontier.
pub(super) const AFTER: &str = "after";

/// The start of a step.
pub(super) enum StepStart<'h> {
    Held(&'h HeldView),
    /// A frontier that was held once.
    Frontier(&'h Frontier),
}

/// All rows of a view, with their groups.
///
/// Errors: those of plans.
pub(super) fn all(held: &HeldView) -> Result<AssembledTables> {
    let rows = tables::view_states(&held.pin, &held.view).and_then(|states| finished(held, states))?;
    AssembledTables::new([(AFTER, rows)])
}

/// The rows of touched groups at `start` and at `end`.
///
/// Errors: those of plans.
pub(super) fn step(start: &StepStart<'_>, end: &HeldView) -> Result<AssembledTables> {
    let (before, after) = sides(start, end)?;
    AssembledTables::new([(BEFORE, before), (AFTER, after)])
}

type SideTable = Arc<dyn TableProvider>;

fn sides(start: &StepStart<'_>, end: &HeldView) -> SharedResult<(SideTable, SideTable)> {
    let from = match start {
        StepStart::Held(held) => held.frontier(),
        StepStart::Frontier(frontier) => frontier,
    };
    let touched = || rows_between(end, from, end.frontier()).and_then(|rows| end.view.view.plan.update(rows));
    let before = match start {
        StepStart::Held(held) => tables::view_states(&held.pin, &held.view)?,
        StepStart::Frontier(from) => states_at(end, from)?,
    };
    let after = tables::view_states(&end.pin, &end.view)?;
    Ok((finished(end, only(end, before, touched()?)?)?, finished(end, only(end, after, touched()?)?)?))
}

/// The states at `frontier`, at or below that of `held`.
fn states_at(held: &HeldView, frontier: &Frontier) -> SharedResult<LogicalPlan> {
    let plan = &held.view.view.plan;
    let cut = &held.view.cut;
    if frontier.covers(cut) {
        let above = plan.update(rows_between(held, cut, frontier)?)?;
        return tables::union(tables::batch_states(&held.view)?, above);
    }
    plan.update(rows_between(held, &held.pin.stream.origin, frontier)?)
}

fn rows_between(held: &HeldView, from: &Frontier, to: &Frontier) -> SharedResult<LogicalPlan> {
    between(tables::rows_from(&held.pin, &held.rows, from)?, from, to)
}

/// The states of the groups of `touched`. A view without groups has one row, and groups that a join cannot compare are
/// compared later.
fn only(held: &HeldView, states: LogicalPlan, touched: LogicalPlan) -> SharedResult<LogicalPlan> {
    let plan = &held.view.view.plan;
    let groups = plan.state_schema().fields().iter().skip(1).take(plan.group_count());
    if plan.group_count() == 0 || groups.into_iter().any(|group| group.data_type().is_nested()) {
        return Ok(states);
    }
    plan.only_groups(states, plan.groups_of(touched)?)
}

fn finished(held: &HeldView, states: LogicalPlan) -> SharedResult<SideTable> {
    let rows = held.view.view.plan.finish_with_keys(states)?;
    Ok(Arc::new(ViewTable::new(rows, None)))
}

/// The statement of a text that this process has written.
///
/// Errors: [`Error::PlanQuery`].
pub(super) fn statement(sql: &str) -> Result<EngineStatement> {
    let mut statements = DFParser::parse_sql(sql).map_err(|source| Error::PlanQuery { source })?;
    statements.pop_front().ok_or(Error::FindStatement)
}
