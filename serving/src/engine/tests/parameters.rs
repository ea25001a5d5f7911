//! Placeholders: values in their places, types that a query expects of them, and what is refused.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

use super::*;
use crate::fixture::at;
use crate::parameters::{Declared, Parameter};

fn text(value: &str) -> Parameter {
    Parameter::Text(value.to_owned())
}

fn int(value: i64) -> Parameter {
    Parameter::Typed(ScalarValue::Int64(Some(value)))
}

async fn standing() -> (World, Arc<Engine>) {
    let world = World::standing(&at(6, 4), &at(4, 3), &at(9, 7)).await;
    let engine = engine(&world);
    (world, engine)
}

/// Rows as sorted lines, without the names of columns, which are those of literals.
fn values_in(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(1);
    let mut rows: Vec<String> = rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    rows.sort();
    rows
}

async fn answer(engine: &Arc<Engine>, sql: &str, values: Vec<Parameter>) -> Result<Vec<String>> {
    let answer = engine.run_with(sql, values, Options::default()).await?;
    Ok(values_in(&answer.batches.try_collect::<Vec<_>>().await?))
}

#[tokio::test]
async fn a_query_with_values_is_the_query_with_literals() {
    let (_world, engine) = standing().await;
    let check = async |sql: &str, values: Vec<Parameter>, literal: &str| {
        let got = answer(&engine, sql, values).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(got, values_in(&rows(&engine, literal).await), "{sql}");
    };
    let devices = "SELECT device, readings FROM device_minutes WHERE";
    check(&format!("{devices} device = $1"), vec![text("d1")], &format!("{devices} device = 'd1'")).await;
    check(
        &format!("{devices} readings >= $1 AND device <> $2"),
        vec![text("1"), text("d0")],
        &format!("{devices} readings >= 1 AND device <> 'd0'"),
    )
    .await;
    check(&format!("{devices} readings > $1"), vec![int(0)], &format!("{devices} readings > 0")).await;
    check(
        &format!("{devices} minute >= $1"),
        vec![text("1970-01-01 00:00:00")],
        &format!("{devices} minute >= '1970-01-01 00:00:00'"),
    )
    .await;
    check(
        &format!("{devices} device IN ($1, $2, $1)"),
        vec![text("d1"), text("d2")],
        &format!("{devices} device IN ('d1', 'd2')"),
    )
    .await;
    check(
        "SELECT value FROM generate_series(1, 5) LIMIT $1 OFFSET $2",
        vec![text("2"), int(1)],
        "SELECT 2 UNION ALL SELECT 3",
    )
    .await;
    for (list, literal) in
        [("{d1,\"d2\"}", "ARRAY['d1', 'd2']"), ("{}", "CAST(ARRAY[] AS TEXT[])"), ("{d1,NULL}", "ARRAY['d1', NULL]")]
    {
        check(&format!("{devices} device = ANY($1)"), vec![text(list)], &format!("{devices} device = ANY({literal})"))
            .await;
    }
    check(&format!("{devices} readings = ANY($1)"), vec![text("{ 1,7 }")], &format!("{devices} readings IN (1, 7)"))
        .await;
    check("SELECT $1::DECIMAL(4, 2)[]", vec![text("{1.5,22.25}")], "SELECT ARRAY[1.5, 22.25]::DECIMAL(4, 2)[]").await;
    check("SELECT $1", vec![text("it's; $2 -- no comment")], "SELECT 'it''s; $2 -- no comment'").await;
    check("SELECT CAST($1 AS BIGINT) + 1", vec![text("41")], "SELECT 42").await;
    check("SELECT $1::BIGINT + $2::BIGINT", vec![text("41"), Parameter::Null], "SELECT NULL").await;
    check("SELECT abs($1)", vec![int(-3)], "SELECT 3").await;
    check("SELECT upper($1)", vec![Parameter::Typed(ScalarValue::from("x"))], "SELECT 'X'").await;
    check("SELECT $1, $1", vec![int(1)], "SELECT 1, 1").await;
    check("SELECT (SELECT max(value) FROM generate_series(1, $1))", vec![int(4)], "SELECT 4").await;
    check("WITH t AS (SELECT $2 AS v) SELECT v FROM t WHERE v = $1", vec![text("a"), text("a")], "SELECT 'a'").await;
    check("SELECT $1 UNION ALL SELECT $2", vec![int(1), int(2)], "SELECT 1 UNION ALL SELECT 2").await;
    check(
        "SELECT count(*) FROM sensor_data WHERE device = $1",
        vec![text("d1")],
        "SELECT count(*) FROM sensor_data WHERE device = 'd1'",
    )
    .await;
    check(
        "SELECT CASE WHEN $1 THEN 'y' ELSE 'n' END",
        vec![Parameter::Typed(ScalarValue::Boolean(Some(true)))],
        "SELECT 'y'",
    )
    .await;
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused() {
    let (_world, engine) = standing().await;
    let check = async |sql: &str, values: Vec<Parameter>, part: &str| {
        let error = answer(&engine, sql, values).await.err().unwrap_or_else(|| panic!("{sql} was answered"));
        assert_eq!(error.code().as_str(), "bad_parameter", "{sql}: {error}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    };
    check("SELECT 1", vec![int(1)], "no placeholders, but 1 values").await;
    check("SELECT $1", vec![], "up to $1, but 0 values").await;
    check("SELECT $2", vec![int(1)], "up to $2, but 1 values").await;
    check("SELECT $1", vec![int(1), int(2)], "up to $1, but 2 values").await;
    check("SELECT ?", vec![int(1)], "`?` is not one of them").await;
    check("SELECT $0", vec![int(1)], "`$0` is not one of them").await;
    check("SELECT $x", vec![int(1)], "`$x` is not one of them").await;
    check("SELECT $65536", vec![int(1)], "`$65536` is not one of them").await;
    check("SELECT device FROM device_minutes WHERE readings > $1", vec![text("many")], "$1 is a Int64").await;
    check("SELECT device FROM device_minutes WHERE readings > $1", vec![text("1.5")], "$1 is a Int64").await;
    check("SELECT device FROM device_minutes WHERE minute > $1", vec![text("soon")], "$1 is a Timestamp").await;
    check("SELECT $1::BIGINT", vec![text("99999999999999999999")], "$1 is a Int64").await;
    check("SELECT abs($1)", vec![text("1")], "CAST($1 AS …)").await;
    check("DROP MATERIALIZED VIEW totals", vec![int(1)], "no placeholders").await;
}

#[tokio::test]
async fn a_text_is_described_without_being_run() {
    let (_world, engine) = standing().await;
    let check = async |sql: &str, declared: Declared, parameters: &[DataType], columns: &[(&str, DataType)]| {
        let got = engine.describe(sql, declared, Options::default()).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(got.parameters, parameters, "{sql}");
        let fields = got.columns.clone().unwrap();
        let got: Vec<_> = fields.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone())).collect();
        assert_eq!(got, columns, "{sql}");
    };
    let minute = DataType::Timestamp(TimeUnit::Microsecond, None);
    check(
        "SELECT device, minute FROM device_minutes WHERE minute > $2 AND readings = $1",
        vec![],
        &[DataType::Int64, minute.clone()],
        &[("device", DataType::Utf8), ("minute", minute.clone())],
    )
    .await;
    check("SELECT $1 AS v", vec![], &[DataType::Utf8], &[("v", DataType::Utf8)]).await;
    check("SELECT $1 AS v", vec![Some(DataType::Int32)], &[DataType::Int32], &[("v", DataType::Int32)]).await;
    check("SELECT abs($1) AS v", vec![Some(DataType::Float64)], &[DataType::Float64], &[("v", DataType::Float64)])
        .await;
    check("SELECT 1 AS v LIMIT $1", vec![], &[DataType::Int64], &[("v", DataType::Int64)]).await;
    check("SELECT 1 AS v, 2 AS v", vec![], &[], &[("v", DataType::Int64), ("v", DataType::Int64)]).await;
    check("SELECT $2::BIGINT AS v", vec![], &[DataType::Utf8, DataType::Int64], &[("v", DataType::Int64)]).await;
    let definitions = engine.describe("DROP MATERIALIZED VIEW totals", vec![], Options::default()).await.unwrap();
    assert_eq!(definitions.columns, None);
    assert_eq!(code(&engine, "SELECT nothing FROM device_minutes").await, "invalid_query");
    let wrong = engine.describe("SELECT nothing FROM device_minutes", vec![], Options::default()).await.unwrap_err();
    assert_eq!(wrong.code().as_str(), "invalid_query");
    for sql in ["CREATE TABLE x (a INT)", "SELECT FROM", "", "EXPLAIN CREATE TABLE x (a INT)"] {
        assert!(engine.describe(sql, vec![], Options::default()).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn explain_takes_values() {
    let (_world, engine) = standing().await;
    let got = answer(&engine, "EXPLAIN SELECT device FROM device_minutes WHERE readings > $1", vec![int(7)]).await;
    assert!(got.unwrap().iter().any(|line| line.contains("Int64(7)")));
}
