//! Rejects of a real archive, read again by a decoder that takes more than the one that wrote them.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use futures::FutureExt;
use thalweg_kit::definitions;
use thalweg_kit::positions::at;
use thalweg_kit::world::warehouse_in_memory;
use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::decode::Decoder;
use thalweg_schemas::definition::parse;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::warehouse::parquet::ParquetFiles;

use super::*;

fn stream() -> StreamDefinition {
    definitions::stream("s", &[("n", DataType::Int64)])
}

/// An archive whose partitions 0 and 1 have a row at even offsets, and a reject at odd ones.
async fn archive() -> (Warehouse, CatalogStream) {
    let warehouse = warehouse_in_memory();
    let catalogs = CatalogStore::new(warehouse.clone());
    let sql = "CREATE EXTERNAL TABLE s (n BIGINT) STORED AS KAFKA LOCATION 's'";
    catalogs.apply(parse(sql).unwrap()).await.unwrap();
    let stream = catalogs.load().await.unwrap().streams.values().next().unwrap().as_ref().clone();
    append(&warehouse, &stream, &[(0, 0), (1, 0)], &[(0, 6), (1, 4)]).await;
    (warehouse, stream)
}

async fn append(warehouse: &Warehouse, stream: &CatalogStream, from: &[(i32, i64)], to: &[(i32, i64)]) {
    let (from, to) = (at(from), at(to));
    let mut written = Messages::new();
    for (partition, end) in to.iter() {
        for offset in from.get(partition).0..end.0 {
            let text = if offset % 2 == 0 { format!(r#"{{"n": {offset}}}"#) } else { format!("bad {offset}") };
            written.push(partition, Offset(offset), Some(1000 + offset), Some(text.as_bytes()));
            written.set_key(format!("k{offset}").as_bytes());
            written.add_header("h", Some(b"v"));
            written.add_header("none", None);
        }
    }
    let rows = Decoder::new(&stream.definition).unwrap().decode(&written).unwrap().rows;
    let mut archive = Archive::open(warehouse, &stream.definition, stream.origin.clone()).await.unwrap();
    let stream = stream.definition.name.clone();
    let epoch = Epoch { stream, from, to, rows: vec![rows], mark: true, last: HashMap::new() };
    assert!(matches!(archive.commit(&epoch).await.unwrap(), EpochOutcome::Landed(_)));
}

/// Reads `bad N` as the number N, if N is below `limit`.
fn lenient(limit: i64) -> impl Fn(Messages) -> Redecoded {
    move |messages| {
        let decoder = Decoder::new(&stream()).unwrap();
        let rejects = decoder.decode(&messages).unwrap().rows;
        let mut repaired = Messages::new();
        for row in 0..rejects.num_rows() {
            let text = String::from_utf8(rejects[PAYLOAD].as_binary::<i32>().value(row).to_vec()).unwrap();
            let n: i64 = text.strip_prefix("bad ").unwrap().parse().unwrap();
            let text = if n < limit { format!(r#"{{"n": {n}}}"#) } else { text };
            let partition = Partition(rejects[PARTITION].as_primitive::<Int32Type>().value(row));
            let offset = Offset(rejects[OFFSET].as_primitive::<Int64Type>().value(row));
            repaired.push(partition, offset, Some(0), Some(text.as_bytes()));
            repaired.set_key(rejects["_key"].as_binary::<i32>().value(row));
        }
        async move { Ok(decoder.decode(&repaired).unwrap().rows) }.boxed()
    }
}

async fn retried_with(
    warehouse: &Warehouse,
    stream: &CatalogStream,
    condition: Option<&str>,
    decode: impl Fn(Messages) -> Redecoded,
) -> Result<(u64, u64)> {
    let scope = RetryScope { condition: condition.map(str::to_owned), dry_run: false };
    let done = retry_rejects(warehouse, stream, &scope, &BatchConfig::default(), decode, |_| ()).await?;
    Ok((done.read, done.entered))
}

/// The amendments: offset, source, key and value.
async fn amendments(warehouse: &Warehouse, stream: &CatalogStream) -> Vec<(i64, String, String, i64)> {
    let mut archive = Archive::open(warehouse, &stream.definition, stream.origin.clone()).await.unwrap();
    let version = archive.latest().await.unwrap();
    let end = version.frontier.get(Partition::RETRIED);
    assert_eq!(version.mark.get(Partition::RETRIED), end, "every amendment is a mark");
    if end == Offset(0) {
        return Vec::new();
    }
    let schema = stream.definition.row_schema();
    let context = session::context(session::runtime(Some(warehouse), None, None).unwrap(), 1);
    let files = version
        .files
        .iter()
        .filter(|file| file.span.is_some_and(|span| span.partitions == (Partition::RETRIED, Partition::RETRIED)));
    let table = ParquetFiles::new(schema, files.cloned().collect());
    let rows = context.read_table(Arc::new(table)).unwrap().sort(vec![ident(OFFSET).sort(true, true)]).unwrap();
    let mut found = Vec::new();
    for batch in rows.collect().await.unwrap() {
        let offsets = batch[OFFSET].as_primitive::<Int64Type>();
        let sources = batch[SOURCE].as_string::<i32>();
        let keys = batch["_key"].as_binary::<i32>();
        let values = batch["n"].as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let key = String::from_utf8(keys.value(row).to_vec()).unwrap();
            found.push((offsets.value(row), sources.value(row).to_owned(), key, values.value(row)));
        }
    }
    assert_eq!(found.len() as i64, end.0, "offsets are dense");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_enters_once() {
    let (warehouse, stream) = archive().await;
    let again = async |limit| retried_with(&warehouse, &stream, None, lenient(limit)).await.unwrap();
    assert_eq!(again(0).await, (5, 0));
    assert_eq!(amendments(&warehouse, &stream).await, []);
    assert_eq!(again(4).await, (5, 4));
    let entered = |rows: &[(i64, &str, i64)]| -> Vec<(i64, String, String, i64)> {
        rows.iter().map(|(at, source, n)| (*at, (*source).to_owned(), format!("k{n}"), *n)).collect()
    };
    let first = [(0, "0:1", 1), (1, "0:3", 3), (2, "1:1", 1), (3, "1:3", 3)];
    assert_eq!(amendments(&warehouse, &stream).await, entered(&first));
    assert_eq!(again(4).await, (1, 0));
    append(&warehouse, &stream, &[(0, 6), (1, 4)], &[(0, 8), (1, 4)]).await;
    assert_eq!(again(100).await, (2, 2));
    assert_eq!(again(100).await, (0, 0));
    let all: Vec<_> = first.into_iter().chain([(4, "0:5", 5), (5, "0:7", 7)]).collect();
    assert_eq!(amendments(&warehouse, &stream).await, entered(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_chooses_rejects() {
    for (condition, read) in [
        ("_partition = 1", 2),
        ("_offset > 2 AND _partition = 0", 2),
        ("_key = 'k5'", 1),
        ("_reject LIKE '%JSON%'", 5),
        ("_headers[1]['name'] = 'h'", 5),
        ("_timestamp >= TIMESTAMP '1970-01-01 00:00:01.003'", 3),
        ("_source IS NULL", 5),
        ("false", 0),
        ("CAST(_payload AS STRING) = 'bad 1'", 2),
    ] {
        let (warehouse, stream) = archive().await;
        let got = retried_with(&warehouse, &stream, Some(condition), lenient(100)).await.unwrap();
        assert_eq!(got, (read, read), "{condition}");
    }
    let (warehouse, stream) = archive().await;
    for condition in ["n = 1", "_partition", "_partition =", "", "1; DROP TABLE s", "count(*) > 1"] {
        let refused = retried_with(&warehouse, &stream, Some(condition), lenient(100)).await;
        assert_eq!(refused.unwrap_err().fault(), Fault::User, "{condition}");
    }
    assert_eq!(amendments(&warehouse, &stream).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_a_failure_change_nothing() {
    let (warehouse, stream) = archive().await;
    let scope = RetryScope { condition: None, dry_run: true };
    let config = BatchConfig::default();
    let done = retry_rejects(&warehouse, &stream, &scope, &config, lenient(4), |_| ()).await.unwrap();
    assert_eq!(done, RetryProgress { read: 5, entered: 4 });
    let away = |_| async { Err((Fault::Transient, "the registry does not answer".to_owned())) }.boxed();
    let failed = retried_with(&warehouse, &stream, None, away).await.unwrap_err();
    assert_eq!(failed.to_string(), "reading rejects of stream `s` again: the registry does not answer");
    assert_eq!(failed.fault(), Fault::Transient);
    assert_eq!(amendments(&warehouse, &stream).await, []);
    assert_eq!(retried_with(&warehouse, &stream, None, lenient(100)).await.unwrap(), (5, 5), "the lease is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_one_is_told_to_wait_and_no_reject_enters_twice() {
    let (warehouse, stream) = archive().await;
    let name = &stream.definition.name;
    let clock = BatchConfig::default().clock;
    let taken = lease::take_amendments(&warehouse, name, Partition::RETRIED, &clock).await.unwrap();
    let Taken::Mine(lease) = taken else { panic!("{taken:?}") };
    let refused = retried_with(&warehouse, &stream, None, lenient(100)).await.unwrap_err();
    assert!(refused.to_string().contains("changes stream `s` in the same way"), "{refused}");
    lease.release().await;

    // A process that has lost its lease without noticing is fenced.
    let mut archive = Archive::open(&warehouse, &stream.definition, stream.origin.clone()).await.unwrap();
    let version = archive.latest().await.unwrap();
    let mut late = archive.begin_amendment(&version, Partition::RETRIED, "retried");
    let mut decoded = Messages::new();
    decoded.push(Partition(0), Offset(1), None, Some(br#"{"n": 1}"#));
    let rows = Decoder::new(&stream.definition).unwrap().decode(&decoded).unwrap().rows;
    late.push(&rows).await.unwrap();
    assert_eq!(retried_with(&warehouse, &stream, None, lenient(100)).await.unwrap(), (5, 5));
    let before = archive.latest().await.unwrap();
    assert!(matches!(archive.amend(late).await.unwrap(), AmendOutcome::Fenced));
    assert_eq!(archive.latest().await.unwrap().version, before.version);
    assert_eq!(amendments(&warehouse, &stream).await.len(), 5);
}
