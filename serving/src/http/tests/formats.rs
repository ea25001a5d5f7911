//! Formats, compression and broken answers, as clients see them.

use arrow::ipc::reader::StreamReader;
use axum::body::Bytes;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

const MANY: &str = "SELECT value, 'x' AS x FROM generate_series(1, 300000)";

/// Fails after many rows.
const BREAKS: &str =
    "SELECT 10 / (value - 200000) AS q, 'a text that takes its place' AS t FROM generate_series(1, 300000)";

impl Server {
    async fn as_format(&self, sql: &str, format: AnswerFormat) -> Reply {
        let request = self.post("/v1/sql").header("accept", format.media_type());
        request.body(sql.to_owned()).send().await.unwrap()
    }
}

fn arrow_rows(bytes: &[u8]) -> usize {
    let batches = StreamReader::try_new(bytes, None).unwrap();
    batches.map(|batch| batch.unwrap().num_rows()).sum()
}

fn parquet_rows(bytes: Bytes) -> usize {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap().num_rows()).sum()
}

#[tokio::test]
async fn every_format_has_all_rows() {
    let server = Server::start().await;
    for (sql, expect) in
        [("SELECT readings, devices FROM totals", 1), (MANY, 300_000), ("SELECT 1 AS n WHERE false", 0)]
    {
        for format in AnswerFormat::ALL {
            let reply = server.as_format(sql, format).await;
            assert_eq!(reply.status(), 200, "{format:?}");
            assert_eq!(reply.headers()["content-type"], format.content_type(), "{format:?}");
            assert!(reply.headers().contains_key("thalweg-frontier"));
            assert_eq!(reply.headers()["vary"], "accept, accept-encoding");
            let bytes = reply.bytes().await.unwrap();
            let lines = || bytes.iter().filter(|byte| **byte == b'\n').count();
            let rows = match format {
                AnswerFormat::Json => {
                    serde_json::from_slice::<Value>(&bytes).unwrap()["rows"].as_array().unwrap().len()
                }
                AnswerFormat::Csv => lines() - 1,
                AnswerFormat::Ndjson => lines(),
                AnswerFormat::Arrow => arrow_rows(&bytes),
                AnswerFormat::Parquet => parquet_rows(bytes.clone()),
            };
            assert_eq!(rows, expect, "{format:?}");
        }
    }
    let reply = server.as_format("SELECT 1 AS a, 2 AS a", AnswerFormat::Ndjson).await;
    let (status, code, body) = error(reply).await;
    assert_eq!((status, code.as_str()), (400, "refused"));
    assert!(body["message"].as_str().unwrap().contains("several columns `a`"), "{body}");
    // Nested values, a type that Parquet lacks, and an answer without columns' values.
    let nested = "SELECT [1, NULL] AS l, named_struct('a', 'b') AS s, CAST(1.5 AS DECIMAL(20, 5)) AS d, NULL AS n";
    for format in AnswerFormat::ALL {
        assert_eq!(server.as_format(nested, format).await.status(), 200, "{format:?}");
    }
    let reply = server.as_format("SELECT INTERVAL '1 month' AS i", AnswerFormat::Parquet).await;
    assert_eq!(error(reply).await.1, "refused");
}

