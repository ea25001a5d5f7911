//! The faults of DataFusion that docs/engine-faults.md lists, each shown on plain DataFusion.
//!
//! A test that fails here is good news: the fault is gone, so the workaround that the page names can go too.
//!
//! Invariant: no code of Thalweg runs in these tests.

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

/// The values of a query's rows, or its error.
async fn ask(sql: &str) -> Result<String, String> {
    let frame = SessionContext::new().sql(sql).await.map_err(|error| error.to_string())?;
    let batches = frame.collect().await.map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                let text = ArrayFormatter::try_new(column, &FormatOptions::new()).unwrap();
                text.value(row).to_string()
            });
            rows.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(rows.join("; "))
}

/// Asserts that the engine still gives this wrong result.
#[track_caller]
fn still(found: Result<String, String>, wrong: &str) {
    assert_eq!(found.as_deref(), Ok(wrong), "the fault is gone: see docs/engine-faults.md");
}

/// Asserts that the engine still fails.
#[track_caller]
fn still_fails(found: Result<String, String>, words: &str) {
    let fails = found.as_ref().is_err_and(|error| error.contains(words));
    assert!(fails, "the fault is gone: see docs/engine-faults.md: {found:?}");
}

const LARGEST: &str = "(VALUES (9223372036854775807)) AS t(n)";

#[tokio::test]
async fn integers_wrap_around() {
    still(ask(&format!("SELECT n + 1 FROM {LARGEST}")).await, "-9223372036854775808");
    still(ask(&format!("SELECT n * 2 FROM {LARGEST}")).await, "-2");
    still(ask(&format!("SELECT -(-n - 1) FROM {LARGEST}")).await, "-9223372036854775808");
}

#[tokio::test]
async fn decimals_leave_their_precision() {
    let nines = "9".repeat(38);
    let found = ask(&format!("SELECT CAST('{nines}' AS DECIMAL(38, 0)) + 1")).await;
    // The display of the engine cuts the 39th digit.
    still(found, &format!("1{}", "0".repeat(37)));
}

#[tokio::test]
async fn sums_wrap_around() {
    let found = ask("SELECT sum(n) FROM (VALUES (9223372036854775807), (1)) AS t(n)").await;
    still(found, "-9223372036854775808");
    let nines = "9".repeat(38);
    let decimal = format!("(CAST('{nines}' AS DECIMAL(38, 0)))");
    let found = ask(&format!("SELECT sum(n) FROM (VALUES {decimal}, {decimal}) AS t(n)")).await;
    still(found, "-14028236692093846346337460743176821145");
}

#[tokio::test]
async fn a_sum_beside_a_distinct_has_more_digits() {
    let table = "(VALUES (1, CAST(1.5 AS DECIMAL(18, 4)))) AS t(k, d)";
    let frame =
        SessionContext::new().sql(&format!("SELECT sum(DISTINCT k), sum(d) FROM {table} GROUP BY k")).await.unwrap();
    let digits = |schema: &datafusion::arrow::datatypes::Schema| schema.field(1).data_type().to_string();
    let described = digits(frame.schema().as_arrow());
    let found = frame.collect().await.unwrap();
    still(Ok(format!("{described}, {}", digits(&found[0].schema()))), "Decimal128(28, 4), Decimal128(38, 4)");
}

#[tokio::test]
async fn averages_wrap_around() {
    let age = "arrow_cast(9223372036854775807, 'Duration(Microsecond)')";
    let found = ask(&format!("SELECT CAST(avg(n) AS BIGINT) FROM (VALUES ({age}), ({age})) AS t(n) GROUP BY n")).await;
    still(found, "-1");
    let nines = "9".repeat(76);
    let table = format!("(VALUES (CAST('{nines}' AS DECIMAL(76, 0)))) AS t(n), range(0, 18)");
    let found = ask(&format!("SELECT avg(n) < 0 FROM {table}")).await;
    still_fails(found, "Overflow");
}

#[tokio::test]
async fn sums_of_distinct_values_wrap_around_in_windows() {
    let frame = "OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    let table = "(VALUES (1), (9223372036854775807)) AS t(n)";
    let found = ask(&format!("SELECT sum(DISTINCT n) {frame} AS s FROM {table} ORDER BY s LIMIT 1")).await;
    still(found, "-9223372036854775808");
}

