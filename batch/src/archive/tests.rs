//! The master dataset: commits, reading, and refused epochs. Races and failures are in `traps`.

mod evolution;
mod serving;
mod traps;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array,
    ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use object_store::ObjectStore;
use thalweg_kit::positions::at;
use thalweg_kit::store::Trouble;
use thalweg_kit::world::{faulty_warehouse, warehouse_in_memory};
use thalweg_schemas::definition::stream::{OFFSET, PARTITION, PAYLOAD, REJECT};
use thalweg_schemas::{Fault, Partition};

use super::*;
use crate::testing::{epoch, last, positions, read, rows_at, stream};

fn warehouse_in(folder: &tempfile::TempDir) -> Warehouse {
    let url = folder.path().to_str().unwrap();
    Warehouse::open(url, &std::collections::BTreeMap::new()).unwrap()
}

fn landed(outcome: EpochOutcome) -> Arc<MasterVersion> {
    match outcome {
        EpochOutcome::Landed(version) => version,
        EpochOutcome::Fenced(version) => panic!("fenced at {}", version.frontier),
    }
}

fn fenced(outcome: EpochOutcome) -> Arc<MasterVersion> {
    match outcome {
        EpochOutcome::Fenced(version) => version,
        EpochOutcome::Landed(version) => panic!("landed at {}", version.frontier),
    }
}

async fn open(warehouse: &Warehouse) -> Archive {
    Archive::open(warehouse, &stream(), at(&[(0, 0), (1, 5)])).await.unwrap()
}

/// The positions of all rows that [`epoch`] makes between `origin` and `to`.
fn all_below(origin: &[(i32, i64)], to: &[(i32, i64)]) -> Vec<(i32, i64)> {
    let origin = at(origin);
    to.iter().flat_map(|(p, end)| (origin.get(Partition(*p)).0..*end).map(move |o| (*p, o))).collect()
}

