//! Registries that answer, that do not, and that answer nonsense: a server of the test gives the answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use thalweg_kit::definitions::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::connections::KafkaConnections;

/// A server that gives these answers, in HTTP, by path, and 404 for others. Returns its address, and what was asked.
async fn server(answers: &[(&'static str, String)]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers: BTreeMap<&str, String> = answers.iter().cloned().collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = client.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            log.lock().unwrap().push(request);
            let missing = answer("404 Not Found", "application/json", "");
            let answer = answers.get(path.as_str()).unwrap_or(&missing);
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn schema(text: &str, more: &str) -> String {
    let text = serde_json::Value::from(text);
    answer("200 OK", "application/json", &format!("{{\"schema\":{text}{more}}}"))
}

fn open(properties: &[(&str, &str)]) -> Result<SchemaRegistry> {
    let default = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let kafka = KafkaConnections { default, ..KafkaConnections::default() };
    SchemaRegistry::open(&SpeedConfig { kafka, ..SpeedConfig::default() }, &stream("s", &[]))
}

async fn fetch(url: &str, id: u32) -> Result<FetchedSchema, Unfetched> {
    open(&[(URL, url)]).unwrap().fetch(SchemaId::Number(id)).await
}

#[tokio::test]
async fn the_newest_schema_of_a_subject_is_found() {
    let newest =
        answer("200 OK", "application/json", "{\"subject\":\"t-value\",\"version\":3,\"id\":7,\"schema\":\"x\"}");
    let unknown = answer("404 Not Found", "application/json", "{\"error_code\":40401,\"message\":\"no\"}");
    let (url, _) =
        server(&[("/subjects/t-value/versions/latest", newest), ("/subjects/u-value/versions/latest", unknown)]).await;
    let registry = open(&[(URL, &format!("http://127.0.0.1:1,{url}"))]).unwrap();
    assert_eq!(registry.newest("t-value").await, Ok(7));
    let refused = registry.newest("u-value").await.unwrap_err();
    assert_eq!((refused.reason, refused.is_unknown), (format!("the registry at {url} has no subject `u-value`"), true));
    assert!(!registry.newest("w-value").await.unwrap_err().is_unknown);
}

#[tokio::test]
async fn schemas_come_with_what_they_refer_to() {
    let refers = |to: &str| format!(",\"references\":[{to}]");
    let to = |subject: &str| format!("{{\"name\":\"n\",\"subject\":\"{subject}\",\"version\":1}}");
    let both = refers(&format!("{},{}", to("a"), to("b c")));
    let (url, asked) = server(&[
        ("/base/schemas/ids/7", schema("seven", &both)),
        ("/base/subjects/a/versions/1", schema("a", &refers(&to("b c")))),
        ("/base/subjects/b%20c/versions/1", schema("b", "")),
        ("/base/schemas/ids/8", schema("eight", ",\"schemaType\":\"PROTOBUF\"")),
        ("/base/schemas/guids/00000000-0000-0000-0000-000000000005", schema("five", ",\"schemaType\":\"AVRO\"")),
    ])
    .await;
    let registry = open(&[(URL, &format!("http://127.0.0.1:1, {url}/base/")), (USER_INFO, "me:secret")]).unwrap();
    for _ in 0..2 {
        let seven = registry.fetch(SchemaId::Number(7)).await.unwrap();
        let seven = seven.unwrap();
        let texts: Vec<&str> = seven.references.iter().map(|reference| reference.text.as_str()).collect();
        assert_eq!((seven.kind, seven.text.as_str(), texts), (SchemaKind::Avro, "seven", vec!["b", "a"]));
    }
    assert_eq!(asked.lock().unwrap().len(), 3, "what was fetched is kept");
    assert!(asked.lock().unwrap()[0].to_lowercase().contains("authorization: basic bwu6c2vjcmv0"));
    let eight = registry.fetch(SchemaId::Number(8)).await.unwrap().unwrap();
    assert_eq!((eight.kind, eight.text.as_str()), (SchemaKind::Protobuf, "eight"));
    let five = uuid::Uuid::from_u128(5);
    assert_eq!(registry.fetch(SchemaId::Guid(five)).await.unwrap().unwrap().text, "five");
}

#[tokio::test]
async fn imports_of_protobuf_come_under_each_of_their_names() {
    let to = |name: &str| format!("{{\"name\":\"{name}\",\"subject\":\"a\",\"version\":1}}");
    let both = |kind: &str| format!(",\"schemaType\":\"{kind}\",\"references\":[{},{}]", to("x.proto"), to("y.proto"));
    let (url, _) = server(&[
        ("/schemas/ids/7", schema("seven", &both("PROTOBUF"))),
        ("/schemas/ids/8", schema("eight", &both("AVRO"))),
        ("/subjects/a/versions/1", schema("a", "")),
    ])
    .await;
    for (id, names) in [(7, vec!["x.proto", "y.proto"]), (8, vec!["x.proto"])] {
        let found = fetch(&url, id).await.unwrap().unwrap();
        let found: Vec<&str> = found.references.iter().map(|reference| reference.name.as_str()).collect();
        assert_eq!(found, names);
    }
}

/// Of several versions of a file, the schema's own counts, then the newest of those at one distance.
#[tokio::test]
async fn the_nearest_version_of_an_import_counts() {
    let to = |name: &str, version: u32| format!("{{\"name\":\"{name}\",\"subject\":\"{name}\",\"version\":{version}}}");
    let refers = |to: &[String]| format!(",\"schemaType\":\"PROTOBUF\",\"references\":[{}]", to.join(","));
    let (url, _) = server(&[
        ("/schemas/ids/1", schema("one", &refers(&[to("m", 2), to("b", 1)]))),
        ("/schemas/ids/2", schema("two", &refers(&[to("b", 1), to("m", 2)]))),
        ("/schemas/ids/3", schema("three", &refers(&[to("c", 1), to("b", 1)]))),
        ("/schemas/ids/4", schema("four", &refers(&[to("b", 1), to("c", 1)]))),
        ("/subjects/m/versions/1", schema("m1", &refers(&[to("b", 1)]))),
        ("/subjects/m/versions/2", schema("m2", &refers(&[to("b", 1)]))),
        ("/subjects/b/versions/1", schema("b", &refers(&[to("m", 1)]))),
        ("/subjects/c/versions/1", schema("c", &refers(&[to("m", 2)]))),
    ])
    .await;
    for id in 1..=4 {
        let found = fetch(&url, id).await.unwrap().unwrap();
        let found = found.references.iter().find(|reference| reference.name == "m").unwrap();
        assert_eq!(found.text, "m2", "{id}");
    }
}

#[tokio::test]
async fn what_is_no_schema_says_why() {
    let unknown = "{\"error_code\":40403,\"message\":\"x\"}";
    let gone = ",\"references\":[{\"name\":\"n\",\"subject\":\"gone\",\"version\":3}]";
    let (url, _) = server(&[
        ("/schemas/ids/1", answer("404 Not Found", "application/json", unknown)),
        ("/schemas/ids/3", answer("200 OK", "text/html", "<html>")),
        ("/schemas/ids/4", answer("200 OK", "application/json", "{\"id\": 4}")),
        ("/schemas/ids/5", answer("500 Internal Server Error", "text/plain", "oops")),
        ("/schemas/ids/6", answer("401 Unauthorized", "text/plain", "")),
        ("/schemas/ids/7", schema("seven", gone)),
        ("/subjects/gone/versions/3", answer("404 Not Found", "application/json", "{\"error_code\":40402}")),
        ("/schemas/ids/8", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned()),
        ("/schemas/ids/9", "nonsense".to_owned()),
        ("/schemas/ids/10", answer("200 OK", "application/json", &" ".repeat(LARGEST_ANSWER + (1 << 20)))),
    ])
    .await;
    let secret = url.replace("http://", "http://me:hunter2@");
    for (id, part) in [
        (1, "has no schema 1;"),
        (2, "answers 404; is schema.registry.url"),
        (3, "answers with text/html and no schema"),
        (4, "answers with application/json and no schema"),
        (5, "answers 500"),
        (6, "refuses the credentials (401"),
        (7, "version 3 of the subject `gone`, which schema 7 refers to: the registry"),
        (8, "broke off"),
        (9, "does not answer"),
        (10, "answers with more than 16 MiB"),
    ] {
        let Unfetched { reason: why, is_unknown } = fetch(&secret, id).await.unwrap_err();
        assert_eq!(is_unknown, id == 1);
        assert!(why.contains(part) && why.contains("127.0.0.1") && !why.contains("hunter2"), "{id}: {why}");
    }
    let why = fetch("http://127.0.0.1:1", 1).await.unwrap_err().reason;
    assert!(why.starts_with("the registry at http://127.0.0.1:1 does not answer: "), "{why}");
}

#[test]
fn settings_that_lead_to_no_registry() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("ca.pem");
    std::fs::write(&empty, "hunter2").unwrap();
    let empty = empty.display().to_string();
    let good = (URL, "http://r:1");
    for (properties, part) in [
        (&[][..], "[kafka] does not say where the schema registry is"),
        (&[(URL, "")], "[kafka] does not say where the schema registry is"),
        (&[(URL, "registry:8081")], "schema.registry.url in [kafka]"),
        (&[(URL, "ftp://registry")], "no address like"),
        (&[(URL, "http://r:1,,")], "no address like"),
        (&[(URL, "${env:THALWEG_TEST_NOT_SET}")], "is not set"),
        (&[good, (AUTHORITY, "/no/such/file")], "/no/such/file cannot be read"),
        (&[good, (AUTHORITY, &empty)], "holds no certificate in PEM"),
    ] {
        let error = open(properties).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(part) && !said.contains("hunter2"), "{said}");
        assert_eq!(error.fault(), thalweg_schemas::Fault::User);
    }
}
