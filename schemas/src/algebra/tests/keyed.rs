//! Rows with their groups, and states of some groups, against one query over all rows.

use std::sync::Arc;

use super::fixture::{compile, direct, rows, states_of, text};
use crate::algebra::{batches, collect};
use crate::engine::session;

/// Checks the names of a view's groups, and its rows with the groups behind them.
async fn check(view: &str, names: &[&str], whole: &str) {
    let plan = compile(view).await.unwrap();
    assert_eq!(plan.key_names(), names, "{view}");
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let states = states_of(&plan, rows(), false).await;
    let states = batches("states", Arc::clone(plan.state_schema()), states).unwrap();
    let keyed = plan.finish_with_keys(states).unwrap();
    let columns: Vec<&str> = keyed.schema().fields().iter().map(|field| field.name().as_str()).collect();
    let expect: Vec<String> = plan.output_schema().fields().iter().map(|field| field.name().clone()).collect();
    let keys: Vec<String> = (0..names.len()).map(crate::algebra::key_name).collect();
    assert_eq!(columns, [expect, keys].concat(), "{view}");
    assert_eq!(text(&collect(&state, "finishing", keyed).await.unwrap()), direct(whole).await, "{view}");
}

#[tokio::test]
async fn rows_have_their_groups_behind_them() {
    check(
        "SELECT k, count(*) AS c FROM events GROUP BY k",
        &["k"],
        "SELECT k, count(*) AS c, k AS k2 FROM events GROUP BY k",
    )
    .await;
    check("SELECT count(*) AS c FROM events GROUP BY k", &["k"], "SELECT count(*) AS c, k FROM events GROUP BY k")
        .await;
    check("SELECT count(*) AS c FROM events", &[], "SELECT count(*) AS c FROM events").await;
    check(
        "SELECT i % 2 AS odd, upper(k) AS u, sum(i) AS total FROM events GROUP BY upper(k), i % 2 HAVING count(*) > 1",
        &["u", "odd"],
        "SELECT i % 2 AS odd, upper(k) AS u, sum(i) AS total, upper(k), i % 2 AS o FROM events GROUP BY upper(k), i % 2 \
         HAVING count(*) > 1",
    )
    .await;
    check(
        "SELECT lower(x.w) AS w, x.c + 1 AS c FROM (SELECT k AS w, count(*) AS c FROM events GROUP BY k) x WHERE x.c > 1",
        &["k"],
        "SELECT lower(k) AS w, count(*) + 1 AS c, k FROM events GROUP BY k HAVING count(*) > 1",
    )
    .await;
}

#[tokio::test]
async fn states_of_some_groups_are_kept() {
    let check = async |view: &str, from: usize, length: usize, whole: &str| {
        let plan = compile(view).await.unwrap();
        let state = session::state(session::runtime(None, None, None).unwrap(), 1);
        let of = async |slice| {
            let states = states_of(&plan, slice, false).await;
            batches("states", Arc::clone(plan.state_schema()), states).unwrap()
        };
        let groups = plan.groups_of(of(rows().slice(from, length)).await).unwrap();
        let only = plan.only_groups(of(rows()).await, groups).unwrap();
        let rows = collect(&state, "finishing", plan.finish(only).unwrap()).await.unwrap();
        assert_eq!(text(&rows), direct(whole).await, "{view} {from} {length}");
    };
    let per_key = "SELECT k, count(*) AS c FROM events GROUP BY k";
    check(per_key, 0, 0, "SELECT k, count(*) AS c FROM events WHERE false GROUP BY k").await;
    check(per_key, 0, 2, "SELECT k, count(*) AS c FROM events WHERE k IN ('a', 'b') GROUP BY k").await;
    check(per_key, 2, 1, "SELECT k, count(*) AS c FROM events WHERE k IS NULL GROUP BY k").await;
    let floats = "SELECT f, s, count(*) AS c FROM events GROUP BY f, s";
    check(floats, 6, 1, "SELECT f, s, count(*) AS c FROM events WHERE s = 'ü' GROUP BY f, s").await;
}
