//! Races, failures and kills: however a commit ends, every offset is in the table once.

use futures::TryStreamExt;
use thalweg_schemas::{Fault, Partition};

use super::{all_below, fenced, landed, open};
use crate::testing::{epoch, last, positions};

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_of_one_range_leave_one_epoch() {
    let (warehouse, _) = faulty_warehouse();
    let (mut one, mut two) = (open(&warehouse).await, open(&warehouse).await);
    let range = epoch(&[(0, 0)], &[(0, 3)], true);
    landed(one.commit(&range).await.unwrap());
    let seen = fenced(two.commit(&range).await.unwrap());
    assert_eq!(seen.frontier, at(&[(0, 3), (1, 5)]));
    // After reading the table's position, the second archive continues.
    landed(two.commit(&epoch(&[(0, 3)], &[(0, 5)], true)).await.unwrap());
    let seen = fenced(one.commit(&epoch(&[(0, 3)], &[(0, 4)], true)).await.unwrap());
    assert_eq!(positions(&warehouse, &seen.files).await, all_below(&[], &[(0, 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_other_partitions_do_not_fence_each_other() {
    let (warehouse, _) = faulty_warehouse();
    let (mut one, mut two) = (open(&warehouse).await, open(&warehouse).await);
    landed(one.commit(&epoch(&[(0, 0)], &[(0, 3)], true)).await.unwrap());
    landed(two.commit(&epoch(&[(1, 5)], &[(1, 6)], false)).await.unwrap());
    let version = landed(one.commit(&epoch(&[(0, 3)], &[(0, 4)], false)).await.unwrap());
    assert_eq!(version.frontier, at(&[(0, 4), (1, 6)]));
    assert_eq!(version.mark, at(&[(0, 3), (1, 5)]));
    assert_eq!(version.last[&Partition(1)], last(5));
    let expect = all_below(&[(1, 5)], &[(0, 4), (1, 6)]);
    assert_eq!(positions(&warehouse, &version.files).await, expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_writers_of_other_partitions_all_land_and_write_each_file_once() {
    let (warehouse, _) = faulty_warehouse();
    open(&warehouse).await;
    let writers = (10..14).map(|partition| {
        let warehouse = warehouse.clone();
        tokio::spawn(async move {
            let mut archive = open(&warehouse).await;
            for from in 0..10 {
                let next = epoch(&[(partition, from)], &[(partition, from + 1)], from % 3 == 0);
                landed(archive.commit(&next).await.unwrap());
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let version = open(&warehouse).await.latest().await.unwrap();
    assert_eq!(version.version, 40);
    let ends = [(0, 0), (10, 10), (11, 10), (12, 10), (13, 10)];
    assert_eq!(positions(&warehouse, &version.files).await, all_below(&[], &ends));
    let written: Vec<_> = warehouse.store().list(None).try_collect().await.unwrap();
    let written = written.iter().filter(|o| o.location.as_ref().contains("rows-"));
    assert_eq!(written.count(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_writers_leave_every_offset_once() {
    let (warehouse, _) = faulty_warehouse();
    open(&warehouse).await;
    let writers = (0..4).map(|_| {
        let warehouse = warehouse.clone();
        tokio::spawn(async move {
            let mut archive = open(&warehouse).await;
            loop {
                let stands = archive.latest().await.unwrap().frontier.get(Partition(0)).0;
                if stands >= 40 {
                    return;
                }
                let next = epoch(&[(0, stands)], &[(0, stands + 2)], false);
                archive.commit(&next).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let version = open(&warehouse).await.latest().await.unwrap();
    assert_eq!(version.version, 20);
    assert_eq!(positions(&warehouse, &version.files).await, all_below(&[], &[(0, 40)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_or_lands_and_then_fails_is_committed_once() {
    for part in ["_delta_log", "rows-"] {
        for after in [false, true] {
            for times in [1, 2, 9] {
                let (warehouse, store) = faulty_warehouse();
                let mut archive = open(&warehouse).await;
                store.set(Trouble::Fail { part, after, times });
                let range = epoch(&[(0, 0), (1, 5)], &[(0, 3), (1, 7)], true);
                let mut tries = 0;
                let version = loop {
                    tries += 1;
                    assert!(tries < 20, "{part} {after} {times}");
                    match archive.commit(&range).await {
                        Ok(outcome) => break landed(outcome),
                        Err(error) => assert_eq!(error.fault(), Fault::Transient, "{error}"),
                    }
                };
                assert_eq!(version.version, 1, "{part} {after} {times}");
                let expect = all_below(&[(1, 5)], &[(0, 3), (1, 7)]);
                assert_eq!(positions(&warehouse, &version.files).await, expect);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_every_epoch_lands_once() {
    let mut completed = [false; 2];
    for after in [false, true] {
        for step in 1..100 {
            let (warehouse, store) = faulty_warehouse();
            let mut archive = open(&warehouse).await;
            landed(archive.commit(&epoch(&[(0, 0)], &[(0, 2)], true)).await.unwrap());
            store.set(Trouble::Kill { at: step, after });
            let second = epoch(&[(0, 2), (1, 5)], &[(0, 4), (1, 8)], true);
            let done = store.until_killed(archive.commit(&second)).await;
            drop(archive);
            store.set(Trouble::None);

            let mut archive = open(&warehouse).await;
            let found = archive.latest().await.unwrap();
            if let Some(outcome) = done {
                assert_eq!(landed(outcome.unwrap()).version, found.version);
                completed[usize::from(after)] = true;
            }
            // A new process continues from the table's position.
            if found.frontier == second.from {
                landed(archive.commit(&second).await.unwrap());
            }
            let third = epoch(&[(0, 4), (1, 8)], &[(0, 5), (1, 8)], false);
            let version = landed(archive.commit(&third).await.unwrap());
            assert_eq!(version.version, 3, "{step} {after}");
            let expect = all_below(&[(1, 5)], &[(0, 5), (1, 8)]);
            assert_eq!(positions(&warehouse, &version.files).await, expect, "{step} {after}");
            if completed[usize::from(after)] {
                assert!(step > 2, "the steps of a commit were counted");
                break;
            }
        }
    }
    assert_eq!(completed, [true, true]);
}
use thalweg_kit::positions::at;
use thalweg_kit::store::Trouble;
use thalweg_kit::world::faulty_warehouse;
