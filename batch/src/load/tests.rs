//! Files of every format into a real archive.

use std::path::Path;

use arrow::array::{AsArray, BinaryArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use thalweg_kit::positions;
use thalweg_kit::world::warehouse_in_memory;
use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::definition::parse;
use thalweg_schemas::engine::session;
use thalweg_schemas::warehouse::parquet::ParquetFiles;

use super::*;

async fn site() -> (tempfile::TempDir, Warehouse, CatalogStream) {
    let warehouse = warehouse_in_memory();
    let sql = "CREATE EXTERNAL TABLE s (id BIGINT, name STRING) STORED AS KAFKA LOCATION 's'";
    let stream = defined(&warehouse, sql).await;
    (tempfile::tempdir().unwrap(), warehouse, stream)
}

async fn defined(warehouse: &Warehouse, sql: &str) -> CatalogStream {
    let catalogs = CatalogStore::new(warehouse.clone());
    catalogs.apply(parse(sql).unwrap()).await.unwrap();
    catalogs.load().await.unwrap().streams.values().next().unwrap().as_ref().clone()
}

fn plan(from: &[String]) -> LoadPlan {
    LoadPlan {
        from: from.to_vec(),
        within: None,
        format: None,
        skip_bad: false,
        dry_run: false,
        storage: BTreeMap::new(),
    }
}

async fn loaded(warehouse: &Warehouse, stream: &CatalogStream, plan: &LoadPlan) -> Result<LoadProgress> {
    load(warehouse, stream, plan, &BatchConfig::default(), &Arc::default(), |_| ()).await
}

/// Name, source without its folder, and id of each row, in the order of offsets.
async fn rows(warehouse: &Warehouse, stream: &CatalogStream) -> Vec<(String, String, i64)> {
    let mut archive = Archive::open(warehouse, &stream.definition, stream.origin.clone()).await.unwrap();
    let version = archive.latest().await.unwrap();
    let end = version.frontier.get(Partition::LOADED);
    assert_eq!(version.mark.get(Partition::LOADED), end);
    if version.files.is_empty() {
        return Vec::new();
    }
    let context = session::context(session::runtime(Some(warehouse), None, None).unwrap(), 1);
    let table = ParquetFiles::new(stream.definition.row_schema(), version.files.to_vec());
    let order = datafusion::prelude::ident(OFFSET).sort(true, true);
    let batches = context.read_table(Arc::new(table)).unwrap().sort(vec![order]).unwrap().collect().await.unwrap();
    let mut found = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            assert_eq!(batch[PARTITION].as_primitive::<Int32Type>().value(row), Partition::LOADED.0);
            assert_eq!(batch[OFFSET].as_primitive::<Int64Type>().value(row), found.len() as i64);
            let source = batch[SOURCE].as_string::<i32>().value(row).rsplit('/').next().unwrap().to_owned();
            let name = batch["name"].as_string::<i32>().value(row).to_owned();
            found.push((name, source, batch["id"].as_primitive::<Int64Type>().value(row)));
        }
    }
    assert_eq!(positions::at(&[(-2, found.len() as i64)]).get(Partition::LOADED), end);
    found
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn write_parquet(folder: &Path, name: &str, ids: &[i32]) -> String {
    let path = folder.join(name);
    // Another type, another order, and a column that the stream does not have.
    let schema = Arc::new(Schema::new(vec![
        Field::new("more", DataType::Int32, true),
        Field::new("NAME", DataType::Utf8, true),
        Field::new("id", DataType::Int32, true),
    ]));
    let names = ids.iter().map(|id| format!("p{id}"));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(ids.iter().copied())),
        Arc::new(StringArray::from_iter_values(names)),
        Arc::new(Int32Array::from_iter_values(ids.iter().copied())),
    ];
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.close().unwrap();
    path.to_str().unwrap().to_owned()
}

