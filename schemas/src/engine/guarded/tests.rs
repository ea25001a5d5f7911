//! Conditions that protect others, over tables with rows that only a condition keeps from an error, in batches of
//! several sizes. Random expressions are a module of their own.

mod random;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionContext;

use crate::engine::session;

const ROWS: i64 = 400;

/// The numbers of rows in a batch.
const STEPS: [usize; 4] = [1, 3, 50, 400];

/// A row of the table `t`.
#[derive(Debug, Clone)]
struct Row {
    a: i64,
    b: Option<i64>,
    s: String,
    g: i64,
    /// The column of the table `r` whose `k` is `g`, which 7 has not.
    v: Option<i64>,
}

fn rows() -> Vec<Row> {
    let row = |i: i64| Row {
        a: i,
        b: (i % 7 != 6).then_some(i % 4),
        s: if i % 3 == 0 { i.to_string() } else { format!("x{i}") },
        g: i % 8,
        v: (i % 8 < 6).then_some(i % 8 % 3),
    };
    (0..ROWS).map(row).collect()
}

/// A session with the tables `t`, in batches of `step` rows, and `r`.
fn session_of(step: usize) -> SessionContext {
    let rows = rows();
    let numbers =
        |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef { Arc::new(Int64Array::from_iter(rows.iter().map(of))) };
    let s: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.s)));
    let (a, b, g) = (numbers(&|row| Some(row.a)), numbers(&|row| row.b), numbers(&|row| Some(row.g)));
    let t = RecordBatch::try_from_iter([("a", a), ("b", b), ("s", s), ("g", g)]).unwrap();
    let (k, v) = (numbers(&|row| Some(row.g)).slice(0, 7), numbers(&|row| row.v).slice(0, 7));
    let r = RecordBatch::try_from_iter([("k", k), ("v", v)]).unwrap();
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    for (name, table, step) in [("t", t, step), ("r", r, 2)] {
        let count = table.num_rows();
        let pieces = (0..count).step_by(step).map(|at| table.slice(at, step.min(count - at)));
        let table = MemTable::try_new(table.schema(), vec![pieces.collect()]).unwrap();
        session.register_table(name, Arc::new(table)).unwrap();
    }
    session
}

/// The values of a query's rows, or its error.
async fn ask(session: &SessionContext, query: &str) -> Result<String, String> {
    let answer = async { session.sql(query).await?.collect().await };
    let batches = answer.await.map_err(|error| error.strip_backtrace())?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                let array = arrow::compute::cast(column, &DataType::Utf8).unwrap();
                ScalarValue::try_from_array(&array, row).unwrap().to_string()
            });
            rows.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(rows.join("; "))
}

