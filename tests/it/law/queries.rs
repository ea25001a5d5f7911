//! Queries over the stream of [`super::rows`]: every aggregate that CREATE accepts, groups of every type, filters.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::answers::Judge;

/// A query in two forms: the view as a user writes it, and one direct query for each aggregate.
///
/// A direct query names the tie-break that the algebra adds by itself. It has a single aggregate because DataFusion
/// plans only one order of `string_agg` per query. It also has a `count(*)`, because DataFusion plans a lone DISTINCT
/// as two GROUP BYs, for which 0.0 and -0.0 are one value; for accumulators they are two.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) view: String,
    /// The direct queries. After the groups, each returns the aggregate and the scale of its judge.
    pub(crate) whole: Vec<String>,
    /// The number of group columns in the output.
    pub(crate) groups: usize,
    /// The judge of each aggregate column.
    pub(crate) judges: Vec<Judge>,
    /// The same aggregates over fewer groups, which the view's states answer too.
    pub(crate) coarser: Option<Box<Query>>,
}

const TIES: &str = "/*ties*/";

use Judge::{Correlation, Covariance, Deviation, Digest, Exact, Intercept, Mean, Products, Slope, Sum, Variance};

/// Calls and their judges. The direct query has the tie-break in place of `/*ties*/`.
const AGGREGATES: &[(&str, Judge)] = &[
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
    // Two of the largest decimals are out of range.
    ("sum(CAST(d AS DECIMAL(38, 22)) + 0)", Exact),
    ("avg(CAST(d AS DECIMAL(38, 4)) + 0)", Exact),
    ("sum(i) FILTER (WHERE small > 0)", Exact),
    ("sum(DISTINCT i)", Exact),
    ("sum(DISTINCT d)", Exact),
    ("sum(f)", Sum("f")),
    ("sum(h)", Sum("h")),
    ("sum(h) FILTER (WHERE b)", Sum("h")),
    ("sum(r)", Sum("r")),
    ("sum(DISTINCT g)", Sum("g")),
    ("sum(DISTINCT h)", Sum("h")),
    ("avg(i)", Mean("i")),
    ("avg(small)", Mean("small")),
    ("avg(d)", Exact),
    ("avg(f)", Mean("f")),
    ("avg(h)", Mean("h")),
    ("avg(r)", Mean("r")),
    ("avg(DISTINCT g)", Mean("g")),
    ("avg(DISTINCT d)", Exact),
    ("min(i)", Exact),
    ("min(f)", Exact),
    ("max(f) FILTER (WHERE i <> 7)", Exact),
    ("max(f)", Exact),
    ("max(h)", Exact),
    ("min(r)", Exact),
    ("max(r)", Exact),
    ("max(d)", Exact),
    ("min(s)", Exact),
    ("max(s)", Exact),
    ("max(t)", Exact),
    ("min(day)", Exact),
    ("max(bin)", Exact),
    // Streams keep microseconds, so nanoseconds come from expressions. States must keep nanoseconds through Delta,
    // which has no type for them.
    ("min(to_timestamp_nanos(1700000000000000001 + i % 1000))", Exact),
    ("max(to_timestamp_nanos(i)) FILTER (WHERE i <> 9223372036854775807)", Exact),
    ("count(DISTINCT to_timestamp_nanos(1700000000000000000 + i % 10))", Exact),
    ("last_value(to_timestamp_nanos(1700000000000000000 + small) ORDER BY k/*ties*/)", Exact),
    ("array_agg(to_timestamp_nanos(small) ORDER BY t/*ties*/)", Exact),
    ("min(b)", Exact),
    ("max(b)", Exact),
    ("bit_and(i)", Exact),
    ("bit_or(small)", Exact),
    ("bit_xor(i)", Exact),
    ("bool_and(b)", Exact),
    ("bool_or(b)", Exact),
    ("median(i)", Exact),
    ("median(f)", Exact),
    ("median(h)", Exact),
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
    ("approx_percentile_cont(g, 0.5)", Digest("g")),
    ("approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY g)", Digest("g")),
    ("approx_percentile_cont(g, 0.1, 200)", Digest("g")),
    ("approx_percentile_cont_with_weight(g, 1, 0.5)", Digest("g")),
    ("approx_median(g)", Digest("g")),
    ("var(g)", Variance("g")),
    ("var(h)", Variance("h")),
    ("var_pop(g)", Variance("g")),
    ("var_pop(i)", Variance("i")),
    ("stddev(g)", Deviation("g")),
    ("stddev(h)", Deviation("h")),
    ("stddev_pop(g)", Deviation("g")),
    ("corr(g, i % 100)", Correlation("g", "i % 100")),
    ("covar_samp(g, i % 100)", Covariance("g", "i % 100")),
    ("covar_samp(h, g)", Covariance("h", "g")),
    ("covar_pop(g, g)", Covariance("g", "g")),
    ("covar_pop(h, i)", Covariance("h", "i")),
    ("regr_slope(g, i % 100)", Slope("g", "i % 100")),
    ("regr_intercept(g, i % 100)", Intercept("g", "i % 100")),
    ("regr_count(g, i)", Exact),
    ("regr_r2(g, i % 100)", Correlation("g", "i % 100")),
    ("regr_avgx(g, i % 100)", Mean("CASE WHEN g IS NOT NULL THEN i % 100 END")),
    ("regr_avgy(h, i % 100)", Mean("CASE WHEN i IS NOT NULL THEN h END")),
    ("regr_sxx(g, i)", Products("CASE WHEN g IS NOT NULL THEN i END", "i")),
    ("regr_syy(h, i)", Products("h", "CASE WHEN i IS NOT NULL THEN h END")),
    ("regr_sxy(h, i % 100)", Products("h", "i % 100")),
    ("first_value(i ORDER BY t/*ties*/)", Exact),
    ("first_value(s ORDER BY t DESC NULLS LAST/*ties*/)", Exact),
    ("last_value(f ORDER BY t, s/*ties*/)", Exact),
    ("last_value(d ORDER BY k/*ties*/)", Exact),
    ("first_value(i ORDER BY t/*ties*/) IGNORE NULLS", Exact),
    ("last_value(s ORDER BY day/*ties*/) IGNORE NULLS", Exact),
    ("first_value(bin ORDER BY f/*ties*/)", Exact),
    ("first_value(s ORDER BY _offset, _partition, _row)", Exact),
    ("array_agg(i ORDER BY t/*ties*/)", Exact),
    ("array_agg(s ORDER BY f DESC/*ties*/) FILTER (WHERE b)", Exact),
    ("array_agg(DISTINCT s ORDER BY s)", Exact),
    ("array_agg(DISTINCT i ORDER BY i DESC)", Exact),
    ("string_agg(s, '; ' ORDER BY t/*ties*/)", Exact),
    ("string_agg(DISTINCT k, ',' ORDER BY k)", Exact),
    ("min(doc['city'])", Exact),
    ("max(doc['n'])", Exact),
    ("count(doc.city)", Exact),
    ("count(DISTINCT doc['n'])", Exact),
    ("last_value(doc ORDER BY t/*ties*/)", Exact),
    ("array_agg(doc['city'] ORDER BY t/*ties*/)", Exact),
    ("first_value(tags ORDER BY t/*ties*/)", Exact),
    ("max(tags[1])", Exact),
    ("max(array_length(tags))", Exact),
    ("count(*) FILTER (WHERE doc['n'] > 0)", Exact),
    ("max(_key)", Exact),
    ("count(DISTINCT _key)", Exact),
    ("last_value(_key ORDER BY t/*ties*/)", Exact),
    ("sum(i) * 2 + count(*)", Exact),
    ("CASE WHEN count(*) > 3 THEN max(s) ELSE 'few' END", Exact),
    ("sum(i / 2.0) / count(i)", Mean("i")),
];

