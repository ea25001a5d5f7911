//! Columns of a SELECT that have one name, set apart for the planner, which takes every name once.
//!
//! | written | planned as |
//! |---|---|
//! | `SELECT k, k FROM s` | `SELECT k, k AS "k␟1" FROM s`, shown as `k`, `k` |
//! | `SELECT CAST(v AS STRING) FROM s ORDER BY v` | `SELECT CAST(v AS STRING) AS "v␟0" FROM s ORDER BY v`, shown as `v` |
//! | `SELECT (SELECT count(*) FROM s), (SELECT count(*) FROM t)` | the second one `AS "␟0␟1"`, shown as the first |
//! | `SELECT * FROM (SELECT k, k FROM s) AS t` | `SELECT * FROM (SELECT k, k AS "k_1" FROM s) AS t` |
//!
//! Invariant: a column keeps its value and its place, and a name that could mean several columns stays an error. Only
//! statements that the planner has refused are rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, Spanned, VisitMut, VisitorMut,
};

use crate::definition::statement::normal;
use crate::definition::syntax::inner_mut;

/// Stands between the name that is shown and what sets the column apart. No column of a stream has this character.
const MARK: char = '\u{1f}';

/// Sets columns of one name apart. Returns false if nothing can be set apart, or if a name in the statement could mean
/// several of these columns.
pub fn set_apart(statement: &mut Parsed) -> bool {
    let words = WordCounts::of(&statement.to_string());
    let mut setting = Setting { words, around: WordCounts::default(), depth: 0, changed: false };
    match inner_mut(statement) {
        Some(statement) => VisitMut::visit(statement, &mut setting).is_continue() && setting.changed,
        None => false,
    }
}

