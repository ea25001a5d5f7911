//! Roll-ups and measures: answers are those of one query over the rows, and EXPLAIN shows what is read.

use thalweg_schemas::Fault;
use thalweg_schemas::failure::FailedStep;

use super::frontiers::failure;
use super::*;
use crate::fixture::at;

/// The platform of these tests: rows are archived and in memory, states are published and in segments.
async fn platform() -> (World, Arc<Engine>) {
    let world = World::standing(&at(180, 170), &at(120, 100), &at(200, 190)).await;
    let engine = engine(&world);
    (world, engine)
}

/// The lines of EXPLAIN.
async fn plan(engine: &Arc<Engine>, sql: &str) -> String {
    lines(&rows(engine, &format!("EXPLAIN {sql}")).await).join("\n")
}

const FROM_ROWS: &str = "SET thalweg.rollups = false; ";

/// Checks a query that the states of `view` answer: as the rows do, to the last digit that sums of floats share.
async fn check(engine: &Arc<Engine>, view: &str, sql: &str) {
    let explained = plan(engine, sql).await;
    assert!(explained.contains(&format!("{view} batch below")), "{sql}\n{explained}");
    assert!(!explained.contains("sensor_data memory"), "{sql}\n{explained}");
    let from_rows = format!("{FROM_ROWS}EXPLAIN {sql}");
    let from_rows = lines(&rows(engine, &from_rows).await).join("\n");
    assert!(from_rows.contains("sensor_data archive") && !from_rows.contains(" batch below"), "{sql}\n{from_rows}");
    assert_eq!(lines(&rows(engine, sql).await), lines(&rows(engine, &format!("{FROM_ROWS}{sql}")).await), "{sql}");
}

/// Checks a query that is answered from rows.
async fn check_rows(engine: &Arc<Engine>, sql: &str) {
    let explained = plan(engine, sql).await;
    assert!(!explained.contains(" batch below"), "{sql}\n{explained}");
}

#[tokio::test]
async fn aggregates_of_a_stream_are_read_from_states() {
    let (_world, engine) = platform().await;
    for sql in [
        "SELECT device, round(avg(temperature), 6), max(temperature), sum(amount), count(*) FROM sensor_data GROUP BY device",
        "SELECT date_trunc('hour', ts) AS h, count(*) FROM sensor_data WHERE device <> 'd1' GROUP BY 1",
        "SELECT count(*) FILTER (WHERE temperature > 100), count(*) FROM sensor_data",
        "SELECT device, max(temperature) FROM public.sensor_data AS s WHERE s.device LIKE 'd%' GROUP BY 1 ORDER BY 1 LIMIT 2",
        "SELECT DISTINCT device FROM sensor_data",
        "SELECT count(DISTINCT device) FROM sensor_data WHERE device > 'd0'",
        "SELECT device, n FROM (SELECT device, count(*) AS n FROM sensor_data GROUP BY device) WHERE n > 3",
        "WITH a AS (SELECT device, max(temperature) AS m FROM sensor_data GROUP BY device) SELECT avg(m) FROM a",
    ] {
        check(&engine, "device_minutes", sql).await;
    }
    check(&engine, "totals", "SELECT count(DISTINCT device), count(*) FROM sensor_data").await;
    for sql in [
        "SELECT min(temperature) FROM sensor_data",
        "SELECT count(*) FROM sensor_data WHERE temperature > 20",
        "SELECT ts, count(*) FROM sensor_data GROUP BY ts",
        "SELECT a.device, count(*) FROM sensor_data a JOIN sensor_data b ON a.device = b.device GROUP BY 1",
        "SELECT * FROM sensor_data",
        "SELECT count(*) FROM rejects.sensor_data",
        "SELECT _partition, count(*) FROM sensor_data GROUP BY 1",
    ] {
        check_rows(&engine, sql).await;
    }
}

