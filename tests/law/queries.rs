//! Queries over the stream of [`crate::rows`]: every aggregate that CREATE accepts, groups of every type, filters.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::answers::Tolerance;

/// A query in two spellings: as a user writes the view, and with the tie-break that the algebra adds by itself.
#[derive(Debug, Clone)]
pub struct Query {
    pub view: String,
    pub whole: String,
    /// How many of the output columns are the group.
    pub groups: usize,
    /// One per aggregate column.
    pub tolerances: Vec<Tolerance>,
}

const TIES: &str = "/*ties*/";

use Tolerance::{Digest, Exact, Float};

/// Calls and what may differ; `/*ties*/` is where the tie-break stands in the direct query.
const AGGREGATES: &[(&str, Tolerance)] = &[
    ("count(*)", Exact),
    ("count(s)", Exact),
    ("count(*) FILTER (WHERE f > 0)", Exact),
    ("count(DISTINCT s)", Exact),
    ("count(DISTINCT i)", Exact),
    ("count(DISTINCT small)", Exact),
    ("count(DISTINCT f)", Exact),
    ("count(DISTINCT d)", Exact),
    ("count(DISTINCT b)", Exact),
    ("count(DISTINCT t)", Exact),
    ("count(DISTINCT bin)", Exact),
    ("sum(small)", Exact),
    ("sum(i)", Exact),
    ("sum(d)", Exact),
    ("sum(DISTINCT i)", Exact),
    ("sum(DISTINCT d)", Exact),
    ("sum(f)", Float),
    ("sum(r)", Float),
    ("sum(DISTINCT g)", Float),
    ("avg(i % 1000)", Float),
    ("avg(d)", Exact),
    ("avg(f)", Float),
    ("avg(DISTINCT g)", Float),
    ("avg(DISTINCT d)", Exact),
    ("min(i)", Exact),
    ("min(f)", Exact),
    ("max(f) FILTER (WHERE i <> 7)", Exact),
    ("max(f)", Exact),
    ("min(r)", Exact),
    ("max(r)", Exact),
    ("max(d)", Exact),
    ("min(s)", Exact),
    ("max(s)", Exact),
    ("max(t)", Exact),
    ("min(day)", Exact),
    ("max(bin)", Exact),
    ("min(b)", Exact),
    ("max(b)", Exact),
    ("bit_and(i)", Exact),
    ("bit_or(small)", Exact),
    ("bit_xor(i)", Exact),
    ("bool_and(b)", Exact),
    ("bool_or(b)", Exact),
    ("median(i)", Exact),
    ("median(f)", Exact),
    ("median(d)", Exact),
    ("median(DISTINCT i)", Exact),
    ("max(DISTINCT s)", Exact),
    ("string_agg(DISTINCT s, ',' ORDER BY s)", Exact),
    ("approx_distinct(s)", Exact),
    ("approx_distinct(i)", Exact),
    ("approx_distinct(small)", Exact),
    ("approx_distinct(t)", Exact),
    ("approx_distinct(bin)", Exact),
    ("approx_distinct(b)", Exact),
    ("approx_percentile_cont(g, 0.5)", Digest),
    (
        "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY g)",
        Digest,
    ),
    ("approx_percentile_cont(g, 0.1, 200)", Digest),
    ("approx_percentile_cont_with_weight(g, 1, 0.5)", Digest),
    ("approx_median(g)", Digest),
    ("var(g)", Float),
    ("var_pop(g)", Float),
    ("stddev(g)", Float),
    ("stddev_pop(g)", Float),
    ("corr(g, i % 100)", Float),
    ("covar_samp(g, i % 100)", Float),
    ("covar_pop(g, g)", Float),
    ("regr_slope(g, i % 100)", Float),
    ("regr_intercept(g, i % 100)", Float),
    ("regr_count(g, i)", Exact),
    ("regr_r2(g, i % 100)", Float),
    ("regr_avgx(g, i % 100)", Float),
    ("regr_avgy(g, i % 100)", Float),
    ("regr_sxx(g, i % 100)", Float),
    ("regr_syy(g, i % 100)", Float),
    ("regr_sxy(g, i % 100)", Float),
    ("first_value(i ORDER BY t/*ties*/)", Exact),
    ("first_value(s ORDER BY t DESC NULLS LAST/*ties*/)", Exact),
    ("last_value(f ORDER BY t, s/*ties*/)", Exact),
    ("last_value(d ORDER BY k/*ties*/)", Exact),
    ("first_value(i ORDER BY t/*ties*/) IGNORE NULLS", Exact),
    ("last_value(s ORDER BY day/*ties*/) IGNORE NULLS", Exact),
    ("first_value(bin ORDER BY f/*ties*/)", Exact),
    ("array_agg(i ORDER BY t/*ties*/)", Exact),
    (
        "array_agg(s ORDER BY f DESC/*ties*/) FILTER (WHERE b)",
        Exact,
    ),
    ("array_agg(DISTINCT s ORDER BY s)", Exact),
    ("array_agg(DISTINCT i ORDER BY i DESC)", Exact),
    ("string_agg(s, '; ' ORDER BY t/*ties*/)", Exact),
    ("string_agg(DISTINCT k, ',' ORDER BY k)", Exact),
    ("sum(i) * 2 + count(*)", Exact),
    ("CASE WHEN count(*) > 3 THEN max(s) ELSE 'few' END", Exact),
    ("sum(CAST(i % 1000 AS DOUBLE)) / count(*)", Float),
];

