//! Finds the errors and warnings of a view's query, with places in the text that the user wrote.
//!
//! This file compiles the view once more from that text and keeps the places. Compiled views have none, because their
//! ids must not depend on the layout of a query.
//!
//! Invariant: a query that compiles has no errors.

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, GroupByExpr, Query, Select, SelectItem, SetExpr, Spanned, Value, Visit, visit_expressions,
};

use super::compile::ViewPlan;
use super::places::{self, QueryPlaces};
use crate::definition::pieces::Piece;
use crate::definition::stream::StreamDefinition;
use crate::definition::view::ViewDefinition;
use crate::engine::session;
use crate::error::{Diagnostic, TextSpan};
use crate::{Error, Result};

/// Returns the warnings of `view`, which `piece` creates over `stream`.
///
/// Errors: everything that is wrong with the view.
pub(crate) async fn diagnose(
    piece: &Piece<'_>,
    view: &ViewDefinition,
    stream: &StreamDefinition,
) -> std::result::Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let session = session_with_places().map_err(|e| e.diagnostics())?;
    let query = piece.query_in_place().map_or_else(|| view.query.clone(), |(query, _)| query);
    let places = QueryPlaces::of(piece);
    match ViewPlan::compile_text(view, stream, &query, &session, &places).await {
        Ok(plan) => Ok(plan.placed_warnings().to_vec()),
        Err(error) => {
            let mut found = error.diagnostics();
            if let (Error::PlanView { .. }, Some(query)) = (&error, places::query(piece)) {
                for unplaced in found.iter_mut().filter(|diagnostic| diagnostic.span.is_none()) {
                    let planner = Planner { session: &session, message: &unplaced.message };
                    unplaced.span = planner.narrow_down(&query).await;
                }
            }
            Err(found)
        }
    }
}

fn session_with_places() -> Result<SessionContext> {
    let mut config = session::config(1);
    config.options_mut().sql_parser.collect_spans = true;
    Ok(SessionContext::new_with_state(session::state_with(config, session::runtime(None, None, None)?)))
}

/// Asks the planner about parts of a query. The planner gives no place for some messages, but it repeats the message
/// for the faulty part alone.
struct Planner<'a> {
    session: &'a SessionContext,
    message: &'a str,
}

impl Planner<'_> {
    /// Finds the smallest expression that causes the message by itself. Otherwise finds the last column, or the
    /// condition, without which the message disappears.
    async fn narrow_down(&self, query: &Query) -> Option<TextSpan> {
        let SetExpr::Select(select) = &*query.body else { return None };
        let variant = |select: Select| Query { body: Box::new(SetExpr::Select(Box::new(select))), ..query.clone() };
        let alone = |expr: SqlExpr| {
            variant(Select {
                projection: vec![SelectItem::UnnamedExpr(expr)],
                selection: None,
                group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
                having: None,
                distinct: None,
                ..(**select).clone()
            })
        };
        // An error in FROM is an error of every part.
        if self.repeats_message(alone(SqlExpr::value(Value::Boolean(true)))).await {
            return None;
        }
        let mut smallest = None;
        let mut parts = expressions(&**select);
        'narrower: loop {
            for part in std::mem::take(&mut parts) {
                if self.repeats_message(alone(part.clone())).await {
                    parts = expressions(&part).split_off(1);
                    smallest = Some(part);
                    continue 'narrower;
                }
            }
            break;
        }
        if let Some(part) = smallest {
            return place(&part);
        }
        for at in (0..select.projection.len()).rev() {
            let mut without = (**select).clone();
            let item = without.projection.remove(at);
            if !self.repeats_message(variant(without)).await {
                return TextSpan::of_parser(item.span());
            }
        }
        let unfiltered = variant(Select { selection: None, ..(**select).clone() });
        let without_having = variant(Select { having: None, ..(**select).clone() });
        for (condition, without) in [(&select.selection, unfiltered), (&select.having, without_having)] {
            if let Some(condition) = condition
                && !self.repeats_message(without).await
            {
                return place(condition);
            }
        }
        None
    }

    /// True if the planner gives the message for `query`.
    async fn repeats_message(&self, query: Query) -> bool {
        let state = self.session.state();
        let planned = async {
            let plan = state.statement_to_plan(Parsed::Statement(Box::new(Sql::Query(Box::new(query))))).await?;
            state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
            Ok::<_, DataFusionError>(())
        };
        let error = planned.await.err();
        error.is_some_and(|error| Diagnostic::all(&error).iter().any(|found| found.message == self.message))
    }
}

/// Returns the expressions in `part`, outer ones before inner ones.
fn expressions(part: &impl Visit) -> Vec<SqlExpr> {
    let mut found = Vec::new();
    let _ = visit_expressions(part, |expr| {
        found.push(expr.clone());
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}

/// The place of an expression; for a call, the place of the function's name.
fn place(expr: &SqlExpr) -> Option<TextSpan> {
    TextSpan::of_parser(match expr {
        SqlExpr::Function(call) => call.name.span(),
        other => other.span(),
    })
}
