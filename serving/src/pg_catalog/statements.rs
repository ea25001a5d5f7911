//! Statements over `pg_catalog` and `information_schema` alone, rewritten for the planner.
//!
//! | written | planned as |
//! |---|---|
//! | `FROM pg_class` | `FROM pg_catalog.pg_class` |
//! | `x COLLATE pg_catalog.default` | `x`: the tables hold names, which compare byte by byte |
//! | `x = ANY('{a,b}')`, `x = ANY(array)` | `array_has(pg_texts(…), CAST(x AS TEXT))` |
//! | `oid = ANY($1)` | the same of `CAST($1 AS INT UNSIGNED[])`: the array has the type of the column |
//! | `ARRAY(SELECT x FROM …)` | `(SELECT array_agg(x) FROM …)` |
//! | `(SELECT x FROM t WHERE t.k = a.k)` | `(SELECT max(x) FROM …)`: at most one row, as PostgreSQL demands |
//! | `(SELECT x FROM t … ORDER BY y LIMIT 1)` | `(SELECT first_value(x ORDER BY y) FROM t …)` |
//! | `current_schema` | `current_schema()` |
//! | a SELECT that joins an empty table | see [`super::empty`] |
//!
//! Invariant: a statement that reads a stream or a view never comes here.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType as SqlType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, LimitClause, ObjectName, ObjectNamePart, OrderBy, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr,
    Statement, TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::empty::Empty;
use super::schemas;
use super::snapshot::{PG_CATALOG, Snapshot};
use super::{calls, words};
use crate::names::PUBLIC;

/// Behind this letter, a name is not shown ([`thalweg_schemas::definition::repeats::shown`]).
const MARK: char = '\u{1f}';

/// What becomes of a subquery that is a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subqueries {
    /// The greatest value of its only row.
    Max,
    /// NULL, where the planner cannot do more.
    Null,
}

pub(super) fn rewrite(statement: &mut Statement, snapshot: &Snapshot, subqueries: Subqueries) {
    qualify(statement, snapshot);
    let Statement::Query(query) = statement else { return };
    let table = |name: &ObjectName| match parts(name).iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [schema, name] | [_, schema, name] => schemas::is_empty(snapshot, schema, name),
        _ => false,
    };
    let column = |name: &str| sql_type(snapshot.system.type_of_column(name)?);
    Empty { table: &table, column: &column, queries: BTreeSet::new() }.query(query);
    name_columns(query);
    let function = |name: &str| snapshot.system.type_of_column(name) == Some("regproc");
    let item = |name: &str| match snapshot.system.type_of_column(name)? {
        "oid" => Some(words::oid()),
        other => sql_type(other),
    };
    let mut rewriting =
        CatalogRewriting { subqueries, table: &table, column: &column, function: &function, item: &item };
    // The walk cannot break because the visitor does not.
    let _ = VisitMut::visit(query.as_mut(), &mut rewriting);
}

/// Puts the schema in front of tables of PostgreSQL.
pub(super) fn qualify(statement: &mut Statement, snapshot: &Snapshot) {
    // The walk cannot break because the visitor does not.
    let _ = VisitMut::visit(statement, &mut Qualifying(snapshot));
}

/// The parts of a name in lower case, as far as they are names.
pub(super) fn parts(name: &ObjectName) -> Vec<String> {
    let idents = name.0.iter().filter_map(ObjectNamePart::as_ident);
    idents
        .map(|ident| if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() })
        .collect()
}

/// The SQL type of a column of the catalog, for a NULL in its place.
fn sql_type(type_name: &str) -> Option<SqlType> {
    Some(match type_name {
        "bool" => SqlType::Boolean,
        "int2" => SqlType::SmallInt(None),
        "int4" | "oid" => SqlType::Int(None),
        "int8" => SqlType::BigInt(None),
        "name" | "text" | "char" | "varchar" => SqlType::Text,
        _ => return None,
    })
}

/// Gives the columns of the answer the names that PostgreSQL gives them.
fn name_columns(query: &mut Query) {
    let mut body = query.body.as_mut();
    while let SetExpr::SetOperation { left, .. } = body {
        body = left;
    }
    let SetExpr::Select(select) = body else { return };
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let stars_from = select.projection.iter().rposition(is_star).unwrap_or(0);
    for (at, item) in select.projection.iter_mut().enumerate() {
        // A star behind the column may have the column too.
        if at < stars_from
            && let SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) = item
        {
            let alias = Ident::with_quote('"', format!("{}{MARK}{at}", calls::column_name(expr)));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            continue;
        }

        if let SelectItem::UnnamedExpr(expr) = item
            && !matches!(expr, Expr::CompoundIdentifier(_))
            && !matches!(expr, Expr::Identifier(ident) if !is_current_schema(ident))
        {
            let alias = Ident::with_quote('"', calls::column_name(expr));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

struct Qualifying<'a>(&'a Snapshot);

impl VisitorMut for Qualifying<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor
            && let [alone] = parts(name).as_slice()
            && self.0.is_of_postgres(alone)
        {
            name.0.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
        }
        ControlFlow::Continue(())
    }
}

