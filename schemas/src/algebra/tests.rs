//! The algebra on small fixed inputs: every accepted aggregate, cut in every way into two, merged at two levels,
//! against one query over all rows; and every refusal. The property test over random inputs and through Delta is
//! `tests/law.rs`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;

use super::*;
use crate::stream::{Format, StreamDefinition};
use crate::view::ViewDefinition;
use crate::{Error, StreamName, ViewName, session};

fn stream_definition() -> StreamDefinition {
    let columns = [
        ("k", DataType::Utf8),
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("d", DataType::Decimal128(12, 2)),
        ("b", DataType::Boolean),
        ("s", DataType::Utf8),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ];
    StreamDefinition {
        name: StreamName::new("events").unwrap(),
        topic: "events".into(),
        columns: Arc::new(Schema::new(
            columns
                .into_iter()
                .map(|(name, data_type)| Field::new(name, data_type, true))
                .collect::<Vec<_>>(),
        )),
        format: Format::Json,
        event_time: None,
        kafka: Default::default(),
        sql: String::new(),
    }
}

/// Twelve rows and a reject in two partitions: ties, nulls, NaN, both zeros, long and short strings.
fn rows() -> RecordBatch {
    let f = |x: f64| Some(x);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![
            0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1,
        ])),
        Arc::new(Int64Array::from(vec![
            0, 1, 2, 5, 6, 7, 9, 0, 1, 2, 3, 8, 9,
        ])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(7); 13])),
        Arc::new(StringArray::from(vec![
            Some("a"),
            Some("b"),
            None,
            Some("a"),
            Some("a"),
            None,
            Some("c"),
            Some("a"),
            Some("b"),
            Some("b"),
            Some("c"),
            None,
            Some("a"),
        ])),
        Arc::new(Int64Array::from(vec![
            Some(3),
            None,
            Some(-4),
            Some(3),
            Some(1 << 40),
            None,
            Some(0),
            Some(3),
            Some(9),
            Some(-9),
            None,
            Some(2),
            Some(3),
        ])),
        Arc::new(Float64Array::from(vec![
            f(0.5),
            f(-0.0),
            f(0.0),
            None,
            f(1e300),
            None,
            f(f64::NAN),
            f(2.25),
            f(-7.0),
            f(1e-300),
            f(3.0),
            f(3.0),
            f(0.5),
        ])),
        Arc::new(
            Decimal128Array::from(vec![
                Some(100),
                Some(-25),
                None,
                Some(9_999_999_999),
                Some(1),
                None,
                Some(0),
                Some(7),
                Some(7),
                Some(8),
                None,
                Some(3),
                Some(100),
            ])
            .with_precision_and_scale(12, 2)
            .unwrap(),
        ),
        Arc::new(BooleanArray::from(vec![
            Some(true),
            Some(false),
            None,
            Some(true),
            Some(true),
            None,
            Some(true),
            None,
            Some(false),
            Some(true),
            Some(true),
            Some(false),
            Some(true),
        ])),
        Arc::new(StringArray::from(vec![
            Some("x"),
            Some(""),
            Some("a string longer than twelve bytes"),
            Some("x"),
            None,
            None,
            Some("ü"),
            Some("x"),
            Some("y"),
            Some("a string longer than twelve bytez"),
            Some("x"),
            Some("zz"),
            Some("x"),
        ])),
        Arc::new(TimestampMicrosecondArray::from(vec![
            Some(5),
            Some(5),
            None,
            Some(3),
            Some(5),
            None,
            Some(9),
            Some(5),
            Some(1),
            Some(5),
            Some(2),
            Some(5),
            Some(5),
        ])),
        Arc::new(StringArray::from(
            (0..13)
                .map(|i| (i == 5).then_some("broken"))
                .collect::<Vec<_>>(),
        )),
        Arc::new(BinaryArray::from(
            (0..13)
                .map(|i| (i == 5).then_some(&b"{"[..]))
                .collect::<Vec<_>>(),
        )),
    ];
    RecordBatch::try_new(stream_definition().row_schema(), columns).unwrap()
}

async fn compile(query: &str) -> crate::Result<ViewPlan> {
    let view = ViewDefinition {
        name: ViewName::new("v").unwrap(),
        stream: StreamName::new("events").unwrap(),
        query: query.to_owned(),
        sql: query.to_owned(),
    };
    ViewPlan::compile(&view, &stream_definition()).await
}

/// Result rows as sorted text, floats rounded to nine digits.
fn text(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                match ScalarValue::try_from_array(column, row).unwrap() {
                    ScalarValue::Float64(Some(x)) if x != 0.0 && x.is_finite() => {
                        format!("{x:.9e}")
                    }
                    ScalarValue::Float64(Some(0.0)) => "0".into(),
                    other => other.to_string(),
                }
            });
            lines.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    lines.sort();
    lines
}

