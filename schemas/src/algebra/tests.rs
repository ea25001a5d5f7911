//! The algebra on small fixed inputs: every accepted aggregate, over every cut of the rows into two parts, merged at
//! two levels, against one query over all rows. Refusals and differences are in modules of their own. The property
//! test over random inputs and through Delta is `tests/it/law`.

mod differences;
mod digests;
mod fixture;
mod keyed;
mod refusals;
mod rollups;

use std::sync::Arc;

use arrow::compute::concat_batches;

use super::*;
use crate::engine::session;
use fixture::{compile, direct, rows, states_of, text};

/// Cuts the rows of `view` at every row, updates both parts separately, stores one of them, merges up to two times
/// and finishes. The result is always that of `whole` over all rows at once.
async fn check_law(view: &str, whole: &str) {
    let plan = compile(view).await.unwrap_or_else(|e| panic!("{view}: {e}"));
    let expect = direct(whole).await;
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let rows = rows();
    for cut in 0..=rows.num_rows() {
        let mut states = states_of(&plan, rows.slice(0, cut), true).await;
        states.extend(states_of(&plan, rows.slice(cut, rows.num_rows() - cut), false).await);
        let mut input = batches("states", Arc::clone(plan.state_schema()), states).unwrap();
        for _ in 0..cut % 3 {
            input = plan.merge(input).unwrap();
        }
        let finished = plan.finish(input).unwrap();
        let got = text(&collect(&state, "finishing", finished).await.unwrap());
        assert_eq!(got, expect, "{view}, cut at {cut}");
    }
}

/// Checks one aggregate call, grouped and global. The algebra adds the tie-break by itself; the expected query names
/// it.
async fn check(aggregate: &str) {
    let tied = aggregate.replace("/*ties*/", ", _partition, _offset");
    let aggregate = aggregate.replace("/*ties*/", "");
    for (head, tail) in [("k, ", " GROUP BY k"), ("", "")] {
        let query = |call: &str| format!("SELECT {head}{call} AS x FROM events{tail}");
        check_law(&query(&aggregate), &query(&tied)).await;
    }
}

#[tokio::test]
async fn a_group_may_be_named_twice() {
    for query in [
        "SELECT k, count(*) AS n, sum(i) AS s FROM events GROUP BY k, k",
        "SELECT k, b, upper(k) AS u, sum(i) AS s FROM events GROUP BY k, b, 1, upper(k)",
    ] {
        check_law(query, query).await;
    }
}

#[tokio::test]
async fn exact_aggregates_obey_the_law() {
    for aggregate in [
        "count(*)",
        "count(i)",
        "count(DISTINCT s)",
        "count(DISTINCT i)",
        "sum(i)",
        "sum(d)",
        "sum(DISTINCT i)",
        "avg(i)",
        "avg(d)",
        "avg(CAST(d AS DECIMAL(60, 2)))",
        "avg(DISTINCT d)",
        "avg(t - TIMESTAMP '0001-01-01')",
        "min(s)",
        "max(s)",
        "min(t)",
        "max(d)",
        "min(i)",
        "bit_and(i)",
        "bit_or(i)",
        "bit_xor(i)",
        "bool_and(b)",
        "bool_or(b)",
        "median(i)",
        "approx_distinct(s)",
        "approx_distinct(i)",
        "count(*) FILTER (WHERE f > 0.4)",
        "sum(i) FILTER (WHERE b)",
        "regr_count(i, i)",
    ] {
        check(aggregate).await;
    }
}

#[tokio::test]
async fn floating_aggregates_obey_the_law_within_tolerance() {
    for aggregate in [
        "sum(f) FILTER (WHERE f < 1e200)",
        "avg(f) FILTER (WHERE f < 1e200)",
        "var_pop(i)",
        "var(i)",
        "stddev(i)",
        "stddev_pop(i)",
        "corr(i, i + 1)",
        "covar_samp(i, i)",
        "covar_pop(i, i)",
        "regr_slope(i, i + 3)",
        "approx_percentile_cont(i, 0.5)",
        "approx_median(i)",
        "approx_percentile_cont_with_weight(i, 1, 0.5)",
    ] {
        check(aggregate).await;
    }
}