/// Min and max of floats are checked against calls that the engine computes by sorting.
const FLOAT_ORDER: &[(&str, &str)] = &[
    ("min(f)", "first_value(f ORDER BY f NULLS LAST)"),
    ("max(f)", "last_value(f ORDER BY f NULLS FIRST)"),
    ("max(h)", "last_value(h ORDER BY h NULLS FIRST)"),
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
    &["date_trunc('month', t)"],
    // Local times of the first and the last days may lie outside of the calendar, which is an error.
    &["date_trunc('week', CASE WHEN t > TIMESTAMP '0001-01-09' AND t < TIMESTAMP '9999-12-24' THEN t END \
       AT TIME ZONE 'Europe/Berlin')"],
    &["date_bin(INTERVAL '1 year', t)", "b"],
    &["date_part('year', t)"],
    &["_partition"],
    &["to_timestamp_nanos(1700000000000000000 + small)"],
    &["substr(s, 1, 2)"],
    &["doc['city']"],
    &["doc"],
    &["tags"],
    &["tags[1]", "doc['n']"],
    &["_key"],
    &["_key_bytes", "k"],
];

const FILTERS: &[&str] = &[
    "",
    "",
    "WHERE i > 0",
    "WHERE s LIKE 'v%' OR b",
    "WHERE f <> f",
    "WHERE t IS NOT NULL",
    "WHERE doc['city'] <> 'Rome'",
];

