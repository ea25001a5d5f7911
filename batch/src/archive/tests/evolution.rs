//! Archives of earlier versions, which lack columns: they are read as they are, and the next commit adds the columns.

use arrow::array::{Array, AsArray, BinaryArray};
use arrow::datatypes::Schema;
use thalweg_kit::world::warehouse_in_memory;
use thalweg_schemas::definition::message::{ADDED, KEY};

use super::*;

/// An archive as an earlier version made it, with rows below these positions.
async fn earlier(warehouse: &Warehouse) -> Archive {
    let schema = stream().row_schema();
    let columns = schema.fields().len() - ADDED.len();
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
    // An earlier program understands neither the table nor its next commit.
    let error = old.latest().await.unwrap_err();
    assert!(matches!(error, Error::UnderstandLog { .. }), "{error}");
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
async fn other_columns_are_not_added() {
    let warehouse = warehouse_in_memory();
    let schema = stream().row_schema();
    let folder = Warehouse::master_path(&stream().name);
    let fewer: SchemaRef = Arc::new(Schema::new(schema.fields()[..schema.fields().len() - 3].to_vec()));
    Log::open_or_create(warehouse.store(), folder, &fewer).await.unwrap();
    let refused = Archive::open(&warehouse, &stream(), at(&[])).await.unwrap_err();
    assert!(matches!(refused, Error::MatchSchema { .. }), "{refused}");
}
