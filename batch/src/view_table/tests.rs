//! Publications under races, failures and kills, and the grace time of files that queries may read.

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use thalweg_kit::positions::at;
use thalweg_kit::store::Trouble;
use thalweg_kit::world::{faulty_warehouse, warehouse_in_memory};
use thalweg_schemas::Fault;
use thalweg_schemas::definition::stream::PARTITION;

use super::*;
use crate::testing::read;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(PARTITION, DataType::Int32, false),
        Field::new("g0", DataType::Utf8, true),
        Field::new("a0", DataType::Struct(state_fields()), true),
    ]))
}

fn state_fields() -> Fields {
    Fields::from(vec![Field::new("f0", DataType::Int64, true), Field::new("f1", DataType::Float64, true)])
}

/// A batch of states with one row per value.
fn states(values: &[i64]) -> RecordBatch {
    let groups = values.iter().map(|v| format!("g{v}"));
    let state = StructArray::new(
        state_fields(),
        vec![
            Arc::new(Int64Array::from(values.to_vec())) as ArrayRef,
            Arc::new(Float64Array::from_iter_values(values.iter().map(|v| *v as f64))),
        ],
        None,
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![0; values.len()])),
        Arc::new(StringArray::from_iter_values(groups)),
        Arc::new(state),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn view() -> ViewId {
    ViewId::of(&["a view"])
}

async fn open(warehouse: &Warehouse) -> ViewTable {
    ViewTable::open(warehouse, &view(), &schema()).await.unwrap()
}

/// Writes the files of a run and publishes them.
async fn publish(
    table: &mut ViewTable,
    base: Option<&BatchVersion>,
    values: &[i64],
    replace: bool,
    cut: i64,
) -> Result<PublishOutcome> {
    let run = Uuid::new_v4();
    let mut writer = table.writer(run);
    writer.write(&states(values), None).await?;
    let publication =
        Publication { run, files: writer.finish().await?, replace, cut: at(&[(0, cut)]), master_version: 7 };
    table.publish(base, publication).await
}

fn published(outcome: PublishOutcome) -> Arc<BatchVersion> {
    match outcome {
        PublishOutcome::Published(version) => version,
        PublishOutcome::Fenced(version) => panic!("fenced by {version:?}"),
    }
}

fn fenced(outcome: PublishOutcome) -> Option<Arc<BatchVersion>> {
    match outcome {
        PublishOutcome::Fenced(version) => version,
        PublishOutcome::Published(version) => panic!("published {version:?}"),
    }
}

async fn values(warehouse: &Warehouse, version: &BatchVersion) -> Vec<i64> {
    let rows = read(warehouse, &schema(), &version.files, &["g0"]).await;
    let state = rows["a0"].as_any().downcast_ref::<StructArray>().unwrap();
    let counts = state.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    counts.values().to_vec()
}

