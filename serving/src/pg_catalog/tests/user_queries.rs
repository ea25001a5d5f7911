//! Queries of users keep their meaning: none is rewritten as a client's catalog query is.

use datafusion::sql::parser::DFParser;
use thalweg_schemas::engine::session;

use super::*;
use crate::pg_catalog::PgCatalog;

/// Statements that a rewriter of catalog queries changes: subqueries that are values, COLLATE, `= ANY`, arrays.
const QUERIES: [&str; 13] = [
    "SELECT a.device, (SELECT max(b.temperature) FROM sensor_data b WHERE b.device = a.device) FROM sensor_data a",
    "SELECT (SELECT max(t.temperature) FROM sensor_data t)",
    "SELECT (SELECT readings FROM totals), (SELECT devices FROM totals LIMIT 1)",
    "SELECT device COLLATE \"C\" FROM sensor_data",
    "SELECT device FROM sensor_data WHERE device = ANY('{a,b}')",
    "SELECT device FROM sensor_data WHERE device <> ALL(ARRAY['a', 'b'])",
    "SELECT ARRAY['{a}'], '{a,b}'::text FROM sensor_data",
    "SELECT current_schema FROM sensor_data",
    "SELECT device, device FROM sensor_data",
    "SELECT count(*), max(temperature) FROM sensor_data a JOIN pg_catalog.pg_class c ON c.relname = a.device",
    "SELECT * FROM sensor_data WHERE device IN (SELECT relname FROM pg_catalog.pg_class WHERE relname = ANY('{a}'))",
    "SELECT 1, 'a' || 'b', (SELECT 2)",
    "SELECT totals(1), (SELECT readings FROM totals ORDER BY devices LIMIT 1) FROM totals",
];

#[tokio::test]
async fn a_query_over_streams_and_views_is_never_rewritten() {
    let (world, _engine) = platform().await;
    let catalog = world.catalog.borrow().clone();
    let env = session::runtime(None, None, None).unwrap();
    let mut state = session::state(env, 1);
    let postgres = PgCatalog::default();
    for sql in QUERIES {
        for sql in [sql.to_owned(), format!("EXPLAIN {sql}"), format!("WITH t AS ({sql}) SELECT 1 FROM t, totals")] {
            let plain = DFParser::parse_sql(&sql).unwrap().pop_front().unwrap();
            let mut statement = plain.clone();
            let prepared = postgres.prepare(&mut statement, &catalog, &mut state).unwrap();
            assert_eq!(statement, plain, "{sql}");
            assert_eq!(prepared.instead, None, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_query_over_postgres_alone_is_rewritten() {
    let (world, _engine) = platform().await;
    let catalog = world.catalog.borrow().clone();
    let mut state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let postgres = PgCatalog::default();
    let mut check = |sql: &str, expect: &str| {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        postgres.prepare(&mut statement, &catalog, &mut state).unwrap();
        assert_eq!(statement.to_string(), expect, "{sql}");
    };
    check("SELECT oid FROM pg_class", "SELECT oid FROM pg_catalog.pg_class");
    check("SELECT relname COLLATE \"C\" AS a FROM pg_class", "SELECT relname AS a FROM pg_catalog.pg_class");
    check(
        "SELECT c.oid, (SELECT d.description FROM pg_description d WHERE d.objoid = c.oid) AS d FROM pg_class c",
        "SELECT c.oid, (SELECT max(d.description) FROM pg_catalog.pg_description d WHERE d.objoid = c.oid) AS d \
         FROM pg_catalog.pg_class c",
    );
    check(
        "SELECT conname, 'f' = ANY(x) FROM pg_constraint JOIN pg_class ON true ORDER BY 1",
        "SELECT CAST(NULL AS TEXT) AS \"conname\", NULL AS \"?column?\" WHERE false",
    );
    check("SELECT version()", "SELECT version() AS \"version\"");
}