#[tokio::test]
async fn the_frontier_goes_with_the_file() {
    let server = Server::start().await;
    let sql = "SET thalweg.certificate = true; SELECT readings FROM totals";
    let bytes = server.as_format(sql, AnswerFormat::Arrow).await.bytes().await.unwrap();
    let schema = StreamReader::try_new(&bytes[..], None).unwrap().schema();
    let frontier = r#"{"sensor_data":{"0":47,"1":33}}"#;
    assert_eq!(schema.metadata()["thalweg-frontier"], frontier);
    assert!(schema.metadata()["thalweg-certificate"].contains("batch_version"));
    let bytes = server.as_format(sql, AnswerFormat::Parquet).await.bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let facts = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let fact = facts.iter().find(|fact| fact.key == "thalweg-frontier").unwrap();
    assert_eq!(fact.value.as_deref(), Some(frontier));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_whole_in_no_format() {
    let server = Server::start().await;
    for format in AnswerFormat::ALL {
        for coding in ["identity", "gzip", "zstd"] {
            let request = server.post("/v1/sql").header("accept", format.media_type());
            let reply = request.header("accept-encoding", coding).body(BREAKS).send().await.unwrap();
            if reply.status() == 200 {
                assert!(reply.bytes().await.is_err(), "{format:?} {coding}");
            } else {
                // A row group is sent when it is full, so the failure is known before the head.
                assert_eq!((format, error(reply).await.1.as_str()), (AnswerFormat::Parquet, "query_failed"));
            }
        }
    }
}

#[tokio::test]
async fn answers_are_compressed_if_the_client_wants_and_if_it_pays() {
    let server = Server::start().await;
    let ask = async |sql: &str, accept: &str, coding: &str| {
        let request = server.post("/v1/sql").header("accept", accept).header("accept-encoding", coding);
        request.body(sql.to_owned()).send().await.unwrap()
    };
    let coding = |reply: &Reply| reply.headers().get("content-encoding").map(|v| v.to_str().unwrap().to_owned());
    let gzip = Some("gzip".to_owned());
    let plain = ask(MANY, "text/csv", "identity").await;
    assert_eq!(coding(&plain), None);
    let plain = plain.bytes().await.unwrap();
    for (accepted, expect) in [("gzip", "gzip"), ("zstd", "zstd"), ("gzip;q=0.5, zstd", "zstd"), ("br, gzip", "gzip")] {
        let reply = ask(MANY, "text/csv", accepted).await;
        assert_eq!(coding(&reply).as_deref(), Some(expect), "{accepted}");
        assert_eq!(reply.headers()["vary"], "accept, accept-encoding");
        assert!(reply.bytes().await.unwrap().len() * 2 < plain.len(), "{accepted}");
    }
    assert_eq!(coding(&ask(MANY, "text/csv", "br").await), None);
    assert_eq!(coding(&ask("SELECT repeat('x', 100000) AS x", "text/csv", "gzip").await), gzip);
    assert_eq!(coding(&ask("SELECT 1", "text/csv", "gzip").await), None);
    assert_eq!(coding(&ask(MANY, "application/vnd.apache.parquet", "gzip").await), None);
    let views = server.client.get(format!("{}/v1/openapi.json", server.url)).header("accept-encoding", "gzip");
    assert_eq!(coding(&views.send().await.unwrap()), gzip);
}

#[tokio::test]
async fn http_1_0_is_given_no_stream_whose_end_it_cannot_see() {
    let server = Server::start().await;
    let ask = async |format: AnswerFormat, sql: &str| {
        let head = format!("POST /v1/sql HTTP/1.0\r\nhost: localhost\r\naccept: {}\r\n", format.media_type());
        let reply = server.raw(&format!("{head}content-length: {}\r\n\r\n{sql}", sql.len())).await;
        reply.split(' ').nth(1).unwrap().to_owned()
    };
    for format in [AnswerFormat::Csv, AnswerFormat::Ndjson] {
        assert_eq!(ask(format, MANY).await, "400");
        assert_eq!(ask(format, "SELECT 1 AS n").await, "200");
    }
    assert_eq!(ask(AnswerFormat::Json, MANY).await, "200");
}

#[tokio::test]
async fn a_parquet_file_takes_little_memory_however_long_it_is() {
    let world = World::standing(&at(30, 20), &at(22, 11), &at(47, 33)).await;
    let server = Server::configured(world, |config| config.query_memory = 128 << 20).await;
    let sql =
        "SELECT value, value * 7919 % 1000003 AS other, md5(CAST(value AS TEXT)) AS t FROM generate_series(1, 2000000)";
    let mut reply = server.as_format(sql, AnswerFormat::Parquet).await;
    assert_eq!(reply.status(), 200);
    let mut bytes = 0;
    while let Some(chunk) = reply.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    assert!(bytes > 32 << 20, "{bytes}");
}