async fn check_landing_and_reopening(warehouse: &Warehouse) {
    let mut archive = open(warehouse).await;
    let empty = archive.latest().await.unwrap();
    assert_eq!(empty.frontier, at(&[(0, 0), (1, 5)]));
    assert_eq!(empty.mark, empty.frontier);
    let first = epoch(&[(0, 0), (1, 5)], &[(0, 3), (1, 7)], true);
    let marked = landed(archive.commit(&first).await.unwrap());
    assert_eq!(marked.frontier, at(&[(0, 3), (1, 7)]));
    assert_eq!(marked.mark, marked.frontier);
    let second = epoch(&[(0, 3), (1, 7), (2, 0)], &[(0, 3), (1, 9), (2, 1)], false);
    let version = landed(archive.commit(&second).await.unwrap());
    assert_eq!(version.frontier, at(&[(0, 3), (1, 9), (2, 1)]));
    assert_eq!(version.mark, marked.mark);
    assert_eq!(version.last[&Partition(0)], last(2));
    assert_eq!(version.last[&Partition(1)], last(8));
    assert_eq!(version.files.len(), 2);

    let again = open(warehouse).await.latest().await.unwrap();
    assert_eq!(again.version, version.version);
    assert_eq!(again.frontier, version.frontier);
    assert_eq!(again.mark, version.mark);
    assert_eq!(again.files, version.files);
    assert_eq!(again.last, version.last);
    assert!(again.files.iter().all(|f| f.span.is_some() && f.rows.is_some()));
    let expect = all_below(&[(0, 0), (1, 5)], &[(0, 3), (1, 9), (2, 1)]);
    assert_eq!(positions(warehouse, &again.files).await, expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_land_and_are_found_again() {
    check_landing_and_reopening(&warehouse_in_memory()).await;
    let folder = tempfile::tempdir().unwrap();
    check_landing_and_reopening(&warehouse_in(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_sorted_rows_and_their_span() {
    let (warehouse, _) = faulty_warehouse();
    let version =
        landed(open(&warehouse).await.commit(&epoch(&[(0, 0), (1, 5)], &[(0, 3), (1, 7)], true)).await.unwrap());
    let span = version.files[0].span.unwrap();
    assert_eq!(span.partitions, (Partition(0), Partition(1)));
    assert_eq!((span.offsets.0.0, span.offsets.1.0), (0, 6));
    assert_eq!(version.files[0].rows, Some(5));
    let path = object_store::path::Path::from(version.files[0].path.as_str());
    let found = warehouse.store().get_opts(&path, Default::default()).await.unwrap();
    let bytes = found.bytes().await.unwrap();
    assert_eq!(bytes.len() as u64, version.files[0].size);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 100).unwrap();
    let rows: Vec<_> = reader.map(Result::unwrap).collect();
    let expect = rows_at(&stream().row_schema(), &[(0, 0), (0, 1), (0, 2), (1, 5), (1, 6)], &[]);
    assert_eq!(rows[0].column(0), expect.column(0));
    assert_eq!(rows[0].column(1), expect.column(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_bit_for_bit() {
    let (warehouse, _) = faulty_warehouse();
    let schema = stream().row_schema();
    let odd_nan = f64::from_bits(0x7ff8_0000_dead_beef);
    let tags = ListArray::new(
        Arc::new(arrow::datatypes::Field::new_list_field(DataType::Utf8, true)),
        arrow::buffer::OffsetBuffer::new(vec![0, 2, 2, 2, 3].into()),
        Arc::new(StringArray::from(vec![Some("a"), None, Some("")])),
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let DataType::Struct(info) = schema.field_with_name("info").unwrap().data_type().clone() else {
        panic!("info is a struct");
    };
    let info = StructArray::new(
        info,
        vec![
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, None, Some(0)])),
            Arc::new(Float32Array::from(vec![Some(f32::NAN), Some(-0.0), None, None])),
        ],
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let long = "ü".repeat(10_000);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("device", Arc::new(StringArray::from(vec![Some(""), Some(long.as_str()), None, Some("x")]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MIN), Some(i64::MAX), None, Some(-1)]))),
        (
            "temperature",
            Arc::new(Float64Array::from(vec![Some(odd_nan), Some(-0.0), None, Some(f64::MIN_POSITIVE / 2.0)])),
        ),
        ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None, Some(0)]))),
        (
            "amount",
            Arc::new(
                Decimal128Array::from(vec![Some(99_999_999_999_999_999_999), Some(-1), None, Some(0)])
                    .with_precision_and_scale(20, 4)
                    .unwrap(),
            ),
        ),
        ("day", Arc::new(Date32Array::from(vec![Some(-719_162), Some(2_932_896), None, Some(0)]))),
        ("fine", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("raw", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), Some(b""), None, Some(b"x")]))),
        ("tags", Arc::new(tags)),
        ("info", Arc::new(info)),
        (REJECT, Arc::new(StringArray::from(vec![None, None, Some("not JSON"), None]))),
        (PAYLOAD, Arc::new(BinaryArray::from_opt_vec(vec![None, None, Some(b"{\x00"), None]))),
    ];
    let rows = rows_at(&schema, &[(0, 0), (0, 1), (0, 2), (0, 3)], &columns);
    let mut epoch = epoch(&[(0, 0)], &[(0, 4)], true);
    epoch.rows = vec![rows.clone()];
    landed(open(&warehouse).await.commit(&epoch).await.unwrap());
    let version = open(&warehouse).await.latest().await.unwrap();
    let back = read(&warehouse, &schema, &version.files, &[PARTITION, OFFSET]).await;
    // Arrays are equal by IEEE rules, where a NaN differs from itself, so the test compares bits.
    let bits = |rows: &arrow::record_batch::RecordBatch| {
        let column = rows["temperature"].as_any().downcast_ref::<Float64Array>().unwrap();
        column.iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>()
    };
    assert_eq!(bits(&back), bits(&rows));
    assert_eq!(format!("{back:?}"), format!("{rows:?}"));
    assert_eq!(back.schema().field(0).data_type(), &DataType::Int32);
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_without_rows_move_positions_without_files() {
    let (warehouse, _) = faulty_warehouse();
    let mut archive = open(&warehouse).await;
    let mut gap = epoch(&[(0, 0)], &[(0, 3)], true);
    gap.rows.clear();
    let version = landed(archive.commit(&gap).await.unwrap());
    assert_eq!((version.files.len(), version.version), (0, 1));
    assert_eq!(version.mark, at(&[(0, 3), (1, 5)]));
    // Neither the positions nor the mark would change, so there is no commit.
    let idle = epoch(&[(0, 3)], &[(0, 3)], true);
    assert_eq!(landed(archive.commit(&idle).await.unwrap()).version, 1);
    // A new mark alone makes a commit.
    let marked = epoch(&[(0, 3), (1, 5)], &[(0, 3), (1, 5)], true);
    assert_eq!(landed(archive.commit(&marked).await.unwrap()).version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_without_partitions_refreshes_the_log() {
    let (warehouse, _) = faulty_warehouse();
    let (mut ours, mut theirs) = (open(&warehouse).await, open(&warehouse).await);
    ours.latest().await.unwrap();
    let first = epoch(&[(0, 0)], &[(0, 3)], true);
    let committed = landed(theirs.commit(&first).await.unwrap());
    let seen = landed(ours.commit(&epoch(&[], &[], false)).await.unwrap());
    assert_eq!(seen.version, committed.version);
    assert_eq!(seen.frontier, at(&[(0, 3), (1, 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_that_contradict_themselves_are_refused() {
    let (warehouse, _) = faulty_warehouse();
    let mut archive = open(&warehouse).await;
    let good = epoch(&[(0, 0)], &[(0, 3)], true);
    let schema = stream().row_schema();
    let mut cases = Vec::new();
    let mut case = |change: &dyn Fn(&mut Epoch)| {
        let mut epoch = good.clone();
        change(&mut epoch);
        cases.push(epoch);
    };
    case(&|e| e.to = at(&[(1, 9)]));
    case(&|e| (e.from, e.to) = (at(&[(0, 3)]), at(&[(0, 0)])));
    case(&|e| e.rows.push(rows_at(&schema, &[(0, 1)], &[])));
    case(&|e| e.rows.push(rows_at(&schema, &[(0, 3)], &[])));
    case(&|e| e.rows.push(rows_at(&schema, &[(1, 1)], &[])));
    case(&|e| {
        e.last.insert(Partition(0), last(3));
    });
    case(&|e| e.rows[0] = e.rows[0].project(&[0, 1]).unwrap());
    for epoch in cases {
        let error = archive.commit(&epoch).await.unwrap_err();
        assert!(matches!(error, Error::AcceptEpoch { .. }), "{error}");
        assert_eq!(error.fault(), Fault::Bug);
    }
    assert_eq!(landed(archive.commit(&good).await.unwrap()).version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_is_refused() {
    let (warehouse, _) = faulty_warehouse();
    open(&warehouse).await;
    let mut other = stream();
    let mut fields: Vec<_> = other.columns.fields().iter().cloned().collect();
    fields.pop();
    fields.push(Arc::new(arrow::datatypes::Field::new("other", arrow::datatypes::DataType::Int64, true)));
    other.columns = Arc::new(arrow::datatypes::Schema::new(fields));
    let error = Archive::open(&warehouse, &other, Frontier::new()).await.unwrap_err();
    assert!(matches!(error, Error::MatchSchema { .. }), "{error}");
    assert_eq!(error.fault(), Fault::User);
}

/// Commits `count` epochs of one row, with maintenance after each.
async fn commit_many(archive: &mut Archive, from: i64, count: i64) {
    for offset in from..from + count {
        let next = epoch(&[(0, offset)], &[(0, offset + 1)], offset % 7 == 0);
        landed(archive.commit(&next).await.unwrap());
        archive.maintain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_checkpoints_gives_the_same_state() {
    check_checkpoints(warehouse_in_memory()).await;
    // A folder's listings are not sorted.
    let folder = tempfile::tempdir().unwrap();
    check_checkpoints(warehouse_in(&folder)).await;
}

async fn check_checkpoints(warehouse: Warehouse) {
    let mut archive = open(&warehouse).await;
    commit_many(&mut archive, 0, 47).await;
    let before = archive.latest().await.unwrap();
    let log = Warehouse::master_path(&stream().name).join("_delta_log");
    let store = warehouse.store();
    // Delete the log entries below the newest checkpoint.
    let mut checkpoints = 0;
    let listed: Vec<_> = futures::TryStreamExt::try_collect(store.list(Some(&log))).await.unwrap();
    for meta in listed {
        let name = meta.location.filename().unwrap();
        checkpoints += usize::from(name.ends_with(".checkpoint.parquet"));
        if name.ends_with(".json") && name < "00000000000000000040.json" {
            object_store::ObjectStoreExt::delete(&store, &meta.location).await.unwrap();
        }
    }
    assert_eq!(checkpoints, 2);
    let mut reopened = open(&warehouse).await;
    let after = reopened.latest().await.unwrap();
    assert_eq!(after.frontier, before.frontier);
    assert_eq!(after.mark, at(&[(0, 43), (1, 5)]));
    assert_eq!(after.mark, before.mark);
    assert_eq!(after.last, before.last);
    assert_eq!(after.files, before.files);
    commit_many(&mut reopened, 47, 3).await;
    let version = archive.latest().await.unwrap();
    assert_eq!(positions(&warehouse, &version.files).await, all_below(&[], &[(0, 50)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fails_fails_no_commit() {
    let (warehouse, store) = faulty_warehouse();
    let mut archive = open(&warehouse).await;
    store.set(Trouble::Fail { part: "checkpoint", after: false, times: 1000 });
    commit_many(&mut archive, 0, 25).await;
    store.set(Trouble::Fail { part: "checkpoint", after: true, times: 1000 });
    commit_many(&mut archive, 25, 5).await;
    store.set(Trouble::None);
    commit_many(&mut archive, 30, 1).await;
    let version = open(&warehouse).await.latest().await.unwrap();
    assert_eq!(version.version, 31);
    assert_eq!(positions(&warehouse, &version.files).await, all_below(&[], &[(0, 31)]));
}
