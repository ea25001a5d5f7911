//! The functions that a statement calls, and the names that PostgreSQL gives to columns without one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, Statement, TableFactor, Visit, Visitor};

/// Aggregates that clients apply to catalogs.
const AGGREGATES: [&str; 12] = [
    "count",
    "min",
    "max",
    "sum",
    "avg",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "every",
    "json_agg",
    "jsonb_agg",
];

/// The names of all functions in `statement`, in lower case.
pub(super) fn names(statement: &Statement) -> BTreeSet<String> {
    struct FunctionNames(BTreeSet<String>);
    impl Visitor for FunctionNames {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.0.extend(name(expr));
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            let name = match factor {
                TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => name,
                _ => return ControlFlow::Continue(()),
            };
            let last = name.0.last().and_then(|part| part.as_ident());
            self.0.extend(last.map(|ident| ident.value.to_lowercase()));
            ControlFlow::Continue(())
        }
    }
    let mut found = FunctionNames(BTreeSet::new());
    // The visitor never breaks.
    let _ = statement.visit(&mut found);
    found.0
}

/// The name of the function that `expr` calls.
fn name(expr: &Expr) -> Option<String> {
    let Expr::Function(function) = expr else { return None };
    Some(function.name.0.last()?.as_ident()?.value.to_lowercase())
}

/// True if a column of `select` or its HAVING is made of aggregates. Those of queries within do not count.
pub(super) fn aggregates(select: &Select) -> bool {
    struct Aggregates {
        depth: usize,
    }
    impl Visitor for Aggregates {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let is_window = matches!(expr, Expr::Function(function) if function.over.is_some());
            match name(expr) {
                Some(name) if self.depth == 0 && !is_window && AGGREGATES.contains(&name.as_str()) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let mut found = Aggregates { depth: 0 };
    select.projection.visit(&mut found).is_break() || select.having.visit(&mut found).is_break()
}

/// The name that PostgreSQL gives to a column without one.
pub(super) fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::CompoundIdentifier(idents) => idents.last().map_or_else(String::new, |ident| ident.value.clone()),
        Expr::Function(_) => name(expr).unwrap_or_default(),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => column_name(inner),
        Expr::Cast { expr: inner, data_type, .. } => match column_name(inner) {
            name if name == UNNAMED => {
                let name = data_type.to_string().to_lowercase();
                name.rsplit('.').next().unwrap_or(&name).to_owned()
            }
            name => name,
        },
        _ => UNNAMED.to_owned(),
    }
}

const UNNAMED: &str = "?column?";