/// The columns of an answer under the names that are shown.
pub fn shown(schema: &SchemaRef) -> SchemaRef {
    if !schema.fields().iter().any(|field| field.name().contains(MARK)) {
        return Arc::clone(schema);
    }
    let name = |marked: &str| {
        let (name, rest) = marked.split_once(MARK)?;
        match rest.split_once(MARK).and_then(|(like, _)| like.parse::<usize>().ok()) {
            Some(like) => schema.fields().get(like).map(|field| field.name().clone()),
            None => Some(name.to_owned()),
        }
    };
    let fields = schema.fields().iter().map(|field| match name(field.name()) {
        Some(name) => Arc::new(field.as_ref().clone().with_name(name)),
        None => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// How often each word is in a text, in lower case.
#[derive(Default)]
struct WordCounts(BTreeMap<String, usize>);

impl WordCounts {
    fn of(text: &str) -> Self {
        let mut words = BTreeMap::new();
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            *words.entry(word.to_lowercase()).or_default() += 1;
        }
        Self(words)
    }

    fn count(&self, word: &str) -> usize {
        self.0.get(&word.to_lowercase()).copied().unwrap_or_default()
    }

    /// The words that are not in `part`.
    fn without(&self, part: &Self) -> Self {
        Self(self.0.iter().map(|(word, count)| (word.clone(), count - part.count(word).min(*count))).collect())
    }

    /// True if a part of the text may name a column `name`: by a word, or by all names of a table.
    fn may_name(&self, name: &str) -> bool {
        self.count(name) > 0 || self.count("natural") > 0
    }
}

struct Setting {
    /// The words of the statement.
    words: WordCounts,
    /// The words around the query.
    around: WordCounts,
    /// How many queries are around.
    depth: usize,
    changed: bool,
}

impl VisitorMut for Setting {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > 1 {
            self.around = self.words.without(&WordCounts::of(&query.to_string()));
        }
        let keys = sort_keys(query);
        self.set_apart_in(&mut query.body, &keys)
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

impl Setting {
    /// Works on the SELECTs that make up the rows of one query.
    fn set_apart_in(&mut self, body: &mut SetExpr, keys: &BTreeSet<String>) -> ControlFlow<()> {
        match body {
            SetExpr::Select(select) => self.set_apart_items(select, keys),
            SetExpr::SetOperation { left, right, .. } => {
                self.set_apart_in(left, keys)?;
                self.set_apart_in(right, keys)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn set_apart_items(&mut self, select: &mut Select, keys: &BTreeSet<String>) -> ControlFlow<()> {
        let shown_to_user = self.depth == 1;
        let mut taken: BTreeSet<String> = select.projection.iter().filter_map(item_name).collect();
        let mut firsts: BTreeMap<String, (usize, Expr)> = BTreeMap::new();
        let mut star = false;
        let any_star = select
            .projection
            .iter()
            .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
        for (i, item) in select.projection.iter_mut().enumerate() {
            let name = item_name(item);
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &*item else {
                star = true;
                continue;
            };
            let key = name.clone().unwrap_or_else(|| unnamed(expr));
            let is_name = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
            let first = firsts.get(&key);
            let is_named = keys.contains(&key) || (!shown_to_user && self.around.may_name(&key));
            if let Some((_, first)) = first
                && is_named
                && !same_value(first, expr)
            {
                return ControlFlow::Break(());
            }
            let aliased = matches!(item, SelectItem::ExprWithAlias { .. });
            // The star may have a column of the alias.
            let is_column = column_path(expr).is_some_and(|path| path.last() == Some(&key));
            if any_star && aliased && is_named && !is_column {
                return ControlFlow::Break(());
            }
            // A conversion has the name of its column for the planner, so it collides with a column that a sort needs.
            let converts = name.is_some() && !is_name && !aliased;
            let expr = expr.clone();
            let like = match first {
                Some((first, _)) if !star => Some(*first),
                _ => None,
            };
            if first.is_some() || (star && name.is_some()) || (converts && shown_to_user) {
                let alias = match (shown_to_user, name, like) {
                    (false, name, _) => another(&mut taken, &name.unwrap_or(key.clone())),
                    (true, Some(name), _) => format!("{name}{MARK}{i}"),
                    (true, None, Some(like)) => format!("{MARK}{like}{MARK}{i}"),
                    (true, None, None) => format!("{expr}{MARK}{i}"),
                };
                let alias = Ident { value: alias, quote_style: Some('"'), span: expr.span() };
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                self.changed = true;
            }
            firsts.entry(key).or_insert((i, expr));
        }
        ControlFlow::Continue(())
    }
}

/// The name of a column, if the text of the statement gives it.
fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(normal(alias)),
        SelectItem::UnnamedExpr(expr) => match subquery_column(expr) {
            Some(column) => item_name(column),
            None => column_name(expr),
        },
        _ => None,
    }
}

/// What stands for the name of a column without a name.
fn unnamed(expr: &Expr) -> String {
    match subquery_column(expr) {
        Some(SelectItem::UnnamedExpr(column)) => unnamed(column),
        _ => expr.to_string().to_lowercase(),
    }
}

/// The column of a subquery that is a value: the value has its name.
fn subquery_column(expr: &Expr) -> Option<&SelectItem> {
    let mut body = match expr {
        Expr::Nested(expr) => return subquery_column(expr),
        Expr::Subquery(query) => query.body.as_ref(),
        _ => return None,
    };
    loop {
        body = match body {
            SetExpr::Select(select) => return select.projection.first(),
            SetExpr::Query(query) => query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return None,
        };
    }
}

fn column_name(expr: &Expr) -> Option<String> {
    column_path(expr)?.pop()
}

/// The parts of a column's name, also of a column that is converted.
fn column_path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Identifier(ident) => Some(vec![normal(ident)]),
        Expr::CompoundIdentifier(idents) => Some(idents.iter().map(normal).collect()),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => column_path(expr),
        _ => None,
    }
}

/// The names that the query is sorted by.
fn sort_keys(query: &Query) -> BTreeSet<String> {
    let order = query.order_by.as_ref().map(|order| &order.kind);
    let Some(OrderByKind::Expressions(sorts)) = order else { return BTreeSet::new() };
    let names = sorts.iter().filter_map(|sort| match &sort.expr {
        Expr::Identifier(ident) => Some(normal(ident)),
        _ => None,
    });
    names.collect()
}

/// True if a sort by either column is the same: `t.k` and `k`, or a column and its conversion.
fn same_value(a: &Expr, b: &Expr) -> bool {
    match (column_path(a), column_path(b)) {
        (Some(a), Some(b)) => a.ends_with(&b) || b.ends_with(&a),
        _ => a == b,
    }
}

/// A name like `name` that no other column has.
fn another(taken: &mut BTreeSet<String>, name: &str) -> String {
    let mut n = 1;
    loop {
        let another = format!("{name}_{n}");
        if taken.insert(another.clone()) {
            return another;
        }
        n += 1;
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: &str) {
        let mut statement = DFParser::parse_sql(sql).unwrap().remove(0).unwrap();
        assert!(set_apart(&mut statement), "{sql}");
        assert_eq!(statement.to_string().replace(MARK, "|"), expect, "{sql}");
    }

    #[track_caller]
    fn check_left(sql: &str) {
        let mut statement = DFParser::parse_sql(sql).unwrap().remove(0).unwrap();
        assert!(!set_apart(&mut statement), "{sql}");
    }

    #[test]
    fn columns_of_an_answer_keep_their_names() {
        check("SELECT k, k FROM s", "SELECT k, k AS \"k|1\" FROM s");
        check("SELECT k, K, \"K\" FROM s", "SELECT k, K AS \"k|1\", \"K\" FROM s");
        check("SELECT s.k, k AS k FROM s ORDER BY k", "SELECT s.k, k AS \"k|1\" FROM s ORDER BY k");
        check("SELECT *, k FROM s", "SELECT *, k AS \"k|1\" FROM s");
        check("SELECT 1, 1", "SELECT 1, 1 AS \"|0|1\"");
        check("SELECT count(*), COUNT(*) FROM s", "SELECT count(*), COUNT(*) AS \"|0|1\" FROM s");
        check(
            "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), count(*) FROM c",
            "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b) AS \"|0|1\", count(*) AS \"|0|2\" FROM c",
        );
        check(
            "SELECT (SELECT max(v) AS m FROM a), ((SELECT max(w) AS m FROM b UNION SELECT 1))",
            "SELECT (SELECT max(v) AS m FROM a) AS \"m|0\", ((SELECT max(w) AS m FROM b UNION SELECT 1)) AS \"m|1\"",
        );
        check("SELECT *, 1, 1 FROM s", "SELECT *, 1, 1 AS \"1|2\" FROM s");
        check(
            "SELECT k, k FROM a UNION SELECT k, k FROM b",
            "SELECT k, k AS \"k|1\" FROM a UNION SELECT k, k AS \"k|1\" FROM b",
        );
        check("EXPLAIN SELECT k, k FROM s", "EXPLAIN SELECT k, k AS \"k|1\" FROM s");
    }

    #[test]
    fn a_conversion_is_no_sort_key() {
        check("SELECT CAST(v AS INT) FROM s ORDER BY v", "SELECT CAST(v AS INT) AS \"v|0\" FROM s ORDER BY v");
        check("SELECT v, v::INT FROM s ORDER BY v", "SELECT v, v::INT AS \"v|1\" FROM s ORDER BY v");
    }

    #[test]
    fn columns_of_a_subquery_are_numbered() {
        check(
            "SELECT count(*) FROM (SELECT l.k, r.k FROM l JOIN r ON l.k = r.k) AS t",
            "SELECT count(*) FROM (SELECT l.k, r.k AS \"k_1\" FROM l JOIN r ON l.k = r.k) AS t",
        );
        check("SELECT k FROM (SELECT s.k, k FROM s) AS t", "SELECT k FROM (SELECT s.k, k AS \"k_1\" FROM s) AS t");
        check("SELECT * FROM (SELECT k, k FROM s) AS t", "SELECT * FROM (SELECT k, k AS \"k_1\" FROM s) AS t");
        check(
            "SELECT * FROM (SELECT k, k, k_1 FROM s) AS t",
            "SELECT * FROM (SELECT k, k AS \"k_2\", k_1 FROM s) AS t",
        );
        check(
            "WITH t AS (SELECT k, k FROM s) SELECT 1 FROM t",
            "WITH t AS (SELECT k, k AS \"k_1\" FROM s) SELECT 1 FROM t",
        );
    }

    #[test]
    fn what_could_mean_two_things_is_left() {
        check_left("SELECT a AS x, b AS x FROM s ORDER BY x");
        check_left("SELECT a.k, b.k FROM a JOIN b ON true ORDER BY k");
        check_left("SELECT *, b AS k FROM s ORDER BY k");
        check_left("SELECT b AS k, * FROM s ORDER BY k");
        let two = "(SELECT l.k, r.k FROM l LEFT JOIN r ON l.k = r.k) AS t";
        check_left(&format!("SELECT count(*) FROM {two} WHERE k IS NULL"));
        check_left(&format!("SELECT * FROM {two} ORDER BY t.k"));
        check_left(&format!("SELECT * FROM {two} JOIN u USING (k)"));
        check_left(&format!("SELECT * FROM {two} NATURAL JOIN u"));
        check_left("WITH t AS (SELECT *, b AS k FROM s) SELECT k FROM t");
        check_left("SELECT a, b FROM s");
        check_left("SHOW TABLES");
    }

    #[test]
    fn names_are_shown_without_marks() {
        use arrow::datatypes::{DataType, Field};
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = |names: &[&str]| Arc::new(Schema::new(names.iter().map(|name| field(name)).collect::<Vec<_>>()));
        assert_eq!(shown(&schema(&["k", "k\u{1f}1", "a"])), schema(&["k", "k", "a"]));
        assert_eq!(shown(&schema(&["count(*)", "\u{1f}0\u{1f}1"])), schema(&["count(*)", "count(*)"]));
    }
}
