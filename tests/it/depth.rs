//! SQL that nests: as deep as it may, on a quarter of the stack that every thread has; and far too deep, over HTTP.
//!
//! Invariant: no statement ends the process. An overflow of the stack would end the process of this test too.

use std::path::Path;
use std::thread::Builder;

use datafusion::prelude::SessionContext;
use reqwest::Client;
use serde_json::Value;
use thalweg::{Platform, Settings};
use thalweg_schemas::check;
use thalweg_schemas::definition;
use thalweg_schemas::engine::session;
use thalweg_schemas::engine::threads::STACK;
use tokio::sync::oneshot;

const STREAM: &str = "CREATE EXTERNAL TABLE s (a BIGINT, b BOOLEAN, c STRING) STORED AS KAFKA LOCATION 's'";

/// What a request may hold, with room for a CREATE in front.
const REQUEST_BYTES: usize = 4_000_000;

/// A start of a query, what repeats, and the end; `{i}` is the number of the repetition, `{j}` the one before it, and
/// `{n}` the last one.
type Shape<'a> = (&'a str, &'a str, &'a str);

/// The first of a chain of WITH clauses.
const TEXTS: &str = "WITH t0 AS (SELECT a FROM (VALUES ('x'), ('y')) AS t (a))";

/// Shapes that nest with each repetition.
const SHAPES: [Shape<'_>; 30] = [
    ("SELECT 1", " + 1", ""),
    ("SELECT a", " + a", " FROM (VALUES (1), (2)) AS t (a)"),
    ("SELECT 1", " - (1)", ""),
    ("SELECT a", " * a % 7", " FROM (VALUES (1), (2)) AS t (a)"),
    ("SELECT a = 1", " OR a = {i}", " FROM (VALUES (1), (2)) AS t (a)"),
    ("SELECT a = 1", " AND a <> {i}", " FROM (VALUES (1), (2)) AS t (a)"),
    ("SELECT c", " || c", " FROM (VALUES ('x')) AS t (c)"),
    ("SELECT 1", "::INT::BIGINT", ""),
    ("SELECT b", " IS NULL", " FROM (VALUES (true)) AS t (b)"),
    ("SELECT b", " IS NOT DISTINCT FROM b", " FROM (VALUES (true)) AS t (b)"),
    ("SELECT a IN (1)", " AND a NOT BETWEEN {i} AND {i}", " FROM (VALUES (1)) AS t (a)"),
    ("SELECT 1 AS a", " UNION ALL SELECT {i}", ""),
    ("SELECT 1 AS a", " UNION SELECT {i}", ""),
    ("SELECT 1 AS a", " EXCEPT SELECT {i}", ""),
    ("SELECT 1 FROM (VALUES (1)) AS t (a)", " CROSS JOIN (VALUES (1)) AS t{i} (a{i})", ""),
    ("SELECT 1 FROM (VALUES (1)) AS t (a)", " JOIN (VALUES (1)) AS t{i} (a{i}) ON a = a{i}", ""),
    ("WITH t0 AS (SELECT 1 AS a)", ", t{i} AS (SELECT a + 1 AS a FROM t{j})", " SELECT 1"),
    (
        "WITH t0 AS (SELECT a FROM (VALUES (1)) AS t (a))",
        ", t{i} AS (SELECT a + 1 AS a FROM t{j})",
        " SELECT a FROM t{n}",
    ),
    (TEXTS, ", t{i} AS (SELECT a || 'x' AS a FROM t{j})", " SELECT a FROM t{n}"),
    (TEXTS, ", t{i} AS (SELECT a || 'x' AS a FROM t{j})", " SELECT a FROM t{n} WHERE a <> ''"),
    ("SELECT CASE WHEN b THEN 1", " WHEN a = {i} THEN {i}", " ELSE 0 END FROM (VALUES (1, true)) AS t (a, b)"),
    ("SELECT 7 / a = 1", " OR 7 / a = {i}", " FROM (VALUES (1), (2)) AS t (a)"),
    ("SELECT 1 FROM (VALUES (1), (2)) AS t (a) WHERE 7 / a > 1", " AND 7 / a <> {i}", ""),
    ("SELECT coalesce(1 / a", ", {i} / a", ") FROM (VALUES (1), (2)) AS t (a)"),
    ("SELECT CASE WHEN b THEN 1", " WHEN 7 / a = {i} THEN {i} / a", " END FROM (VALUES (1, true)) AS t (a, b)"),
    ("SELECT ", "NOT ", "(b AND 1 / a > 0) FROM (VALUES (1, true)) AS t (a, b)"),
    ("SELECT ", "NOT ", "true"),
    ("SELECT ", "- ", "1"),
    ("SELECT ", "INTERVAL ", "'1' DAY"),
    ("", "EXPLAIN ", "SELECT 1"),
];

