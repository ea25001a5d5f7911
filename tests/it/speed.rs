//! The speed layer's loop with everything real except Kafka. A script replaces the consumer, so the test chooses
//! every position, gap and order. Archive, catalog and recomputation are the product's own.
//!
//! Invariant: every published snapshot is checked, not only the last one.

mod amendments;
mod isolation;
mod kafka;
mod partitions;
mod script;
mod site;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use thalweg_kit::positions::at;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::realtime::segment::Provenance;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use thalweg_schemas::{Frontier, Partition};
use thalweg_speed::{ConsumerCommand, Ended};

use script::Script;
use site::{Site, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn segments_tile_from_every_cut_while_epochs_marks_and_recomputations_go_by() {
    let site = Site::new(&[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    for step in 0..240 {
        let drained = script.step(step);
        run.feed(drained).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
        if step % 5 == 0 {
            site.clock.advance(Duration::from_secs(1));
        }
        if step % 40 == 39 {
            run.archived(script.frontier(), &site).await;
            site.recompute().await;
            run.takes_up(&site).await;
            run.check(&site, &script).await;
        }
    }
    let id = site.view.plan.id().clone();
    let few = || {
        let snapshot = run.snapshot();
        let segments = &snapshot.views[&id];
        let live = segments.iter().all(|s| s.provenance == Provenance::Live);
        live && segments.partitions.values().all(|list| list.len() <= 20)
    };
    eventually("merges to leave few segments", few).await;
    run.check(&site, &script).await;
    let snapshot = run.snapshot();
    assert!(
        snapshot.rows.len() < 60,
        "{} chunks: rows below the archive stay after the grace time",
        snapshot.rows.len()
    );
    assert!(snapshot.rows[0].from.get(Partition(0)) > at(&[(0, 0)]).get(Partition(0)));
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_view_is_rebuilt_from_the_archive_and_from_memory() {
    let mut site = Site::new(&[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    for step in 0..30 {
        run.feed(script.step(step)).await;
        site.clock.advance(Duration::from_secs(1));
    }
    run.archived(script.frontier(), &site).await;
    for step in 30..60 {
        run.feed(script.step(step)).await;
    }
    run.reaches(script.frontier()).await;
    // The view is published at the stream's origin, so its batch states contain no events.
    site.create("CREATE MATERIALIZED VIEW other AS SELECT device, count(*) AS n, sum(value) AS total FROM s WHERE true GROUP BY device").await;
    site.publish_at_origin("other").await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    for step in 60..90 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    let id = site.view.plan.id().clone();
    let snapshot = run.snapshot();
    let provenances: Vec<_> = snapshot.views[&id].iter().map(|s| s.provenance).collect();
    assert!(provenances.contains(&Provenance::Rebuilt) && provenances.contains(&Provenance::Live));
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_rebuilds_and_a_cut_inside_a_segment_is_rebuilt_again() {
    let site = Site::new(&[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let origin = site.published();
    let mut script = Script::new(&site);
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut older = None;
    for step in 0..40 {
        run.feed(script.step(step)).await;
        if step == 20 {
            run.reaches(script.frontier()).await;
            site.clock.advance(Duration::from_secs(60));
            run.archived(script.frontier(), &site).await;
            site.recompute().await;
            older = Some(site.published());
        }
    }
    run.reaches(script.frontier()).await;
    run.end(&site, script.frontier()).await;

    // The next process first gets the first cut, then a cut inside one of its rebuilt segments, because it knew only
    // the newest mark when it rebuilt.
    site.publish(origin);
    let mut run = site.start().await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    site.publish(older.expect("it was recomputed at step 20"));
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    for step in 40..60 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writer_fences() {
    let site = Site::new(&[(0, 0)]).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    run.feed(script.step(0)).await;
    run.reaches(script.frontier()).await;
    let theirs = Epoch {
        stream: site.world.stream.clone(),
        from: site.world.origin.clone(),
        to: at(&[(0, 1)]),
        rows: vec![],
        mark: false,
        last: Default::default(),
    };
    let outcome = site.archive().await.commit(&theirs).await.unwrap();
    assert!(matches!(outcome, EpochOutcome::Landed(_)));
    site.clock.advance(Duration::from_secs(60));
    match run.ended().await.unwrap() {
        Ended::Fenced(version) => assert_eq!(version.frontier, at(&[(0, 1)])),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_pauses_at_the_budget_and_nothing_is_dropped() {
    let mut site = Site::new(&[(0, 0), (1, 7)]).await;
    site.config.memory_budget = 2 << 20;
    site.recompute().await;
    let archiving = site.hold_archive();
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    let mut step = 0;
    let paused = loop {
        run.feed(script.large_step(step)).await;
        run.reaches(script.frontier()).await;
        step += 1;
        assert!(step < 2000, "never paused");
        let snapshot = run.snapshot();
        if snapshot.paused {
            break snapshot;
        }
    };
    // Merged states are smaller. A loop far below the budget would not have paused.
    assert!(paused.memory_bytes > (2 << 20) / 2, "{}", paused.memory_bytes);
    let within_budget = |snapshot: &StreamSnapshot| {
        let (held, budget) = (snapshot.memory_bytes, snapshot.memory_budget);
        assert!(held <= budget, "{held} bytes of {budget}");
    };
    within_budget(&paused);
    assert!(matches!(run.command().await, ConsumerCommand::Pause));
    assert_eq!(paused.rows[0].from, site.world.origin, "unarchived rows were dropped");
    run.check(&site, &script).await;
    assert!(site.pressed().await, "the batch layer was not asked");
    // Batches drained before the pause still arrive.
    run.feed(script.large_step(step)).await;
    run.reaches(script.frontier()).await;
    within_budget(&run.snapshot());
    archiving.release();
    // States are dropped when a recomputation covers them, and rows when they are archived.
    loop {
        site.recompute().await;
        run.takes_up(&site).await;
        if !run.snapshot().paused {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(matches!(run.command().await, ConsumerCommand::Resume));
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_found_later_is_in_the_catalog_before_it_is_read() {
    let site = Site::new(&[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    run.feed(script.step(0)).await;
    run.grow(3);
    match run.command().await {
        ConsumerCommand::Assign(assigned) => assert_eq!(assigned, at(&[(2, 0)])),
        other => panic!("{other:?}"),
    }
    let catalog = site.world.catalogs.load().await.unwrap();
    let origin = &catalog.streams[&site.world.stream].origin;
    assert_eq!(*origin, at(&[(0, 0), (1, 7), (2, 0)]));
    script.grow(2);
    for step in 1..20 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    site.clock.advance(Duration::from_secs(60));
    run.archived(script.frontier(), &site).await;
    site.recompute().await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_with_nothing_new_still_leaves_a_mark() {
    let mut site = Site::new(&[(0, 0)]).await;
    site.config.mark_interval = Duration::from_secs(3600);
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    for step in 0..4 {
        // The first epoch is a mark; the others are not.
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        site.clock.advance(Duration::from_secs(60));
        run.archived(script.frontier(), &site).await;
    }
    let master = Arc::clone(&run.snapshot().master);
    assert_ne!(master.mark, master.frontier);
    run.end(&site, script.frontier()).await;
    let frontier: Frontier = script.frontier();
    assert_eq!(site.archive().await.latest().await.unwrap().mark, frontier);
}