#[tokio::test]
async fn ordered_aggregates_obey_the_law() {
    for aggregate in [
        "first_value(i ORDER BY t/*ties*/)",
        "last_value(s ORDER BY t DESC/*ties*/)",
        "first_value(i ORDER BY t/*ties*/) IGNORE NULLS",
        "array_agg(i ORDER BY t/*ties*/)",
        "array_agg(DISTINCT s ORDER BY s)",
        "first_value(s ORDER BY _offset, _partition)",
        "last_value(i ORDER BY _partition DESC, _offset DESC)",
        "array_agg(s ORDER BY _offset DESC, _partition)",
        "string_agg(s, ',' ORDER BY t/*ties*/)",
        "string_agg(s, ',' ORDER BY f DESC/*ties*/) FILTER (WHERE i > 0)",
    ] {
        check(aggregate).await;
    }
}

/// Repeated keys order nothing, and the engine itself fails on them, so the expected query omits them.
#[tokio::test]
async fn repeated_ordering_keys_are_left_out() {
    for (call, whole) in [
        ("first_value(i ORDER BY t, t DESC)", "first_value(i ORDER BY t, _partition, _offset)"),
        ("last_value(s ORDER BY i + 0, i)", "last_value(s ORDER BY i, _partition, _offset)"),
        ("string_agg(s, ',' ORDER BY i, i * 1, i)", "string_agg(s, ',' ORDER BY i, _partition, _offset)"),
        ("first_value(s ORDER BY _offset)", "first_value(s ORDER BY _offset, _partition)"),
    ] {
        let query = |call: &str| format!("SELECT k, {call} AS x FROM events GROUP BY k");
        check_law(&query(call), &query(whole)).await;
    }
}

#[tokio::test]
async fn whole_queries_obey_the_law() {
    for query in [
        "SELECT k, sum(i) / count(*) AS per, max(f) AS top FROM events WHERE i > 0 GROUP BY k HAVING count(*) > 1",
        "SELECT date_bin(INTERVAL '2 microseconds', t) AS bin, upper(k) AS u, count(*) FROM events GROUP BY 1, 2",
        "SELECT count(*) AS n, sum(i) AS total FROM events WHERE i > 1000000000000000",
        "SELECT s, d FROM events GROUP BY s, d",
        "SELECT e.k, e.twice FROM (SELECT k, sum(j) AS twice FROM (SELECT k, i * 2 AS j FROM events WHERE b) AS x GROUP BY k) AS e WHERE twice > 6",
        "SELECT length(k) AS n, avg(f) FILTER (WHERE f < 10) AS mean FROM events AS e WHERE e.s LIKE 'x%' GROUP BY length(k)",
        "SELECT _partition, max(_offset) AS last FROM events GROUP BY _partition",
        "SELECT f, count(*) AS n FROM events GROUP BY f",
    ] {
        check_law(query, query).await;
    }
}

#[tokio::test]
async fn limits_do_not_depend_on_the_size_of_a_micro_batch() {
    let plan = compile("SELECT count(*) AS n, max(length(lpad(s, 4000, '€'))) AS longest FROM events").await.unwrap();
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let few = rows();
    let copies = vec![few.clone(); 65_536 / few.num_rows()];
    let many = concat_batches(&few.schema(), &copies).unwrap();
    let states = plan.update_batches(state.task_ctx(), vec![many.clone()]).await.unwrap();
    let states = batches("states", Arc::clone(plan.state_schema()), states).unwrap();
    let found = collect(&state, "finishing", plan.finish(states).unwrap()).await.unwrap();
    assert_eq!(text(&found), [format!("{} | 4000", 12 * copies.len())]);
    // The whole micro-batch at a time is too much.
    let whole = session::config(1).with_batch_size(many.num_rows());
    let whole = session::state_with(whole, session::runtime(None, None, None).unwrap());
    let refused = plan.update_batches(whole.task_ctx(), vec![many]).await.unwrap_err();
    assert!(format!("{refused:?}").contains("rows at a time"), "{refused:?}");
}
