//! Sizes of expressions against those of plans that the optimizer has written out.

use datafusion::prelude::SessionContext;

use super::*;
use crate::engine::threads::STACK;

async fn plan(sql: &str) -> LogicalPlan {
    let context = SessionContext::new();
    context.sql("CREATE TABLE t AS VALUES ('a', 1), ('b', 2)").await.unwrap().collect().await.unwrap();
    context.state().create_logical_plan(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

async fn check(sql: &str, parts: u64, depth: u64) {
    let found = measure(&plan(sql).await).unwrap();
    assert_eq!((found.parts / PART, found.depth), (parts, depth), "{sql}");
}

#[tokio::test]
async fn columns_count_as_what_they_stand_for() {
    check("SELECT column1 FROM t", 0, 1).await;
    check("SELECT column1 || column1 AS a FROM t", 3, 2).await;
    check("SELECT a || a AS b FROM (SELECT column1 || column1 AS a FROM t)", 3 + 7, 3).await;
    check("SELECT a FROM (SELECT column1 || column1 AS a FROM t) WHERE a || a = a", 3 + 11, 4).await;
    check("SELECT x.a FROM (SELECT column1 || column1 AS a FROM t) x JOIN t ON x.a = column1", 3 + 5, 3).await;
    check("SELECT a || a AS b FROM (SELECT max(column1) AS a FROM t)", 2 + 3, 2).await;
    check("SELECT column1 FROM t WHERE EXISTS (SELECT 1 FROM (VALUES ('a')) v(w) WHERE w = column1)", 4, 2).await;
}

#[tokio::test]
async fn a_filter_counts_in_every_branch_of_a_union() {
    let union = "SELECT column1 AS a FROM t UNION ALL SELECT column1 || column1 FROM t";
    check(&format!("SELECT a || a AS b FROM ({union})"), 3 + 7, 3).await;
    check(&format!("SELECT a FROM ({union}) WHERE a || a = a"), 3 + 2 * 2 + 3 * (1 + 3), 4).await;
}

#[tokio::test]
async fn a_list_of_literals_counts_little() {
    let list: Vec<String> = (0..16_000).map(|i| i.to_string()).collect();
    let list = list.join(", ");
    check(&format!("SELECT column1 FROM t WHERE column2 IN ({list})"), 2 + 2_000, 2).await;
    check(&format!("SELECT i FROM (VALUES ({})) v(i)", list.replace(", ", "), (")), 2_000, 1).await;
}

#[tokio::test]
async fn chains_without_end_are_refused_with_and_without_a_filter() {
    for end in ["SELECT a FROM t{n}", "SELECT a FROM t{n} WHERE a <> ''", "SELECT * FROM t{n} ORDER BY a"] {
        for (start, step, times) in [
            ("SELECT 'x' AS a UNION ALL SELECT 'y'", "SELECT a || a AS a FROM t{j}", 34),
            ("SELECT 'x' AS a UNION ALL SELECT 'y'", "SELECT a || a AS a FROM t{j} UNION ALL SELECT a FROM t{j}", 11),
            ("SELECT column1 AS a FROM t", "SELECT CASE WHEN a = 'x' THEN a ELSE a || 'y' END AS a FROM t{j}", 34),
            ("SELECT column1 AS a FROM t", "SELECT a || (SELECT max(a) FROM t{j}) AS a FROM t{j} WHERE a <> ''", 9),
        ] {
            let mut sql = format!("WITH t0 AS ({start})");
            for i in 1..=times {
                sql += &format!(", t{i} AS ({})", step.replace("{j}", &(i - 1).to_string()));
            }
            let sql = format!("{sql} {}", end.replace("{n}", &times.to_string()));
            let found = measure(&plan(&sql).await).unwrap();
            assert!(found.parts / PART > 1 << (times / 2), "{found:?}: {sql}");
            if times > 20 {
                assert!(excess(&plan(&sql).await).unwrap().is_some(), "{sql}");
            }
        }
    }
}

#[test]
fn a_chain_of_long_expressions_is_as_deep_as_all_of_them() {
    let work = || tokio::runtime::Runtime::new().unwrap().block_on(measure_long_chains());
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}

async fn measure_long_chains() {
    let long = format!("a{}", " || 'x'".repeat(900));
    for (times, expect) in [(2, true), (3, false)] {
        let mut sql = "WITH t0 AS (SELECT column1 AS a FROM t)".to_owned();
        for i in 1..=times {
            sql += &format!(", t{i} AS (SELECT {long} AS a FROM t{})", i - 1);
        }
        let found = measure(&plan(&format!("{sql} SELECT a FROM t{times}")).await).unwrap();
        assert_eq!(found.depth, 900 * times + 1);
        assert_eq!(found.depth <= DEPTH, expect);
    }
}
