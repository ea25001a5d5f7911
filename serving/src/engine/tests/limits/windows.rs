//! Values of window functions count before they are made.

use super::{code, engine_with, lines, rows};

/// A row of 1,000,000 bytes among others of one.
const WIDE: &str =
    "(SELECT k, repeat('x', CASE WHEN k = 1 THEN 1000000 ELSE 1 END) AS w FROM generate_series(1, 8192) g(k))";

#[tokio::test]
async fn values_of_windows_do_not_exceed_the_memory() {
    let (_world, engine) = engine_with(|config| config.query_memory = 32 << 20).await;
    let numbers = "(SELECT k, md5(k::STRING) AS m FROM generate_series(1, 8192) g(k))";
    for (call, from) in [
        ("array_agg(m) OVER (ORDER BY k)", numbers),
        ("string_agg(m, ',') OVER (ORDER BY k)", numbers),
        ("string_agg(m, '____________________________________________________') OVER (ORDER BY k)", numbers),
        ("array_agg(named_struct('m', m)) OVER (ORDER BY k)", numbers),
        ("array_agg(m) OVER (ORDER BY k ROWS BETWEEN 4000 PRECEDING AND CURRENT ROW)", numbers),
        ("array_agg(m) OVER (ORDER BY k ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)", numbers),
        ("array_agg(m) OVER ()", numbers),
        ("array_agg(m) OVER (PARTITION BY k % 2)", numbers),
        ("array_agg(m) FILTER (WHERE k < 1000) OVER ()", numbers),
        ("array_agg(m) FILTER (WHERE k % 3 = 0) OVER (ORDER BY k)", numbers),
        (
            "array_agg(m) OVER (PARTITION BY k % 10 ORDER BY k ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
            numbers,
        ),
        ("max(w) OVER (ORDER BY k)", WIDE),
        ("first_value(w) OVER (ORDER BY k)", WIDE),
        ("last_value(w) OVER (ORDER BY k DESC ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)", WIDE),
        ("nth_value(w, 1) OVER (ORDER BY k)", WIDE),
        ("first_value(w) OVER (PARTITION BY k % 2 ORDER BY k)", WIDE),
    ] {
        let sql = format!("SELECT count(x) FROM (SELECT {call} AS x FROM {from})");
        assert_eq!(code(&engine, &sql).await, "memory_limit", "{sql}");
        engine.rest().await;
    }
}

#[tokio::test]
async fn long_delimiters_count_in_the_text_that_they_become_part_of() {
    let (_world, engine) = engine_with(|config| config.query_memory = 32 << 20).await;
    for bytes in [1000, 100_000] {
        let joined = format!("string_agg(md5(k::STRING), repeat('x', {bytes}))");
        let sql = format!("SELECT length({joined}) FROM generate_series(1, 100000) g(k)");
        assert_eq!(code(&engine, &sql).await, "memory_limit", "{sql}");
        engine.rest().await;
    }
}

#[tokio::test]
async fn values_of_windows_are_freed_batch_by_batch() {
    let (_world, engine) = engine_with(|config| config.query_memory = 64 << 20).await;
    let many = "(SELECT k, md5(k::STRING) AS m FROM generate_series(1, 100000) g(k))";
    for (value, call, expect) in [
        ("sum(cardinality(x))", "array_agg(m) OVER (ORDER BY k ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)", "299997"),
        ("sum(length(x))", "string_agg(m, ',') OVER (ORDER BY k ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)", "6499967"),
        ("count(DISTINCT x)", "first_value(m) OVER (ORDER BY k)", "1"),
        ("count(DISTINCT x)", "first_value(m) OVER (PARTITION BY k % 7 ORDER BY k)", "7"),
        ("count(x)", "lag(m) OVER (ORDER BY k)", "99999"),
        ("count(DISTINCT x)", "max(m) OVER (PARTITION BY k % 7)", "7"),
        ("max(cardinality(x))", "array_agg(m) OVER (PARTITION BY k / 10)", "10"),
        ("sum(cardinality(x))", "array_agg(DISTINCT k % 5) OVER (ORDER BY k ROWS UNBOUNDED PRECEDING)", "499990"),
    ] {
        let sql = format!("SELECT {value} AS n FROM (SELECT {call} AS x FROM {many})");
        assert_eq!(lines(&rows(&engine, &sql).await), [format!("| {expect} |"), "| n |".to_owned()], "{sql}");
        engine.rest().await;
    }
}