fn row(name: &str, source: &str, id: i64) -> (String, String, i64) {
    (name.to_owned(), source.to_owned(), id)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_enter_once() {
    let (folder, warehouse, stream) = site().await;
    let files = [
        write(folder.path(), "a.csv", "id,name\n1,one\n2,two\n"),
        write(folder.path(), "b.tsv", "name\tid\nthree\t3\n"),
        write(folder.path(), "c.json", r#"[{"id": 4, "name": "four"}, {"id": 5, "name": "five"}]"#),
        write(folder.path(), "d.ndjson", "{\"id\": 6, \"name\": \"six\"}\n\n{\"ID\": 7, \"name\": \"seven\"}\n"),
        write_parquet(folder.path(), "e.parquet", &[8, 9]),
        write(folder.path(), "f.csv", "id,name\n"),
        write(folder.path(), "g.csv", "id,name\r\n10,\"a \"\"b\"\", c\nd\"\r\n11,5\" wide\r\n"),
    ];
    let dry = LoadPlan { dry_run: true, ..plan(&files) };
    assert_eq!(loaded(&warehouse, &stream, &dry).await.unwrap().rows, 11);
    assert_eq!(rows(&warehouse, &stream).await, []);
    let done = loaded(&warehouse, &stream, &plan(&files[..3])).await.unwrap();
    assert_eq!((done.files, done.done, done.before, done.rows), (3, 3, 0, 5));
    let all = plan(&[format!("{}/*", folder.path().display())]);
    let done = loaded(&warehouse, &stream, &all).await.unwrap();
    assert_eq!((done.files, done.done, done.before, done.rows), (7, 7, 3, 6));
    let expect = [
        row("one", "a.csv#1", 1),
        row("two", "a.csv#2", 2),
        row("three", "b.tsv#1", 3),
        row("four", "c.json#1", 4),
        row("five", "c.json#2", 5),
        row("six", "d.ndjson#1", 6),
        row("seven", "d.ndjson#3", 7),
        row("p8", "e.parquet#1", 8),
        row("p9", "e.parquet#2", 9),
        row("a \"b\", c\nd", "g.csv#1", 10),
        row("5\" wide", "g.csv#2", 11),
    ];
    assert_eq!(rows(&warehouse, &stream).await, expect);
    let done = loaded(&warehouse, &stream, &all).await.unwrap();
    assert_eq!((done.before, done.rows), (6, 0), "a file without rows is read again");
    assert_eq!(rows(&warehouse, &stream).await, expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_keeps_its_file_out() {
    let (folder, warehouse, stream) = site().await;
    let good = write(folder.path(), "a.csv", "id,name\n1,one\n");
    let bad = write(folder.path(), "b.csv", "id,name\n2,two\nx,three\n4,four\n");
    let last = write(folder.path(), "c.csv", "id,name\n5,five\n");
    let files = [good, bad.clone(), last];
    let refused = loaded(&warehouse, &stream, &plan(&files)).await.unwrap_err().to_string();
    assert!(refused.contains("b.csv, row 2: ") && refused.contains("`id`"), "{refused}");
    assert_eq!(rows(&warehouse, &stream).await, [row("one", "a.csv#1", 1)]);
    // Mended, the file is another one that has not entered.
    std::fs::write(bad, "id,name\n2,two\n3,three\n4,four\n").unwrap();
    let done = loaded(&warehouse, &stream, &plan(&files)).await.unwrap();
    assert_eq!((done.before, done.rows), (1, 4));

    let skipped = write(folder.path(), "d.csv", "id,name\n6,six\nx,seven\n");
    let notes = Arc::new(RowNotes::default());
    let lenient = LoadPlan { skip_bad: true, ..plan(&[skipped]) };
    let config = BatchConfig::default();
    let done = load(&warehouse, &stream, &lenient, &config, &notes, |_| ()).await.unwrap();
    assert_eq!((done.rows, notes.skipped()), (1, 1));
    assert_eq!(rows(&warehouse, &stream).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded() {
    let (folder, warehouse, stream) = site().await;
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let entered = write(folder.path(), "in.csv", "id,name\n1,one\n");
    loaded(&warehouse, &stream, &plan(std::slice::from_ref(&entered))).await.unwrap();
    std::fs::write(&entered, "id,name\n1,one\n2,two\n").unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    for (file, text, expect) in [
        ("none.csv", None, "no file has that name"),
        ("none*.csv", None, "no file has that name"),
        ("folder", None, "is a folder"),
        ("x.txt", Some("1"), "the end of its name tells no format"),
        ("x.csv", Some(""), "no line with the names"),
        ("y.csv", Some("a,b\n1,2\n"), "no column is one of the stream's"),
        ("y.json", Some("{\"id\": 1"), "is not complete"),
        ("z.csv", Some("id,name\n1,one\n2,\"two\n3,three\n"), "a quote is opened in it and not closed"),
        ("y.parquet", Some("PAR1 and no more"), "y.parquet"),
        ("in.csv", None, "has changed since"),
        ("[", None, "cannot be loaded"),
    ] {
        if let Some(text) = text {
            write(folder.path(), file, text);
        }
        let refused = loaded(&warehouse, &stream, &plan(&[at(file)])).await.unwrap_err();
        assert!(refused.to_string().contains(expect), "{file}: {refused}");
        assert_eq!(refused.fault(), thalweg_schemas::Fault::User, "{file}");
    }
    let elsewhere = loaded(&warehouse, &stream, &plan(&["ftp://host/x.csv".to_owned()])).await.unwrap_err();
    assert!(elsewhere.to_string().contains("`ftp` is not supported"), "{elsewhere}");
    assert_eq!(rows(&warehouse, &stream).await, [row("one", "in.csv#1", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_one_name_however_it_is_reached() {
    let (folder, warehouse, stream) = site().await;
    let file = write(folder.path(), "a.csv", "id,name\n1,one\n");
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
    let root = folder.path().display();
    let names = [
        file,
        format!("{root}/sub/../a.csv"),
        format!("{root}/link/a.csv"),
        format!("file://{root}/?.csv"),
        format!("{root}/*"),
    ];
    for name in &names {
        loaded(&warehouse, &stream, &plan(std::slice::from_ref(name))).await.unwrap();
    }
    assert_eq!(loaded(&warehouse, &stream, &plan(&names)).await.unwrap().files, 1);
    assert_eq!(rows(&warehouse, &stream).await, [row("one", "a.csv#1", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_parquet_may_lack_a_type() {
    let (folder, warehouse, stream) = site().await;
    let path = folder.path().join("a.parquet");
    let fields = vec![Field::new("id", DataType::Null, true), Field::new("name", DataType::Binary, true)];
    let schema = Arc::new(Schema::new(fields));
    let names = BinaryArray::from(vec![&b"one"[..], "\u{e4}".as_bytes()]);
    let arrays: Vec<ArrayRef> = vec![new_null_array(&DataType::Null, 2), Arc::new(names)];
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), Arc::clone(&schema), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.close().unwrap();
    loaded(&warehouse, &stream, &plan(&[path.to_str().unwrap().to_owned()])).await.unwrap();
    let found = rows(&warehouse, &stream).await;
    assert_eq!(found.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["one", "\u{e4}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_gets_columns_meanwhile_ends_the_load() {
    let (folder, warehouse, stream) = site().await;
    let first = write(folder.path(), "a.csv", "id,name,more\n1,one,2\n");
    let wider = defined(&warehouse, "ALTER TABLE s ADD COLUMN more BIGINT").await;
    loaded(&warehouse, &wider, &plan(std::slice::from_ref(&first))).await.unwrap();
    let second = write(folder.path(), "b.csv", "id,name\n2,two\n");
    let late = loaded(&warehouse, &stream, &plan(std::slice::from_ref(&second))).await.unwrap_err();
    assert!(late.to_string().contains("was changed or dropped meanwhile"), "{late}");
    assert_eq!(loaded(&warehouse, &wider, &plan(&[first, second])).await.unwrap().rows, 1);
    assert_eq!(rows(&warehouse, &wider).await, [row("one", "a.csv#1", 1), row("two", "b.csv#1", 2)]);
}