/// Checks queries over the tables of [`session_of`], in batches of several sizes.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut wrong = Vec::new();
    for step in STEPS {
        let session = session_of(step);
        for (query, expect) in cases {
            let found = runtime.block_on(ask(&session, query));
            if found.as_deref() != Ok(*expect) {
                wrong.push(format!("{query} in batches of {step}: {found:?} instead of {expect}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn conditions_protect_what_could_fail() {
    check(&[
        ("SELECT count(*) FROM t WHERE b <> 0 AND a / b > 100", "128"),
        ("SELECT count(*) FROM t WHERE a / b > 100 AND b <> 0", "128"),
        ("SELECT count(*) FILTER (WHERE b <> 0 AND a / b > 100) FROM t", "128"),
        ("SELECT sum(a / b) FILTER (WHERE b <> 0) FROM t", "31351"),
        (
            "SELECT sum(CAST(s AS INT)) FILTER (WHERE s NOT LIKE 'x%' AND b <> 0 AND CAST(s AS INT) / b > 100) FROM t",
            "12510",
        ),
        ("SELECT count(*) FROM t WHERE b = 0 OR a / b > 100", "214"),
        (
            "SELECT count(*) FROM (SELECT * FROM t WHERE s NOT LIKE 'x%') AS u WHERE CAST(s AS INT) > 200 AND CAST(s AS INT) < 300",
            "33",
        ),
        ("SELECT count(*) FROM t WHERE CASE WHEN b <> 0 THEN a / b > 100 ELSE false END", "128"),
        ("SELECT count(CASE WHEN b = 0 THEN false WHEN a / b > 100 THEN true END) FROM t", "214"),
        ("SELECT count(*) FROM t WHERE s NOT LIKE 'x%' AND CAST(s AS INT) > 200", "67"),
        (
            "SELECT count(*) FROM t WHERE CAST(s AS INT) > 200 AND CAST(s AS INT) / b > 100 AND s NOT LIKE 'x%' AND b > 0",
            "37",
        ),
        ("SELECT count(*) FROM (SELECT * FROM t WHERE b <> 0) AS u WHERE a / b > 100", "128"),
        ("SELECT count(*) FROM t GROUP BY true HAVING count(*) > 1 AND sum(a) / (count(*) - 1) > 0", "400"),
        ("SELECT count(*) FROM t WHERE b <> 0 AND a / b > 100 AND a IN (SELECT a FROM t WHERE a > 0)", "128"),
        (
            "SELECT count(*) FROM t AS l WHERE b <> 0 AND a / b > 100 AND EXISTS (SELECT 1 FROM t AS r WHERE r.a = l.a \
             AND r.b <> 0 AND 7 / r.b > 2)",
            "107",
        ),
    ]);
}

#[test]
fn conditions_that_may_fail_keep_their_order() {
    check(&[
        ("SELECT count(*) FROM t WHERE substr(s, 1, 1) <> 'x' AND CAST(s AS INT) > 200", "67"),
        ("SELECT count(*) FROM t WHERE substr(s, 1, b + 1) NOT LIKE 'x%' AND CAST(s AS INT) > 200", "58"),
        ("SELECT count(*) FROM t WHERE split_part(s, 'x', 1) <> '' AND CAST(s AS INT) > 200", "67"),
        ("SELECT count(*) FROM t WHERE repeat(s, 1) NOT LIKE 'x%' AND CAST(s AS INT) > 200", "67"),
        (
            "SELECT count(*) FROM (SELECT * FROM t WHERE repeat(s, 1) NOT LIKE 'x%') AS u WHERE CAST(s AS INT) > 200",
            "67",
        ),
        ("SELECT count(*) FROM (SELECT * FROM t WHERE b <> 0 AND a / b <> 1) AS u WHERE 10 / (a / b - 1) >= 0", "254"),
    ]);
}

#[test]
fn a_case_of_a_user_is_no_guard() {
    check(&[
        ("SELECT count(*) FROM t WHERE b <> 0 AND CASE WHEN a > 100 THEN a / b > 1 ELSE false END", "193"),
        ("SELECT count(*) FROM t WHERE b <> 0 AND CASE WHEN a < 5 THEN true ELSE a / b > 1 END", "257"),
        ("SELECT count(*) FILTER (WHERE b <> 0 AND CASE WHEN a > 100 THEN a / b > 1 ELSE false END) FROM t", "193"),
        ("SELECT count(*) FROM t WHERE b <> 0 AND CASE true WHEN a > 100 THEN a / b > 1 ELSE false END", "193"),
    ]);
}

#[test]
fn a_case_evaluates_one_branch_wherever_it_is() {
    let case = "CASE WHEN b = 0 THEN 'zero' WHEN a / b > 100 THEN 'big' ELSE 'small' END";
    check(&[
        (&format!("SELECT count(*) FILTER (WHERE {case} = 'big') FROM t"), "128"),
        (&format!("SELECT count(*) FROM t WHERE {case} = 'big'"), "128"),
        (&format!("SELECT max({case} = 'big') FROM t"), "true"),
        (&format!("SELECT sum(CASE {case} WHEN 'big' THEN a ELSE 0 END) FROM t"), "36144"),
        ("SELECT count(*) FILTER (WHERE coalesce(b = 0, a / b > 1)) FROM t", "86"),
        ("SELECT sum(coalesce(nullif(b, 0), 100 / (b + 1))) FROM t", "9114"),
        ("SELECT sum(nvl(nullif(b, 0), 100 / (b + 1))) FROM t", "9114"),
        ("SELECT sum(nvl2(nullif(b, 0), a / b, -1)) FROM t", "31208"),
        ("SELECT count(*) FROM t WHERE coalesce(nullif(b, 0) > 1, 1 / (b + 1) = 1)", "257"),
    ]);
}

#[test]
fn joins_evaluate_conditions_for_pairs_that_need_them() {
    let l = "(VALUES (1, 5, 1), (1, 7, 1), (2, 6, 0)) AS l(k, u, b)";
    let r = "(VALUES (1, 5), (1, 6), (3, 7)) AS r(k, v)";
    let count = |from: &str, condition: &str| format!("SELECT count(*) FROM {from} {condition}");
    let (on, both) = (format!("{l} JOIN {r} ON l.k = r.k"), format!("{l}, {r}"));
    check(&[
        (&count(&on, "WHERE l.u <> r.v AND 10 / (l.u - r.v) > 1"), "2"),
        (&count(&on, "AND l.u <> r.v AND 10 / (l.u - r.v) > 1"), "2"),
        (&count(&on, "AND l.u <> r.v WHERE 10 / (l.u - r.v) > 1"), "2"),
        (&count(&both, "WHERE l.k = r.k AND l.u <> r.v AND 10 / (l.u - r.v) > 1"), "2"),
        (&count(&both, "WHERE l.u <> r.v AND 10 / (l.u - r.v) > 1"), "3"),
        (&count(&on, "WHERE 10 / l.b > 1"), "4"),
        (&count(&on, "WHERE 10 / (r.v - 7) < 1"), "4"),
        (&count(&on, "WHERE 10 / (3 - l.k) > 1"), "4"),
        (&count(&on, "AND l.b <> 0 WHERE 10 / l.b > 1"), "4"),
        (&count(&both, "WHERE l.b <> 0 AND 6 / l.b = r.v"), "2"),
        (&count(&format!("{l} LEFT JOIN {r} ON l.b <> 0 AND 6 / l.b = r.v"), ""), "3"),
        (&count(&format!("{l} LEFT JOIN {r} ON l.k = r.k WHERE r.v <> 5 AND 10 / (r.v - 5) > 1"), ""), "2"),
        (&count("t", "WHERE a IN (SELECT a FROM t WHERE b <> 0) AND a / b > 100"), "128"),
        (
            &count(
                "t",
                "WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = t.b AND r.v = 0) AND b IS NOT NULL AND a / b > 100",
            ),
            "107",
        ),
    ]);
}

#[test]
fn conditions_that_are_values_protect() {
    check(&[
        ("SELECT count(*) FILTER (WHERE NOT (b = 0 OR a / b <= 100)) FROM t", "128"),
        ("SELECT count(CASE WHEN NOT (b = 0 OR a / b <= 100) THEN 1 END) FROM t", "128"),
        ("SELECT count(*) FROM t WHERE NOT (b = 0 OR a / b <= 100)", "128"),
        ("SELECT count(*) FROM t WHERE (b <> 0 AND a / b > 100) IS TRUE", "128"),
        ("SELECT count(*) FROM t WHERE (b <> 0 AND a / b > 100) IS NOT TRUE", "272"),
        ("SELECT count(*) FROM t WHERE (b = 0 OR a / b <= 100) IS FALSE", "128"),
        ("SELECT count(*) FROM t WHERE (b <> 0 AND a / b > 100) IS UNKNOWN", "57"),
        ("SELECT count(*) FROM t WHERE (b <> 0 AND a / b > 100) = true", "128"),
        ("SELECT bool_or(b <> 0 AND a / b > 100) FROM t", "true"),
        (
            "SELECT x, count(*) FROM (SELECT (b > 1) IS TRUE AS x FROM t) AS u GROUP BY x ORDER BY x",
            "false 229; true 171",
        ),
        ("SELECT sum(a / b) FILTER (WHERE (b > 0) IS NOT FALSE AND (b > 0) IS NOT UNKNOWN) FROM t", "31351"),
        ("SELECT count(*) FROM t GROUP BY b <> 0 AND a / b > 100 ORDER BY 1", "57; 128; 215"),
        ("SELECT a FROM t ORDER BY (b <> 0 AND a / b > 100) NULLS LAST, a LIMIT 3", "0; 1; 2"),
        ("SELECT DISTINCT b <> 0 AND a / b > 100 AS x FROM t ORDER BY x", "false; true; NULL"),
        ("SELECT count(*) FROM t WHERE b IS NULL AND (a / b > 100) IS NOT DISTINCT FROM NULL", "57"),
    ]);
}

#[test]
fn what_filter_leaves_out_reaches_no_argument() {
    check(&[
        ("SELECT DISTINCT sum(a / b) FILTER (WHERE b <> 0) OVER () FROM t", "31351"),
        ("SELECT count(DISTINCT CAST(s AS DOUBLE)) FILTER (WHERE s NOT LIKE 'x%') FROM t", "134"),
        ("SELECT string_agg(s, chr(10)) FILTER (WHERE b <> 0 AND a < 3) FROM t", "x1\nx2"),
        ("SELECT nth_value(a, 1 + 1 ORDER BY a) FILTER (WHERE b <> 0) FROM t", "2"),
        (
            "SELECT count(*) FROM (SELECT unnest(array_agg(CAST(b AS INT)) FILTER (WHERE random() < 0.5 AND b > 0)) AS x FROM t) AS u WHERE x IS NULL",
            "0",
        ),
        ("SELECT sum(a / b) FILTER (WHERE b > (SELECT min(b) FROM t)) FROM t", "31351"),
        (
            "SELECT g, sum(a / b) FILTER (WHERE b > (SELECT min(b) FROM t)) FROM t WHERE g < 2 GROUP BY g ORDER BY g",
            "0 NULL; 1 8387",
        ),
        ("SELECT DISTINCT count(DISTINCT v) OVER () FROM (VALUES (-0.0), (0.0), (1.0)) AS t(v)", "2"),
    ]);
}

#[test]
fn functions_that_may_fail_are_known() {
    check(&[
        (
            "SELECT count(*) FROM (VALUES ('text', X'61'), ('raw', X'ff')) AS t(kind, p) WHERE kind = 'text' AND CAST(p AS STRING) LIKE 'a%'",
            "1",
        ),
        ("SELECT count(*) FROM (VALUES ('a', 'a', true), ('b', '(', false)) AS t(s, p, ok) WHERE ok AND s ~ p", "1"),
        (
            "SELECT count(*) FROM (VALUES ([[1, 2]], true), ([], false)) AS t(x, ok) WHERE ok AND array_length(x, 2) > 1",
            "1",
        ),
    ]);
}

/// The text of a query's plan, optimised by this crate's rules or by the engine's.
async fn plan_of(query: &str, rules_of_engine: bool) -> String {
    let session = session_of(400);
    let session = if rules_of_engine {
        let state = SessionStateBuilder::new_from_existing(session.state());
        SessionContext::new_with_state(state.with_optimizer_rules(Optimizer::new().rules).build())
    } else {
        session
    };
    session.sql(query).await.unwrap().into_optimized_plan().unwrap().display_indent().to_string()
}

#[tokio::test]
async fn conditions_that_cannot_fail_go_where_the_engine_moves_them() {
    for query in [
        "SELECT * FROM t WHERE b <> 0 AND a > 3 AND s LIKE 'x%'",
        "SELECT * FROM t JOIN r ON g = k WHERE b <> 0 AND v > 1 AND (a = 1 OR s = 'x')",
        "SELECT * FROM t LEFT JOIN r ON g = k AND b > 1 WHERE v > 1 AND upper(s) = 'X1'",
        "SELECT * FROM (SELECT g, count(*) AS n FROM t GROUP BY g) AS u WHERE g > 3 AND n > 1",
        "SELECT CASE WHEN b > 1 THEN 'x' ELSE s END AS x, sum(a) FROM t WHERE CASE WHEN b > 1 THEN a > 3 ELSE false END \
         GROUP BY 1 HAVING sum(a) > 1",
        "SELECT * FROM t, r WHERE g = k AND a IN (SELECT k FROM r WHERE v > 0) AND coalesce(b, 1) > 0",
    ] {
        assert_eq!(plan_of(query, false).await, plan_of(query, true).await, "{query}");
    }
}

/// Checks that a plan has these words in this order.
#[track_caller]
fn in_order(plan: &str, words: &[&str]) {
    let mut rest = plan;
    for word in words {
        let at = rest.find(word);
        rest = &rest[at.unwrap_or_else(|| panic!("no {word} in its place in\n{plan}"))..];
    }
}

#[tokio::test]
async fn conditions_that_may_fail_do_not_hold_others() {
    let plan = plan_of("SELECT * FROM t JOIN r ON g = k WHERE b <> 0 AND v > 1 AND a / b > 1", false).await;
    in_order(&plan, &["Join: t.g = r.k", "CASE", "t.b != Int64(0)", "TableScan: t", "r.v > Int64(1)", "TableScan: r"]);
    let plan = plan_of("SELECT * FROM t, r WHERE g + 1 = k AND a / 2 > 1", false).await;
    in_order(&plan, &["Inner Join: ", "= r.k"]);
    let plan =
        plan_of("SELECT * FROM t WHERE now() - INTERVAL '1 hour' > TIMESTAMP '2026-01-01' AND a > 3", false).await;
    assert!(!plan.contains("CASE"), "{plan}");
    let plan = plan_of("SELECT * FROM t LEFT JOIN r ON g = k WHERE a / 2 > 1", false).await;
    in_order(&plan, &["Join: t.g = r.k", "Filter: ", "TableScan: t"]);
}
