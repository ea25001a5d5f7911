//! SELECTs that have no rows because a table that they join has none: constraints, indexes, policies, and so on.
//!
//! Clients ask about these with expressions that the planner does not take. Such a SELECT becomes one of the same
//! columns without rows, and what reads it has none either.
//!
//! Invariant: a SELECT is replaced only if it has no rows whatever the other tables hold. One aggregate without GROUP
//! BY has a row.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, Distinct, Expr, GroupByExpr, Ident, JoinOperator, ObjectName, Query, Select,
    SelectItem, SetExpr, SetOperator, SetQuantifier, TableFactor, TableWithJoins, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::calls;

/// What is known of tables.
pub(super) struct Empty<'a> {
    /// True for a table that never has rows.
    pub(super) table: &'a dyn Fn(&ObjectName) -> bool,
    /// The SQL type of a column of this name.
    pub(super) column: &'a dyn Fn(&str) -> Option<SqlType>,
    /// Common table expressions without rows.
    pub(super) queries: BTreeSet<String>,
}

impl Empty<'_> {
    /// Replaces the SELECTs of `query` that have no rows. Returns true if the query has none.
    pub(super) fn query(&mut self, query: &mut Query) -> bool {
        let mut left = false;
        if let Some(with) = &mut query.with {
            for table in &mut with.cte_tables {
                let name = table.alias.name.value.to_lowercase();
                if self.query(&mut table.query) {
                    self.queries.insert(name);
                } else {
                    left = true;
                    self.queries.remove(&name);
                }
            }
        }
        let empty = self.body(&mut query.body);
        if empty {
            query.order_by = None;
            if !left {
                query.with = None;
            }
        }
        empty
    }

    fn body(&mut self, body: &mut SetExpr) -> bool {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { op, left, right, set_quantifier } => {
                let keeps_all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
                let (first, second) = (self.body(left), self.body(right));
                match op {
                    SetOperator::Union if first && second => {
                        *body = std::mem::replace(left.as_mut(), SetExpr::Values(no_values()));
                        true
                    }
                    // The names of the columns are those of the left side.
                    SetOperator::Union if second => {
                        let rows = std::mem::replace(left.as_mut(), SetExpr::Values(no_values()));
                        *body = if keeps_all { rows } else { distinct(rows) };
                        false
                    }
                    SetOperator::Union => false,
                    SetOperator::Intersect => first || second,
                    _ => first,
                }
            }
            _ => false,
        }
    }

    fn select(&mut self, select: &mut Select) -> bool {
        let mut empty = false;
        for table in &mut select.from {
            empty |= self.tables(table);
        }
        let grouped = match &select.group_by {
            GroupByExpr::Expressions(keys, modifiers) => !keys.is_empty() && modifiers.is_empty(),
            GroupByExpr::All(_) => false,
        };
        let has_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        if !empty || select.projection.iter().any(has_star) || (!grouped && calls::aggregates(select)) {
            return false;
        }
        let projection = select.projection.drain(..).map(|item| self.column_of(item)).collect();
        select.projection = projection;
        select.from.clear();
        select.lateral_views.clear();
        select.distinct = None;
        select.having = None;
        select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
        select.selection = Some(Expr::Value(ValueWithSpan { value: Value::Boolean(false), span: Span::empty() }));
        true
    }

    /// True if a FROM has no rows.
    fn tables(&mut self, table: &mut TableWithJoins) -> bool {
        let mut empty = self.relation(&mut table.relation);
        for join in &mut table.joins {
            let right = self.relation(&mut join.relation);
            empty = match join.join_operator {
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => empty,
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right,
                JoinOperator::FullOuter(_) => empty && right,
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => empty || right,
                _ => false,
            };
        }
        empty
    }

    fn relation(&mut self, relation: &mut TableFactor) -> bool {
        match relation {
            TableFactor::Table { name, args: None, .. } => {
                let alone = match name.0.as_slice() {
                    [name] => name.as_ident().map(|ident| ident.value.to_lowercase()),
                    _ => None,
                };
                alone.is_some_and(|name| self.queries.contains(&name)) || (self.table)(name)
            }
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.tables(table_with_joins),
            _ => false,
        }
    }

    /// NULL under the name, and with the type where it is known.
    fn column_of(&self, item: SelectItem) -> SelectItem {
        let (expr, alias) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias),
            SelectItem::UnnamedExpr(expr) => {
                let name = calls::column_name(&expr);
                (expr, Ident::with_quote('"', name))
            }
            other => return other,
        };
        let null = Expr::Value(ValueWithSpan { value: Value::Null, span: Span::empty() });
        let expr = match self.type_of(&expr) {
            Some(data_type) => {
                Expr::Cast { kind: CastKind::Cast, expr: Box::new(null), data_type, array: false, format: None }
            }
            None => null,
        };
        SelectItem::ExprWithAlias { expr, alias }
    }

    fn type_of(&self, expr: &Expr) -> Option<SqlType> {
        match expr {
            Expr::Identifier(ident) => (self.column)(&ident.value.to_lowercase()),
            Expr::CompoundIdentifier(idents) => (self.column)(&idents.last()?.value.to_lowercase()),
            Expr::Cast { data_type, .. } => Some(data_type.clone()),
            Expr::Nested(inner) => self.type_of(inner),
            _ => None,
        }
    }
}

/// The rows of `body`, each of them once.
fn distinct(body: SetExpr) -> SetExpr {
    match body {
        SetExpr::Select(mut select) if matches!(select.distinct, None | Some(Distinct::Distinct | Distinct::All)) => {
            select.distinct = Some(Distinct::Distinct);
            SetExpr::Select(select)
        }
        SetExpr::SetOperation { set_quantifier, .. }
            if !matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName) =>
        {
            body
        }
        // A union with itself has the same rows.
        other => SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier: SetQuantifier::None,
            left: Box::new(other.clone()),
            right: Box::new(other),
        },
    }
}

fn no_values() -> datafusion::sql::sqlparser::ast::Values {
    datafusion::sql::sqlparser::ast::Values { explicit_row: false, value_keyword: false, rows: Vec::new() }
}
