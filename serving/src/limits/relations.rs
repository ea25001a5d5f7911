//! How many tables a query reads once its WITH clauses are written out, and how many grouping sets CUBE stands for.
//!
//! The engine plans a WITH clause anew wherever its name is used, so a few lines in which each name uses the one before
//! twice become a plan without end. It writes CUBE out before it counts the sets. Invariant: the counts take time in
//! proportion to the length of the query.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Ident, ObjectName, Query, Select, Visit, Visitor};

use crate::{Error, Result};

/// The most tables of a query.
const MOST: u64 = 2000;

/// The most grouping sets of one SELECT.
const SETS: u64 = 256;

/// The most operators of a plan before it is optimized.
pub(crate) const OPERATORS: usize = 20_000;

/// Errors: [`Error::RefuseSize`].
pub(crate) fn refuse_many(statement: &Statement) -> Result<()> {
    let counts = count(statement);
    for (what, count, limit) in [("tables", counts.count, MOST), ("grouping sets", counts.sets, SETS)] {
        if count > limit {
            return Err(Error::RefuseSize { what, count, limit });
        }
    }
    Ok(())
}

/// The counts of `statement`.
fn count(statement: &Statement) -> TableCount {
    let mut tables = TableCount::default();
    // The visitor never breaks.
    let _ = match statement {
        Statement::Statement(inner) => inner.visit(&mut tables),
        Statement::Explain(explain) => return count(&explain.statement),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(&mut tables),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    tables
}

/// The name as the planner looks it up: quotes keep the letters as they are.
fn normal(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}

/// The sets that one expression of GROUP BY stands for.
fn sets(expression: &Expr) -> u64 {
    let set_count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    match expression {
        Expr::Cube(columns) => u32::try_from(columns.len()).ok().and_then(|n| 2_u64.checked_pow(n)).unwrap_or(u64::MAX),
        Expr::Rollup(columns) => set_count(columns.len() + 1),
        Expr::GroupingSets(sets) => set_count(sets.len()),
        _ => 1,
    }
}

/// How many tables a name of a WITH clause stands for.
type Names = HashMap<String, u64>;

/// One walk over a query, in the order of its text.
#[derive(Default)]
struct TableCount {
    count: u64,
    /// The most grouping sets of one SELECT.
    sets: u64,
    /// The names that are known where the walk is.
    names: Names,
    /// The queries of WITH clauses that were not left yet, with their names.
    defined: HashMap<*const Query, String>,
    /// For each query around the walk: the count before it, and the names outside it.
    around: Vec<(u64, Names)>,
}

impl Visitor for TableCount {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.around.push((self.count, self.names.clone()));
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.defined.insert(std::ptr::from_ref(table.query.as_ref()), normal(&table.alias.name));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some((before, outside)) = self.around.pop() {
            self.names = outside;
            if let Some(name) = self.defined.remove(&std::ptr::from_ref(query)) {
                self.names.insert(name, (self.count - before).max(1));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(expressions, _) = &select.group_by {
            self.sets = self.sets.max(expressions.iter().map(sets).fold(1, u64::saturating_mul));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        // The planner looks up `a.b` among the names of WITH clauses too, where "a.b" may stand.
        let parts = name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), normal));
        let tables = self.names.get(&parts.collect::<Vec<_>>().join(".")).copied().unwrap_or(1);
        self.count = self.count.saturating_add(tables);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: u64) {
        let statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        assert_eq!(count(&statement).count, expect, "{sql}");
    }

    #[track_caller]
    fn check_sets(sql: &str, expect: u64) {
        let statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        assert_eq!(count(&statement).sets, expect, "{sql}");
        assert_eq!(refuse_many(&statement).is_err(), expect > SETS, "{sql}");
    }

    #[test]
    fn names_stand_for_all_that_they_read() {
        check("SELECT 1", 0);
        check("SELECT * FROM a, b", 2);
        check("EXPLAIN SELECT * FROM a, b", 2);
        check("WITH x AS (SELECT * FROM a, b) SELECT * FROM x, x AS y", 6);
        check("SELECT (SELECT max(k) FROM a), k FROM b WHERE k IN (SELECT k FROM c)", 3);
        check("WITH x AS (WITH x AS (SELECT * FROM a, b) SELECT * FROM x, x) SELECT * FROM x", 12);
        check("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x), x", 2);
        check("COPY (SELECT * FROM a, b) TO 'x.csv'", 2);
    }

    #[test]
    fn names_are_the_same_with_quotes_as_for_the_planner() {
        check(r#"WITH x AS (SELECT * FROM a, b) SELECT * FROM "x", "x""#, 6);
        check(r#"WITH "x" AS (SELECT * FROM a, b) SELECT * FROM x, X"#, 6);
        check(r#"WITH "X" AS (SELECT * FROM a, b) SELECT * FROM "X", X"#, 5);
        check("WITH X AS (SELECT * FROM a, b) SELECT * FROM `x`, x", 6);
        check(r#"WITH "x.y" AS (SELECT * FROM a, b) SELECT * FROM x.y, "x"."y", "x.y""#, 8);
    }

    #[test]
    fn grouping_sets_are_counted_without_being_written_out() {
        let columns = |count: usize| (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
        check_sets("SELECT count(*) FROM t GROUP BY a, b", 1);
        check_sets("SELECT count(*) FROM t GROUP BY ALL", 0);
        check_sets("SELECT count(*) FROM t GROUP BY a, CUBE (b, c), ROLLUP (d, e), GROUPING SETS ((f), (g), ())", 36);
        for (sets, expect) in [(8, 256), (9, 512), (34, 1 << 34), (70, u64::MAX)] {
            check_sets(&format!("SELECT count(*) FROM t GROUP BY CUBE ({})", columns(sets)), expect);
            check_sets(&format!("EXPLAIN SELECT count(*) FROM t GROUP BY x, CUBE ({})", columns(sets)), expect);
        }
        check_sets("SELECT 1 FROM (SELECT 1 FROM t GROUP BY CUBE (a, b)) GROUP BY ROLLUP (a, b, c, d)", 5);
        check_sets(&format!("SELECT 1 FROM t GROUP BY ROLLUP ({})", columns(300)), 301);
        check_sets("WITH x AS (SELECT 1 FROM t GROUP BY CUBE (a, b, c)) SELECT * FROM x WHERE EXISTS (SELECT 1)", 8);
    }

    #[test]
    fn doubling_is_seen_without_being_done() {
        let mut sql = "WITH t0 AS (SELECT 1 AS k)".to_owned();
        for i in 1..60 {
            sql += &format!(", t{i} AS (SELECT a.k FROM t{} a, t{} b)", i - 1, i - 1);
        }
        sql += " SELECT * FROM t59";
        let statement = DFParser::parse_sql(&sql).unwrap().pop_front().unwrap();
        assert!(matches!(refuse_many(&statement), Err(Error::RefuseSize { .. })));
    }
}
