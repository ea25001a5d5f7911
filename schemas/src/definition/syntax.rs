//! SQL that DataFusion's planner does not take, rewritten to SQL with the same meaning, and the names that a statement
//! mentions.
//!
//! | written | planned as |
//! |---|---|
//! | `items[1].sku` | `items[1]['sku']` |
//! | `a CROSS JOIN UNNEST(a.tags) AS t(tag)` | `(a CROSS JOIN UNNEST(…))`, which [`crate::engine`] plans |
//! | `to_char(ts, 'YYYY-MM')` | `to_char(ts, '%Y-%m')` |
//! | `SELECT *, _key FROM s` | `SELECT s.* EXCLUDE (_key), _key FROM s` |
//!
//! Invariant: a statement without such parts is left as it is.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Statement, TableFactor, TableWithJoins,
    Value, ValueWithSpan, VisitMut, VisitorMut, WildcardAdditionalOptions, visit_expressions,
};

use crate::definition::message::UNLISTED;
use crate::definition::statement::normal;
use crate::definition::time_patterns;
use crate::{Error, Result};

/// Rewrites `statement` for the planner. `unlisted` gives the columns of a table that `*` leaves out, by the table's
/// name.
///
/// Errors: [`Error::RefuseDefinition`] for a pattern of `to_char` that the engine does not have, and for words after
/// GROUP BY that the planner would ignore.
pub fn rewrite(statement: &mut Parsed, unlisted: impl Fn(&ObjectName) -> Vec<&'static str>) -> Result<()> {
    let Some(statement) = inner_mut(statement) else { return Ok(()) };
    match VisitMut::visit(statement, &mut Rewriting { unlisted, tables: BTreeSet::new() }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The unlisted columns that `statement` mentions.
pub fn mentioned(statement: &Parsed) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    if let Some(statement) = inner(statement) {
        let _ = visit_expressions(statement, |expr| {
            let idents = match expr {
                Expr::Identifier(ident) => std::slice::from_ref(ident),
                Expr::CompoundIdentifier(idents) => idents,
                _ => &[],
            };
            found.extend(UNLISTED.iter().filter(|name| idents.iter().any(|ident| normal(ident) == **name)));
            ControlFlow::<()>::Continue(())
        });
    }
    found
}

fn inner(statement: &Parsed) -> Option<&Statement> {
    match statement {
        Parsed::Statement(statement) => Some(statement),
        Parsed::Explain(explain) => inner(&explain.statement),
        _ => None,
    }
}

pub(super) fn inner_mut(statement: &mut Parsed) -> Option<&mut Statement> {
    match statement {
        Parsed::Statement(statement) => Some(statement),
        Parsed::Explain(explain) => inner_mut(&mut explain.statement),
        _ => None,
    }
}

struct Rewriting<F> {
    unlisted: F,
    /// The names of common table expressions, which hide tables of the same name.
    tables: BTreeSet<String>,
}

impl<F: Fn(&ObjectName) -> Vec<&'static str>> VisitorMut for Rewriting<F> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.tables.extend(tables.map(|table| normal(&table.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        self.leave_out_unlisted(select);
        join_lists(&mut select.from);
        match ignored_grouping(&select.group_by) {
            Some(error) => ControlFlow::Break(error),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::CompoundFieldAccess { root, access_chain } => quote_fields(root, access_chain),
            Expr::Function(function) => {
                if let Err(error) = time_patterns::translate_call(function) {
                    return ControlFlow::Break(error);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Refuses `GROUP BY a, b WITH ROLLUP` and the like, of which the planner sees `GROUP BY a, b` alone.
fn ignored_grouping(group_by: &GroupByExpr) -> Option<Error> {
    let (GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers)) = group_by;
    let modifier = modifiers.first()?;
    Some(Error::refuse(
        format!("`{modifier}` behind the expressions of GROUP BY is not supported"),
        "Write GROUP BY ROLLUP (a, b), CUBE (a, b) or GROUPING SETS ((a, b), (a), ()).",
    ))
}

/// Turns `.name` behind a subscript or a call into `['name']`. In front of the first subscript, the planner itself
/// finds out which names are tables, columns and fields.
fn quote_fields(root: &Expr, access_chain: &mut [AccessExpr]) {
    let mut behind = !matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    for access in access_chain {
        match access {
            AccessExpr::Dot(expr) => {
                if let Expr::Identifier(ident) = expr
                    && behind
                {
                    let value = Value::SingleQuotedString(normal(ident));
                    *expr = Expr::Value(ValueWithSpan { value, span: ident.span });
                }
            }
            AccessExpr::Subscript(_) => behind = true,
        }
    }
}

/// Puts every join with an UNNEST, and all that is joined before it, into one nested join.
fn join_lists(from: &mut Vec<TableWithJoins>) {
    if let Some(last) = from.iter().rposition(|table| is_unnest(&table.relation)).filter(|last| *last > 0) {
        // A comma is a cross join.
        let mut tables = from.drain(..=last);
        if let Some(mut first) = tables.next() {
            for table in tables {
                let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
                first.joins.push(Join { relation: table.relation, global: false, join_operator });
                first.joins.extend(table.joins);
            }
            from.insert(0, first);
        }
    }
    for table in from {
        while let Some(at) = table.joins.iter().position(|join| is_unnest(&join.relation)) {
            let mut before: Vec<Join> = table.joins.drain(..=at).collect();
            let Some(join) = before.pop() else { break };
            let placeholder = nested(TableWithJoins { relation: empty_table(), joins: Vec::new() });
            let mut left = std::mem::replace(&mut table.relation, placeholder);
            if !before.is_empty() {
                left = nested(TableWithJoins { relation: left, joins: before });
            }
            table.relation = nested(TableWithJoins { relation: left, joins: vec![join] });
        }
    }
}

fn nested(table: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None }
}

fn empty_table() -> TableFactor {
    TableFactor::UNNEST {
        alias: None,
        array_exprs: Vec::new(),
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

fn is_unnest(relation: &TableFactor) -> bool {
    matches!(relation, TableFactor::UNNEST { with_offset: false, with_ordinality: false, .. })
}

impl<F: Fn(&ObjectName) -> Vec<&'static str>> Rewriting<F> {
    /// Excludes unlisted columns from the `*` and `table.*` of a SELECT.
    fn leave_out_unlisted(&self, select: &mut Select) {
        let mut tables = Vec::new();
        let known = select.from.iter().all(|table| self.list(table, &mut tables));
        if tables.iter().all(|(_, columns)| columns.is_empty()) {
            return;
        }
        let mut projection = Vec::with_capacity(select.projection.len());
        for item in select.projection.drain(..) {
            match item {
                // What a user excludes need not be a column of every table.
                SelectItem::Wildcard(options) if known && (options.opt_exclude.is_none() || tables.len() == 1) => {
                    for (name, columns) in &tables {
                        let kind = SelectItemQualifiedWildcardKind::ObjectName(name.clone());
                        projection.push(SelectItem::QualifiedWildcard(kind, excluding(&options, columns)));
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let columns = tables.iter().find(|(table, _)| same(table, &name));
                    let options = excluding(&options, columns.map_or(&[][..], |(_, columns)| columns));
                    let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                    projection.push(SelectItem::QualifiedWildcard(kind, options));
                }
                other => projection.push(other),
            }
        }
        select.projection = projection;
    }

    /// Adds the tables of a FROM, by the names that qualify their columns, and their unlisted columns. Returns false if
    /// `*` cannot be written with these names.
    fn list(&self, table: &TableWithJoins, tables: &mut Vec<(ObjectName, Vec<&'static str>)>) -> bool {
        let merges = |join: &Join| match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint) => {
                matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
            }
            JoinOperator::CrossJoin(_) => false,
            _ => true,
        };
        let mut known = !table.joins.iter().any(merges);
        let relations = std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation));
        for relation in relations {
            match relation {
                TableFactor::Table { name, alias, args: None, .. } => {
                    let hidden = name.0.len() == 1 && self.tables.contains(&text(name));
                    let columns = if hidden { Vec::new() } else { (self.unlisted)(name) };
                    let name = alias.as_ref().map_or_else(|| name.clone(), |alias| alias.name.clone().into());
                    tables.push((name, columns));
                }
                TableFactor::Derived { alias: Some(alias), .. } | TableFactor::UNNEST { alias: Some(alias), .. } => {
                    tables.push((alias.name.clone().into(), Vec::new()));
                }
                TableFactor::NestedJoin { table_with_joins, alias: None } => {
                    known &= self.list(table_with_joins, tables);
                }
                _ => known = false,
            }
        }
        known
    }
}

fn same(a: &ObjectName, b: &ObjectName) -> bool {
    text(a) == text(b)
}

/// The last part of a name, which qualifies columns as well as the whole name.
fn text(name: &ObjectName) -> String {
    match name.0.last() {
        Some(ObjectNamePart::Identifier(ident)) => normal(ident),
        _ => String::new(),
    }
}

/// `options` with these columns excluded as well.
fn excluding(options: &WildcardAdditionalOptions, columns: &[&'static str]) -> WildcardAdditionalOptions {
    let mut names: Vec<ObjectName> = match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => vec![name.clone()],
        Some(ExcludeSelectItem::Multiple(names)) => names.clone(),
        None => Vec::new(),
    };
    let more = columns.iter().filter(|column| !names.iter().any(|name| text(name) == **column));
    let more: Vec<ObjectName> = more.map(|column| Ident::with_quote('"', *column).into()).collect();
    names.extend(more);
    let opt_exclude = (!names.is_empty()).then_some(ExcludeSelectItem::Multiple(names));
    WildcardAdditionalOptions { opt_exclude, ..options.clone() }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: &str) {
        let mut statement = DFParser::parse_sql(sql).unwrap().remove(0).unwrap();
        let mentioned = mentioned(&statement);
        rewrite(&mut statement, |name| match name.to_string().as_str() {
            "s" | "z" => mentioned.iter().copied().collect(),
            _ => Vec::new(),
        })
        .unwrap();
        assert_eq!(statement.to_string(), expect, "{sql}");
    }

    #[test]
    fn fields_behind_a_subscript_are_found() {
        check("SELECT items[1].sku FROM s", "SELECT items[1].'sku' FROM s");
        check("SELECT a.b[1].C.d[2].\"E\" FROM s", "SELECT a.b[1].'c'.'d'[2].'E' FROM s");
        check("SELECT a.b.c, a['b'].c FROM s", "SELECT a.b.c, a['b'].'c' FROM s");
        check("EXPLAIN SELECT items[1].sku FROM s", "EXPLAIN SELECT items[1].'sku' FROM s");
    }

    #[test]
    fn unnest_takes_what_stands_before_it() {
        check("SELECT 1 FROM a CROSS JOIN UNNEST(a.x) AS t(y)", "SELECT 1 FROM (a CROSS JOIN UNNEST(a.x) AS t (y))");
        check("SELECT 1 FROM a, UNNEST(a.x) AS t(y), b", "SELECT 1 FROM (a CROSS JOIN UNNEST(a.x) AS t (y)), b");
        check(
            "SELECT 1 FROM a JOIN b ON true LEFT JOIN UNNEST(a.x) AS t(y) ON true JOIN c ON true",
            "SELECT 1 FROM ((a JOIN b ON true) LEFT JOIN UNNEST(a.x) AS t (y) ON true) JOIN c ON true",
        );
        check("SELECT 1 FROM UNNEST([1]) AS t(y)", "SELECT 1 FROM UNNEST([1]) AS t (y)");
    }

    #[test]
    fn words_that_the_planner_ignores_are_refused() {
        for (written, word) in [
            ("SELECT a FROM s GROUP BY a WITH ROLLUP", "`WITH ROLLUP`"),
            ("SELECT a FROM s GROUP BY a, b WITH CUBE", "`WITH CUBE`"),
            ("SELECT a FROM s GROUP BY ALL WITH ROLLUP", "`WITH ROLLUP`"),
            ("SELECT * FROM (SELECT a FROM s GROUP BY a WITH TOTALS) AS t", "`WITH TOTALS`"),
            ("WITH t AS (SELECT a FROM s GROUP BY a WITH ROLLUP) SELECT 1", "`WITH ROLLUP`"),
            ("SELECT 1 WHERE 1 IN (SELECT count(*) FROM s GROUP BY a WITH CUBE)", "`WITH CUBE`"),
            ("SELECT 1 UNION SELECT count(*) FROM s GROUP BY a WITH CUBE", "`WITH CUBE`"),
        ] {
            let mut statement = DFParser::parse_sql(written).unwrap().remove(0).unwrap();
            let error = rewrite(&mut statement, |_| Vec::new()).unwrap_err().to_string();
            assert!(error.contains(word), "{written}: {error}");
        }
        check("SELECT a FROM s GROUP BY ROLLUP(a, b)", "SELECT a FROM s GROUP BY ROLLUP (a, b)");
    }

    #[test]
    fn unlisted_columns_are_not_in_a_star() {
        check("SELECT * FROM s", "SELECT * FROM s");
        check("SELECT *, _key FROM s", "SELECT s.* EXCLUDE (\"_key\"), _key FROM s");
        check("SELECT * FROM s WHERE S._KEY = 'a'", "SELECT s.* EXCLUDE (\"_key\") FROM s WHERE S._KEY = 'a'");
        check(
            "SELECT * FROM s AS a JOIN v ON a._key = v.k",
            "SELECT a.* EXCLUDE (\"_key\"), v.* FROM s AS a JOIN v ON a._key = v.k",
        );
        check("SELECT * EXCLUDE (a) FROM s WHERE _key = ''", "SELECT s.* EXCLUDE (a, \"_key\") FROM s WHERE _key = ''");
        check("SELECT s.* EXCLUDE a, _key FROM s", "SELECT s.* EXCLUDE (a, \"_key\"), _key FROM s");
        check("SELECT v.* FROM s JOIN v ON _key = k", "SELECT v.* FROM s JOIN v ON _key = k");
        check("SELECT * FROM (SELECT _key FROM s) AS t", "SELECT * FROM (SELECT _key FROM s) AS t");
        check("WITH s AS (SELECT 1 AS _key) SELECT * FROM s", "WITH s AS (SELECT 1 AS _key) SELECT * FROM s");
        check("SELECT * FROM s JOIN z USING(a) WHERE s._key = ''", "SELECT * FROM s JOIN z USING(a) WHERE s._key = ''");
        check("SELECT * FROM v WHERE _key = ''", "SELECT * FROM v WHERE _key = ''");
    }
}
