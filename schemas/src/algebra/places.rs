//! Places of the parts of a view's query in the text that the user wrote.
//!
//! A plan has places for columns only. Calls are found in the syntax tree, and clauses among the tokens.
//!
//! Invariant: a query without its text has no places, and nothing else about it differs.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr as SqlExpr, Function, FunctionArguments, Query, Spanned, Statement as Sql,
    visit_expressions,
};
use datafusion::sql::sqlparser::keywords::Keyword;

use crate::definition::pieces::Piece;
use crate::error::{Place, TextSpan};

/// The parsed text of a query.
#[derive(Default)]
pub(super) struct QueryPlaces<'a> {
    piece: Option<&'a Piece<'a>>,
    calls: Vec<WrittenCall>,
    subquery: Option<TextSpan>,
}

/// A function call as the user wrote it.
pub(super) struct WrittenCall {
    pub(super) text: String,
    /// The place of the function's name.
    pub(super) span: Option<TextSpan>,
    /// The place of the name and the arguments.
    extent: Option<TextSpan>,
    name: String,
    distinct: bool,
    window: bool,
}

impl WrittenCall {
    fn of(call: &Function) -> Self {
        let distinct = match &call.args {
            FunctionArguments::List(list) => list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
            _ => false,
        };
        Self {
            text: call.to_string(),
            span: TextSpan::of_parser(call.name.span()),
            extent: TextSpan::of_parser(call.span()),
            name: call.name.to_string().to_lowercase(),
            distinct,
            window: call.over.is_some(),
        }
    }
}

impl<'a> QueryPlaces<'a> {
    pub(super) fn unknown() -> Self {
        Self::default()
    }

    /// Finds the places in the view that `piece` creates.
    pub(super) fn of(piece: &'a Piece<'a>) -> Self {
        let mut places = Self { piece: Some(piece), ..Self::default() };
        let Some(query) = query(piece) else { return places };
        let _ = visit_expressions(&query, |expr| {
            match expr {
                SqlExpr::Function(call) => places.calls.push(WrittenCall::of(call)),
                SqlExpr::Subquery(_) | SqlExpr::InSubquery { .. } | SqlExpr::Exists { .. } => {
                    places.subquery = places.subquery.or(TextSpan::of_parser(expr.span()));
                }
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        places
    }

    /// Finds the call that was planned as `expr`: a function, an aggregate or a window function.
    pub(super) fn call(&self, expr: &Expr) -> Option<&WrittenCall> {
        let (name, aliases, distinct) = match expr {
            Expr::ScalarFunction(call) => (call.func.name(), call.func.aliases(), false),
            Expr::AggregateFunction(call) => (call.func.name(), call.func.aliases(), call.params.distinct),
            Expr::WindowFunction(_) => return self.calls.iter().find(|call| call.window),
            Expr::Unnest(_) => return self.calls.iter().find(|call| call.name == "unnest"),
            _ => return None,
        };
        let of_name = || self.calls.iter().filter(|call| call.name == name || aliases.contains(&call.name));
        let column = column(expr);
        let around = |call: &&WrittenCall| column.zip(call.extent).is_some_and(|(at, extent)| extent.contains(at));
        // The innermost call comes last.
        of_name()
            .rfind(around)
            .or_else(|| of_name().find(|call| call.distinct == distinct))
            .or_else(|| of_name().next())
    }

    /// Finds these keywords in a row.
    pub(super) fn clause(&self, keywords: &[Keyword]) -> Option<TextSpan> {
        self.piece?.clause(keywords)
    }

    pub(super) fn identifier(&self, name: &str) -> Option<TextSpan> {
        self.piece?.identifier(name)
    }

    /// Finds the first call of a window function.
    pub(super) fn window(&self) -> Option<TextSpan> {
        self.calls.iter().find(|call| call.window)?.span
    }

    pub(super) fn subquery(&self) -> Option<TextSpan> {
        self.subquery
    }
}

/// Returns the query of the view that `piece` creates.
pub(super) fn query(piece: &Piece<'_>) -> Option<Box<Query>> {
    match piece.parse().ok()? {
        Parsed::Statement(statement) => match *statement {
            Sql::CreateView(create) => Some(create.query),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the place of the first column in `expr`.
fn column(expr: &Expr) -> Option<Place> {
    let mut found = None;
    // The walk cannot fail because its closure cannot.
    let _ = expr.apply(|inner| {
        let span = inner.spans().and_then(|spans| spans.first());
        found = span.and_then(TextSpan::of_planner).map(|span| span.start);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