#[tokio::test]
async fn an_answer_names_the_views_that_it_was_read_from() {
    let (_world, engine) = platform().await;
    let certified = Options { certificate: true, ..Options::default() };
    for (sql, expect) in [
        ("SELECT device, count(*) FROM sensor_data GROUP BY device", &["device_minutes"][..]),
        ("SELECT min(temperature), count(*) FROM sensor_data", &[]),
        ("SELECT readings, (SELECT max(temperature) FROM sensor_data) FROM totals", &["device_minutes", "totals"]),
    ] {
        let answer = engine.run(sql, certified.clone()).await.unwrap();
        let views: Vec<&str> = answer.views.keys().map(|name| name.as_str()).collect();
        assert_eq!(views, expect, "{sql}");
        let certificate = answer.certificate.unwrap();
        assert_eq!(certificate.views.keys().map(|name| name.as_str()).collect::<Vec<_>>(), expect, "{sql}");
    }
}

#[tokio::test]
async fn a_setting_turns_roll_ups_off_and_a_request_on() {
    let world = World::standing(&at(180, 170), &at(120, 100), &at(200, 190)).await;
    let config = ServingConfig { rollups: false, ..world.config() };
    let engine = Arc::new(Engine::new(config, world.sources.clone()).unwrap());
    let sql = "SELECT device, count(*) FROM sensor_data GROUP BY device";
    check_rows(&engine, sql).await;
    let on = lines(&rows(&engine, &format!("SET thalweg.rollups = true; EXPLAIN {sql}")).await).join("\n");
    assert!(on.contains("device_minutes batch below"), "{on}");
    // A measure is not a roll-up that a setting forbids: the query asks for it.
    assert_eq!(rows(&engine, "SELECT measure(mean) FROM device_minutes").await.len(), 1);
}

#[tokio::test]
async fn a_view_that_cannot_be_pinned_costs_no_answer() {
    let (world, engine) = platform().await;
    let sql = "SELECT device, count(*) AS n FROM sensor_data GROUP BY device";
    let whole = lines(&rows(&engine, sql).await);
    // Nothing is published.
    let published = world.published.send_replace(Arc::default());
    check_rows(&engine, sql).await;
    assert_eq!(lines(&rows(&engine, sql).await), whole);
    world.published.send_replace(published);
    // The views have failed.
    world.alter(|snapshot| {
        for view in world.views() {
            snapshot.views.remove(view.plan.id());
            snapshot.failed.insert(view.plan.id().clone(), Arc::new(failure(FailedStep::Update, Fault::User)));
        }
    });
    check_rows(&engine, sql).await;
    assert_eq!(lines(&rows(&engine, sql).await), whole);
}

/// Checks a query that measures columns of views against a query over the rows.
async fn check_measure(engine: &Arc<Engine>, sql: &str, whole: &str) {
    let body = |batches: &[RecordBatch]| lines(batches).into_iter().filter(|l| !l.contains("| x")).collect::<Vec<_>>();
    let got = rows(engine, sql).await;
    let expect = rows(engine, &format!("{FROM_ROWS}{whole}")).await;
    assert_eq!(body(&got), body(&expect), "{sql}");
}

