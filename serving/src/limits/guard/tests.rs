//! The columns whose bytes count again because they are joined.

use datafusion::prelude::SessionContext;

use super::*;

/// Checks how often columns are joined, by name, over all operators of a plan.
async fn check(sql: &str, expect: &[(&str, usize)]) {
    let context = SessionContext::new();
    context
        .sql("CREATE TABLE t AS SELECT * FROM (VALUES ('a', 'b', 'c', 1)) v(a, b, c, n)")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let mut found: Vec<(String, usize)> = Vec::new();
    plan.apply(|node| {
        for column in joined_columns(node)? {
            let name = node.children()[0].schema().field(column).name().clone();
            match found.iter_mut().find(|(other, _)| *other == name) {
                Some((_, count)) => *count += 1,
                None => found.push((name, 1)),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found.sort();
    let found: Vec<(&str, usize)> = found.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(found, expect, "{sql}");
}

#[tokio::test]
async fn only_columns_that_are_joined_count() {
    check("SELECT a, b, c FROM t", &[]).await;
    check("SELECT upper(a), b = c FROM t", &[]).await;
    check("SELECT a || '-' || b, c, c AS c2, c AS c3 FROM t", &[("a", 1), ("b", 1)]).await;
    check("SELECT a || a || b, concat(a, b) FROM t", &[("a", 3), ("b", 2)]).await;
    check("SELECT length(a || upper(b)) FROM t WHERE c || c <> 'x'", &[("a", 1), ("b", 1), ("c", 2)]).await;
    check("SELECT make_array(a, a, b) FROM t", &[("a", 2), ("b", 1)]).await;
    check("SELECT n FROM t ORDER BY a || b", &[("a", 1), ("b", 1)]).await;
    check("SELECT max(a || b) FROM t", &[("a", 1), ("b", 1)]).await;
    check("SELECT c, max(concat_ws(',', a, b)) FROM t GROUP BY c", &[("a", 1), ("b", 1)]).await;
    check("SELECT max(a || b) OVER (PARTITION BY c) FROM t", &[("a", 1), ("b", 1)]).await;
}