/// DataFusion's own grouped min and max of floats depend on where a NaN stood; ordering does not.
const FLOAT_ORDER: &[(&str, &str)] = &[
    ("min(f)", "first_value(f ORDER BY f NULLS LAST)"),
    ("max(f)", "last_value(f ORDER BY f NULLS FIRST)"),
    ("min(r)", "first_value(r ORDER BY r NULLS LAST)"),
    ("max(r)", "last_value(r ORDER BY r NULLS FIRST)"),
];

const GROUPS: &[&[&str]] = &[
    &[],
    &["k"],
    &["k", "b"],
    &["date_bin(INTERVAL '3 seconds', t)"],
    &["small", "day % 2"],
    &["f"],
    &["d"],
    &["upper(s)"],
    &["bin", "k"],
    &["date_trunc('day', t)", "k"],
    &["_partition"],
    &["substr(s, 1, 2)"],
];

const FILTERS: &[&str] = &[
    "",
    "",
    "WHERE i > 0",
    "WHERE s LIKE 'v%' OR b",
    "WHERE f <> f",
    "WHERE t IS NOT NULL",
];

fn query(groups: &[&str], aggregates: &[(&str, Tolerance)], filter: &str, having: &str) -> Query {
    let groups: Vec<&str> = groups
        .iter()
        .filter(|g| !g.starts_with("day %"))
        .copied()
        .collect();
    let mut items: Vec<String> = groups
        .iter()
        .enumerate()
        .map(|(i, g)| format!("{g} AS grp{i}"))
        .collect();
    items.extend(
        aggregates
            .iter()
            .enumerate()
            .map(|(i, (a, _))| format!("{a} AS agg{i}")),
    );
    let by = match groups.len() {
        0 => String::new(),
        _ => format!(" GROUP BY {}", groups.join(", ")),
    };
    let text = format!(
        "SELECT {} FROM events {filter}{by} {having}",
        items.join(", ")
    );
    let mut whole = text.replace(TIES, ", _partition, _offset");
    for (call, total) in FLOAT_ORDER {
        whole = whole.replace(call, total);
    }
    Query {
        view: text.replace(TIES, ""),
        whole,
        groups: groups.len(),
        tolerances: aggregates.iter().map(|(_, t)| *t).collect(),
    }
}

/// One to five random aggregates over a random group, perhaps filtered, perhaps with HAVING.
pub fn random(rng: &mut StdRng) -> Query {
    let count = rng.random_range(1..=5);
    let mut aggregates: Vec<_> = AGGREGATES.choose_multiple(rng, count).copied().collect();
    // Of string_agg DataFusion plans only one order per query.
    let mut ordered = 0;
    aggregates.retain(|(call, _)| {
        ordered += i32::from(call.starts_with("string_agg"));
        !call.starts_with("string_agg") || ordered == 1
    });
    let groups = GROUPS.choose(rng).unwrap();
    let having = if rng.random_bool(0.2) {
        "HAVING count(*) > 2"
    } else {
        ""
    };
    query(groups, &aggregates, FILTERS.choose(rng).unwrap(), having)
}

/// Every aggregate alone, grouped and global.
pub fn each_aggregate() -> Vec<Query> {
    AGGREGATES
        .iter()
        .flat_map(|a| [query(&["k"], &[*a], "", ""), query(&[], &[*a], "", "")])
        .collect()
}
