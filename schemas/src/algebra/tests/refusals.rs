//! Queries that cannot be a view, refused with advice or as invalid; and the rule for equal view ids.
//!
//! Invariant: each refusal is checked by a word of its message.

use super::fixture::compile;
use crate::Error;
use crate::error::Diagnostic;

#[tokio::test]
async fn what_cannot_be_maintained_is_refused_with_advice() {
    for (query, why) in [
        ("SELECT i FROM events", "no aggregate"),
        ("SELECT DISTINCT i FROM events", "DISTINCT"),
        ("SELECT count(*) FROM events LIMIT 3", "LIMIT"),
        ("SELECT k, count(*) FROM events GROUP BY k ORDER BY k", "order"),
        ("SELECT sum(i) OVER (ORDER BY t) FROM events", "Window"),
        ("SELECT k, count(*) FROM events GROUP BY ROLLUP (k)", "GROUPING SETS"),
        ("SELECT count(*) FROM events WHERE t > now()", "now()"),
        ("SELECT count(*) FROM events WHERE f > random()", "random()"),
        ("SELECT count(*) FROM events a JOIN events b ON a.i = b.i", "one stream"),
        ("SELECT count(*) FROM events WHERE i IN (SELECT i FROM events)", "subqueries"),
        ("SELECT max(n) FROM (SELECT count(*) AS n FROM events GROUP BY k) x", "another aggregate"),
        ("SELECT any_value(i) FROM events", "any_value"),
        ("SELECT bit_xor(DISTINCT i) FROM events", "DISTINCT"),
        ("SELECT nth_value(i, 2 ORDER BY t) FROM events", "nth_value"),
        ("SELECT array_agg(i ORDER BY t)[2] FROM events", "nth_value"),
        ("SELECT percentile_cont(d, 0.3) FROM events", "percentile_cont"),
        ("SELECT array_agg(DISTINCT i) FROM events", "no particular order"),
        ("SELECT avg(CAST(i AS DECIMAL(64, 0))) FROM events", "63 digits"),
        ("SELECT count(*) AS _n FROM events", "reserved"),
        ("SELECT unnest(array_agg(i)) FROM events", "unnest"),
        ("SELECT x, count(*) FROM events CROSS JOIN UNNEST(make_array(i)) AS u(x) GROUP BY x", "unnest"),
    ] {
        match compile(query).await {
            Err(Error::RefuseDefinition(Diagnostic { message, help: Some(help), .. })) => {
                assert!(message.contains(why) && !message.ends_with('.'), "{query}: {message}");
                assert!(help.ends_with('.'), "{query}: {help}");
            }
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn subqueries_that_double_an_expression_are_refused_before_they_are_written_out() {
    let nested = |times: usize, step: &str| {
        (0..times).fold("events".to_owned(), |from, _| format!("(SELECT {step} FROM {from})"))
    };
    for (from, step) in [("s", "s || s AS s"), ("k", "CASE WHEN k = 'x' THEN k ELSE k || 'y' END AS k")] {
        for query in ["SELECT count(x) FROM {}", "SELECT x, count(*) FROM {} WHERE x <> '' GROUP BY x"] {
            let query = query.replace('x', from);
            compile(&query.replace("{}", &nested(4, step))).await.unwrap_or_else(|e| panic!("{query}: {e}"));
            match compile(&query.replace("{}", &nested(18, step))).await {
                Err(Error::RefuseDefinition(Diagnostic { message, .. })) => {
                    assert!(message.contains("parts of expressions"), "{message}");
                }
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn wrong_queries_are_planning_errors() {
    for query in [
        "SELECT count(nope) FROM events",
        "SELECT k, count(*) FROM events",
        "SELECT sum(s) FROM events",
        "SELECT sum(CAST(i AS DECIMAL(64, 0))) FROM events",
        "SELECT count(*) FROM elsewhere",
        "SELECT count(*) FROM events WHERE cardinality(range(t, t, INTERVAL '1 month -29 days')) > 0",
    ] {
        let error = compile(query).await.unwrap_err();
        assert!(matches!(error, Error::PlanView { .. }), "{query}: {error:?}");
    }
}

#[tokio::test]
async fn ids_follow_the_meaning() {
    let id = async |query: &str| compile(query).await.unwrap().id().clone();
    let base = id("SELECT k, count(*) AS n FROM events GROUP BY k").await;
    assert_eq!(base, id("select k,  count(*) as n from events group by 1").await);
    assert_ne!(base, id("SELECT k, count(*) AS m FROM events GROUP BY k").await);
    assert_ne!(base, id("SELECT k, count(i) AS n FROM events GROUP BY k").await);
    assert_ne!(base, id("SELECT k, count(*) AS n FROM events WHERE b GROUP BY k").await);
    let day = |zone| format!("SELECT CAST(t AT TIME ZONE '{zone}' AS DATE) AS d, count(*) AS n FROM events GROUP BY 1");
    assert_ne!(id(&day("Europe/Berlin")).await, id(&day("Asia/Tokyo")).await);
    let sum = |of| format!("SELECT sum({of}) AS n FROM events");
    assert_ne!(id(&sum("(i + 1) * 2")).await, id(&sum("i + 1 * 2")).await);
    assert_ne!(id(&sum("i + 1")).await, id(&sum("i - 1")).await);
}
