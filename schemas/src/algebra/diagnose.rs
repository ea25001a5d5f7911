//! What is wrong with the query of a view, with places in the text that its user wrote.
//!
//! The view is compiled once more from that text, with places kept: compiled views have none, because their ids must
//! not depend on how a query is laid out. Invariant: nothing is wrong with a query that compiles.

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

/// The warnings of `view`, which `piece` creates over `stream`.
///
/// Errors: everything that is wrong with it.
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
    Ok(SessionContext::new_with_config_rt(config, session::runtime(None, None, None)?))
}

/// The planner as a judge of parts of a query: it has no place for some of its messages, but it has the same message
/// for the part alone.
struct Planner<'a> {
    session: &'a SessionContext,
    message: &'a str,
}

impl Planner<'_> {
    /// The smallest expression of which the message is true by itself; or else the last column, or the condition,
    /// without which it is not true.
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
        // What is wrong with FROM is wrong with every part.
        if self.objects(alone(SqlExpr::value(Value::Boolean(true)))).await {
            return None;
        }
        let mut smallest = None;
        let mut parts = expressions(&**select);
        'narrower: loop {
            for part in std::mem::take(&mut parts) {
                if self.objects(alone(part.clone())).await {
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
            if !self.objects(variant(without)).await {
                return TextSpan::of_parser(item.span());
            }
        }
        let unfiltered = variant(Select { selection: None, ..(**select).clone() });
        let without_having = variant(Select { having: None, ..(**select).clone() });
        for (condition, without) in [(&select.selection, unfiltered), (&select.having, without_having)] {
            if let Some(condition) = condition
                && !self.objects(without).await
            {
                return place(condition);
            }
        }
        None
    }

    /// Whether the planner has the message for `query`.
    async fn objects(&self, query: Query) -> bool {
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

/// The expressions in `part`, outer ones before those inside of them.
fn expressions(part: &impl Visit) -> Vec<SqlExpr> {
    let mut found = Vec::new();
    let _ = visit_expressions(part, |expr| {
        found.push(expr.clone());
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}

/// Of a call, its name.
fn place(expr: &SqlExpr) -> Option<TextSpan> {
    TextSpan::of_parser(match expr {
        SqlExpr::Function(call) => call.name.span(),
        other => other.span(),
    })
}