struct CatalogRewriting<'a> {
    subqueries: Subqueries,
    /// As in [`Empty`].
    table: &'a dyn Fn(&ObjectName) -> bool,
    column: &'a dyn Fn(&str) -> Option<SqlType>,
    /// True for a column of this name that refers to functions.
    function: &'a dyn Fn(&str) -> bool,
    /// The type of the items of an array that is compared with a column of this name.
    item: &'a dyn Fn(&str) -> Option<SqlType>,
}

impl VisitorMut for CatalogRewriting<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate { expr: inner, .. } => {
                *expr = std::mem::replace(inner.as_mut(), null());
                return self.pre_visit_expr(expr);
            }
            Expr::Identifier(ident) if is_current_schema(ident) => {
                *expr = words::call_all("current_schema", Vec::new());
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } if !is_query(right) => {
                *expr = holds(right, left, self.type_of(left));
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } if !is_query(right) => {
                *expr =
                    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(holds(right, left, self.type_of(left))) };
            }
            Expr::Function(function)
                if calls_array(&function.name) && matches!(function.args, FunctionArguments::Subquery(_)) =>
            {
                if let FunctionArguments::Subquery(query) =
                    std::mem::replace(&mut function.args, FunctionArguments::None)
                {
                    *expr = self.array(query);
                }
            }
            // Only `public` is searched for plain names.
            Expr::InSubquery { expr: name, subquery, negated } if asks_for_path(subquery) => {
                let (name, negated) = (std::mem::replace(name, Box::new(null())), *negated);
                *expr = Expr::InList { expr: name, list: vec![text(PUBLIC)], negated };
            }
            Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("coalesce") => {
                arrays_in_quotes(function);
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } => {
                self.no_function(left, right);
            }
            Expr::Exists { subquery, .. } | Expr::InSubquery { subquery, .. } => {
                self.is_empty(subquery);
            }
            Expr::Subquery(query) => {
                if let Some(value) = self.value(query) {
                    *expr = value;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Which of its rows a subquery that is a value gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubqueryRows {
    None,
    /// All of them; there is at most one.
    All,
    First,
    /// Those behind an offset, or a number that is not written.
    Other,
}

impl SubqueryRows {
    fn of(query: &Query) -> Self {
        let (limit, offset) = match (&query.limit_clause, &query.fetch) {
            (None, None) => return SubqueryRows::All,
            (Some(LimitClause::LimitOffset { limit, offset, limit_by }), None) if limit_by.is_empty() => {
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            (None, Some(fetch)) if !fetch.percent && !fetch.with_ties => match &fetch.quantity {
                Some(quantity) => (Some(quantity), None),
                None => return SubqueryRows::First,
            },
            _ => return SubqueryRows::Other,
        };
        let number = |expr: &Expr| match expr {
            Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse::<u64>().ok(),
            _ => None,
        };
        match (limit.map(number), offset.map(number)) {
            (Some(Some(0)), _) => SubqueryRows::None,
            (None, None | Some(Some(0))) => SubqueryRows::All,
            (Some(Some(1)), None | Some(Some(0))) => SubqueryRows::First,
            (Some(Some(_)), None | Some(Some(0))) => SubqueryRows::All,
            _ => SubqueryRows::Other,
        }
    }
}

/// The keys by which the rows of a query of one column are sorted. `None` if they are not known.
fn sort_keys(order: Option<&OrderBy>, item: &Expr, alias: Option<&Ident>) -> Option<Vec<OrderByExpr>> {
    let Some(order) = order else { return Some(Vec::new()) };
    let OrderByKind::Expressions(keys) = &order.kind else { return None };
    let keys = keys.iter().map(|key| {
        let expr = match &key.expr {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) if number == "1" => item.clone(),
                _ => return None,
            },
            Expr::Identifier(ident) if alias.is_some_and(|alias| alias.value == ident.value) => item.clone(),
            other => other.clone(),
        };
        Some(OrderByExpr { expr, ..key.clone() })
    });
    keys.collect()
}

impl CatalogRewriting<'_> {
    /// `ARRAY(query)` as a value.
    fn array(&self, mut query: Box<Query>) -> Expr {
        let order = query.order_by.take();
        if self.is_empty(&mut query) || self.subqueries == Subqueries::Null {
            return words::call("pg_texts", text("{}"));
        }
        let SetExpr::Select(select) = query.body.as_mut() else { return null() };
        let (item, alias) = match select.projection.as_mut_slice() {
            [SelectItem::UnnamedExpr(item)] => (item, None),
            [SelectItem::ExprWithAlias { expr: item, alias }] => (item, Some(&*alias)),
            _ => return null(),
        };
        let keys = sort_keys(order.as_ref(), item, alias).unwrap_or_default();
        *item = words::call_ordered("array_agg", item.clone(), keys);
        Expr::Subquery(query)
    }

    /// What takes the place of a subquery that is a value.
    fn value(&self, query: &mut Query) -> Option<Expr> {
        let rows = SubqueryRows::of(query);
        if self.is_empty(query) || rows == SubqueryRows::None {
            return Some(null());
        }
        if rows == SubqueryRows::Other {
            return None;
        }
        // A client that sorts rows and takes the first one asks for that value, and no other is an answer.
        let needs_value = rows == SubqueryRows::First && query.with.is_none();
        if self.subqueries == Subqueries::Null && !needs_value {
            return Some(null());
        }
        let SetExpr::Select(select) = query.body.as_mut() else { return None };
        let plain = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
        if query.with.is_some() || !plain || calls::aggregates(select) || select.from.is_empty() {
            return None;
        }
        let (item, alias) = match select.projection.as_mut_slice() {
            [SelectItem::UnnamedExpr(item)] => (item, None),
            [SelectItem::ExprWithAlias { expr: item, alias }] => (item, Some(&*alias)),
            _ => return None,
        };
        let keys = match rows {
            SubqueryRows::First => sort_keys(query.order_by.as_ref(), item, alias)?,
            _ => Vec::new(),
        };
        *item = match keys.is_empty() {
            true => words::call("max", item.clone()),
            false => words::call_ordered("first_value", item.clone(), keys),
        };
        query.order_by = None;
        query.limit_clause = None;
        query.fetch = None;
        None
    }

    /// The type of the items of an array that is compared with `column`, if that is one of the catalog.
    fn type_of(&self, column: &Expr) -> Option<SqlType> {
        (self.item)(&name_of(column)?.value.to_lowercase())
    }

    /// Columns that refer to functions hold names here, and `-` where PostgreSQL has 0.
    fn no_function(&self, column: &Expr, number: &mut Expr) {
        let Some(name) = name_of(column) else { return };
        let is_zero = matches!(number, Expr::Value(value) if matches!(&value.value, Value::Number(n, _) if n == "0"));
        if is_zero && (self.function)(&name.value.to_lowercase()) {
            *number = text("-");
        }
    }

    /// Replaces the SELECTs of a query within that have no rows. Returns true if the query has none.
    fn is_empty(&self, query: &mut Query) -> bool {
        Empty { table: self.table, column: self.column, queries: BTreeSet::new() }.query(query)
    }
}