fn query(groups: &[&str], aggregates: &[(&str, Judge)], filter: &str, having: &str) -> Query {
    let groups: Vec<&str> = groups.iter().filter(|g| !g.starts_with("day %")).copied().collect();
    let mut items: Vec<String> = groups.iter().enumerate().map(|(i, g)| format!("{g} AS grp{i}")).collect();
    let keys = items.clone();
    for (i, (call, _)) in aggregates.iter().enumerate() {
        items.push(format!("{call} AS agg{i}"));
    }
    let by = match groups.len() {
        0 => String::new(),
        _ => format!(" GROUP BY {}", groups.join(", ")),
    };
    let select = |items: &[String]| {
        let items = items.join(", ");
        format!("SELECT {items} FROM events {filter}{by} {having}")
    };
    let alone = |(call, judge): &(&str, Judge)| {
        let mut items = keys.clone();
        let mut call = call.replace(TIES, ", _partition, _offset, _row");
        for (float, total) in FLOAT_ORDER {
            call = call.replace(float, total);
        }
        items.push(format!("{call} AS value"));
        items.push(format!("{} AS scale", judge.scale()));
        items.push("count(*) AS rows".into());
        select(&items)
    };
    Query {
        view: select(&items).replace(TIES, ""),
        whole: aggregates.iter().map(alone).collect(),
        groups: groups.len(),
        judges: aggregates.iter().map(|(_, judge)| *judge).collect(),
        coarser: None,
    }
}

/// Makes a query of one to five random aggregates over random groups, with a random filter and sometimes HAVING.
pub(crate) fn random(rng: &mut StdRng) -> Query {
    let count = rng.random_range(1..=5);
    let aggregates: Vec<_> = AGGREGATES.choose_multiple(rng, count).copied().collect();
    let groups = GROUPS.choose(rng).unwrap();
    let having = if rng.random_bool(0.2) { "HAVING count(*) > 2" } else { "" };
    let filter = FILTERS.choose(rng).unwrap();
    let coarser = having.is_empty() && !groups.is_empty();
    let coarser = coarser.then(|| &groups[..rng.random_range(0..groups.len())]);
    let coarser = coarser.map(|groups| Box::new(query(groups, &aggregates, filter, "")));
    Query { coarser, ..query(groups, &aggregates, filter, having) }
}

/// Returns a grouped and a global query for every aggregate. The states of the grouped one answer the other too.
pub(crate) fn each_aggregate() -> Vec<Query> {
    let both = |a: &(&'static str, Judge)| {
        let (grouped, global) = (query(&["k"], &[*a], "", ""), query(&[], &[*a], "", ""));
        [Query { coarser: Some(Box::new(global.clone())), ..grouped }, global]
    };
    AGGREGATES.iter().flat_map(both).collect()
}