#[tokio::test]
async fn columns_of_views_are_measured_over_coarser_groups() {
    let (_world, engine) = platform().await;
    for (sql, whole) in [
        (
            "SELECT round(measure(mean), 6) AS x1, measure(peak) AS x2, measure(alarms) AS x3 FROM device_minutes",
            "SELECT round(avg(temperature), 6) AS x1, max(temperature) AS x2, \
             count(*) FILTER (WHERE temperature > 100) AS x3 FROM sensor_data",
        ),
        (
            "SELECT device AS x, round(measure(mean), 6) AS x1 FROM device_minutes GROUP BY device",
            "SELECT device AS x, round(avg(temperature), 6) AS x1 FROM sensor_data GROUP BY device",
        ),
        (
            "SELECT date_trunc('hour', d.minute) AS x, measure(d.readings) + 1 AS x1 FROM device_minutes d \
             WHERE d.device IN ('d0', 'd1') GROUP BY 1 HAVING measure(d.peak) > 0 ORDER BY measure(d.amount)",
            "SELECT date_trunc('hour', ts) AS x, count(*) + 1 AS x1 FROM sensor_data WHERE device IN ('d0', 'd1') GROUP BY 1",
        ),
        // Through a subquery, with other names, and beside other aggregates: rows of the view count as rows.
        (
            "SELECT n AS x, measure(r) AS x1, sum(r) AS x2, count(DISTINCT n) AS x3 FROM \
             (SELECT device AS n, readings AS r, minute FROM device_minutes WHERE readings > 0) s GROUP BY n",
            "SELECT device AS x, count(*) AS x1, count(*) AS x2, 1 AS x3 FROM sensor_data GROUP BY device",
        ),
        // Conditions on values choose rows of the view.
        (
            "SELECT measure(readings) AS x FROM device_minutes WHERE readings > 1",
            "SELECT sum(n) AS x FROM (SELECT count(*) AS n FROM sensor_data GROUP BY device, date_trunc('minute', ts)) \
             WHERE n > 1",
        ),
        (
            "SELECT measure(readings) FILTER (WHERE device = 'd0') AS x FROM device_minutes",
            "SELECT count(*) AS x FROM sensor_data WHERE device = 'd0'",
        ),
        // A join, an outer one too, and the same view twice.
        (
            "SELECT t.name AS x, measure(v.readings) AS x1 FROM (VALUES ('d0', 'first'), ('none', 'second')) AS t(d, name) \
             LEFT JOIN device_minutes v ON v.device = t.d GROUP BY t.name",
            "SELECT 'first' AS x, count(*) AS x1 FROM sensor_data WHERE device = 'd0' UNION ALL SELECT 'second', 0",
        ),
        (
            "SELECT measure(a.readings) AS x, measure(b.readings) AS x1 FROM device_minutes a, device_minutes b \
             WHERE a.device = 'd0' AND b.device = 'd1' AND a.minute = b.minute",
            "SELECT sum(a.n) AS x, sum(b.n) AS x1 FROM (SELECT date_trunc('minute', ts) AS m, count(*) AS n FROM sensor_data \
             WHERE device = 'd0' GROUP BY 1) a JOIN (SELECT date_trunc('minute', ts) AS m, count(*) AS n FROM sensor_data \
             WHERE device = 'd1' GROUP BY 1) b ON a.m = b.m",
        ),
        // A column that computes with aggregates.
        (
            "SELECT round(measure(mean), 6) AS x, measure(devices) AS x1 FROM totals",
            "SELECT round(sum(temperature) / count(*), 6) AS x, count(DISTINCT device) AS x1 FROM sensor_data",
        ),
        ("SELECT measure(readings) AS x FROM device_minutes WHERE false", "SELECT 0 AS x"),
        (
            "SELECT measure(b.readings) + measure(s.readings) AS x FROM batch.totals b, speed.totals s",
            "SELECT count(*) AS x FROM sensor_data",
        ),
    ] {
        check_measure(&engine, sql, whole).await;
    }
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_with_the_reason() {
    let (_world, engine) = platform().await;
    for (sql, part) in [
        ("SELECT measure(device) FROM device_minutes", "`device` depends on a column by which the view groups"),
        ("SELECT measure(temperature) FROM sensor_data", "`sensor_data` is not one"),
        ("SELECT measure(temperature) FROM sensor_data, totals", "`sensor_data` is not one"),
        ("SELECT measure(readings + 1) FROM device_minutes", "is computed"),
        ("SELECT measure(r) FROM (SELECT readings * 2 AS r FROM device_minutes)", "is computed"),
        ("SELECT measure(DISTINCT readings) FROM device_minutes", "without DISTINCT"),
        ("SELECT measure(r) FROM (SELECT max(readings) AS r FROM device_minutes)", "is Aggregate"),
        ("SELECT measure(readings) FROM (SELECT readings FROM totals UNION ALL SELECT 1)", "Union"),
        ("SELECT measure(readings) OVER () FROM device_minutes", "without OVER"),
        ("SELECT measure(1)", "is computed"),
        ("SELECT measure(x) FROM (VALUES (1)) AS t(x)", "is Values"),
        ("SELECT measure(readings, peak) FROM device_minutes", "measure"),
    ] {
        let error = match engine.run(sql, Options::default()).await {
            Err(error) => error,
            Ok(answer) => answer.batches.try_collect::<Vec<_>>().await.expect_err(sql),
        };
        assert!(error.to_string().contains(part), "{sql}: {error}");
        assert!(error.status() < 500, "{sql}: {error}");
    }
}
