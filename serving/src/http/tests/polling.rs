//! Entity tags, polling, and queries that are computed once.

use thalweg_schemas::catalog::{Catalog, CatalogStream};
use thalweg_schemas::warehouse::versions::{BatchVersion, Published};

use super::*;

const TOTALS: &str = "SELECT readings, devices FROM totals";

impl Server {
    /// Asks with the tag of an earlier answer.
    async fn poll(&self, sql: &str, tag: &str) -> Reply {
        self.post("/v1/sql").header("if-none-match", tag).body(sql.to_owned()).send().await.unwrap()
    }

    async fn tag(&self, sql: &str) -> Option<String> {
        let reply = self.sql(sql).await;
        assert_eq!(reply.status(), 200, "{sql}");
        assert_eq!(reply.headers()["cache-control"], "no-cache");
        tag_of(&reply)
    }

    /// Publishes the batch states again, as new versions.
    fn publish_again(&self) {
        let published = Arc::clone(&self.world.published.borrow());
        let again = |version: &BatchVersion| Arc::new(BatchVersion { version: version.version + 1, ..version.clone() });
        let versions = published.versions.iter().map(|(id, version)| (id.clone(), again(version)));
        self.world.published.send_replace(Arc::new(Published { versions: versions.collect() }));
    }

    /// How many requests ended with `outcome`.
    fn ended(&self, outcome: &str) -> u64 {
        let text = crate::status::exposition::encode(&self.world.sources, &StreamConditions::default()).unwrap();
        let line = format!("thalweg_query_seconds_count{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    /// Waits until so many requests ended with `outcome`: one is counted after its last byte was sent.
    async fn until_ended(&self, outcome: &str, count: u64) {
        let ended = async {
            while self.ended(outcome) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap_or_else(|_| {
            panic!("{} ended as {outcome}, not {count}", self.ended(outcome));
        });
    }
}

fn tag_of(reply: &Reply) -> Option<String> {
    Some(reply.headers().get("etag")?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_unchanged_view_is_304_without_a_query_and_a_new_event_is_200() {
    let server = Server::start().await;
    let tag = server.tag(TOTALS).await.unwrap();
    server.until_ended("ok", 1).await;
    for number in 1..=3 {
        let reply = server.poll(TOTALS, &tag).await;
        assert_eq!(reply.status(), 304);
        assert_eq!(tag_of(&reply).unwrap(), tag);
        assert_eq!(reply.headers()["cache-control"], "no-cache");
        assert_eq!(reply.headers()["vary"], "accept, accept-encoding");
        assert!(reply.bytes().await.unwrap().is_empty());
        server.until_ended("unchanged", number).await;
    }
    assert_eq!(server.ended("ok"), 1, "no query ran");

    // The next snapshot has one more event.
    let next = server.world.snapshot(&at(30, 20), &at(22, 11), &at(48, 33)).await;
    server.world.snapshots.send_replace(Some(Arc::new(next)));
    let reply = server.poll(TOTALS, &tag).await;
    assert_eq!(reply.status(), 200);
    let changed = tag_of(&reply).unwrap();
    assert_ne!(changed, tag);
    assert_eq!(server.poll(TOTALS, &changed).await.status(), 304);
    assert_eq!(server.poll(TOTALS, &format!("\"x\", {changed}")).await.status(), 304);

    // A new batch version at the same frontier changes no answer.
    server.publish_again();
    assert_eq!(server.poll(TOTALS, &changed).await.status(), 304);
}

#[tokio::test]
async fn a_tag_is_of_all_that_an_answer_depends_on() {
    let server = Server::start().await;
    let tag = server.tag(TOTALS).await.unwrap();
    assert!(tag.starts_with("W/\"") && tag.ends_with('"'), "{tag}");
    assert_eq!(server.tag(TOTALS).await.unwrap(), tag);
    let mut tags = vec![tag];
    for other in [
        "SELECT devices, readings FROM totals",
        "SELECT readings, devices FROM totals ",
        "SELECT readings, devices FROM batch.totals",
        "SET thalweg.source = 'batch'; SELECT readings, devices FROM totals",
        "SET thalweg.source = 'speed'; SELECT readings, devices FROM totals",
        "SET thalweg.certificate = true; SELECT readings, devices FROM totals",
        "SELECT count(*) FROM sensor_data",
        "SELECT count(*) FROM rejects.sensor_data",
        "SELECT thalweg_frontier('totals')",
        "SELECT 1",
    ] {
        tags.push(server.tag(other).await.unwrap());
    }
    for format in ["csv", "ndjson", "arrow", "parquet"] {
        let reply = server.post(&format!("/v1/sql?format={format}")).body(TOTALS).send().await.unwrap();
        tags.push(tag_of(&reply).unwrap());
    }
    for value in
        [json!(1), json!("1"), json!(1.0), json!(true), json!(null), json!([1]), json!(["1", "2"]), json!(["1, 2"])]
    {
        let body = json!({"sql": "SELECT $1 AS v, readings FROM totals", "params": [value]});
        let reply = server.post("/v1/sql").json(&body).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{body}");
        tags.push(tag_of(&reply).unwrap());
    }
    let counted = "SELECT count(*) FROM sensor_data";
    let reply = server.post("/v1/sql").header("thalweg-certificate", "true").body(counted).send().await.unwrap();
    tags.push(tag_of(&reply).unwrap());
    let count = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), count, "{tags:?}");

    for sql in [
        "SELECT now(), readings FROM totals",
        "SELECT random()",
        "SELECT * FROM device_minutes WHERE minute < current_timestamp",
        "SHOW TABLES",
        "SELECT table_name FROM information_schema.tables",
        "EXPLAIN SELECT readings FROM totals",
        "SELECT 'totals'::regclass",
        "SELECT 'totals'::regclass::oid, readings FROM totals",
    ] {
        assert_eq!(server.tag(sql).await, None, "{sql}");
        assert_eq!(server.poll(sql, "*").await.status(), 200, "{sql}");
    }
    assert_eq!(tag_of(&server.sql("SELECT nothing FROM totals").await), None);
    assert_eq!(server.poll("SELECT nothing FROM nowhere", "*").await.status(), 400);
}

#[tokio::test]
async fn any_answer_is_known_once_there_is_one() {
    let server = Server::start().await;
    let check = async |sql: &str, status: u16, ended: &str, count: u64| {
        let url = format!("{}/v1/sql", server.url);
        let reply = server.client.get(url).query(&[("query", sql)]).header("if-none-match", "*").send().await.unwrap();
        assert_eq!(reply.status(), status, "{sql}");
        server.until_ended(ended, count).await;
        reply
    };
    check("SELECT nothing FROM totals", 400, "invalid_query", 1).await;
    check("SELECT 1 / (readings - readings) FROM totals", 400, "query_failed", 1).await;
    let reply = check(TOTALS, 304, "ok", 1).await;
    assert_eq!(tag_of(&reply), server.tag(TOTALS).await);
    // The answer is kept, and nothing is computed for whoever wants none.
    check(TOTALS, 304, "shared", 2).await;
    check("SELECT now()", 200, "ok", 2).await;
}

#[tokio::test]
async fn a_stream_that_starts_over_has_other_tags() {
    let server = Server::start().await;
    let queries = [TOTALS, "SELECT count(*) FROM sensor_data"];
    let tags = [server.tag(queries[0]).await.unwrap(), server.tag(queries[1]).await.unwrap()];
    // The same definitions, origin and frontier, and other messages.
    let mut catalog = Catalog::clone(&server.world.catalog.borrow());
    for stream in catalog.streams.values_mut() {
        *stream = Arc::new(CatalogStream { predecessors: 1, ..CatalogStream::clone(stream) });
    }
    server.world.catalog.send_replace(Arc::new(catalog));
    for (sql, tag) in queries.iter().zip(tags) {
        let reply = server.poll(sql, &tag).await;
        assert_eq!(reply.status(), 200, "{sql}");
        assert_ne!(tag_of(&reply).unwrap(), tag);
    }
}

#[tokio::test]
async fn one_layer_alone_has_the_tag_of_its_border() {
    let server = Server::start().await;
    let batch = "SELECT readings FROM batch.totals";
    let tag = server.tag(batch).await.unwrap();
    assert_eq!(server.sql(batch).await.headers()["thalweg-frontier"], r#"{"sensor_data":{"0":22,"1":11}}"#);
    assert_eq!(server.poll(batch, &tag).await.status(), 304);
    server.publish_again();
    let reply = server.poll(batch, &tag).await;
    assert_eq!(reply.status(), 200);
    assert_ne!(tag_of(&reply).unwrap(), tag);
}

#[tokio::test]
async fn equal_queries_are_computed_once() {
    let server = Server::start().await;
    let slow = "SELECT count(*) AS n FROM generate_series(1, 1000000) AS a(v) WHERE md5(CAST(v AS TEXT)) < '1'";
    let ask = || server.sql(slow);
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    let tags = [&first, &second, &third].map(tag_of);
    assert!(tags[0].is_some() && tags[0] == tags[1] && tags[1] == tags[2]);
    let bodies = [first.text().await.unwrap(), second.text().await.unwrap(), third.text().await.unwrap()];
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2]);
    server.until_ended("shared", 2).await;
    server.until_ended("ok", 1).await;
    // A kept answer is given later, too; and in another format the query runs again.
    assert_eq!(server.sql(slow).await.text().await.unwrap(), bodies[0]);
    server.until_ended("shared", 3).await;
    let csv = server.post("/v1/sql?format=csv").body(slow).send().await.unwrap();
    assert_eq!(csv.status(), 200);
    server.until_ended("ok", 2).await;
    let text = crate::status::exposition::encode(&server.world.sources, &StreamConditions::default()).unwrap();
    assert!(text.contains("thalweg_kept_answers 2"), "{text}");
}

#[tokio::test]
async fn what_is_not_the_same_is_computed_for_everybody() {
    let server = Server::start().await;
    let queries = ["SELECT random() AS r", "SELECT value, 'long enough' AS t FROM generate_series(1, 100000)"];
    for (number, sql) in (1..).zip(queries) {
        let (first, second) = tokio::join!(server.sql(sql), server.sql(sql));
        let (first, second) = (first.text().await.unwrap(), second.text().await.unwrap());
        assert_eq!(first == second, number == 2, "{sql}");
        server.until_ended("ok", 2 * number).await;
    }
    let failing = "SELECT 1 / (value - 5) AS q FROM generate_series(1, 10)";
    let (first, second) = tokio::join!(server.sql(failing), server.sql(failing));
    assert_eq!((first.status(), second.status()), (first.status(), first.status()));
    assert_eq!(error(first).await.1, "query_failed");
    server.until_ended("query_failed", 2).await;
    assert_eq!(server.ended("shared"), 0);
    let server = Server::with(|config| config.kept_answers = 0).await;
    for number in 1..=2 {
        server.tag(TOTALS).await.unwrap();
        server.until_ended("ok", number).await;
    }
}

impl Server {
    /// Sends a query, and returns once so many requests are under way.
    async fn begin(&self, sql: &str, under_way: i64) -> JoinHandle<reqwest::Result<Reply>> {
        let sent = tokio::spawn(self.post("/v1/sql").body(sql.to_owned()).send());
        while self.world.sources.metrics.queries().running < under_way {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sent
    }
}

/// A heavy query that runs for long, with a text that is not short.
fn endless(name: &str) -> String {
    let sql = format!("SELECT count(*) AS {name} FROM generate_series(1, 100000000000) AS a(v) WHERE v % 7 <> 8");
    format!("{sql} -- {}", "x".repeat(5_000))
}

#[tokio::test]
async fn who_waits_has_no_place_and_can_be_cancelled() {
    let server = Server::with(|config| {
        config.max_queries = 2;
        config.queue_wait = Duration::from_secs(5);
    })
    .await;
    let _first = server.begin(&endless("a"), 1).await;
    let waits = server.begin(&endless("a"), 2).await;
    // The second place is free for another heavy query.
    let other = format!("SELECT count(*) AS n FROM sensor_data -- {}", "x".repeat(5_000));
    assert_eq!(server.sql(&other).await.status(), 200);
    let cancel = "SELECT thalweg_cancel(max(id)) AS done FROM thalweg.queries WHERE state = 'running' AND query LIKE \
                  'SELECT count(*) AS a %'";
    assert_eq!(server.sql(cancel).await.json::<Value>().await.unwrap()["rows"], json!([[true]]));
    let cancelled = tokio::time::timeout(Duration::from_secs(5), waits).await.unwrap();
    assert_eq!(error(cancelled.unwrap().unwrap()).await.1, "cancelled");
    // The first one goes on, and a client that vanishes ends its wait.
    let vanishes = server.begin(&endless("a"), 2).await;
    vanishes.abort();
    let ended = async {
        while server.world.sources.metrics.queries().running > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn who_waits_in_vain_has_the_whole_time_of_a_query() {
    let server = Server::with(|config| config.query_timeout = Duration::from_secs(2)).await;
    let slow = "SELECT count(*) AS n FROM generate_series(1, 100000000000) AS a(v) WHERE md5(CAST(v AS TEXT)) < '1'";
    let first = server.begin(slow, 1).await;
    // The second one still waits when the time of the first one is over.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = std::time::Instant::now();
    let second = server.begin(slow, 2).await;
    assert_eq!(first.await.unwrap().unwrap().status(), 504);
    assert_eq!(second.await.unwrap().unwrap().status(), 504);
    // It waited for a second and a half, and then had two seconds of its own.
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_waits_goes_on_when_the_first_client_leaves() {
    let server = Server::start().await;
    let slow = "SELECT count(*) AS n FROM generate_series(1, 1500000) AS a(v) WHERE md5(CAST(v AS TEXT)) < '1'";
    let first = tokio::spawn(server.post("/v1/sql").body(slow).send());
    while server.world.sources.metrics.queries().running == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = tokio::spawn(server.post("/v1/sql").body(slow).send());
    while server.world.sources.metrics.queries().running < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    first.abort();
    assert_eq!(second.await.unwrap().unwrap().status(), 200);
}
