//! How many tables a query reads once its WITH clauses are written out.
//!
//! The engine plans a WITH clause anew wherever its name is used, so a few lines in which each name uses the one before
//! twice become a plan without end. Invariant: the count takes time in proportion to the length of the query.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Visit, Visitor};

use crate::{Error, Result};

/// The most tables of a query.
const MOST: u64 = 2000;

/// The most operators of a plan before it is optimized.
pub(crate) const OPERATORS: usize = 20_000;

/// Errors: [`Error::RefuseSize`].
pub(crate) fn refuse_many(statement: &Statement) -> Result<()> {
    let count = count(statement);
    if count > MOST { Err(Error::RefuseSize { what: "tables", count, limit: MOST }) } else { Ok(()) }
}

/// The tables of `statement`.
fn count(statement: &Statement) -> u64 {
    let mut tables = TableCount::default();
    match statement {
        Statement::Statement(inner) => {
            // The visitor never breaks.
            let _ = inner.visit(&mut tables);
        }
        Statement::Explain(explain) => return count(&explain.statement),
        _ => {}
    }
    tables.count
}

/// How many tables a name of a WITH clause stands for.
type Names = HashMap<String, u64>;

/// One walk over a query, in the order of its text.
#[derive(Default)]
struct TableCount {
    count: u64,
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
            self.defined.insert(std::ptr::from_ref(table.query.as_ref()), table.alias.name.value.to_lowercase());
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

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let tables = self.names.get(&name.to_string().to_lowercase()).copied().unwrap_or(1);
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
        assert_eq!(count(&statement), expect, "{sql}");
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
