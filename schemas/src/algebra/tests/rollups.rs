//! Roll-ups: a query of the stream, answered from the states of a view, gives what the query gives over all rows.
//! Queries that a view does not answer are left alone.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;

use super::fixture::{compile, direct, rows, states_of, stream_definition, text};
use crate::algebra::{TableAggregate, ViewPlan, batches, collect};
use crate::engine::session;

/// The query's plan with its aggregates answered from states of `view`, which were made of two parts of the rows.
/// `None` if the view answers none of them.
async fn rolled_up(view: &ViewPlan, query: &str) -> Option<LogicalPlan> {
    let context = SessionContext::new_with_state(session::state(session::runtime(None, None, None).unwrap(), 1));
    let table = EmptyTable::new(stream_definition().table_schema_with(&[].into()));
    context.register_table("events", Arc::new(table)).unwrap();
    let state = context.state();
    let plan = state.create_logical_plan(query).await.unwrap();
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    let rows = rows();
    let mut states = states_of(view, rows.slice(0, 7), true).await;
    states.extend(states_of(view, rows.slice(7, rows.num_rows() - 7), false).await);
    let states = batches("states", Arc::clone(view.state_schema()), states).unwrap();
    let mut found = false;
    let rolled = plan.transform_down_with_subqueries(|node| {
        let asked = TableAggregate::of(&node).map(|(asked, _)| asked);
        Ok(match asked.and_then(|asked| view.roll_up(&asked)) {
            Some(roll_up) => {
                found = true;
                Transformed::yes(roll_up.over(states.clone()).unwrap())
            }
            None => Transformed::no(node),
        })
    });
    let rolled = rolled.data().unwrap();
    let rolled = rolled.transform_up_with_subqueries(|node| Ok(Transformed::yes(node.recompute_schema()?)));
    found.then(|| rolled.data().unwrap())
}

/// Checks that `view` answers `query`.
async fn check(view: &str, query: &str) {
    let plan = compile(view).await.unwrap_or_else(|e| panic!("{view}: {e}"));
    let rolled = rolled_up(&plan, query).await.unwrap_or_else(|| panic!("{view} does not answer {query}"));
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let got = text(&collect(&state, "rolling up", rolled).await.unwrap_or_else(|e| panic!("{query}: {e}")));
    assert_eq!(got, direct(query).await, "{view}; {query}");
}

/// Checks that `view` does not answer `query`.
async fn check_not(view: &str, query: &str) {
    let plan = compile(view).await.unwrap_or_else(|e| panic!("{view}: {e}"));
    assert!(rolled_up(&plan, query).await.is_none(), "{view} answers {query}");
}

const ALL: &str = "SELECT k, b, count(*) AS n, count(i) AS ni, sum(i) AS si, avg(i) AS ai, avg(d) AS ad, min(f) AS mf, \
                   max(f) AS xf, count(DISTINCT s) AS ds, approx_distinct(s) AS hs, median(i) AS me, \
                   stddev(d) AS sd, bit_xor(i) AS bx, sum(DISTINCT i) AS di, bool_or(b) AS bo, \
                   count(*) FILTER (WHERE f > 0.4) AS cf, sum(i * 2 + 1) AS ex, array_agg(DISTINCT s ORDER BY s) AS l, \
                   approx_percentile_cont(i, 0.5) AS p FROM events GROUP BY k, b";

