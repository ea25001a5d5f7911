//! The log as other programs see it. The state does not depend on how the log was read.

use deltalake_core::kernel::Transaction;
use deltalake_core::protocol::SaveMode;
use object_store::memory::InMemory;
use thalweg_kit::positions::at;
use thalweg_kit::store::Trouble;
use thalweg_kit::world::faulty_warehouse;

use super::*;
use crate::testing::stream;

fn draft(next: &[(i32, i64)], mark: &[(i32, i64)], replace: bool) -> Draft {
    Draft {
        adds: vec![NewFile { path: format!("x-{}.parquet", Uuid::new_v4().simple()), size: 10, rows: 2, span: None }],
        replace,
        next: at(next),
        mark: at(mark),
        ..Draft::default()
    }
}

async fn open(store: &Arc<dyn ObjectStore>) -> Log {
    Log::open_or_create(Arc::clone(store), Path::from("streams/s"), &stream().row_schema()).await.unwrap()
}

async fn land(log: &mut Log, draft: Draft) {
    let landing = log.compare_and_set(Uuid::new_v4(), |_| Some(draft.clone())).await;
    assert_eq!(landing.unwrap(), Landing::Landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_transactions_that_delta_reads() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut log = open(&store).await;
    land(&mut log, draft(&[(0, 3), (1, 7)], &[(0, 3)], false)).await;
    land(&mut log, draft(&[(1, 9)], &[], false)).await;
    let snapshot = EagerSnapshot::try_new(log.delta.as_ref(), None).await.unwrap();
    for (id, expect) in [
        ("thalweg/next/0", Some(3)),
        ("thalweg/next/1", Some(9)),
        ("thalweg/mark/0", Some(3)),
        ("thalweg/mark/1", None),
    ] {
        let found = snapshot.transaction_version(log.delta.as_ref(), id).await.unwrap();
        assert_eq!(found, expect, "{id}");
    }
    let features = snapshot.protocol().reader_features().unwrap();
    assert_eq!(format!("{features:?}"), "[TimestampWithoutTimezone]");
    let arrow = snapshot.arrow_schema();
    let own = stream().row_schema();
    for name in ["_partition", "_offset", "_timestamp", "ts", "amount", "device"] {
        let (a, b) = (arrow.field_with_name(name), own.field_with_name(name));
        assert_eq!(a.unwrap().data_type(), b.unwrap().data_type(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_and_loaded_states_are_equal() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut writer = open(&store).await;
    let mut follower = open(&store).await;
    for step in 1..60_i64 {
        let marks: &[(i32, i64)] = if step % 5 == 0 { &[(0, step)] } else { &[] };
        land(&mut writer, draft(&[(0, step), (3, 2 * step)], marks, step % 9 == 0)).await;
        writer.checkpoint().await.unwrap();
        follower.refresh().await.unwrap();
        assert_eq!(follower.state(), writer.state());
        let mut loaded = open(&store).await;
        loaded.state.removed = writer.state.removed.clone();
        assert_eq!(loaded.state(), writer.state(), "step {step}");
    }
    assert_eq!(writer.checkpointed, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_other_programs_are_skipped() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut log = open(&store).await;
    land(&mut log, draft(&[(0, 3)], &[(0, 3)], false)).await;
    let kept = log.state().files.clone();
    let theirs = r#"{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE"}}"#;
    let bytes = CommitOrBytes::LogBytes(bytes::Bytes::from_static(theirs.as_bytes()));
    log.delta.write_commit_entry(2, bytes, Uuid::new_v4()).await.unwrap();
    let reopened = open(&store).await;
    log.refresh().await.unwrap();
    assert_eq!(log.state(), reopened.state());
    assert_eq!((log.state().version, &log.state().files), (2, &kept));
    assert_eq!(log.state().note.next, at(&[(0, 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_contradicts_its_transactions_is_an_error() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut log = open(&store).await;
    let note = CommitInfo { commit: Uuid::new_v4(), next: at(&[(0, 9)]), ..CommitInfo::default() };
    let actions =
        vec![entry::commit_info(&note, SaveMode::Append, 0), Action::Txn(Transaction::new("thalweg/next/0", 8))];
    let bytes = CommitOrBytes::LogBytes(entry::bytes(actions).unwrap());
    log.delta.write_commit_entry(1, bytes, Uuid::new_v4()).await.unwrap();
    let error = log.refresh().await.unwrap_err();
    assert_eq!(error.fault(), Fault::User, "{error}");
    assert_eq!(log.state().version, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_read_is_transient_and_no_table_is_none() {
    let (warehouse, store) = faulty_warehouse();
    let folder = Path::from("streams/s");
    let schema = stream().row_schema();
    let absent = Log::open(warehouse.store(), folder.clone(), &schema).await.unwrap();
    assert!(absent.is_none());
    Log::open_or_create(warehouse.store(), folder.clone(), &schema).await.unwrap();
    store.set(Trouble::Kill { at: 1, after: false });
    let error = Log::open(warehouse.store(), folder, &schema).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Transient, "{error}");
}
