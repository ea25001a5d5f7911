//! What one process writes of failed runs, and what another reads.

use std::collections::BTreeMap;

use thalweg_kit::store::Trouble;
use thalweg_kit::world::{faulty_warehouse, warehouse_in_memory};
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::failure::FailedStep;
use thalweg_schemas::{Fault, Frontier, ViewName};
use tokio::sync::mpsc;

use super::*;

fn failure(since_ms: i64) -> ViewFailure {
    let nowhere = Frontier::new();
    ViewFailure::told(FailedStep::Run, (Fault::User, "division by zero".into()), (&nowhere, &nowhere), since_ms)
}

fn report(view: &ViewId, outcome: RunOutcome) -> RunReport {
    RunReport {
        view: ViewName::new("v").unwrap(),
        id: view.clone(),
        mode: RunMode::Incremental,
        from: Frontier::new(),
        to: Frontier::new(),
        rows_read: 0,
        groups: 0,
        files: 0,
        bytes: 0,
        elapsed: Duration::ZERO,
        outcome,
    }
}

#[tokio::test]
async fn replicas_read_what_the_last_run_of_each_view_ended_with() {
    let warehouse = warehouse_in_memory();
    let (a, b) = (ViewId::of(&["a"]), ViewId::of(&["b"]));
    let mut writer = FailedRuns::open(&warehouse).await;
    let mut reader = Reader::new(&warehouse);
    assert_eq!(reader.read().await.unwrap(), BTreeMap::new());
    for (view, at) in [(&a, 1), (&b, 2), (&a, 3)] {
        writer.record(&report(view, RunOutcome::Failed(failure(at)))).await;
    }
    // A view has failed since its first failure.
    let both = BTreeMap::from([(a.clone(), failure(1)), (b.clone(), failure(2))]);
    assert_eq!(reader.read().await.unwrap(), both);
    writer.record(&report(&a, RunOutcome::Busy { holder: "another".into(), until_ms: 0 })).await;
    assert_eq!(reader.read().await.unwrap(), both);

    // Another process goes on with what this one has written.
    let mut other = FailedRuns::open(&warehouse).await;
    other.record(&report(&a, RunOutcome::NothingNew)).await;
    assert_eq!(reader.read().await.unwrap(), BTreeMap::from([(b.clone(), failure(2))]));
    other.keep(|_| false).await;
    assert_eq!(reader.read().await.unwrap(), BTreeMap::new());
    // An object that is gone already is no error.
    remove(&warehouse.store(), &Warehouse::failure_path(&a)).await.unwrap();
}

#[tokio::test]
async fn whatever_process_ends_a_failure_the_replicas_hear_of_it() {
    let warehouse = warehouse_in_memory();
    let a = ViewId::of(&["a"]);
    let mut reader = Reader::new(&warehouse);
    let mut early = FailedRuns::open(&warehouse).await;
    let mut late = FailedRuns::open(&warehouse).await;
    late.record(&report(&a, RunOutcome::Failed(failure(1)))).await;
    assert_eq!(reader.read().await.unwrap().len(), 1);
    early.record(&report(&a, RunOutcome::Published)).await;
    assert_eq!(reader.read().await.unwrap().len(), 0);
    late.record(&report(&a, RunOutcome::Failed(failure(1)))).await;
    assert_eq!(reader.read().await.unwrap().len(), 1, "the same failure again");
}

#[tokio::test]
async fn a_store_that_fails_once_costs_one_object() {
    let (warehouse, faults) = faulty_warehouse();
    let a = ViewId::of(&["a"]);
    let mut reader = Reader::new(&warehouse);
    let mut writer = FailedRuns::open(&warehouse).await;
    let fail_once = || faults.set(Trouble::Fail { part: "failures/", after: false, times: 1 });
    let failed = report(&a, RunOutcome::Failed(failure(1)));
    fail_once();
    writer.record(&failed).await;
    assert_eq!(reader.read().await.unwrap().len(), 0);
    writer.record(&failed).await;
    assert_eq!(reader.read().await.unwrap().len(), 1);
    fail_once();
    writer.record(&report(&a, RunOutcome::Published)).await;
    writer.record(&report(&a, RunOutcome::Published)).await;
    assert_eq!(reader.read().await.unwrap().len(), 0);
}

#[tokio::test]
async fn changes_are_shown_and_what_is_not_understood_is_left_out() {
    let warehouse = warehouse_in_memory();
    let id = ViewId::of(&["a"]);
    let (shown, mut seen) = mpsc::unbounded_channel();
    let show = move |failures| shown.send(failures).unwrap();
    let following = tokio::spawn(follow_failures(warehouse.clone(), Duration::from_millis(5), show));
    let mut writer = FailedRuns::open(&warehouse).await;
    let later = Warehouse::failures_path().join("later");
    warehouse.store().put(&later, PutPayload::from("{\"of\": \"a newer version\"}")).await.unwrap();
    writer.record(&report(&id, RunOutcome::Failed(failure(1)))).await;
    assert_eq!(seen.recv().await.unwrap(), BTreeMap::from([(id.clone(), failure(1))]));
    writer.record(&report(&id, RunOutcome::Published)).await;
    assert_eq!(seen.recv().await.unwrap(), BTreeMap::new());
    following.abort();
}