/// One query over all rows, by DataFusion alone.
async fn direct(query: &str) -> Vec<String> {
    let stream = stream_definition();
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    let state = session.state();
    let plan = batches("all", stream.row_schema(), vec![rows()]).unwrap();
    let all = collect(&state, "reading", plan).await.unwrap();
    let all = concat_batches(&stream.row_schema(), &all).unwrap();
    let kept = arrow::compute::filter_record_batch(
        &all,
        &arrow::compute::is_null(all.column_by_name("_reject").unwrap()).unwrap(),
    )
    .unwrap();
    let names = stream.table_schema();
    let columns = names.fields().iter();
    let columns = columns
        .map(|f| Arc::clone(kept.column_by_name(f.name()).unwrap()))
        .collect();
    let table = RecordBatch::try_new(names, columns).unwrap();
    session.register_batch("events", table).unwrap();
    text(&session.sql(query).await.unwrap().collect().await.unwrap())
}

/// The states of `rows`, through storage and back if `stored`.
async fn states_of(plan: &ViewPlan, rows: RecordBatch, stored: bool) -> Vec<RecordBatch> {
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let input = batches("rows", rows.schema(), vec![rows]).unwrap();
    let mut states = plan.update(input).unwrap();
    if stored {
        states = plan.to_stored(states).unwrap();
    }
    let out = collect(&state, "updating", states).await.unwrap();
    if !stored {
        return out;
    }
    let schema = Arc::clone(plan.stored_schema());
    let table = batches("stored", schema, out).unwrap();
    let restored = plan.from_stored(table).unwrap();
    collect(&state, "restoring", restored).await.unwrap()
}