async fn parquet_files(warehouse: &Warehouse) -> usize {
    let folder = Warehouse::view_path(&view());
    let store = warehouse.store();
    let listed: Vec<_> = store.list(Some(&folder)).try_collect().await.unwrap();
    let of_states = listed.iter().filter(|m| m.location.filename().is_some_and(|n| n.starts_with("states-")));
    of_states.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn full_replaces_incremental_appends() {
    let warehouse = warehouse_in_memory();
    let mut table = open(&warehouse).await;
    assert!(table.latest().await.unwrap().is_none());
    let first = published(publish(&mut table, None, &[1, 2], true, 10).await.unwrap());
    assert_eq!(first.cut, at(&[(0, 10)]));
    assert_eq!((first.master_version, first.files.len()), (7, 1));
    assert_eq!(first.files[0].rows, Some(2));
    let second = published(publish(&mut table, Some(&first), &[3], false, 12).await.unwrap());
    assert_eq!(values(&warehouse, &second).await, [1, 2, 3]);
    let mut other = open(&warehouse).await;
    let seen = other.latest().await.unwrap().unwrap();
    assert_eq!((seen.version, &seen.cut, &seen.files), (second.version, &second.cut, &second.files));
    let third = published(publish(&mut table, Some(&second), &[4], true, 12).await.unwrap());
    assert_eq!(values(&warehouse, &third).await, [4]);
    // The files of a pinned version still exist.
    assert_eq!(values(&warehouse, &seen).await, [1, 2, 3]);
    assert_eq!(other.latest().await.unwrap().unwrap().version, third.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_first_publications_one_wins() {
    let (warehouse, _) = faulty_warehouse();
    let (mut one, mut two) = (open(&warehouse).await, open(&warehouse).await);
    let (a, b) = tokio::join!(publish(&mut one, None, &[1], true, 10), publish(&mut two, None, &[2], true, 10),);
    let (winner, loser) = match (a.unwrap(), b.unwrap()) {
        (PublishOutcome::Published(won), PublishOutcome::Fenced(seen))
        | (PublishOutcome::Fenced(seen), PublishOutcome::Published(won)) => (won, seen.unwrap()),
        both => panic!("{both:?}"),
    };
    assert_eq!(winner.version, loser.version);
    assert_eq!(winner.files, loser.files);
    assert_eq!(parquet_files(&warehouse).await, 1);
    assert_eq!(values(&warehouse, &loser).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_from_one_version_one_wins() {
    let (warehouse, _) = faulty_warehouse();
    let (mut one, mut two) = (open(&warehouse).await, open(&warehouse).await);
    let base = published(publish(&mut one, None, &[1], true, 10).await.unwrap());
    let won = published(publish(&mut one, Some(&base), &[2], false, 11).await.unwrap());
    // At a higher cut, at the same cut, and without a base: all three publications are too late.
    let seen = fenced(publish(&mut two, Some(&base), &[3], false, 12).await.unwrap()).unwrap();
    assert_eq!(seen.version, won.version);
    fenced(publish(&mut two, Some(&base), &[3], true, 10).await.unwrap());
    fenced(publish(&mut two, None, &[3], true, 12).await.unwrap());
    assert_eq!(values(&warehouse, &seen).await, [1, 2]);
    assert_eq!(parquet_files(&warehouse).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_never_moves_back() {
    let (warehouse, _) = faulty_warehouse();
    let mut table = open(&warehouse).await;
    let base = published(publish(&mut table, None, &[1], true, 10).await.unwrap());
    let error = publish(&mut table, Some(&base), &[1], true, 9).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Bug, "{error}");
    assert_eq!(table.latest().await.unwrap().unwrap().version, base.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_lands_and_then_fails_is_found() {
    for times in [1, 2, 9] {
        let (warehouse, store) = faulty_warehouse();
        let mut table = open(&warehouse).await;
        let base = published(publish(&mut table, None, &[1], true, 10).await.unwrap());
        store.set(Trouble::Fail { part: "_delta_log", after: true, times });
        let next = published(publish(&mut table, Some(&base), &[2], false, 11).await.unwrap());
        assert_eq!(next.version, base.version + 1);
        assert_eq!(values(&warehouse, &next).await, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_a_publication_is_whole_or_absent() {
    for after in [false, true] {
        let mut completed = false;
        for step in 1..100 {
            let (warehouse, store) = faulty_warehouse();
            let mut table = open(&warehouse).await;
            let base = published(publish(&mut table, None, &[1], true, 10).await.unwrap());
            store.set(Trouble::Kill { at: step, after });
            let work = publish(&mut table, Some(&base), &[2], false, 11);
            completed = store.until_killed(work).await.is_some();
            drop(table);
            store.set(Trouble::None);

            let mut table = open(&warehouse).await;
            let found = table.latest().await.unwrap().unwrap();
            let version = if found.cut == base.cut {
                assert!(!completed);
                published(publish(&mut table, Some(&found), &[2], false, 11).await.unwrap())
            } else {
                found
            };
            assert_eq!(version.version, base.version + 1);
            assert_eq!(values(&warehouse, &version).await, [1, 2], "{step} {after}");
            if completed {
                assert!(step > 2, "the steps of a publication were counted");
                break;
            }
        }
        assert!(completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_files_are_removed_after_the_grace() {
    let (warehouse, _) = faulty_warehouse();
    let mut table = open(&warehouse).await;
    let base = published(publish(&mut table, None, &[1], true, 10).await.unwrap());
    let next = published(publish(&mut table, Some(&base), &[2], true, 11).await.unwrap());
    // The file of an unpublished run must stay, whatever the grace time.
    let mut writer = table.writer(Uuid::new_v4());
    writer.write(&states(&[9]), None).await.unwrap();
    writer.finish().await.unwrap();
    table.maintain(Duration::from_secs(3600)).await;
    assert_eq!(parquet_files(&warehouse).await, 3);
    assert_eq!(values(&warehouse, &base).await, [1]);
    table.maintain(Duration::ZERO).await;
    assert_eq!(parquet_files(&warehouse).await, 2);
    assert_eq!(values(&warehouse, &next).await, [2]);
    // A process that opens the table later keeps a young file of no version, even without a grace time.
    let mut fresh = open(&warehouse).await;
    fresh.maintain(Duration::ZERO).await;
    assert_eq!(parquet_files(&warehouse).await, 2);
}
