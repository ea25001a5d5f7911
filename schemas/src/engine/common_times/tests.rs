//! Times of the year 9999 wherever TIMESTAMP meets DATE or text.

use crate::engine::tests::{ask, check_all};

const FAR: Result<&str, &str> = Ok("9999-12-31T00:00:00");

#[tokio::test]
async fn expressions_end_in_the_year_9999() {
    check_all(&[
        ("CASE WHEN big > 0 THEN day ELSE ts END", FAR),
        ("CASE WHEN big > 0 THEN ts ELSE day END", Ok("9999-12-31T23:59:59.999999")),
        ("CASE WHEN big > 0 THEN day WHEN big < 0 THEN NULL WHEN int > 0 THEN day ELSE ts END", FAR),
        ("CASE WHEN big > 0 THEN '9999-12-31' ELSE ts END", FAR),
        ("CASE WHEN big < 0 THEN ts END", Ok("NULL")),
        ("CASE day WHEN ts THEN 1 WHEN date_trunc('day', ts) THEN 2 END", Ok("2")),
        ("CASE ts WHEN day THEN 1 WHEN '9999-12-31 23:59:59.999999' THEN 2 END", Ok("2")),
        ("CASE WHEN big > 0 THEN tz ELSE day END", Ok("9999-12-31T23:00:00")),
        ("CASE WHEN big > 0 THEN make_array(day) ELSE make_array(ts) END", Ok("[9999-12-31T00:00:00]")),
        ("CASE WHEN big > 0 THEN named_struct('t', day) ELSE named_struct('t', ts) END['t']", FAR),
        ("coalesce(day, ts)", FAR),
        ("coalesce(NULL, day, ts, DATE '2026-01-01')", FAR),
        ("ifnull(day, ts)", FAR),
        ("nvl(ts, day)", Ok("9999-12-31T23:59:59.999999")),
        ("nvl2(day, day, ts)", FAR),
        ("nullif(date_trunc('day', ts), day)", Ok("NULL")),
        ("nullif(day, ts)", FAR),
        ("greatest(day, ts)", Ok("9999-12-31T23:59:59.999999")),
        ("least(ts, DATE '9999-12-31')", FAR),
        ("make_array(day, ts)", Ok("[9999-12-31T00:00:00, 9999-12-31T23:59:59.999999]")),
        ("[ts, day][2]", FAR),
        ("array_append(make_array(day), ts)[1]", FAR),
        ("array_append(make_array(ts), day)[2]", FAR),
        ("list_append(make_array(ts), day)[2]", FAR),
        ("array_has(make_array(date_trunc('day', ts)), day)", Ok("true")),
        ("array_position(make_array(ts, date_trunc('day', ts)), day)", Ok("2")),
        ("array_concat(make_array(ts), make_array(day))[2]", FAR),
        ("array_remove(make_array(day, DATE '2026-01-01'), date_trunc('day', ts))", Ok("[2026-01-01T00:00:00]")),
        ("ts IN (day, DATE '2026-01-01')", Ok("false")),
        ("date_trunc('day', ts) IN (day, '2026-01-01')", Ok("true")),
        ("day IN (ts, date_trunc('day', ts))", Ok("true")),
        ("day BETWEEN TIMESTAMP '2026-01-01' AND ts", Ok("true")),
        ("day BETWEEN SYMMETRIC ts AND DATE '2026-01-01'", Err("")),
        ("ts > day AND day < ts AND ts <> day AND day IS DISTINCT FROM ts", Ok("true")),
        ("date_trunc('day', ts) = day", Ok("true")),
        ("tz > day", Ok("true")),
        ("'9999-12-31 23:59:59.999999' = ts", Ok("true")),
        ("ts - day = ts - TIMESTAMP '9999-12-31'", Ok("true")),
        ("day - ts < ts - ts", Ok("true")),
        ("ts - INTERVAL '1 day'", Ok("9999-12-30T23:59:59.999999")),
        ("day + TIME '10:00:00'", Err("exceeds the representable")),
        ("date_bin(INTERVAL '7 days', day, TIMESTAMP '2026-01-01')", Ok("9999-12-30T00:00:00")),
        ("first_value(day) OVER (ORDER BY ts)", Ok("9999-12-31")),
        ("array_agg(CASE WHEN big > 0 THEN day ELSE ts END)[1]", FAR),
        ("max(CASE WHEN big > 0 THEN day ELSE ts END)", FAR),
        ("date_part('year', CASE WHEN big > 0 THEN day ELSE ts END)", Ok("9999")),
    ])
    .await;
}