fn write(shape: Shape<'_>, times: usize) -> String {
    let (start, more, end) = shape;
    let repeated = (1..=times).map(|i| more.replace("{i}", &i.to_string()).replace("{j}", &(i - 1).to_string()));
    format!("{start}{}{}", repeated.collect::<String>(), end.replace("{n}", &times.to_string()))
}

/// Queries over chains of WITH clauses, each with a long expression over the column of the one before. The optimizer
/// makes one expression of all of them.
fn long_chains(times: usize, operators: usize) -> [String; 2] {
    let step = format!(", t{{i}} AS (SELECT a{} AS a FROM t{{j}})", " || 'x'".repeat(operators));
    [" SELECT a FROM t{n}", " SELECT a FROM t{n} WHERE a <> ''"].map(|end| write((TEXTS, &step, end), times))
}

/// Runs `work` on a thread with a quarter of the usual stack.
fn on_a_quarter<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let run = move || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    Builder::new().stack_size(STACK / 4).spawn(run).unwrap().join().unwrap();
}

/// The statement with the most repetitions that is accepted.
fn deepest(sql: impl Fn(usize) -> String) -> String {
    let (mut below, mut above) = (0, 2_048);
    while above - below > 1 {
        let middle = usize::midpoint(below, above);
        match definition::parse(&sql(middle)) {
            Ok(_) => below = middle,
            Err(_) => above = middle,
        }
    }
    sql(below)
}

#[test]
fn what_is_accepted_takes_a_quarter_of_a_stack() {
    for shape in SHAPES {
        on_a_quarter(move || async move {
            let sql = deepest(|times| write(shape, times));
            let state = session::state(session::runtime(None, None, None).unwrap(), 1);
            // A refusal by the planner is as good as an answer.
            if let Ok(frame) = SessionContext::new_with_state(state).sql(&sql).await {
                let _ = frame.collect().await;
            }
        });
    }
}

#[test]
fn expressions_that_are_written_out_take_a_quarter_of_a_stack() {
    // `serving/src/limits/expansion.rs` refuses deeper ones.
    for sql in long_chains(2, 995) {
        on_a_quarter(move || async move {
            let state = session::state(session::runtime(None, None, None).unwrap(), 1);
            let frame = SessionContext::new_with_state(state).sql(&sql).await.unwrap();
            assert_eq!(frame.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
        });
    }
}

#[test]
fn views_that_are_accepted_take_a_quarter_of_a_stack() {
    for query in [
        "SELECT sum(a{ + a}) AS x FROM s",
        "SELECT sum(a{::INT::BIGINT}) AS x FROM s",
        "SELECT sum(a){ * sum(a) % 7} AS x FROM s",
        "SELECT count(*) FILTER (WHERE b{ OR c LIKE 'x%'}) AS x FROM s",
        "SELECT count(*) AS x FROM s WHERE b{ AND a <> 7}",
        "SELECT count(*) AS x FROM s WHERE b{ AND 7 / a <> 7}",
        "SELECT count(*) FILTER (WHERE b{ OR 7 / a > 1}) AS x FROM s",
        "SELECT count(*) AS x FROM s HAVING count(*) > 1{ OR count(*) < 7}",
    ] {
        on_a_quarter(move || async move {
            let (start, rest) = query.split_once('{').unwrap();
            let (more, end) = rest.split_once('}').unwrap();
            let sql = deepest(|times| format!("CREATE MATERIALIZED VIEW v AS {start}{}{end}", more.repeat(times)));
            check::check(&[format!("{STREAM};{sql}")]).await;
        });
    }
}

#[test]
fn far_too_deep_sql_is_refused_over_http_and_the_server_lives() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(STACK).enable_all().build();
    let runtime = runtime.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    runtime.block_on(async { tokio::spawn(async move { attack(&path).await }).await }).unwrap();
    runtime.shutdown_background();
}