#[tokio::test]
async fn grouped_extremes_depend_on_the_position_of_nan() {
    let found = ask("SELECT min(v) FROM (VALUES (1, 1.0), (1, CAST('NaN' AS DOUBLE)), (1, 2.0)) AS t(k, v) GROUP BY k");
    still(found.await, "2.0");
    let found = ask("SELECT min(v) FROM (VALUES (1, CAST('Infinity' AS DOUBLE))) AS t(k, v) GROUP BY k").await;
    still(found, "1.7976931348623157e308");
}

#[tokio::test]
async fn times_end_in_the_year_2262() {
    let far = "arrow_cast('9999-12-31T00:00:00', 'Timestamp(Microsecond, None)')";
    still_fails(ask("SELECT TIMESTAMP '9999-12-31'").await, "nanoseconds");
    still_fails(ask(&format!("SELECT date_trunc('month', {far})")).await, "");
    // NULL, of a constant; an error, of a column.
    still(ask(&format!("SELECT date_bin(INTERVAL '1 month', {far})")).await, "");
    let both = format!("(VALUES ({far}, DATE '2026-01-01')) AS s(t, d)");
    still_fails(ask(&format!("SELECT t > d FROM {both}")).await, "");
    still_fails(ask("SELECT to_timestamp('9999-12-31T00:00:00')").await, "");
}

#[tokio::test]
async fn times_that_meet_end_in_the_year_2262() {
    let far = "arrow_cast('9999-12-31T00:00:00', 'Timestamp(Microsecond, None)')";
    let both = format!("(SELECT {far} AS t, DATE '9999-12-31' AS d) AS s");
    for expression in ["coalesce(d, t)", "CASE WHEN t IS NULL THEN t ELSE d END", "greatest(t, d)", "[t, d]"] {
        still_fails(ask(&format!("SELECT {expression} FROM {both}")).await, "");
    }
    still_fails(ask(&format!("SELECT t FROM {both} UNION ALL SELECT d FROM {both}")).await, "");
    still_fails(ask(&format!("SELECT 1 FROM {both} JOIN (SELECT DATE '9999-12-31' AS x) AS o ON t = x")).await, "");
}

#[tokio::test]
async fn words_after_group_by_are_ignored() {
    let table = "(VALUES (1), (2)) AS t(n)";
    still(ask(&format!("SELECT count(*) FROM (SELECT n FROM {table} GROUP BY n WITH ROLLUP) AS s")).await, "2");
    still(ask(&format!("SELECT count(*) FROM (SELECT n FROM {table} GROUP BY ROLLUP (n)) AS s")).await, "3");
}

#[tokio::test]
async fn values_of_windows_do_not_count() {
    let small = RuntimeEnvBuilder::new().with_memory_limit(4 << 20, 1.0).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), small);
    // The values have 64 MB.
    let query = "SELECT array_agg(value) OVER (ORDER BY value) FROM generate_series(1, 4000)";
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 4000, "the fault is gone: see docs/engine-faults.md");
}

#[tokio::test]
async fn bins_of_local_times_are_bins_of_utc() {
    let found = ask(
        "SELECT date_bin(INTERVAL '1 day', arrow_cast('2026-03-28T23:30:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))') \
         AT TIME ZONE 'Europe/Berlin')",
    );
    still(found.await, "2026-03-28T01:00:00+01:00");
}

#[tokio::test]
async fn equal_floats_differ() {
    let table = "(VALUES (-0.0), (0.0), (CAST('NaN' AS DOUBLE)), (0.0 * CAST('inf' AS DOUBLE))) AS t(v)";
    still(ask(&format!("SELECT count(DISTINCT v), count(*) FROM {table}")).await, "4 4");
    still(ask(&format!("SELECT count(*) FROM {table} WHERE v IN (0.0, 5.0, 6.0, 7.0, 8.0, 9.0)")).await, "1");
    still(ask(&format!("SELECT v FROM {table} ORDER BY v LIMIT 1")).await, "NaN");
    let chain = format!("SELECT count(*) FROM {table} WHERE v = 0.0 OR v = 5.0 OR v = 6.0 OR v = 7.0 OR v = 8.0");
    still(ask(&chain).await, "1");
    let looked_up =
        format!("SELECT CASE v WHEN 0.0 THEN 'zero' WHEN 1.0 THEN 'one' ELSE 'other' END FROM {table} LIMIT 1");
    still(ask(&looked_up).await, "other");
}