#[tokio::test]
async fn coarser_groups_are_answered_from_states() {
    for call in [
        "count(*)",
        "count(1)",
        "count(i)",
        "sum(i)",
        "avg(i)",
        "avg(d)",
        "min(f)",
        "max(f)",
        "count(DISTINCT s)",
        "approx_distinct(s)",
        "median(i)",
        "stddev(d)",
        "stddev_samp(d)",
        "bit_xor(i)",
        "sum(DISTINCT i)",
        "bool_or(b)",
        "count(*) FILTER (WHERE f > 0.4)",
        "count(*) FILTER (WHERE k = 'a')",
        "sum(i) FILTER (WHERE NOT b OR k IS NULL)",
        "count(*) FILTER (WHERE f > 0.4 AND b)",
        "sum(i * 2 + 1)",
        "array_agg(DISTINCT s ORDER BY s)",
        "count(DISTINCT k)",
        "count(DISTINCT upper(k))",
        "min(k)",
        "max(length(k))",
        "count(DISTINCT k) FILTER (WHERE b)",
        // Groups of which no row is left.
        "bool_or(b) FILTER (WHERE k = 'a')",
        "avg(i) FILTER (WHERE k = 'c')",
        "min(f) FILTER (WHERE b AND k = 'b')",
        "stddev(d) FILTER (WHERE k = 'a')",
        "array_agg(DISTINCT s ORDER BY s) FILTER (WHERE NOT b)",
    ] {
        for (head, tail) in [
            ("k, ", " GROUP BY k"),
            ("b, ", " GROUP BY b"),
            ("upper(k) AS u, ", " GROUP BY upper(k)"),
            ("b IS NULL OR k = 'a' AS y, ", " GROUP BY b IS NULL OR k = 'a'"),
            ("k, b, ", " GROUP BY k, b"),
            ("", ""),
            ("", " WHERE b"),
            ("", " WHERE k = 'no such group'"),
            ("k, ", " WHERE k IN ('a', 'c') AND b IS NOT NULL GROUP BY k HAVING count(*) > 1"),
            ("k, b, ", " GROUP BY ROLLUP (k, b)"),
            ("k, b, ", " GROUP BY CUBE (k, b)"),
            ("k, ", " WHERE false GROUP BY ROLLUP (k)"),
        ] {
            check(ALL, &format!("SELECT {head}{call} AS x FROM events{tail}")).await;
        }
    }
}

#[tokio::test]
async fn however_a_query_is_written() {
    for query in [
        "SELECT DISTINCT k FROM events",
        "SELECT DISTINCT upper(k), b FROM events WHERE k <> 'b'",
        "SELECT k FROM events GROUP BY k",
        "SELECT e.k, sum(e.i) FROM events AS e GROUP BY e.k",
        "SELECT w, sum(x) FROM (SELECT k AS w, i AS x FROM events WHERE b) GROUP BY w",
        "WITH e AS (SELECT * FROM events WHERE k > 'a') SELECT avg(d) + count(*) FROM e",
        "SELECT k, n FROM (SELECT k, count(*) AS n FROM events GROUP BY k) WHERE n > 1",
        "SELECT max(n) FROM (SELECT k, count(*) AS n FROM events GROUP BY k)",
        "SELECT sum(i) FROM events WHERE k IN (SELECT min(k) FROM events)",
        "SELECT sum(i) FROM events WHERE k = (SELECT min(k) FROM events) AND 1 = 1",
        "SELECT CASE WHEN b THEN 'yes' ELSE k END AS c, count(*) FROM events GROUP BY 1",
        "SELECT k, count(*) AS n FROM events GROUP BY k UNION ALL SELECT 'all', count(*) FROM events",
        "SELECT a.k, a.n + b.n FROM (SELECT k, count(*) AS n FROM events GROUP BY k) a JOIN \
         (SELECT k, sum(i) AS n FROM events GROUP BY k) b ON a.k = b.k",
        "SELECT k, sum(sum(i)) OVER (ORDER BY k) FROM events GROUP BY k",
        "SELECT count(*), sum(i), count(DISTINCT s) FROM events WHERE false",
        // What is one over the states.
        "SELECT DISTINCT upper(k) AS one, upper(k) AS other, b FROM events",
        "SELECT k AS one, k AS other, count(*), count(1), sum(i) AS x, sum(i) AS y FROM events GROUP BY k, 2",
        "SELECT upper(k), lower(k), count(*) FROM events GROUP BY upper(k), lower(k), k",
        "SELECT k, b, count(*), count(1) FROM events GROUP BY ROLLUP (k, b)",
    ] {
        check(ALL, query).await;
    }
}