/// `view` cut at every row, both parts updated alone, one of them stored, merged once or twice, finished: always
/// what `whole` gives over all rows at once.
async fn check_law(view: &str, whole: &str) {
    let plan = compile(view)
        .await
        .unwrap_or_else(|e| panic!("{view}: {e}"));
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

/// One aggregate call, grouped and global; the tie-break is what the algebra adds by itself.
async fn check(aggregate: &str) {
    let tied = aggregate.replace("/*ties*/", ", _partition, _offset");
    let aggregate = aggregate.replace("/*ties*/", "");
    for (head, tail) in [("k, ", " GROUP BY k"), ("", "")] {
        let query = |call: &str| format!("SELECT {head}{call} AS x FROM events{tail}");
        check_law(&query(&aggregate), &query(&tied)).await;
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
        "string_agg(s, ',' ORDER BY t/*ties*/)",
        "string_agg(s, ',' ORDER BY f DESC/*ties*/) FILTER (WHERE i > 0)",
    ] {
        check(aggregate).await;
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
async fn what_cannot_be_maintained_is_refused_with_advice() {
    for (query, why) in [
        ("SELECT i FROM events", "no aggregate"),
        ("SELECT DISTINCT i FROM events", "DISTINCT"),
        ("SELECT count(*) FROM events LIMIT 3", "LIMIT"),
        (
            "SELECT k, count(*) FROM events GROUP BY k ORDER BY k",
            "order",
        ),
        ("SELECT sum(i) OVER (ORDER BY t) FROM events", "Window"),
        (
            "SELECT k, count(*) FROM events GROUP BY ROLLUP (k)",
            "GROUPING SETS",
        ),
        ("SELECT count(*) FROM events WHERE t > now()", "now()"),
        ("SELECT count(*) FROM events WHERE f > random()", "random()"),
        (
            "SELECT count(*) FROM events a JOIN events b ON a.i = b.i",
            "one stream",
        ),
        (
            "SELECT count(*) FROM events WHERE i IN (SELECT i FROM events)",
            "subqueries",
        ),
        (
            "SELECT max(n) FROM (SELECT count(*) AS n FROM events GROUP BY k) x",
            "another aggregate",
        ),
        ("SELECT any_value(i) FROM events", "any_value"),
        ("SELECT bit_xor(DISTINCT i) FROM events", "DISTINCT"),
        ("SELECT nth_value(i, 2 ORDER BY t) FROM events", "nth_value"),
        ("SELECT array_agg(i ORDER BY t)[2] FROM events", "nth_value"),
        (
            "SELECT percentile_cont(d, 0.3) FROM events",
            "percentile_cont",
        ),
        (
            "SELECT array_agg(DISTINCT i) FROM events",
            "no particular order",
        ),
        ("SELECT count(*) AS _n FROM events", "reserved"),
        ("SELECT unnest(array_agg(i)) FROM events", "unnest"),
    ] {
        match compile(query).await {
            Err(Error::RefuseDefinition { reason, instead }) => {
                assert!(reason.contains(why), "{query}: {reason}");
                assert!(instead.ends_with('.'), "{query}: {instead}");
            }
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn wrong_queries_are_planning_errors() {
    for query in [
        "SELECT count(nope) FROM events",
        "SELECT k, count(*) FROM events",
        "SELECT sum(s) FROM events",
        "SELECT count(*) FROM elsewhere",
    ] {
        let error = compile(query).await.unwrap_err();
        assert!(
            matches!(error, Error::PlanView { .. }),
            "{query}: {error:?}"
        );
    }
}

#[tokio::test]
async fn ids_follow_the_meaning() {
    let id = async |query: &str| compile(query).await.unwrap().id().clone();
    let base = id("SELECT k, count(*) AS n FROM events GROUP BY k").await;
    assert_eq!(
        base,
        id("select k,  count(*) as n from events group by 1").await
    );
    assert_ne!(
        base,
        id("SELECT k, count(*) AS m FROM events GROUP BY k").await
    );
    assert_ne!(
        base,
        id("SELECT k, count(i) AS n FROM events GROUP BY k").await
    );
    assert_ne!(
        base,
        id("SELECT k, count(*) AS n FROM events WHERE b GROUP BY k").await
    );
}

#[tokio::test]
async fn differences_name_the_group_and_the_aggregate() {
    let plan = compile(
        "SELECT k, count(*) AS n, sum(f) AS f, count(DISTINCT i) AS u FROM events GROUP BY k",
    )
    .await
    .unwrap();
    let rows = rows();
    let all = states_of(&plan, rows.clone(), false).await;
    let stored = states_of(&plan, rows.clone(), true).await;
    assert_eq!(plan.differences(&all, &stored, &[]).unwrap(), vec![]);
    let less = states_of(&plan, rows.slice(1, rows.num_rows() - 1), false).await;
    let found = plan.differences(&all, &less, &[]).unwrap();
    assert!(
        found
            .iter()
            .any(|d| d.group == ["0", "a"] && d.aggregate.as_deref() == Some("count(Int64(1))")),
        "{found:?}"
    );
    let none = plan.differences(&all, &[], &[]).unwrap();
    assert!(none.iter().all(|d| d.right.is_none()) && !none.is_empty());
}

/// What is summed in another order, and what is not the same.
#[tokio::test]
async fn floats_are_judged_by_what_went_into_them() {
    let huge = [1e15, -1e15, 3e-9, 2e15, -2e15, 1e-9];
    check_rounding("sum(f)", &huge, |_| (), true).await;
    check_rounding("avg(f) FILTER (WHERE f <> 0)", &huge, |_| (), true).await;
    for call in [
        "var(f)",
        "stddev_pop(f)",
        "covar_samp(f, i)",
        "corr(f, i)",
        "regr_slope(f, i)",
        "sum(DISTINCT f)",
    ] {
        check_rounding(call, &huge, |_| (), true).await;
    }
    let small = [1.0, -1.0, 0.25, 7.0, -7.0, 1e-3];
    for call in [
        "sum(f)",
        "avg(f)",
        "var(f)",
        "covar_pop(f, i)",
        "corr(f, i)",
        "regr_r2(f, i)",
    ] {
        check_rounding(call, &small, |_| (), true).await;
        check_rounding(call, &small, |f| f[5] = 1.01e-3, false).await;
    }
    // Too small for what it stands beside, and large enough.
    check_rounding("sum(f)", &huge, |f| f[5] = 1e3, true).await;
    check_rounding("sum(f)", &huge, |f| f[5] = 1e8, false).await;
}

/// States of the values as they are against states of them changed and in reverse, grouped and not.
async fn check_rounding(call: &str, values: &[f64], change: fn(&mut [f64]), same: bool) {
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let table = |numbered: Vec<(i64, f64)>| {
        let schema = stream_definition().row_schema();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "_partition" => Arc::new(Int32Array::from(vec![0; numbered.len()])),
                "_offset" | "i" => {
                    Arc::new(Int64Array::from_iter_values(numbered.iter().map(|n| n.0)))
                }
                "f" => Arc::new(Float64Array::from_iter_values(numbered.iter().map(|n| n.1))),
                _ => arrow::array::new_null_array(field.data_type(), numbered.len()),
            }
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    };
    let mut changed = values.to_vec();
    change(&mut changed);
    let forth = table((0..).zip(values.iter().copied()).collect());
    let back: Vec<(i64, f64)> = (0..).zip(changed).collect();
    let back = table(back.into_iter().rev().collect());
    for group in ["", "GROUP BY k"] {
        let plan = compile(&format!("SELECT {call} AS x FROM events {group}"))
            .await
            .unwrap();
        let rows = batches("rows", back.schema(), vec![back.clone()]).unwrap();
        let magnitudes = match plan.magnitudes(rows).unwrap() {
            Some(sums) => collect(&state, "adding up", sums).await.unwrap(),
            None => vec![],
        };
        let left = states_of(&plan, forth.clone(), false).await;
        let right = states_of(&plan, back.clone(), false).await;
        let found = plan.differences(&left, &right, &magnitudes).unwrap();
        assert_eq!(found.is_empty(), same, "{call} {group}: {found:?}");
    }
}
