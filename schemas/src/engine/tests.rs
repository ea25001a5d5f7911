//! SQL through a session: the results of expressions, or the words of their errors. The sweep over every function is a
//! module of its own.

mod long_values;
mod sweep;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, Schema};
use datafusion::common::ScalarValue;

use super::session;

/// The values of a query's rows, or its error.
pub(super) async fn ask(sql: &str) -> Result<String, String> {
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    let answer = async { session.sql(sql).await?.collect().await };
    let batches = answer.await.map_err(|error| error.strip_backtrace())?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                let array = arrow::compute::cast(column, &DataType::Utf8);
                array.map(|array| ScalarValue::try_from_array(&array, row).unwrap().to_string())
            });
            rows.push(cells.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?.join(" "));
        }
    }
    Ok(rows.join("; "))
}

/// Checks expressions, each over a row of a table and as a constant. `Err` has words of the error.
pub(super) async fn check_all(cases: &[(&str, Result<&str, &str>)]) {
    let table = "(VALUES (9223372036854775807, CAST(2147483647 AS INT), CAST(127 AS TINYINT), \
                 CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)), \
                 TIMESTAMP '9999-12-31 23:59:59.999999', DATE '9999-12-31', \
                 CAST('9999-12-31 23:00:00' AS TIMESTAMP WITH TIME ZONE), CAST('NaN' AS DOUBLE), 'text')) \
                 AS t(big, int, tiny, dec, ts, day, tz, nan, s)";
    let mut wrong = Vec::new();
    for (expression, expect) in cases {
        let found = ask(&format!("SELECT {expression} FROM {table}")).await;
        let right = match (&found, expect) {
            (Ok(found), Ok(expect)) => found == expect,
            (Err(found), Err(expect)) => found.contains(expect),
            _ => false,
        };
        if !right {
            wrong.push(format!("{expression}: {found:?} instead of {expect:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_field_of_a_null_struct_is_null() {
    check_all(&[
        ("nullif(named_struct('n', int), named_struct('n', int))['n']", Ok("NULL")),
        ("nullif(named_struct('n', int), named_struct('n', tiny))['n']", Ok("2147483647")),
        (
            "nullif(named_struct('d', named_struct('n', s)), named_struct('d', named_struct('n', s)))['d']['n']",
            Ok("NULL"),
        ),
        (
            "nullif(named_struct('d', named_struct('n', s)), named_struct('d', named_struct('n', s)))['d'] IS NULL",
            Ok("true"),
        ),
        ("count(nullif(named_struct('n', int), named_struct('n', int))['n'])", Ok("0")),
    ])
    .await;
    let of_subquery =
        ask("SELECT d['n'] FROM (SELECT nullif(d, d) AS d FROM (VALUES (named_struct('n', 1))) AS t(d)) AS s");
    assert_eq!(of_subquery.await.unwrap(), "NULL");
}

#[tokio::test]
async fn equal_floats_are_equal_wherever_they_are_compared() {
    let table = "(VALUES (-0.0), (5.0), (CAST('NaN' AS DOUBLE))) AS t(v)";
    for (query, expect) in [
        ("SELECT count(*) FROM {} WHERE v = 0.0 OR v = 6.0 OR v = 7.0 OR v = 8.0 OR v = 9.0", "1"),
        ("SELECT count(*) FROM {} WHERE v <> 0.0 AND v <> 6.0 AND v <> 7.0 AND v <> 8.0 AND v <> 9.0", "2"),
        ("SELECT count(*) FROM {} WHERE 0.0 = v", "1"),
        ("SELECT CASE v WHEN 0.0 THEN 'zero' WHEN 5.0 THEN 'five' ELSE 'other' END FROM {} LIMIT 2", "zero; five"),
    ] {
        assert_eq!(ask(&query.replace("{}", table)).await.unwrap(), expect, "{query}");
    }
}

#[tokio::test]
async fn a_subquery_never_loses_its_only_row() {
    let tables = "WITH l(id) AS (VALUES (0), (1)), r(id, g) AS (VALUES (7, 1)) SELECT l.id FROM l WHERE ";
    for condition in [
        "l.id NOT IN (SELECT max(r.id) FROM r WHERE r.g = l.id)",
        "0 IN (SELECT count(*) FROM r WHERE r.g = l.id)",
        "EXISTS (SELECT max(r.id) FROM r WHERE r.g = l.id)",
        "l.id NOT IN (SELECT m + 1 FROM (SELECT max(r.id) AS m FROM r WHERE r.g = l.id) AS s)",
    ] {
        let found = ask(&format!("{tables}{condition}")).await;
        assert!(
            found.as_ref().is_err_and(|error| error.contains("aggregate without GROUP BY")),
            "{condition}: {found:?}"
        );
    }
    let other = "EXISTS (SELECT 1 FROM r, (SELECT max(g) AS m FROM r) AS q WHERE r.g = l.id AND r.g <= q.m)";
    assert_eq!(ask(&format!("{tables} {other}")).await.unwrap(), "1");
    assert_eq!(ask(&format!("{tables} l.id IN (SELECT max(r.g) FROM r)")).await.unwrap(), "1");
    assert_eq!(ask(&format!("{tables} l.id IN (SELECT r.g FROM r WHERE r.g = l.id GROUP BY r.g)")).await.unwrap(), "1");
}

#[tokio::test]
async fn arithmetic_is_exact_or_an_error_that_names_the_expression() {
    check_all(&[
        ("big + 1", Err("`t.big + 1` does not fit BIGINT")),
        ("big - 1", Ok("9223372036854775806")),
        ("-big - 2", Err("does not fit BIGINT")),
        ("-(-big - 1)", Err("does not fit BIGINT")),
        ("-big", Ok("-9223372036854775807")),
        ("big * 2", Err("Cast an operand to DECIMAL(38, 0)")),
        ("CAST(big AS DECIMAL(38, 0)) * 2", Ok("18446744073709551614")),
        ("int * int", Err("`t.int * t.int` does not fit INT")),
        ("int * int", Err("Cast an operand to BIGINT")),
        ("CAST(int AS BIGINT) * int", Ok("4611686014132420609")),
        ("int + 1", Ok("2147483648")),
        ("tiny + tiny", Err("does not fit TINYINT")),
        ("big / 0", Err("Division by zero in `t.big / 0`")),
        ("(big - 1) * 3", Err("`(t.big - 1) * 3` does not fit")),
        ("big - (1 - int)", Err("`t.big - (1 - t.int)` does not fit")),
        ("(big - 2 + 1) + int - 0", Err("`t.big - 2 + 1 + t.int` does not fit")),
        ("big % 0", Err("NULLIF")),
        ("(-big - 1) / -1", Err("does not fit BIGINT")),
        ("(-big - 1) % -1", Ok("0")),
        ("dec + 1", Err("does not fit DECIMAL(38, 0)")),
        ("dec - 1", Ok("99999999999999999999999999999999999998")),
        ("-dec - 1", Err("does not fit DECIMAL")),
        ("-dec", Ok("-99999999999999999999999999999999999999")),
        ("dec * 2", Err("does not fit DECIMAL")),
        ("dec * dec", Err("does not fit DECIMAL")),
        ("dec / 0", Err("`t.dec / 0`")),
        ("CAST(7 AS DECIMAL(9, 2)) / 0", Err("Division by zero")),
        ("9223372036854775807 + 1", Err("does not fit BIGINT")),
        ("CASE WHEN big = 0 THEN 1 / 0 ELSE 7 END", Ok("7")),
        ("abs(-big - 1)", Err("verflow")),
        ("abs(big - 1) * 3", Err("`abs(t.big - 1) * 3` does not fit")),
        ("nullif(abs(big - 1), -tiny) * 3", Err("`nullif(abs(t.big - 1), (- t.tiny)) * 3` does not fit")),
        ("CAST(abs(big - 1) AS TIMESTAMP)", Err("`abs(t.big - 1)`")),
        ("-nan > 1", Ok("true")),
        ("-nan = nan", Ok("true")),
        ("CAST(big AS INT)", Err("")),
        ("CAST(dec AS BIGINT)", Err("")),
        ("CAST(nan AS BIGINT)", Err("")),
        ("power(big, 2) > 8e37", Ok("true")),
        ("factorial(21)", Err("")),
        ("lcm(big, big - 1)", Err("")),
        ("gcd(-big - 1, 0)", Err("")),
        ("1.5 + 1", Ok("2.5")),
        ("big - CAST(1 AS DECIMAL(3, 1))", Ok("9223372036854775806.0")),
        ("7 / 2", Ok("3")),
        ("-7 % 4", Ok("-3")),
        ("2 + 3 * 4 - (5 - 6)", Ok("15")),
    ])
    .await;
}

/// Plans of views are analysed when the view is compiled, and once more when they are run.
#[tokio::test]
async fn an_analysis_keeps_names_and_changes_nothing_the_second_time() {
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    let state = session.state();
    let analyse = |plan| state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    for expression in [
        "(a + 2) * -a, a - (a - 1), (a + 1) * 2 - 3 % a",
        "v + 1.5 * v, -v, v / 0",
        "sum(a + 1) FILTER (WHERE a <> 0 AND 1 / a > 0)",
        "a > 1 AND 10 / a > 1 OR b, CASE WHEN a <> 0 THEN 1 / a > 0 END, CASE v WHEN 0.0 THEN a ELSE 1 / a END",
        "v = 0.0 OR v IN (1.0, 2.0), count(DISTINCT v)",
        "count(DISTINCT CAST(s AS DOUBLE)) FILTER (WHERE a <> 0), max(CASE WHEN a <> 0 THEN 1 / a ELSE 7 END)",
        "NOT (a = 0 OR 1 / a > 0), (a <> 0 AND 1 / a > 0) IS NOT FALSE, coalesce(a, 1 / a), nvl2(a, 1 / a, 2)",
        "bool_or(NOT (a = 0 OR 1 / a > 0 AND 2 / a > 1)), CASE WHEN a = 0 OR 1 / a > 0 AND 2 / a > 1 THEN s END",
        "sum(1 / a) FILTER (WHERE a <> 0 AND 1 / a > 0) OVER (ORDER BY 1 / a), count(DISTINCT v) OVER ()",
        "t + INTERVAL '1 day' - INTERVAL '2 hours', t < (z AT TIME ZONE 'Europe/Berlin'), CAST(s AS TIMESTAMP)",
        "TRY_CAST(t AS TIMESTAMP WITH TIME ZONE), date_trunc('day', t), to_timestamp(a), d['n'], nullif(d, d)['n']",
    ] {
        let from = "(VALUES (1, 2.5, true, TIMESTAMP '2026-03-29 02:30:00', '2026-01-01', named_struct('n', 1), \
                    CAST('2026-03-29 00:30:00' AS TIMESTAMP WITH TIME ZONE))) AS t(a, v, b, t, s, d, z)";
        let sql = format!("SELECT {expression} FROM {from} WHERE b OR 1 / a > 0 GROUP BY a, v, b, t, s, d, z");
        let plan = session.sql(&sql).await.unwrap().logical_plan().clone();
        let plain = datafusion::prelude::SessionContext::new().sql(&sql).await.unwrap();
        let first = analyse(plan);
        assert_eq!(first.schema().field_names(), plain.schema().field_names(), "{expression}");
        let again = analyse(first.clone());
        assert!(again == first, "{expression}: {} is not {}", again.display_indent(), first.display_indent());
    }
}

#[tokio::test]
async fn a_chain_of_operators_is_one_function() {
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    let plan = session.sql("SELECT (a + 2) * -a FROM (VALUES (1)) AS t(a)").await.unwrap().logical_plan().clone();
    let state = session.state();
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    assert!(plan.display().to_string().contains("arithmetic[0 1 + 2 neg *](t.a, Int64(2), t.a)"), "{}", plan.display());
}

#[tokio::test]
async fn every_place_of_a_query_is_checked() {
    let table = "(VALUES (9223372036854775807), (1)) AS t(n)";
    for (query, word) in [
        (format!("SELECT n FROM {table} WHERE n + 1 > 5"), "t.n + 1"),
        (format!("SELECT sum(n + 1) FROM {table}"), "t.n + 1"),
        (format!("SELECT n + 1, count(*) FROM {table} GROUP BY n + 1"), "t.n + 1"),
        (format!("SELECT n FROM {table} ORDER BY n * 2"), "t.n * 2"),
        (format!("SELECT t.n FROM {table} JOIN (VALUES (1)) AS b(m) ON t.n + 1 = b.m"), "t.n + 1"),
        (format!("SELECT sum(n) OVER (ORDER BY n + 1) FROM {table}"), "t.n + 1"),
        (format!("SELECT count(*) FROM {table} GROUP BY n HAVING sum(n) + 1 > 0"), "sum(t.n) + 1"),
        (format!("SELECT (SELECT max(n + 1) FROM {table}) AS x"), "t.n + 1"),
        (format!("SELECT n FROM {table} WHERE n IN (SELECT n + 1 FROM {table})"), "t.n + 1"),
        (format!("SELECT sum(n) FROM {table}"), "sum(t.n) is 9223372036854775808"),
        (format!("SELECT n % 2, sum(n) FROM {table} GROUP BY 1"), "sum(t.n) is 9223372036854775808"),
    ] {
        let found = ask(&query).await;
        assert!(found.as_ref().is_err_and(|error| error.contains(word)), "{query}: {found:?}");
    }
}

#[tokio::test]
async fn times_are_right_over_the_whole_calendar() {
    check_all(&[
        ("date_trunc('month', ts)", Ok("9999-12-01T00:00:00")),
        ("date_trunc('week', ts)", Ok("9999-12-27T00:00:00")),
        ("date_trunc('quarter', ts)", Ok("9999-10-01T00:00:00")),
        ("date_trunc('year', tz)", Ok("9999-01-01T00:00:00Z")),
        ("date_trunc('hour', tz)", Ok("9999-12-31T23:00:00Z")),
        ("date_trunc('day', tz AT TIME ZONE 'America/New_York')", Ok("9999-12-31T00:00:00-05:00")),
        ("date_trunc('month', day)", Ok("9999-12-01T00:00:00")),
        ("date_trunc('month', NULL)", Ok("NULL")),
        ("date_trunc('decade', CAST('0005-01-01' AS TIMESTAMP) + (ts - ts))", Err("outside of the calendar")),
        (
            "date_bin(INTERVAL '1 month', CAST('0001-01-01' AS TIMESTAMP) + (ts - ts), TIMESTAMP '2020-02-15')",
            Err("outside of the calendar"),
        ),
        ("to_local_time(tz AT TIME ZONE 'Asia/Tokyo')", Err("outside of the calendar")),
        ("date_trunc('fortnight', ts)", Err("knows no unit")),
        ("date_bin(INTERVAL '1 month', ts)", Ok("9999-12-01T00:00:00")),
        ("date_bin(INTERVAL '7 days', ts, TIMESTAMP '2026-01-01')", Ok("9999-12-30T00:00:00")),
        ("date_bin(INTERVAL '0 days', ts)", Err("above zero")),
        ("date_part('year', ts)", Ok("9999")),
        ("date_part('epoch', ts)", Ok("253402300800.0")),
        ("extract(month FROM day)", Ok("12")),
        ("extract(dow FROM ts)", Ok("5")),
        ("CAST(ts AS DATE)", Ok("9999-12-31")),
        ("CAST(ts AS STRING)", Ok("9999-12-31T23:59:59.999999")),
        ("CAST('9999-12-31 23:59:59' AS TIMESTAMP)", Ok("9999-12-31T23:59:59")),
        ("CAST('0001-01-01 00:00:00' AS TIMESTAMP)", Ok("0001-01-01T00:00:00")),
        ("CAST('9999-12-31' AS DATE)", Ok("9999-12-31")),
        ("to_char(ts, '%Y-%m')", Ok("9999-12")),
        ("ts > TIMESTAMP '2026-01-01'", Ok("true")),
        ("ts > '2026-01-01'", Ok("true")),
        ("ts > DATE '2026-01-01'", Ok("true")),
        ("tz > DATE '2026-01-01'", Ok("true")),
        ("ts > now()", Ok("true")),
        ("tz > now() - INTERVAL '5 minutes'", Ok("true")),
        ("ts BETWEEN DATE '2026-01-01' AND DATE '9999-12-31'", Ok("false")),
        ("ts IN (DATE '2026-01-01')", Ok("false")),
        ("day > TIMESTAMP '2026-01-01'", Ok("true")),
        ("ts - INTERVAL '1 month'", Ok("9999-11-30T23:59:59.999999")),
        ("ts + INTERVAL '1 day'", Err("outside of the calendar")),
        ("TIMESTAMP '0001-01-01' - INTERVAL '1 second'", Err("outside of the calendar")),
        ("day + INTERVAL '1 day'", Err("outside of the calendar")),
        ("day - DATE '0001-01-01'", Ok("3652058")),
        ("CAST(big AS TIMESTAMP)", Err("")),
        ("CAST(int AS DATE)", Err("outside of the calendar")),
        ("TRY_CAST(int AS DATE)", Ok("NULL")),
        ("CAST(1700000000 AS TIMESTAMP)", Ok("2023-11-14T22:13:20")),
        ("to_timestamp(1700000000)", Ok("2023-11-14T22:13:20Z")),
        ("to_timestamp(CAST(1089494766.188711 AS DOUBLE))", Ok("2004-07-10T21:26:06.188711Z")),
        ("to_timestamp(1700000000.5)", Ok("2023-11-14T22:13:20.500Z")),
        ("to_timestamp('9999-12-31T00:00:00Z')", Ok("9999-12-31T00:00:00Z")),
        ("to_timestamp_millis('9999-12-31')", Ok("9999-12-31T00:00:00Z")),
        ("to_timestamp('no time')", Err("")),
        ("to_timestamp('31.12.2025', '%d.%m.%Y')", Ok("2025-12-31T00:00:00Z")),
        ("to_timestamp('31.12.2025 07:00', '%d.%m.%Y %H:%M')", Ok("2025-12-31T07:00:00Z")),
        ("to_date('9999-12-31')", Ok("9999-12-31")),
        ("to_unixtime(ts)", Ok("253402300799")),
        ("from_unixtime(253402300799)", Ok("9999-12-31T23:59:59")),
        ("to_local_time(tz AT TIME ZONE 'America/New_York')", Ok("9999-12-31T18:00:00")),
        ("array_position([1, 2], 2, -big)", Err("")),
        ("to_timestamp(nan)", Err("seconds since 1970")),
        ("to_timestamp(big)", Err("seconds since 1970")),
        ("to_timestamp_millis(big)", Err("outside of the calendar")),
        ("to_timestamp_seconds(big)", Err("outside of the calendar")),
        ("make_date(9999, 12, 31)", Ok("9999-12-31")),
        ("TIMESTAMP '2026-03-29 02:30:00' AT TIME ZONE 'Europe/Berlin'", Ok("2026-03-29T03:30:00+02:00")),
        ("TIMESTAMP '2026-10-25 02:30:00' AT TIME ZONE 'Europe/Berlin'", Ok("2026-10-25T02:30:00+02:00")),
        ("CAST(tz AT TIME ZONE 'Asia/Tokyo' AS STRING)", Ok("+10000-01-01T08:00:00+09:00")),
        ("ts AT TIME ZONE 'America/New_York'", Err("outside of the calendar")),
        (
            "TIMESTAMP '2026-01-01' = arrow_cast('2026-01-01T00:00:00+01:00', 'Timestamp(Nanosecond, Some(\"Europe/Berlin\"))')",
            Ok("true"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn not_in_knows_of_nulls() {
    let with = "WITH l AS (SELECT * FROM (VALUES (1, 1), (2, 2)) AS t(id, g)), \
                r AS (SELECT * FROM (VALUES (1, 1), (NULL, 2)) AS t(id, g)), \
                full AS (SELECT * FROM (VALUES (1, 1), (5, 2)) AS t(id, g)) ";
    for (condition, expect) in [
        ("3 NOT IN (SELECT id FROM r)", ""),
        ("3 NOT IN (SELECT r.id FROM r WHERE r.g = l.g)", "1"),
        ("l.id NOT IN (SELECT id FROM r)", ""),
        ("l.id + 2 NOT IN (SELECT id FROM r)", ""),
        ("l.id NOT IN (SELECT r.id FROM r WHERE r.g = l.g)", ""),
        ("l.id + 5 NOT IN (SELECT r.id FROM r WHERE r.g = l.g)", "1"),
        ("l.id = 2 OR l.id NOT IN (SELECT id FROM r)", "2"),
        ("NOT (l.id = 1 OR l.id IN (SELECT id FROM r))", ""),
        ("NOT (l.id = 1 OR l.id IN (SELECT id FROM full))", "2"),
        ("NULL NOT IN (SELECT id FROM r)", ""),
        ("NULL NOT IN (SELECT id FROM r WHERE id > 9)", "1; 2"),
        ("l.id NOT IN (SELECT id FROM full)", "2"),
        ("3 NOT IN (SELECT id FROM full)", "1; 2"),
        ("5 NOT IN (SELECT full.id FROM full WHERE full.g = l.g)", "1"),
        ("l.id IN (SELECT id FROM r)", "1"),
        ("l.id NOT IN (1, NULL)", ""),
    ] {
        let query = format!("{with} SELECT l.id FROM l WHERE {condition} ORDER BY 1");
        assert_eq!(ask(&query).await.as_deref(), Ok(expect), "{condition}");
    }
    let within = format!("{with} SELECT l.id FROM l WHERE (l.id IN (SELECT id FROM r)) IS NULL");
    assert!(ask(&within).await.unwrap_err().contains("Use EXISTS"));
}

#[tokio::test]
async fn a_sum_beside_a_distinct_keeps_its_type() {
    let table = "(VALUES (1, CAST(1.5 AS DECIMAL(18, 4))), (1, CAST(2.5 AS DECIMAL(18, 4)))) AS t(k, d)";
    for calls in ["sum(DISTINCT k) AS n, sum(d) AS s", "count(DISTINCT k) AS n, sum(d) AS s, max(d) AS m"] {
        let session = session::context(session::runtime(None, None, None).unwrap(), 1);
        let frame = session.sql(&format!("SELECT {calls} FROM {table} GROUP BY k")).await.unwrap();
        let described = frame.schema().as_arrow().clone();
        let found = frame.collect().await.unwrap();
        let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        assert_eq!(types(&found[0].schema()), types(&described), "{calls}");
        assert_eq!(described.field(1).data_type(), &DataType::Decimal128(28, 4), "{calls}");
        assert_eq!(found[0].column(1).as_primitive::<Decimal128Type>().value(0), 40_000, "{calls}");
    }
}

#[tokio::test]
async fn floats_have_one_order() {
    let table = "(VALUES (1, 1.0), (1, CAST('NaN' AS DOUBLE)), (1, 2.0), (2, CAST('Infinity' AS DOUBLE)), \
                 (3, -0.0), (3, 0.0)) AS t(k, v)";
    for (query, expect) in [
        ("SELECT min(v), max(v) FROM t WHERE k = 1", "1.0 NaN"),
        ("SELECT k, min(v), max(v) FROM t GROUP BY k ORDER BY k", "1 1.0 NaN; 2 inf inf; 3 -0.0 0.0"),
        ("SELECT min(v) FROM t WHERE k > 9", "NULL"),
        ("SELECT v FROM t WHERE k < 3 ORDER BY v", "1.0; 2.0; inf; NaN"),
        ("SELECT count(*) FROM t WHERE v = CAST('NaN' AS DOUBLE)", "1"),
        ("SELECT max(v) OVER (PARTITION BY k) FROM t WHERE k = 1", "NaN; NaN; NaN"),
    ] {
        let query = query.replacen("FROM t", &format!("FROM {table}"), 1);
        assert_eq!(ask(&query).await.as_deref(), Ok(expect), "{query}");
    }
}

#[tokio::test]
async fn equal_floats_are_one_value() {
    let table = "(VALUES (-0.0), (0.0), (1.0), (CAST('NaN' AS DOUBLE)), (0.0 * CAST('inf' AS DOUBLE))) AS t(v)";
    for (query, expect) in [
        ("SELECT v, count(*) FROM t GROUP BY v ORDER BY v", "0.0 2; 1.0 1; NaN 2"),
        ("SELECT DISTINCT v FROM t ORDER BY v", "0.0; 1.0; NaN"),
        ("SELECT count(DISTINCT v) FROM t", "3"),
        ("SELECT count(DISTINCT v), count(*) FROM t", "3 5"),
        ("SELECT count(*) FROM t WHERE v = 0.0", "2"),
        ("SELECT count(*) FROM t WHERE v IN (0.0, 5.0)", "2"),
        ("SELECT count(*) FROM t WHERE v IN (0.0, 5.0, 6.0, 7.0, 8.0, 9.0)", "2"),
        ("SELECT count(*) FROM t WHERE v IN (SELECT CAST('NaN' AS DOUBLE))", "2"),
        ("SELECT count(*) FROM t WHERE v > 1", "2"),
        ("SELECT count(*) FROM t WHERE v / 0 = CAST('NaN' AS DOUBLE)", "4"),
        ("SELECT array_agg(DISTINCT v ORDER BY v) FROM t", "[0.0, 1.0, NaN]"),
    ] {
        let query = query.replacen("FROM t", &format!("FROM {table}"), 1);
        assert_eq!(ask(&query).await.as_deref(), Ok(expect), "{query}");
    }
}