/// The name of a column without that of its table.
fn name_of(column: &Expr) -> Option<&Ident> {
    match column {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(idents) => idents.last(),
        _ => None,
    }
}

fn asks_for_path(query: &Query) -> bool {
    query.to_string().contains("current_setting('search_path')")
}

/// `'{}'` in the place of an array, as a call that makes the array.
fn arrays_in_quotes(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    for argument in &mut list.args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument
            && matches!(expr, Expr::Value(value) if value.value == Value::SingleQuotedString("{}".to_owned()))
        {
            *expr = words::call("pg_texts", expr.clone());
        }
    }
}

fn is_query(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) => true,
        Expr::Nested(inner) => is_query(inner),
        _ => false,
    }
}

fn is_current_schema(ident: &Ident) -> bool {
    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("current_schema")
}

fn calls_array(name: &ObjectName) -> bool {
    matches!(parts(name).as_slice(), [name] if name == "array")
}

/// True if the array has the value, which are compared as texts: an array may be one in quotes. `item` is the type of
/// the array's items if the array is a placeholder, whose client is told of the type.
fn holds(array: &Expr, value: &Expr, item: Option<SqlType>) -> Expr {
    let mut array = array;
    while let Expr::Nested(inner) = array {
        array = inner;
    }
    let array = match array {
        Expr::Cast { expr: inner, data_type, .. }
            if words::is_placeholder(inner) && words::item_of(data_type).is_none() =>
        {
            words::to_text(inner.as_ref().clone())
        }
        array if words::is_placeholder(array) => match item {
            Some(item) => words::to_type(array.clone(), words::array_of(item)),
            None => words::to_text(array.clone()),
        },
        array => array.clone(),
    };
    words::call_all("array_has", vec![words::call("pg_texts", array), words::to_text(value.clone())])
}

fn null() -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Null, span: Span::empty() })
}

fn text(text: &str) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text.to_owned()), span: Span::empty() })
}
