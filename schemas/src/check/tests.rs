//! Findings for texts, shown as `text:line:column+width severity: message (help)`.

use super::*;

const STREAM: &str = "CREATE EXTERNAL TABLE s (device STRING, ts TIMESTAMP, temperature DOUBLE)\n  \
    STORED AS KAFKA LOCATION 't' OPTIONS ('event_time' 'ts');\n";

fn show(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let help = finding.help.iter().map(|help| format!(" ({help})"));
    format!(
        "{}:{}:{}+{} {severity}: {}{}",
        finding.text,
        finding.span.start.line,
        finding.span.start.column,
        finding.span.width(),
        finding.message,
        help.collect::<String>()
    )
}

async fn found(texts: &[&str]) -> Vec<String> {
    let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
    check(&texts).await.findings.iter().map(show).collect()
}

/// Checks `sql`, which follows the stream and begins on line 3.
#[track_caller]
fn expect(sql: &str, expect: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = format!("{STREAM}{sql}");
    assert_eq!(runtime.block_on(found(&[&text])), expect, "{sql}");
}

#[tokio::test]
async fn sound_definitions_give_counts() {
    let view = "CREATE MATERIALIZED VIEW v AS SELECT device, max(temperature) AS peak FROM s GROUP BY 1";
    let checked = check(&[STREAM.to_owned(), view.to_owned()]).await;
    assert_eq!(checked.findings, []);
    assert_eq!((checked.streams, checked.views), (1, 1));
    assert_eq!(check(&["-- nothing\n;;".to_owned()]).await.findings, []);
}

