//! Partitions that are assigned and revoked while loops run on one archive: gained, lost, gained back, owned twice,
//! found later.

use std::sync::Arc;
use std::time::Duration;

use thalweg_kit::positions::{at, set};
use thalweg_schemas::realtime::segment::{Provenance, Segment};
use thalweg_schemas::{Offset, Partition};
use thalweg_speed::{Assignment, ConsumerCommand, Ended};

use super::script::Script;
use super::site::Site;
use super::worker::Worker;

const ORIGIN: &[(i32, i64)] = &[(0, 0), (1, 7), (2, 0)];

/// Produces these steps, and lets every worker read them.
async fn together(site: &Site, script: &mut Script, workers: &mut [&mut Worker], steps: std::ops::Range<i64>) {
    for step in steps {
        script.step(step);
        for worker in workers.iter_mut() {
            worker.read(script).await;
        }
        if step % 3 == 0 {
            site.clock.advance(Duration::from_secs(1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gained_partition_is_rebuilt_while_the_others_are_served() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut a = Worker::with(&site, &[0, 1]).await;
    let mut b = Worker::with(&site, &[2]).await;
    together(&site, &mut script, &mut [&mut a, &mut b], 0..30).await;
    for worker in [&mut a, &mut b] {
        let read = worker.at.clone();
        worker.run.archived(read, &site).await;
    }
    site.recompute().await;
    together(&site, &mut script, &mut [&mut a, &mut b], 30..45).await;
    a.takes_up(&site).await;
    a.check(&site, &script).await;
    b.takes_up(&site).await;
    b.check(&site, &script).await;

    let dropped = b.revoke(&[2]).await;
    assert!(dropped.await.is_err(), "it is dropped, not sent");
    b.check(&site, &script).await;
    let master = site.archive().await.latest().await.unwrap();
    let (two, end) = (Partition(2), script.frontier().get(Partition(2)));
    assert_eq!((master.frontier.get(two), master.mark.get(two)), (end, end));

    a.assign(&site, &[2]).await;
    // The gained partition may or may not be rebuilt by now. The other partitions are unchanged.
    a.check_some(&site, &script, &[0, 1]).await;
    script.step(45);
    a.read(&script).await;
    a.check_some(&site, &script, &[0, 1]).await;
    a.takes_up(&site).await;
    a.check(&site, &script).await;
    let id = site.view.plan.id();
    let snapshot = a.run.snapshot();
    let rebuilt = &snapshot.views[id].partitions[&two];
    assert_eq!(rebuilt[0].provenance, Provenance::Rebuilt);
    // The other partitions were never rebuilt.
    let others = [0, 1].map(|p| &snapshot.views[id].partitions[&Partition(p)]);
    let live = |s: &Arc<Segment>| s.provenance == Provenance::Live;
    assert!(others.into_iter().flatten().all(live));
    together(&site, &mut script, &mut [&mut a], 46..80).await;
    a.takes_up(&site).await;
    a.check(&site, &script).await;
    a.end(&site).await;
    b.end(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_wander_between_workers_and_every_answer_is_exact() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut workers = [Worker::with(&site, &[0, 1, 2]).await, Worker::idle(&site).await, Worker::idle(&site).await];
    for round in 0..18 {
        let [a, b, c] = &mut workers;
        together(&site, &mut script, &mut [a, b, c], round * 7..round * 7 + 7).await;
        for worker in &mut workers {
            worker.takes_up(&site).await;
            worker.check(&site, &script).await;
        }
        // One partition moves to the next worker. Every third round it returns to the same worker.
        let partition = (round % 3) as i32;
        let holds = |worker: &Worker| worker.at.named(Partition(partition)).is_some();
        let from = workers.iter().position(holds).unwrap();
        let to = if round % 3 == 2 { from } else { (from + 1) % 3 };
        let _ = workers[from].revoke(&[partition]).await.await;
        workers[to].assign(&site, &[partition]).await;
        if round % 4 == 3 {
            site.recompute().await;
        }
    }
    for worker in workers {
        worker.end(&site).await;
    }
    site.recompute().await;
    assert_eq!(site.cut(), script.frontier());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_one_is_fenced_and_no_answer_is_wrong() {
    let mut site = Site::new(ORIGIN).await;
    site.config.epoch_interval = Duration::from_secs(3600);
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut zombie = Worker::with(&site, &[0, 1]).await;
    let mut heir = Worker::with(&site, &[2]).await;
    together(&site, &mut script, &mut [&mut zombie, &mut heir], 0..20).await;
    // The zombie does not know that it has lost partition 1, and has not archived any of it.
    heir.assign(&site, &[1]).await;
    heir.read(&script).await;
    heir.takes_up(&site).await;
    together(&site, &mut script, &mut [&mut zombie, &mut heir], 20..30).await;
    for worker in [&mut zombie, &mut heir] {
        worker.takes_up(&site).await;
        worker.check(&site, &script).await;
    }
    heir.revoke(&[2]).await.await.unwrap_err();
    heir.check(&site, &script).await;
    zombie.check(&site, &script).await;
    let fenced_at = zombie.at.clone();
    zombie.run.cancel();
    // Another worker owns the zombie's data, so the zombie ends without archiving it.
    assert!(matches!(zombie.run.ended().await.unwrap(), Ended::ShutDown));
    let master = site.archive().await.latest().await.unwrap();
    assert_eq!(master.frontier.get(Partition(0)), Offset(0));
    assert_eq!(master.frontier.get(Partition(1)), fenced_at.get(Partition(1)));

    let mut next = Worker::with(&site, &[0, 2]).await;
    together(&site, &mut script, &mut [&mut next, &mut heir], 30..40).await;
    for worker in [&mut next, &mut heir] {
        worker.takes_up(&site).await;
        worker.check(&site, &script).await;
    }
    next.end(&site).await;
    heir.end(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_another_owner_fences_the_loop_and_one_of_others_does_not() {
    let mut site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut a = Worker::with(&site, &[0]).await;
    // This worker archives only revoked partitions.
    site.config.epoch_interval = Duration::from_secs(3600);
    let mut b = Worker::with(&site, &[1, 2]).await;
    together(&site, &mut script, &mut [&mut a, &mut b], 0..30).await;
    let mine = a.at.clone();
    a.run.archived(mine, &site).await;
    let _ = b.revoke(&[2]).await.await;
    b.check(&site, &script).await;

    b.assign(&site, &[2]).await;
    a.assign(&site, &[2]).await;
    together(&site, &mut script, &mut [&mut a, &mut b], 30..40).await;
    a.takes_up(&site).await;
    let mine = a.at.clone();
    a.run.archived(mine.clone(), &site).await;
    b.takes_up(&site).await;
    b.check(&site, &script).await;
    let _ = b.revoke(&[1]).await.await;
    match b.run.ended().await.unwrap() {
        Ended::Fenced(version) => assert!(version.frontier.covers(&mine)),
        other => panic!("{other:?}"),
    }
    a.check(&site, &script).await;
    a.end(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_drained_before_a_partition_came_back_does_not_count() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut a = Worker::with(&site, &[0, 1]).await;
    together(&site, &mut script, &mut [&mut a], 0..11).await;
    let before = (a.at.clone(), a.assignment);
    let _ = a.revoke(&[1]).await.await;
    script.step(11);
    // A batch drained before the consumer learned of the revocation: partition 0 counts, partition 1 does not.
    let to = script.frontier().within(set(&[0, 1]));
    a.run.feed(script.drained(&before.0, &to, before.1)).await;
    a.at = script.frontier().within(set(&[0]));
    let read = a.at.clone();
    a.run.until("partition 0", |s| s.frontier == read).await;
    a.takes_up(&site).await;
    a.check(&site, &script).await;

    a.assign(&site, &[1]).await;
    let low = a.at.get(Partition(1));
    assert!(low < to.get(Partition(1)));
    script.step(12);
    let stale = script.frontier().within(set(&[0, 1]));
    a.run.feed(script.drained(&a.at, &stale, before.1)).await;
    a.at.set(Partition(0), stale.get(Partition(0)));
    let read = a.at.clone();
    a.run.until("partition 0", |s| s.frontier == read).await;
    a.read(&script).await;
    a.takes_up(&site).await;
    a.check(&site, &script).await;
    a.end(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_leaves_only_after_the_archive_has_it() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut a = Worker::with(&site, &[0, 1]).await;
    together(&site, &mut script, &mut [&mut a], 0..10).await;
    let held = site.hold_archive();
    let mut dropped = a.revoke(&[1]).await;
    // Reading and serving continue meanwhile, also for the revoked partition.
    for step in 10..20 {
        script.step(step);
        a.at.set(Partition(0), script.frontier().get(Partition(0)));
        let (from, to) = (a.run.snapshot().frontier.clone(), a.at.clone());
        a.run.feed(script.drained(&from, &to, a.assignment)).await;
        let read = |s: &thalweg_schemas::realtime::snapshot::StreamSnapshot| s.frontier.covers(&to);
        a.run.until("partition 0", read).await;
        a.check_some(&site, &script, &[0]).await;
        assert!(dropped.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
    }
    assert!(a.run.snapshot().frontier.named(Partition(1)).is_some());
    held.release();
    let _ = dropped.await;
    a.check(&site, &script).await;
    a.end(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_partitions_found_later_only_those_of_the_range_are_taken() {
    let mut site = Site::new(&[(0, 0), (1, 7)]).await;
    site.config.assignment = Assignment::Static(set(&[0, 3]));
    site.recompute().await;
    let run = site.start_with(set(&[0])).await;
    run.grow(3);
    run.grow(5);
    match run.command().await {
        ConsumerCommand::Assign(found) => assert_eq!(found, at(&[(3, 0)])),
        other => panic!("{other:?}"),
    }
    let catalog = site.world.catalogs.load().await.unwrap();
    let origin = &catalog.streams[&site.world.stream].origin;
    assert_eq!(*origin, at(&[(0, 0), (1, 7), (3, 0)]));
    run.cancel();
    assert!(matches!(run.ended().await.unwrap(), Ended::ShutDown));
}
