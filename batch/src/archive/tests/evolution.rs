//! Archives that lack columns of their stream: of earlier versions, or of a stream that got columns. They are read as
//! they are, and the next commit adds the columns. A process with the narrower definition reads on and commits nothing.

use arrow::array::{Array, AsArray, BinaryArray};
use arrow::datatypes::{DataType, Field, Schema};
use thalweg_kit::world::warehouse_in_memory;
use thalweg_schemas::definition::message::KEY;

use super::*;

/// The last columns of the archive, which earlier versions did not have.
const ADDED: usize = 3;

/// An archive as an earlier version made it, with rows below these positions.
async fn earlier(warehouse: &Warehouse) -> Archive {
    let schema = stream().row_schema();
    let columns = schema.fields().len() - ADDED;
    let schema: SchemaRef = Arc::new(Schema::new(schema.fields()[..columns].to_vec()));
    let folder = Warehouse::master_path(&stream().name);
    let log = Log::open_or_create(warehouse.store(), folder, &schema).await.unwrap();
    Archive::over(&stream(), at(&[(0, 0), (1, 5)]), schema, log)
}

fn without_added(mut epoch: Epoch, archive: &Archive) -> Epoch {
    let columns: Vec<usize> = (0..archive.schema.fields().len()).collect();
    epoch.rows = epoch.rows.iter().map(|rows| rows.project(&columns).unwrap()).collect();
    epoch
}

fn with_keys(mut epoch: Epoch) -> Epoch {
    for rows in &mut epoch.rows {
        let key: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"oslo"[..]); rows.num_rows()]));
        let mut columns = rows.columns().to_vec();
        columns[rows.schema().index_of(KEY).unwrap()] = key;
        *rows = arrow::record_batch::RecordBatch::try_new(rows.schema(), columns).unwrap();
    }
    epoch
}

/// The number of keys in the archive, and the number of rows.
async fn keys(warehouse: &Warehouse, version: &MasterVersion) -> (usize, usize) {
    let rows = read(warehouse, &stream().row_schema(), &version.files, &[PARTITION, OFFSET]).await;
    let keys = rows[KEY].as_binary::<i32>();
    (keys.len() - keys.null_count(), keys.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_commit_adds_what_an_earlier_version_lacks() {
    let warehouse = warehouse_in_memory();
    let mut old = earlier(&warehouse).await;
    let first = without_added(epoch(&[(0, 0), (1, 5)], &[(0, 3), (1, 7)], true), &old);
    landed(old.commit(&first).await.unwrap());

    let (mut ours, mut reader) = (open(&warehouse).await, open(&warehouse).await);
    assert_eq!(keys(&warehouse, &ours.latest().await.unwrap()).await, (0, 5));
    let second = with_keys(epoch(&[(0, 3), (1, 7)], &[(0, 4), (1, 7)], false));
    let version = landed(ours.commit(&second).await.unwrap());
    assert_eq!(keys(&warehouse, &version).await, (1, 6));
    let third = with_keys(epoch(&[(0, 4), (1, 7)], &[(0, 6), (1, 7)], true));
    let version = landed(ours.commit(&third).await.unwrap());
    // A process that opened the table before follows, as does one that opens it now.
    for seen in [reader.latest().await.unwrap(), open(&warehouse).await.latest().await.unwrap()] {
        assert_eq!((seen.version, &seen.frontier), (version.version, &version.frontier));
        assert_eq!(keys(&warehouse, &seen).await, (3, 8));
    }
    // A process with fewer columns reads on, and lands nothing any more: neither where it stands, nor where the table
    // does.
    for (from, to) in [(4, 8), (6, 8)] {
        let late = without_added(epoch(&[(0, from)], &[(0, to)], true), &old);
        let EpochOutcome::Fenced(seen) = old.commit(&late).await.unwrap() else { panic!("it landed at {from}") };
        assert_eq!((seen.version, &seen.frontier), (version.version, &version.frontier));
    }
    let mut reopened = earlier(&warehouse).await;
    assert_eq!(reopened.latest().await.unwrap().version, version.version);
    let late = without_added(epoch(&[(0, 6)], &[(0, 8)], true), &reopened);
    assert!(matches!(reopened.commit(&late).await.unwrap(), EpochOutcome::Fenced(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_add_the_columns_once() {
    let warehouse = warehouse_in_memory();
    earlier(&warehouse).await;
    let (mut ours, mut theirs) = (open(&warehouse).await, open(&warehouse).await);
    landed(ours.commit(&with_keys(epoch(&[(0, 0)], &[(0, 2)], true))).await.unwrap());
    landed(theirs.commit(&with_keys(epoch(&[(1, 5)], &[(1, 6)], true))).await.unwrap());
    let version = open(&warehouse).await.latest().await.unwrap();
    assert_eq!(keys(&warehouse, &version).await, (3, 3));
    let entry = Warehouse::master_path(&stream().name).join("_delta_log").join("00000000000000000002.json");
    let entry = warehouse.store().get_opts(&entry, Default::default()).await.unwrap().bytes().await.unwrap();
    assert!(!String::from_utf8_lossy(&entry).contains("metaData"));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_may_come_anywhere_and_change_in_no_other_way() {
    let schema = stream().row_schema();
    let open = async |fields: Vec<Field>| {
        let warehouse = warehouse_in_memory();
        let folder = Warehouse::master_path(&stream().name);
        Log::open_or_create(warehouse.store(), folder, &Arc::new(Schema::new(fields))).await.unwrap();
        Archive::open(&warehouse, &stream(), at(&[])).await
    };
    let fields = || schema.fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    let without = |names: &[&str]| fields().into_iter().filter(|f| !names.contains(&f.name().as_str())).collect();
    for missing in [&["amount"][..], &["device", "tags", "_payload"], &["info"]] {
        open(without(missing)).await.unwrap();
    }
    let mut other_order = fields();
    other_order.swap(3, 4);
    open(other_order).await.unwrap();
    // Without a column that rows must have, with a column of another type, and with one more and one less.
    let mut other_type = fields();
    let at = schema.index_of("count").unwrap();
    other_type[at] = Field::new("count", DataType::Int32, true);
    let mut renamed = fields();
    renamed[at] = Field::new("renamed", DataType::Int64, true);
    for fields in [without(&[OFFSET]), other_type, renamed] {
        let refused = open(fields).await.unwrap_err();
        assert!(matches!(refused, Error::MatchSchema { .. }), "{refused}");
    }
}