#[test]
fn columns_and_functions_have_places() {
    expect(
        "CREATE MATERIALIZED VIEW v AS\n  SELECT divice,\n    max(temprature) AS peak FROM s GROUP BY 1",
        &[
            "0:4:10+6 error: there is no column `divice` (did you mean `device`?)",
            "0:5:9+10 error: there is no column `temprature` (did you mean `temperature`?)",
        ],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT s.pressure, count(*) AS n FROM s GROUP BY 1",
        &["0:3:38+10 error: there is no column `s.pressure` (columns are device, ts, temperature)"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT\n  mux(temperature) AS n FROM s",
        &["0:4:3+3 error: Invalid function 'mux' (Possible function 'max')"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s WHERE temperature",
        &["0:3:65+11 error: Cannot create filter with non-boolean predicate 's.temperature' returning Float64"],
    );
}

#[test]
fn refusals_have_places() {
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n\n  FROM s WHERE ts > now()",
        &["0:4:21+3 error: now() gives another value when the batch layer computes it again \
           (Use the event's own time or a column, or apply the function when you query.)"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT device, count(*) AS n FROM s GROUP BY 1\n  ORDER BY n",
        &["0:4:3+8 error: ORDER BY: a view has no order of its own \
           (Leave it out here and add it to the queries that read the view.)"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT percentile_cont(temperature, 0.5) AS n FROM s",
        &["0:3:38+15 error: percentile_cont() cannot be merged from partial results reliably \
           (Use median(x), or approx_percentile_cont(x, p).)"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS\n  SELECT device, temperature FROM s",
        &["0:4:3+6 error: A view is an aggregate query, and this one has no aggregate \
           (Add an aggregate or GROUP BY, or query the stream itself: it is a table.)"],
    );
    expect(
        "CREATE EXTERNAL TABLE x (a INT,\n  b UUID) STORED AS KAFKA LOCATION 'x'",
        &["0:4:3+1 error: Column `b`: the type UUID is not known (Types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, \
           REAL, DOUBLE, DECIMAL(p, s), STRING, BYTEA, DATE, TIMESTAMP, TIMESTAMP WITH TIME ZONE, <type>[] and \
           STRUCT<name type, …>.)"],
    );
    expect(
        "CREATE EXTERNAL TABLE x (a INT) STORED AS KAFKA LOCATION 'x' OPTIONS ('fromat' 'json')",
        &["0:3:71+8 error: There is no option 'fromat' (Did you mean 'format'?)"],
    );
    expect("SELECT 1", &["0:3:1+8 error: `SELECT 1` is a query, not a definition (Send queries on their own.)"]);
}

/// Checks places only: `line:column+width`, and a word of the message.
#[track_caller]
fn place(sql: &str, expect: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = format!("{STREAM}{sql}");
    let found = runtime.block_on(check(&[text])).findings;
    assert_eq!(found.len(), expect.len(), "{sql}: {found:?}");
    for (finding, (place, word)) in found.iter().zip(expect) {
        let start = finding.span.start;
        let shown = format!("{}:{}+{}", start.line, start.column, finding.span.width());
        assert_eq!((shown.as_str(), finding.message.contains(word)), (*place, true), "{sql}: {}", finding.message);
    }
}

#[test]
fn clauses_of_streams_have_places() {
    let stream = |rest: &str| format!("CREATE EXTERNAL TABLE x (a INT)\n  {rest}");
    place(&stream("STORED AS CSV LOCATION 'x'"), &[("4:3+13", "CSV")]);
    place(&stream("STORED AS KAFKA LOCATION 'x/y'"), &[("4:28+5", "not the name")]);
    place(&stream("STORED AS KAFKA LOCATION ('x', 'y')"), &[("4:19+8", "one topic")]);
    place(&stream("STORED AS KAFKA LOCATION 'x' PARTITIONED BY (a)"), &[("4:32+14", "PARTITIONED")]);
    let options = |options: &str| stream(&format!("STORED AS KAFKA LOCATION 'x' OPTIONS ({options})"));
    place(&options("'format' 'xml'"), &[("4:50+5", "`xml`")]);
    place(&options("'event_time' 'b'"), &[("4:54+3", "not a column")]);
    place(&options("'format' 'json', 'FORMAT' 'json'"), &[("4:58+8", "twice")]);
    place(&options("kafka.x 'a', bootstrap.servers 'b'"), &[("4:54+17", "no option")]);
    let connection = "cannot set 'kafka.sasl.password'";
    place(&options("'format' 'json', 'kafka.sasl.password' 'b'"), &[("4:58+21", connection)]);
}

#[test]
fn columns_of_streams_have_places() {
    let stream = |columns: &str| format!("CREATE EXTERNAL TABLE x ({columns}) STORED AS KAFKA LOCATION 'x'");
    place(&stream("b INT, a STRUCT<b INT, b INT>"), &[("3:49+1", "`a.b` is declared twice")]);
    place(&stream("b INT, a STRUCT<\"x y\" INT>[]"), &[("3:42+5", "`a.x y`")]);
    place(&stream("a INT, \"A\" INT"), &[("3:33+3", "declared twice")]);
    place(&stream("a INT, PRIMARY KEY (a)"), &[("3:33+11", "PRIMARY KEY")]);
    place("CREATE EXTERNAL TABLE a.x (a INT) STORED AS KAFKA LOCATION 'x'", &[("3:23+3", "schema in front")]);
    place("CREATE EXTERNAL TABLE batch (a INT) STORED AS KAFKA LOCATION 'x'", &[("3:23+5", "reserved")]);
}

#[test]
fn clauses_and_calls_of_views_have_places() {
    let view = |query: &str| format!("CREATE MATERIALIZED VIEW v AS\n{query}");
    place(&view("SELECT count(*) AS n FROM s LIMIT 3"), &[("4:29+5", "LIMIT")]);
    place(&view("SELECT array_agg(ts ORDER BY ts) AS n FROM s ORDER BY 1"), &[("4:46+8", "no order")]);
    place(&view("SELECT DISTINCT count(*) AS n FROM s"), &[("4:1+15", "DISTINCT")]);
    place(&view("SELECT device, count(*) AS n FROM s GROUP BY ROLLUP (device)"), &[("4:46+6", "ROLLUP")]);
    for (groups, at) in [
        ("CUBE (device, ts)", "4:46+4"),
        ("ROLLUP(device, ts)", "4:46+6"),
        ("GROUPING SETS ((device), ())", "4:46+13"),
        ("GROUPING SETS (ROLLUP (device), CUBE (ts))", "4:46+13"),
        ("CUBE ((device, ts))", "4:46+4"),
        ("device, ROLLUP (ts)", "4:54+6"),
        ("device WITH ROLLUP", "4:53+11"),
        ("device, ts WITH CUBE", "4:57+9"),
        ("ALL WITH ROLLUP", "4:50+11"),
    ] {
        place(&view(&format!("SELECT device, count(*) AS n FROM s GROUP BY {groups}")), &[(at, "are not maintained")]);
    }
    place(
        &view("SELECT sum(n) AS n FROM (SELECT ts, count(*) AS n FROM s GROUP BY device, CUBE (ts)) AS q"),
        &[("4:75+4", "CUBE")],
    );
    place(
        &view("WITH q AS (SELECT count(*) AS n FROM s GROUP BY ROLLUP (device)) SELECT n FROM q"),
        &[("4:49+6", "ROLLUP")],
    );
    place(
        &view("SELECT count(*) AS n FROM s WHERE device IN (SELECT device FROM s GROUP BY CUBE (device))"),
        &[("4:76+4", "CUBE")],
    );
    place(&view("SELECT count(*) AS n FROM s GROUP BY ()"), &[("4:29+8", "names no group")]);
    place(&view("SELECT device, sum(temperature) OVER (ORDER BY ts) AS n FROM s"), &[("4:16+3", "Window")]);
    place(&view("SELECT count(*) AS _n FROM s"), &[("4:20+2", "`_n`")]);
    place(&view("SELECT count(*) AS n FROM s WHERE ts > CURRENT_TIMESTAMP"), &[("4:40+17", "now()")]);
    // The parser's span of a subquery ends before its bracket.
    place(&view("SELECT count(*) AS n FROM s WHERE device IN (SELECT device FROM s)"), &[("4:35+31", "subqueries")]);
    place(&view("SELECT count(*) AS n FROM s JOIN t ON true"), &[("4:34+1", "joins")]);
    place(&view("SELECT count(*) AS n FROM batch.s"), &[("4:27+7", "`batch.s`")]);
    place(
        &view("SELECT count(DISTINCT device) AS n, count(DISTINCT ts) AS t FROM s GROUP BY 1 + 1"),
        &[("4:8+5", "count(DISTINCT device)"), ("4:37+5", "count(DISTINCT ts)")],
    );
    place("CREATE VIEW v AS SELECT count(*) AS n FROM s", &[("3:8+4", "plain view")]);
}

#[test]
fn what_the_planner_cannot_place_is_narrowed_down() {
    let view = |query: &str| format!("CREATE MATERIALIZED VIEW v AS\n{query}");
    place(&view("SELECT device, 1 + avg(upper(device)) AS n FROM s GROUP BY 1"), &[("4:20+3", "avg")]);
    place(&view("SELECT count(*), count(*) FROM s"), &[("4:18+5", "same name")]);
    place(
        &view("SELECT max(temperature) AS n FROM s WHERE sum(temperature) > 1"),
        &[("4:43+20", "not allowed in the WHERE")],
    );
}

#[test]
fn syntax_errors_do_not_hide_what_follows() {
    expect(
        "CREATE MATERIALIZED VIEW v AS\n  SELEC 1;\nDROP TABLE s CASCADE;",
        &[
            "0:4:3+5 error: Expected: SELECT, VALUES, or a subquery in the query body, found: SELEC",
            "0:5:1+4 error: DROP takes away exactly what it names \
             (Leave out CASCADE and PURGE, and drop the views of a stream first.)",
        ],
    );
}

#[test]
fn warnings_are_told_where_they_arise() {
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n,\n  count(DISTINCT device) AS devices FROM s",
        &["0:4:3+5 warning: the state of count(DISTINCT device) grows with the number of events in a group"],
    );
    expect(
        "DROP VIEW v",
        &["0:3:11+1 warning: the view `v` is not defined in these files \
           (IF EXISTS makes it right whether or not the warehouse has it)"],
    );
}

#[test]
fn names_are_checked_against_each_other() {
    expect(
        "CREATE MATERIALIZED VIEW s AS SELECT count(*) AS n FROM s",
        &["0:3:26+1 error: the stream `s` exists already (use CREATE OR REPLACE, or IF NOT EXISTS)"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM ss",
        &["0:3:57+2 error: the stream `ss` is not defined in these files (did you mean `s`?)"],
    );
    expect(
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s; DROP TABLE s",
        &["0:3:71+1 error: stream `s` is read by the views `v` (drop them first)"],
    );
}

#[tokio::test]
async fn a_drop_does_not_define_what_it_names() {
    let view = "DROP TABLE x; CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM x";
    let told = found(&[view]).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("0:1:12+1 warning"), "{told:?}");
    assert!(told[1].starts_with("0:1:71+1 error"), "{told:?}");
}

#[tokio::test]
async fn what_only_follows_from_an_error_is_not_told() {
    let texts = [
        "CREATE EXTERNAL TABLE x (a UUID) STORED AS KAFKA LOCATION 'x';",
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM x; DROP VIEW v",
    ];
    let told = found(&texts).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("0:1:26+1 error: Column `a`"), "{told:?}");
    let texts = ["CREATE EXTERNAL TABLE x 'open", texts[1]];
    assert_eq!(found(&texts).await, ["0:1:25+1 error: Unterminated string literal"]);
}

#[tokio::test]
async fn a_stream_may_be_in_another_text() {
    let view = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s";
    assert_eq!(found(&[STREAM, view]).await, [] as [&str; 0]);
    let alone = "0:1:57+1 error: the stream `s` is not defined in these files \
        (define it before this view, or name the file that does as well)";
    assert_eq!(found(&[view, STREAM]).await, [alone]);
}