async fn attack(folder: &Path) {
    let mut table = toml::Table::new();
    for key in ["http_addr", "postgres_addr", "flight_sql_addr"] {
        table.insert(key.to_owned(), "127.0.0.1:0".into());
    }
    table.insert("data_dir".to_owned(), folder.to_str().unwrap().into());
    let platform = Platform::up(&Settings::from_table(table).unwrap()).await.unwrap();
    let url = format!("http://{}", platform.address());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(platform.until(async { stopped.await.unwrap() }));
    let http = Client::builder().no_proxy().build().unwrap();
    let ask = async |sql: String| {
        let reply = http.post(format!("{url}/v1/sql")).body(sql).send().await.unwrap();
        let (status, body): (u16, Value) = (reply.status().as_u16(), reply.json().await.unwrap());
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(STREAM.to_owned()).await.0, 200);
    for sql in long_chains(2, 900) {
        assert_eq!(ask(sql).await, (200, String::new()));
    }
    for sql in long_chains(100, 990).into_iter().chain(long_chains(3, 990)) {
        assert_eq!(ask(sql).await, (400, "too_large".to_owned()));
    }
    let refused = (400, "syntax".to_owned());
    let mut shapes = SHAPES.to_vec();
    shapes.extend([
        ("SELECT ", "(", "1"),
        ("SELECT ", "abs(", "1"),
        ("SELECT ", "CASE WHEN true THEN ", "1"),
        ("SELECT ", "(SELECT ", "1"),
        ("SELECT * FROM ", "(SELECT * FROM ", "s"),
        ("SELECT a", "[1]", " FROM s"),
        ("SELECT CAST(a AS INT", "[]", ") FROM s"),
        ("SELECT CAST(a AS ", "ARRAY<", "INT) FROM s"),
        ("SELECT a", " COLLATE x", " FROM s"),
        ("SELECT a", " AT TIME ZONE 'UTC'", " FROM s"),
        ("SELECT s", ".a", " FROM s"),
        ("SELECT 1 FROM s", ", s", ""),
        ("SELECT * FROM s", " UNPIVOT(a FOR b IN (c))", ""),
        ("SELECT * FROM s", " PIVOT(sum(a) FOR b IN (1))", ""),
        ("SELECT 1 AS a", " |> ORDER BY a, a", ""),
    ]);
    for shape in shapes {
        // A CASE with many branches is wide, not deep, and so is a call with many arguments.
        if shape.1.contains("WHEN a = ") || shape.1.contains("{i} / a") {
            continue;
        }
        let sql = write(shape, 10_000);
        let start = &sql[..60];
        assert_eq!(ask(sql.clone()).await, refused, "{start}");
        let view = format!("CREATE MATERIALIZED VIEW v AS {sql}");
        assert_eq!(ask(view).await, refused, "{start}");
        // The longest texts are refused for their length.
        let mut sql = write(shape, 100_000);
        if sql.len() > REQUEST_BYTES {
            sql = write(shape, 20_000);
        }
        let (status, code) = ask(sql).await;
        assert!(status == 400 && ["syntax", "too_large"].contains(&code.as_str()), "{status} {code}: {start}");
    }
    let list: Vec<String> = (0..100_000).map(|i| (i - 50_000).to_string()).collect();
    let (status, code) = ask(format!("SELECT 7 IN ({})", list.join(", "))).await;
    assert_eq!((status, code.as_str()), (200, ""));
    let branches = write(("SELECT CASE a", " WHEN {i} THEN {i}", " END FROM (VALUES (1)) AS t (a)"), 5_000);
    assert_eq!(ask(branches).await.0, 200);
    assert_eq!(http.get(format!("{url}/healthz")).send().await.unwrap().status(), 200);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
