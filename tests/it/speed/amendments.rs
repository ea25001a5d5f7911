//! Amendments: rows that other processes commit to the archive, in partitions that no topic has, while loops run.

use std::time::Duration;

use thalweg_kit::positions::at;
use thalweg_schemas::realtime::segment::Provenance;
use thalweg_schemas::{Frontier, Offset, Partition};

use super::script::Script;
use super::site::{Run, Site};
use super::worker::Worker;

const ORIGIN: &[(i32, i64)] = &[(0, 0), (1, 7)];
const BOTH: [Partition; 2] = [Partition::RETRIED, Partition::LOADED];

/// Waits until all amendments are shown.
async fn taken(run: &mut Run, script: &Script) {
    let ends: Frontier = BOTH.into_iter().map(|p| (p, script.amended(p))).collect();
    run.reaches(ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amendments_enter_every_view_while_all_goes_on() {
    let mut site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    for step in 0..36 {
        run.feed(script.step(step)).await;
        if step % 4 == 1 {
            script.amend(&site, BOTH[(step / 4 % 2) as usize], 1 + step * 3).await;
        }
        if step % 9 == 8 {
            taken(&mut run, &script).await;
            run.takes_up(&site).await;
            run.check(&site, &script).await;
        }
        if step == 14 {
            site.clock.advance(Duration::from_secs(8));
            run.archived(script.frontier(), &site).await;
            site.recompute().await;
            assert!(site.cut().get(Partition::RETRIED) > Offset(0), "{}", site.cut());
            run.takes_up(&site).await;
            run.check(&site, &script).await;
        }
        if step == 23 {
            // A view that is rebuilt beside the loop has the amendments too.
            site.create("CREATE MATERIALIZED VIEW other AS SELECT device, count(*) AS n, sum(value) AS total FROM s WHERE true GROUP BY device").await;
            site.publish_at_origin("other").await;
            run.takes_up(&site).await;
            run.check(&site, &script).await;
        }
    }
    run.reaches(script.frontier()).await;
    taken(&mut run, &script).await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    assert!(run.snapshot().caught_up);
    let frontier = script.frontier();
    run.end(&site, frontier.clone()).await;

    // A restart begins with all of them, and a full recomputation ends there.
    let mut again = site.start_with(at(&[(0, 0), (1, 0), (-1, 0), (-2, 0)]).partitions().collect()).await;
    again.takes_up(&site).await;
    taken(&mut again, &script).await;
    again.check(&site, &script).await;
    site.recompute().await;
    again.takes_up(&site).await;
    again.check(&site, &script).await;
    let all: Frontier = BOTH.into_iter().map(|p| (p, script.amended(p))).collect();
    assert!(site.cut().stands_at(&frontier.or(&all)), "{}", site.cut());
    again.end(&site, frontier).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_above_what_is_taken_waits_and_is_taken_up() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    run.feed(script.step(1)).await;
    run.reaches(script.frontier()).await;
    // The batch layer is faster than the loop, which looks once a second.
    script.amend(&site, Partition::LOADED, 500).await;
    site.recompute().await;
    assert_eq!(site.cut().get(Partition::LOADED), Offset(500));
    run.feed(script.step(2)).await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    assert_eq!(run.snapshot().frontier.get(Partition::LOADED), Offset(500));
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_inside_of_what_was_taken_at_once_is_exact() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    script.amend(&site, Partition::LOADED, 40).await;
    site.recompute().await;
    let inside = site.published();
    script.amend(&site, Partition::LOADED, 60).await;
    // The loop begins at the origin of amendments, and takes both commits in one step.
    let mut run = site.start().await;
    taken(&mut run, &script).await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    assert_eq!(site.cut().get(Partition::LOADED), Offset(40));
    site.recompute().await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    site.publish(inside);
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amendments_go_with_partition_0() {
    let site = Site::new(ORIGIN).await;
    site.recompute().await;
    let mut script = Script::new(&site);
    let mut a = Worker::with(&site, &[0]).await;
    let mut b = Worker::with(&site, &[1]).await;
    for round in 0..4 {
        script.amend(&site, Partition::RETRIED, 20 + round).await;
        for step in 0..5 {
            script.step(round * 5 + step);
            a.read(&script).await;
            b.read(&script).await;
        }
        let (owner, other) = if a.at.named(Partition(0)).is_some() { (&mut a, &mut b) } else { (&mut b, &mut a) };
        taken_by(owner, &script).await;
        owner.takes_up(&site).await;
        owner.check(&site, &script).await;
        owner.check_some(&site, &script, &[0, -1]).await;
        other.takes_up(&site).await;
        other.check(&site, &script).await;
        assert!(other.run.snapshot().frontier.of_amendments().is_empty());
        if round == 2 {
            site.recompute().await;
        }
        assert!(owner.revoke(&[0]).await.await.is_err());
        assert!(owner.run.snapshot().frontier.of_amendments().is_empty());
        other.assign(&site, &[0]).await;
        taken_by(other, &script).await;
        other.takes_up(&site).await;
        other.check_some(&site, &script, &[0, -1]).await;
    }
    let rebuilt = {
        let owner = if a.at.named(Partition(0)).is_some() { &a } else { &b };
        let snapshot = owner.run.snapshot();
        let held = &snapshot.views[site.view.plan.id()];
        held.partitions[&Partition::RETRIED].iter().all(|segment| segment.provenance == Provenance::Rebuilt)
    };
    assert!(rebuilt, "all of it was read from files");
    a.end(&site).await;
    b.end(&site).await;
}

async fn taken_by(worker: &mut Worker, script: &Script) {
    let end = script.amended(Partition::RETRIED);
    worker.run.reaches([(Partition::RETRIED, end)].into_iter().collect()).await;
}