#[tokio::test]
async fn relations_end_in_the_year_9999() {
    let tables = "WITH d(d) AS (VALUES (DATE '9999-12-31'), (DATE '2026-01-01')), \
                  t(t) AS (VALUES (TIMESTAMP '9999-12-31 00:00:00'), (TIMESTAMP '9999-12-31 10:00:00')) ";
    let mut wrong = Vec::new();
    for (query, expect) in [
        ("SELECT max(x) FROM (SELECT d AS x FROM d UNION ALL SELECT t FROM t) AS u", "9999-12-31T10:00:00"),
        ("SELECT max(x) FROM (SELECT t AS x FROM t UNION SELECT d FROM d) AS u", "9999-12-31T10:00:00"),
        ("SELECT count(*) FROM (SELECT t AS x FROM t UNION SELECT d FROM d) AS u", "3"),
        (
            "SELECT max(x) FROM (SELECT d AS x FROM d UNION SELECT t FROM t UNION SELECT '9999-12-31') AS u",
            "9999-12-31T10:00:00",
        ),
        (
            "SELECT min(x) FROM (SELECT d AS x, 1 AS n FROM d UNION ALL BY NAME SELECT t AS x FROM t) AS u",
            "2026-01-01T00:00:00",
        ),
        ("SELECT t FROM t INTERSECT SELECT d FROM d", "9999-12-31T00:00:00"),
        ("SELECT d FROM d EXCEPT SELECT t FROM t", "2026-01-01"),
        (
            "SELECT max(x) FROM (VALUES (DATE '9999-12-31'), (TIMESTAMP '9999-12-31 10:00:00')) AS v(x)",
            "9999-12-31T10:00:00",
        ),
        (
            "SELECT x FROM (VALUES (TIMESTAMP '9999-12-31 10:00:00'), (DATE '9999-12-31'), (NULL)) AS v(x) WHERE x < TIMESTAMP '9999-12-31 10:00:00'",
            "9999-12-31T00:00:00",
        ),
        (
            "VALUES (DATE '9999-12-31', 1), (TIMESTAMP '9999-12-31 10:00:00', NULL)",
            "9999-12-31T00:00:00 1; 9999-12-31T10:00:00 NULL",
        ),
        ("SELECT t FROM t JOIN d ON t = d", "9999-12-31T00:00:00"),
        ("SELECT count(*) FROM t JOIN d ON t > d", "3"),
        ("SELECT count(*) FROM t LEFT JOIN d ON t = d WHERE d IS NULL", "1"),
        ("SELECT count(*) FROM (SELECT t AS x FROM t) AS a JOIN (SELECT d AS x FROM d) AS b USING (x)", "1"),
        ("SELECT count(*) FROM (SELECT t AS x FROM t) AS a NATURAL JOIN (SELECT d AS x FROM d) AS b", "1"),
        ("SELECT t FROM t WHERE t IN (SELECT d FROM d)", "9999-12-31T00:00:00"),
        ("SELECT t FROM t WHERE t NOT IN (SELECT d FROM d)", "9999-12-31T10:00:00"),
        ("SELECT d FROM d WHERE d IN (SELECT t FROM t)", "9999-12-31"),
        ("SELECT t FROM t WHERE t = ANY (SELECT d FROM d)", "9999-12-31T00:00:00"),
        ("SELECT t FROM t WHERE EXISTS (SELECT 1 FROM d WHERE d = t)", "9999-12-31T00:00:00"),
        ("SELECT t FROM t WHERE t > (SELECT max(d) FROM d)", "9999-12-31T10:00:00"),
        ("SELECT t FROM t WHERE (SELECT max(d) FROM d) BETWEEN t AND t", "9999-12-31T00:00:00"),
        ("SELECT t FROM t WHERE t IN ('2026-01-01', (SELECT max(d) FROM d))", "9999-12-31T00:00:00"),
        ("SELECT coalesce((SELECT max(d) FROM d), t) FROM t LIMIT 1", "9999-12-31T00:00:00"),
        (
            "SELECT (SELECT max(x) FROM (SELECT d AS x FROM d UNION ALL SELECT t FROM t) AS u) AS m",
            "9999-12-31T10:00:00",
        ),
        ("SELECT max(x) FROM (SELECT CASE WHEN t > d THEN t ELSE d END AS x FROM t, d) AS u", "9999-12-31T10:00:00"),
        ("SELECT count(*) FROM t, d GROUP BY CASE WHEN t > d THEN t ELSE d END ORDER BY 1", "2; 2"),
    ] {
        let found = ask(&format!("{tables} {query}")).await;
        if found.as_deref() != Ok(expect) {
            wrong.push(format!("{query}: {found:?} instead of {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Nanoseconds come only of `arrow_cast`. They end in the year 2262, with an error.
#[tokio::test]
async fn explicit_nanoseconds_are_left_alone() {
    let nanos = "arrow_cast('2026-01-01T00:00:00.123456789', 'Timestamp(Nanosecond, None)')";
    let found = ask(&format!("SELECT coalesce({nanos}, DATE '2026-01-01')")).await;
    assert_eq!(found.as_deref(), Ok("2026-01-01T00:00:00.123456789"));
    let table = "(VALUES (DATE '9999-12-31')) AS t(d)";
    for expression in ["coalesce(d, NANOS)", "CASE WHEN d IS NULL THEN NANOS ELSE d END"] {
        let found = ask(&format!("SELECT {} FROM {table}", expression.replace("NANOS", nanos))).await;
        assert!(found.is_err(), "{expression}: {found:?}");
    }
}
