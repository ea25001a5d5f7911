//! Reading with GET: SQL in a query string, rows of views and streams, values for placeholders, sources, certificates.

use super::*;

/// Percent-encodes what a query string cannot hold.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

impl Server {
    async fn read(&self, path: &str, parameters: &[(&str, &str)]) -> Reply {
        let list: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.get(&format!("{path}?{}", list.join("&"))).await
    }

    /// The rows of an answer, or the code of an error.
    async fn rows(&self, path: &str, parameters: &[(&str, &str)]) -> std::result::Result<Value, String> {
        let reply = self.read(path, parameters).await;
        if reply.status() == 200 {
            return Ok(reply.json::<Value>().await.unwrap()["rows"].clone());
        }
        Err(error(reply).await.1)
    }

    async fn with_params(&self, sql: &str, params: &str) -> std::result::Result<Value, String> {
        let body = format!("{{\"sql\": {}, \"params\": {params}}}", json!(sql));
        let request = self.post("/v1/sql").header("content-type", "application/json").body(body);
        let reply = request.send().await.unwrap();
        if reply.status() == 200 {
            return Ok(reply.json::<Value>().await.unwrap()["rows"].clone());
        }
        Err(error(reply).await.1)
    }
}

#[tokio::test]
async fn sql_is_asked_with_get_and_only_reads() {
    let server = Server::start().await;
    let ask = async |query: &str| server.rows("/v1/sql", &[("query", query)]).await;
    assert_eq!(ask("SELECT readings, devices FROM totals").await, Ok(json!([[70, 4]])));
    assert_eq!(ask("DROP MATERIALIZED VIEW totals").await, Err("forbidden".into()));
    assert_eq!(ask("CREATE MATERIALIZED VIEW w AS SELECT count(*) FROM sensor_data").await, Err("forbidden".into()));
    assert_eq!(ask("SELECT 1; SELECT 2").await, Err("mixed_statements".into()));
    assert_eq!(ask("").await, Err("empty".into()));
    assert_eq!(server.rows("/v1/sql", &[]).await, Err("bad_request".into()));
    assert_eq!(server.rows("/v1/sql", &[("query", "SELECT 1"), ("limit", "5")]).await, Err("bad_request".into()));
    let values = [("query", "SELECT $1 + 1, $2"), ("params", "[41, \"a\"]")];
    assert_eq!(server.rows("/v1/sql", &values).await, Ok(json!([[42, "a"]])));
    let csv = server.read("/v1/sql", &[("query", "SELECT readings AS n FROM totals"), ("format", "csv")]).await;
    assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.text().await.unwrap(), "n\n70\n");
    let batch = [("query", "SELECT readings FROM totals"), ("source", "batch")];
    assert_ne!(server.rows("/v1/sql", &batch).await, Ok(json!([[70]])));
    let head = server.client.head(format!("{}/v1/sql?query=SELECT%201", server.url)).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.headers().contains_key("etag") && head.headers().contains_key("thalweg-frontier"));
    assert!(head.bytes().await.unwrap().is_empty());
    let reply = server.client.delete(format!("{}/v1/sql", server.url)).send().await.unwrap();
    let allowed: std::collections::BTreeSet<String> =
        reply.headers()["allow"].to_str().unwrap().split(',').map(|method| method.trim().to_owned()).collect();
    assert_eq!(allowed, ["GET", "HEAD", "POST"].map(str::to_owned).into());
    assert_eq!(error(reply).await.1, "no_such_method");
}