#[tokio::test]
async fn conditions_protect_nothing() {
    let table = "(VALUES (10, 0), (10, 2), (10, 5)) AS t(a, b)";
    let words = "Divide by zero";
    still_fails(ask(&format!("SELECT count(*) FROM {table} WHERE b <> 0 AND a / b > 1")).await, words);
    still_fails(ask(&format!("SELECT CASE WHEN b <> 0 THEN a / b > 1 ELSE false END FROM {table}")).await, words);
    still_fails(ask(&format!("SELECT a, sum(a / b) FILTER (WHERE b <> 0) FROM {table} GROUP BY a")).await, words);
}

#[tokio::test]
async fn conditions_are_moved() {
    let texts = "(VALUES ('x1'), ('12'), ('x3')) AS t(s)";
    let query = format!("SELECT count(*) FROM {texts} WHERE substr(s, 1, 1) <> 'x' AND CAST(s AS INT) > 2");
    still_fails(ask(&query).await, "Cannot cast string 'x1'");
    let tables = "(VALUES (1, 2), (2, 0)) AS l(k, b) JOIN (VALUES (1), (3)) AS r(k) ON l.k = r.k";
    still_fails(ask(&format!("SELECT count(*) FROM {tables} WHERE 10 / l.b > 1")).await, "Divide by zero");
}

#[tokio::test]
async fn tests_of_truth_do_not_fit_below_aggregates() {
    let tests = "SELECT (b > 1) IS TRUE AS x FROM (VALUES (1), (2), (NULL)) AS t(b)";
    still_fails(ask(&format!("SELECT x, count(*) FROM ({tests}) AS u GROUP BY x")).await, "nullability");
}

#[tokio::test]
async fn an_empty_list_panics() {
    let query = ask("SELECT array_length(x, 2) FROM (VALUES ([[1]]), ([])) AS t(x)");
    let found = tokio::spawn(query).await;
    assert!(found.is_err_and(|error| error.is_panic()), "the fault is gone: see docs/engine-faults.md");
}

#[tokio::test]
async fn a_subquery_loses_its_only_row() {
    let tables = "WITH l(id) AS (VALUES (0), (1)), r(id, g) AS (VALUES (7, 1)) SELECT count(*) FROM l";
    // Both rows of l.
    still(ask(&format!("{tables} WHERE EXISTS (SELECT max(r.id) FROM r WHERE r.g = l.id)")).await, "1");
    // The row without a partner.
    still(ask(&format!("{tables} WHERE 0 IN (SELECT count(*) FROM r WHERE r.g = l.id)")).await, "0");
}

#[tokio::test]
async fn local_times_fail() {
    let local = "arrow_cast('2026-03-29T02:30:00', 'Timestamp(Microsecond, None)')";
    still_fails(ask(&format!("SELECT t AT TIME ZONE 'Europe/Berlin' FROM (VALUES ({local})) AS s(t)")).await, "");
}

#[tokio::test]
async fn not_in_forgets_nulls() {
    let found =
        ask("SELECT l.x FROM (VALUES (1)) AS l(x) WHERE 3 NOT IN (SELECT r.x FROM (VALUES (1), (NULL)) AS r(x))");
    still(found.await, "1");
}

#[tokio::test]
async fn a_field_of_a_null_struct_has_a_value() {
    let found = ask("SELECT nullif(d, d)['n'] FROM (VALUES (named_struct('n', 7))) AS t(d)").await;
    still(found, "7");
}

#[tokio::test]
async fn a_negative_width_panics() {
    let query = ask("SELECT lpad(s, n, '0') FROM (VALUES ('text', -1)) AS t(s, n)");
    let found = tokio::spawn(query).await;
    assert!(found.is_err_and(|error| error.is_panic()), "the fault is gone: see docs/engine-faults.md");
}

#[tokio::test]
async fn a_constant_limits_no_length() {
    let found = ask("SELECT length(repeat('x', 70000000))").await;
    still(found, "70000000");
}