#[tokio::test]
async fn conditions_of_the_view_are_conditions_of_the_query() {
    let view = "SELECT k, f, count(*) AS n, sum(i) AS s FROM events WHERE i > 0 AND s <> '' GROUP BY k, f";
    check(view, "SELECT k, count(*) FROM events WHERE s <> '' AND i > 0 GROUP BY k").await;
    check(view, "SELECT k, count(*) FROM (SELECT * FROM events WHERE '' <> s) WHERE 0 < i AND k = 'a' GROUP BY k")
        .await;
    check(view, "SELECT f, count(*) FROM events WHERE s <> '' AND i > 0 GROUP BY f").await;
    check(view, "SELECT DISTINCT f FROM events WHERE s <> '' AND i > 0").await;
    for query in [
        "SELECT k, count(*) FROM events WHERE i > 0 GROUP BY k",
        "SELECT k, count(*) FROM events WHERE i > 1 AND s <> '' GROUP BY k",
        "SELECT k, count(*) FROM events WHERE (i > 0 OR s <> '') GROUP BY k",
        "SELECT k, count(*) FROM events WHERE i > 0 AND s <> '' AND i < 5 GROUP BY k",
        "SELECT k, count(*) FROM events WHERE i > 0 AND s <> '' AND random() < 2 GROUP BY k",
        "SELECT k, max(i) FROM events WHERE i > 0 AND s <> '' GROUP BY k",
        "SELECT k, sum(i) FILTER (WHERE d > 0) FROM events WHERE i > 0 AND s <> '' GROUP BY k",
        "SELECT k, sum(DISTINCT i) FROM events WHERE i > 0 AND s <> '' GROUP BY k",
        "SELECT b, count(*) FROM events WHERE i > 0 AND s <> '' GROUP BY b",
        "SELECT count(*) FROM (SELECT * FROM events WHERE i > 0 AND s <> '' LIMIT 5)",
        "SELECT a.k, count(*) FROM events a, events b WHERE a.i > 0 AND a.s <> '' GROUP BY a.k",
        "SELECT k, count(*) OVER () FROM events WHERE i > 0 AND s <> ''",
        // Rows of one group may have 0.0 and -0.0.
        "SELECT CAST(f AS STRING), count(*) FROM events WHERE i > 0 AND s <> '' GROUP BY 1",
        "SELECT count(*) FROM events WHERE i > 0 AND s <> '' AND f < 0.0",
        "SELECT min(f) FROM events WHERE i > 0 AND s <> ''",
        "SELECT k, count(k) FROM events WHERE i > 0 AND s <> '' GROUP BY k",
        "SELECT count(*) FROM events a WHERE i > 0 AND s <> '' AND EXISTS (SELECT 1 FROM events b WHERE b.k = a.k)",
    ] {
        check_not(view, query).await;
    }
}

#[tokio::test]
async fn a_view_without_groups_answers_for_all_rows() {
    let view = "SELECT count(*) AS n, sum(i) AS s, max(f) AS f FROM events";
    check(view, "SELECT sum(i), max(f) FROM events").await;
    check(view, "SELECT count(*) FROM events WHERE false").await;
    check_not(view, "SELECT k, sum(i) FROM events GROUP BY k").await;
    check_not(view, "SELECT DISTINCT k FROM events").await;
    check_not(view, "SELECT 'x', count(*) FROM events WHERE i > 1 GROUP BY 1").await;
}