#[tokio::test]
async fn rows_are_read_without_sql() {
    let server = Server::start().await;
    let ask = async |path: &str, parameters: &[(&str, &str)]| server.rows(path, parameters).await;
    assert_eq!(ask("/v1/views/totals", &[("columns", "readings,devices")]).await, Ok(json!([[70, 4]])));
    let same = "SELECT device, readings FROM device_minutes WHERE readings > 1 AND device <> 'd0' \
                ORDER BY readings DESC, device, minute LIMIT 3 OFFSET 1";
    let parameters = [
        ("columns", "device,readings"),
        ("where", "readings > 1 AND device <> 'd0'"),
        ("order", "readings.desc,device,minute"),
        ("limit", "3"),
        ("offset", "1"),
    ];
    let expect = ask("/v1/sql", &[("query", same)]).await;
    assert!(expect.as_ref().unwrap().as_array().unwrap().len() == 3);
    assert_eq!(ask("/v1/views/device_minutes", &parameters).await, expect);
    let count = ask("/v1/sql", &[("query", "SELECT device FROM sensor_data WHERE _offset >= 40")]).await.unwrap();
    let rows = ask("/v1/streams/sensor_data", &[("columns", "device"), ("where", "_offset >= 40")]).await.unwrap();
    assert_eq!(rows.as_array().unwrap().len(), count.as_array().unwrap().len());
    // Columns that `*` leaves out stay out, also if the condition names them.
    let star = server.read("/v1/streams/sensor_data", &[("limit", "1")]).await.json::<Value>().await.unwrap();
    let keyed = [("where", "_key IS NULL OR _key IS NOT NULL"), ("limit", "1")];
    let keyed = server.read("/v1/streams/sensor_data", &keyed).await.json::<Value>().await.unwrap();
    assert_eq!(keyed["columns"], star["columns"]);

    for (path, parameters, code) in [
        ("/v1/views/nowhere", ("limit", "1"), "not_found"),
        ("/v1/views/sensor_data", ("limit", "1"), "not_found"),
        ("/v1/streams/totals", ("limit", "1"), "not_found"),
        ("/v1/views/Totals", ("limit", "1"), "refused"),
        ("/v1/views/totals%3bx", ("limit", "1"), "refused"),
        ("/v1/views/totals", ("limit", "x"), "bad_request"),
        ("/v1/views/totals", ("readings", "70"), "bad_request"),
        ("/v1/views/totals", ("columns", "nothing"), "invalid_query"),
        ("/v1/views/totals", ("columns", "count(*)"), "invalid_query"),
        ("/v1/views/totals", ("order", "nothing"), "invalid_query"),
        ("/v1/views/totals", ("where", "nothing = 1"), "invalid_query"),
        ("/v1/views/totals", ("where", "true; DROP TABLE sensor_data"), "syntax"),
        ("/v1/views/totals", ("where", "readings IN (SELECT 1)"), "syntax"),
        ("/v1/views/totals", ("where", "true UNION SELECT 1"), "syntax"),
        ("/v1/views/totals", ("where", "1) OR (1 = 1"), "syntax"),
        ("/v1/views/totals", ("where", "readings = $1"), "syntax"),
        ("/v1/views/totals", ("where", "count(*) > 1"), "invalid_query"),
        ("/v1/streams/sensor_data", ("source", "batch"), "bad_option"),
    ] {
        assert_eq!(ask(path, &[parameters]).await, Err(code.to_owned()), "{path} {parameters:?}");
    }
    // Texts with quotes and backslashes stay what they are.
    for text in ["it''s", "\\", "\\''; --", "a\\''b", "''''"] {
        let parameters = [("where", format!("'{text}' = '{text}'")), ("columns", "readings".to_owned())];
        let parameters = parameters.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(ask("/v1/views/totals", &parameters).await, Ok(json!([[70]])), "{text}");
    }
    // A backslash ends no text, so this is one comparison.
    let parameters = [("where", "'\\'' OR true --' = ''"), ("columns", "readings")];
    assert_eq!(ask("/v1/views/totals", &parameters).await, Ok(json!([])));
    let tag = server.get("/v1/views/totals?limit=1").await.headers()["etag"].clone();
    let again = server.client.get(format!("{}/v1/views/totals?limit=1", server.url)).header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn rows_are_read_by_everybody_and_cancel_nothing() {
    let server = Server::start().await;
    // The first request of a server has the number 1, so this one asks for its own end.
    assert_eq!(server.rows("/v1/views/totals", &[("where", "thalweg_cancel(1)")]).await, Err("forbidden".into()));
}

#[tokio::test]
async fn values_take_the_places_of_placeholders() {
    let server = Server::start().await;
    let ask = async |sql: &str, params: &str| server.with_params(sql, params).await;
    let ok = |value: Value| Ok(json!([[value]]));
    assert_eq!(ask("SELECT $1", "[9223372036854775807]").await, ok(json!(i64::MAX)));
    assert_eq!(ask("SELECT $1", "[18446744073709551615]").await, ok(json!(u64::MAX)));
    assert_eq!(ask("SELECT $1", "[0.1]").await, ok(json!(0.1)));
    assert_eq!(ask("SELECT $1", "[0.12345678901234567890123]").await, ok(json!("0.12345678901234567890123")));
    assert_eq!(ask("SELECT $1", "[true]").await, ok(json!(true)));
    assert_eq!(ask("SELECT $1", "[\"it's; $2 -- no comment\"]").await, ok(json!("it's; $2 -- no comment")));
    assert_eq!(ask("SELECT readings FROM totals WHERE readings = $1", "[\"70\"]").await, ok(json!(70)));
    assert_eq!(ask("SELECT readings FROM totals WHERE readings = $1", "[70]").await, ok(json!(70)));
    assert_eq!(ask("SELECT readings FROM totals WHERE readings = $1", "[null]").await, Ok(json!([])));
    assert_eq!(ask("SELECT count(*) FROM device_minutes WHERE device = ANY($1)", "[[]]").await, ok(json!(0)));
    let some = ask("SELECT count(*) FROM device_minutes WHERE device = ANY($1)", "[[\"d1\", \"d2\"]]").await;
    let same =
        server.rows("/v1/sql", &[("query", "SELECT count(*) FROM device_minutes WHERE device IN ('d1', 'd2')")]).await;
    assert_eq!(some, same);
    assert_eq!(ask("SELECT 2 = ANY($1)", "[[1, 2, null]]").await, ok(json!(true)));
    for (sql, params) in [
        ("SELECT $1", "[]"),
        ("SELECT 1", "[1]"),
        ("SELECT $1", "[1, 2]"),
        ("SELECT $1", "[{}]"),
        ("SELECT $1", "[[[1]]]"),
        ("SELECT $1", "[1e400]"),
        ("SELECT readings FROM totals WHERE readings = $1", "[\"many\"]"),
        ("DROP MATERIALIZED VIEW totals", "[1]"),
    ] {
        assert_eq!(ask(sql, params).await, Err("bad_parameter".to_owned()), "{sql} {params}");
    }
    for params in ["1", "{}", "[1", "[NaN]", "[01]", "[.5]", &"[".repeat(50_000)] {
        assert_eq!(ask("SELECT $1", params).await, Err("bad_request".to_owned()), "{params}");
    }
    let huge = format!("[\"{}\"]", "x".repeat(3_000_000));
    assert_eq!(ask("SELECT length($1)", &huge).await, ok(json!(3_000_000)));
}

#[tokio::test]
async fn views_are_read_from_one_layer_and_streams_are_not() {
    let server = Server::start().await;
    let ask = async |sql: &str| server.rows("/v1/sql", &[("query", sql)]).await;
    for layer in ["batch", "speed"] {
        let qualified = ask(&format!("SELECT readings FROM {layer}.totals")).await;
        assert!(qualified.is_ok());
        for sql in [
            format!("SET thalweg.source = '{layer}'; SELECT readings FROM totals"),
            format!("SET thalweg.source = '{layer}'; WITH t AS (SELECT * FROM totals) SELECT readings FROM t"),
        ] {
            assert_eq!(ask(&sql).await, qualified, "{sql}");
        }
        let sql = format!("SET thalweg.source = '{layer}'; SELECT readings FROM public.totals");
        assert_eq!(ask(&sql).await, Ok(json!([[70]])));
        let sql = format!("SET thalweg.source = '{layer}'; SELECT count(*) FROM sensor_data");
        assert_eq!(ask(&sql).await, Err("bad_option".into()));
        let sql = format!("SET thalweg.source = '{layer}'; SELECT count(*) FROM public.sensor_data");
        assert_eq!(ask(&sql).await, Ok(json!([[70]])));
        let sql = format!("SET thalweg.source = '{layer}'; SELECT count(*) FROM generate_series(1, 3)");
        assert_eq!(ask(&sql).await, Ok(json!([[3]])));
    }
    let merged = "SET thalweg.source = 'merged'; SELECT readings FROM totals";
    assert_eq!(ask(merged).await, Ok(json!([[70]])));
    assert_eq!(ask("SET thalweg.source = 'both'; SELECT 1").await, Err("bad_option".into()));
    let body = json!({"sql": "SELECT count(*) FROM totals", "source": "speed"});
    assert_eq!(server.post("/v1/sql").json(&body).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_certificate_names_what_the_answer_was_computed_from() {
    let server = Server::start().await;
    let body = json!({"sql": "SELECT t.readings FROM totals AS t, device_minutes", "certificate": true});
    let reply = server.post("/v1/sql").json(&body).send().await.unwrap();
    let header: Value = serde_json::from_str(reply.headers()["thalweg-certificate"].to_str().unwrap()).unwrap();
    let answer: Value = reply.json().await.unwrap();
    assert_eq!(answer["certificate"], header);
    assert_eq!(header["streams"], json!({"sensor_data": {"0": 47, "1": 33}}));
    let totals = json!({"id": server.world.view_id("totals"), "batch_version": 1, "cut": {"0": 22, "1": 11}});
    assert_eq!(header["views"]["totals"], totals);
    assert_eq!(header["views"].as_object().unwrap().len(), 2);
    assert_eq!(header["sql"], blake3::hash(body["sql"].as_str().unwrap().as_bytes()).to_hex().as_str());
    let plain = server.sql("SELECT readings FROM totals").await;
    assert!(!plain.headers().contains_key("thalweg-certificate"));
    assert_eq!(plain.json::<Value>().await.unwrap().get("certificate"), None);
    let asked = server.post("/v1/sql").header("thalweg-certificate", "true").body("SELECT 1").send().await.unwrap();
    assert_eq!(asked.json::<Value>().await.unwrap()["certificate"]["views"], json!({}));
}

#[tokio::test]
async fn an_answer_says_its_own_frontier_in_sql() {
    let server = Server::start().await;
    let ask = async |sql: &str| server.rows("/v1/sql", &[("query", sql)]).await;
    let frontier = r#"{"0":47,"1":33}"#;
    for sql in [
        "SELECT thalweg_frontier('totals')",
        "SELECT thalweg_frontier('sensor_data')",
        "SELECT thalweg_frontier('public.totals') FROM device_minutes LIMIT 1",
        "SELECT (SELECT thalweg_frontier('speed.totals'))",
    ] {
        assert_eq!(ask(sql).await, Ok(json!([[frontier]])), "{sql}");
    }
    let cut = r#"{"0":22,"1":11}"#;
    assert_eq!(ask("SELECT thalweg_frontier('batch.totals')").await, Ok(json!([[cut]])));
    assert_eq!(ask("SET thalweg.source = 'batch'; SELECT thalweg_frontier('totals')").await, Ok(json!([[cut]])));
    for sql in [
        "SELECT thalweg_frontier('nowhere')",
        "SELECT thalweg_frontier(device) FROM sensor_data",
        "SELECT thalweg_frontier(NULL)",
        "SELECT thalweg_frontier()",
        "SELECT thalweg_frontier(1)",
    ] {
        assert_eq!(ask(sql).await, Err("invalid_query".to_owned()), "{sql}");
    }
    let reply = server.read("/v1/sql", &[("query", "SELECT thalweg_frontier('totals')")]).await;
    assert_eq!(reply.headers()["thalweg-frontier"], format!("{{\"sensor_data\":{frontier}}}"));
    assert_eq!(
        server.with_params("SELECT thalweg_frontier($1)", "[\"totals\"]").await,
        Err("invalid_query".to_owned())
    );
}

#[tokio::test]
async fn the_state_is_told_while_no_query_is_answered() {
    let none = |config: &mut ServingConfig| {
        (config.max_queries, config.max_light_queries, config.max_lost_queries) = (0, 0, 0);
    };
    let server = Server::configured(World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await, none).await;
    assert_eq!(server.rows("/v1/sql", &[("query", "SELECT * FROM thalweg.streams")]).await, Err("too_busy".into()));
    for (path, list) in [("/v1/streams", "streams"), ("/v1/views", "views")] {
        let told: Value = server.get(path).await.json().await.unwrap();
        assert!(told[list].as_array().is_some_and(|list| !list.is_empty()), "{path}: {told}");
    }
    assert_eq!(server.get("/v1/process").await.status(), 200);
}