#[tokio::test]
async fn times_roll_up_to_coarser_buckets() {
    let view = "SELECT date_bin(INTERVAL '2 microseconds', t) AS w, count(*) AS n, avg(d) AS a FROM events GROUP BY 1";
    for query in [
        "SELECT date_bin(INTERVAL '4 microseconds', t) AS w, avg(d) FROM events GROUP BY 1",
        "SELECT date_trunc('millisecond', t) AS w, avg(d), count(*) FROM events GROUP BY 1",
        "SELECT date_trunc('month', t), count(*) FROM events GROUP BY 1",
        "SELECT date_trunc('week', t), count(*) FROM events GROUP BY 1",
        "SELECT CAST(t AS DATE), count(*) FROM events GROUP BY 1",
        "SELECT extract(hour FROM t), date_part('year', t), count(*) FROM events GROUP BY 1, 2",
        "SELECT count(*) FROM events WHERE t >= TIMESTAMP '1970-01-01 00:00:00.000004'",
        "SELECT count(*) FROM events WHERE TIMESTAMP '1970-01-01 00:00:00.000004' > t",
        "SELECT count(*) FROM events WHERE t > TIMESTAMP '1970-01-01 00:00:00.000003'",
        "SELECT count(*) FROM events WHERE t <= TIMESTAMP '1970-01-01 00:00:00.000003'",
        "SELECT count(*) FROM events WHERE t BETWEEN TIMESTAMP '1970-01-01' AND TIMESTAMP '1970-01-01 00:00:00.000005'",
    ] {
        check(view, query).await;
    }
    // Only a session that runs a query knows what `now()` is.
    let plan = compile(view).await.unwrap();
    for query in [
        "SELECT count(*) FROM events WHERE t < date_trunc('day', now())",
        "SELECT date_trunc('hour', t), count(*) FROM events WHERE t >= date_trunc('hour', now()) GROUP BY 1",
    ] {
        assert!(rolled_up(&plan, query).await.is_some(), "{query}");
    }
    for query in [
        "SELECT date_bin(INTERVAL '3 microseconds', t) AS w, avg(d) FROM events GROUP BY 1",
        "SELECT date_bin(INTERVAL '4 microseconds', t, TIMESTAMP '1970-01-01 00:00:00.000001'), avg(d) FROM events GROUP BY 1",
        "SELECT t, avg(d) FROM events GROUP BY 1",
        "SELECT date_trunc('microsecond', t), avg(d) FROM events GROUP BY 1",
        "SELECT date_part('second', t), count(*) FROM events GROUP BY 1",
        "SELECT count(*) FROM events WHERE t >= TIMESTAMP '1970-01-01 00:00:00.000005'",
        "SELECT count(*) FROM events WHERE t > TIMESTAMP '1970-01-01 00:00:00.000004'",
        "SELECT count(*) FROM events WHERE t <= TIMESTAMP '1970-01-01 00:00:00.000004'",
        "SELECT count(*) FROM events WHERE t < now()",
        "SELECT count(*) FROM events WHERE t = TIMESTAMP '1970-01-01 00:00:00.000004'",
        "SELECT date_trunc('month', t + INTERVAL '1 day'), count(*) FROM events GROUP BY 1",
    ] {
        check_not(view, query).await;
    }
    let months = "SELECT date_trunc('month', t) AS m, count(*) AS n FROM events GROUP BY 1";
    check(months, "SELECT date_trunc('quarter', t), count(*) FROM events GROUP BY 1").await;
    check(months, "SELECT extract(year FROM t), count(*) FROM events WHERE t >= TIMESTAMP '1970-01-01' GROUP BY 1")
        .await;
    check_not(months, "SELECT date_trunc('week', t), count(*) FROM events GROUP BY 1").await;
    check_not(months, "SELECT CAST(t AS DATE), count(*) FROM events GROUP BY 1").await;
}

#[tokio::test]
async fn zones_whose_clock_changes_have_no_buckets() {
    let zoned = "t AT TIME ZONE 'Europe/Berlin'";
    let view = format!("SELECT date_trunc('hour', {zoned}) AS h, count(*) AS n FROM events GROUP BY 1");
    check(&view, &format!("SELECT date_trunc('hour', {zoned}), count(*) FROM events GROUP BY 1")).await;
    let day = format!("SELECT date_trunc('day', {zoned}), count(*) FROM events GROUP BY 1");
    let of_zone = compile(&view).await.unwrap();
    let is_zoned = of_zone.state_schema().field_with_name("g0").unwrap().data_type().to_string().contains("Berlin");
    assert_eq!(rolled_up(&of_zone, &day).await.is_none(), is_zoned);
}
