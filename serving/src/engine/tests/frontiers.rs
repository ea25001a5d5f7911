//! Queries that cannot be answered yet: layers that are not ready, gaps, and frontiers that a query waits for.

use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::Fault;
use thalweg_schemas::api::error::ErrorCode;
use thalweg_schemas::api::views::ViewPhase;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::warehouse::versions::Published;

use super::{code, engine, lines, rows};
use crate::engine::Engine;
use crate::fixture::{World, at};
use crate::options::Options;
use crate::sources::ServingConfig;

#[tokio::test]
async fn what_is_not_there_yet_is_not_ready() {
    let (archived, cut, to) = (at(4, 4), at(4, 4), at(9, 9));
    let world = World::new().await;
    let engine = engine(&world);
    let asks = ["SELECT * FROM totals", "SELECT * FROM sensor_data", "SELECT * FROM batch.totals"];
    for sql in asks {
        assert_eq!(code(&engine, sql).await, "not_ready", "{sql}");
    }
    let snapshot = world.snapshot(&archived, &cut, &to).await;
    world.snapshots.send_replace(Some(Arc::new(snapshot)));
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_ready");
    rows(&engine, "SELECT * FROM sensor_data").await;

    world.publish(&cut, &to).await;
    rows(&engine, "SELECT * FROM totals").await;
    world.alter(|s| s.caught_up = false);
    for sql in asks {
        assert_eq!(code(&engine, sql).await, "not_ready", "{sql}");
    }
    world.alter(|s| s.caught_up = true);
    let totals = world.view_id("totals");
    world.alter(|s| {
        s.views.remove(&totals);
    });
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_ready");
    rows(&engine, "SELECT * FROM busy").await;
    world.streams.send_replace(Arc::default());
    assert_eq!(code(&engine, "SELECT * FROM busy").await, "not_ready");
}

#[tokio::test]
async fn a_view_that_is_being_built_says_so() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    let mut catalog = Catalog::clone(&world.catalog.borrow());
    for view in catalog.views.values_mut() {
        view.building = view.serving.take();
    }
    world.catalog.send_replace(Arc::new(catalog));
    for sql in ["SELECT * FROM totals", "SELECT * FROM speed.busy"] {
        let error = engine.run(sql, Options::default()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::NotReady);
        assert!(error.to_string().contains("being built"), "{error}");
    }
}

#[tokio::test]
async fn a_stopped_stream_says_why() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    world.failure.send_replace(Some("the topic was recreated".into()));
    let patient = ServingConfig { pin_wait: Duration::from_secs(600), ..world.config() };
    let engine = Arc::new(Engine::new(patient, world.sources.clone()).unwrap());
    let asked = engine.run("SELECT * FROM totals", Options::default());
    let error = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("at once").err().unwrap();
    assert_eq!(error.code(), ErrorCode::StreamStopped);
    assert!(error.to_string().contains("recreated"), "{error}");
}

pub(super) fn failure(step: FailedStep, fault: Fault) -> ViewFailure {
    let reason = "Divide by zero error".to_owned();
    ViewFailure { step, fault, reason, expression: None, from: at(7, 8), to: at(7, 9), since_ms: 1 }
}

#[tokio::test]
async fn a_view_whose_rebuild_fails_says_why_it_is_not_held() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let totals = world.view_id("totals");
    let passing = failure(FailedStep::Rebuild, Fault::Transient);
    world.alter(|s| drop(s.delayed.insert(totals.clone(), Arc::new(passing.clone()))));
    // What is held answers as before.
    assert_eq!(rows(&engine(&world), "SELECT * FROM totals").await.len(), 1);
    let shown = crate::status::views(&world.sources).await;
    let view = shown.views.iter().find(|view| view.name.as_str() == "totals").unwrap();
    assert_eq!((view.status, view.failure.as_ref()), (ViewPhase::Serving, Some(&passing)));
    // A cut within a segment is one from which nothing can be answered.
    world.publish(&at(5, 5), &at(9, 9)).await;
    let error = engine(&world).run("SELECT * FROM totals", Options::default()).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::NotHeld);
    assert!(error.to_string().contains("its rebuild fails and is tried again"), "{error}");
    assert!(error.to_string().contains("Divide by zero"), "{error}");
}

#[tokio::test]
async fn a_failed_view_says_why_at_once_and_everything_else_is_answered() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let totals = world.view_id("totals");
    world.alter(|s| {
        s.views.remove(&totals);
        s.failed.insert(totals.clone(), Arc::new(failure(FailedStep::Update, Fault::User)));
    });
    let patient = ServingConfig { pin_wait: Duration::from_secs(600), ..world.config() };
    let engine = Arc::new(Engine::new(patient, world.sources.clone()).unwrap());
    for sql in ["SELECT * FROM totals", "SELECT * FROM batch.totals", "SELECT * FROM busy, totals"] {
        let asked = engine.run(sql, Options::default());
        let error = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("at once").err().unwrap();
        assert_eq!(error.code(), ErrorCode::ViewFailed, "{sql}");
        let said = error.to_string();
        assert!(said.contains("offset 8 of partition 1") && said.contains("CREATE OR REPLACE"), "{said}");
    }
    rows(&engine, "SELECT * FROM busy").await;
    rows(&engine, "SELECT * FROM sensor_data").await;
}

#[tokio::test]
async fn a_view_that_cannot_be_built_says_why() {
    let world = World::standing(&at(4, 4), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    let mut catalog = Catalog::clone(&world.catalog.borrow());
    for view in catalog.views.values_mut() {
        view.building = view.serving.take();
    }
    world.catalog.send_replace(Arc::new(catalog));
    world.fail_run("totals", failure(FailedStep::Run, Fault::User));
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "view_failed");
    assert_eq!(code(&engine, "SELECT * FROM busy").await, "not_ready");
}

#[tokio::test]
async fn gaps_are_waited_out_and_never_answered() {
    let (archived, cut, to) = (at(6, 6), at(4, 4), at(15, 9));
    let world = World::standing(&archived, &cut, &to).await;
    let engine = engine(&world);
    let whole = world.snapshots.borrow().clone();
    let expected = lines(&rows(&engine, "SELECT * FROM totals").await);

    let id = world.view_id("totals");
    world.alter(|s| {
        let mut held = s.views[&id].as_ref().clone();
        held.partitions.values_mut().for_each(|s| drop(s.remove(0)));
        s.views.insert(id.clone(), Arc::new(held));
    });
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_held");
    world.alter(|s| drop(s.rows.remove(0)));
    assert_eq!(code(&engine, "SELECT * FROM sensor_data").await, "not_held");

    let healed = async {
        tokio::task::yield_now().await;
        world.snapshots.send_replace(whole);
    };
    let (found, ()) = tokio::join!(rows(&engine, "SELECT * FROM totals"), healed);
    assert_eq!(lines(&found), expected);
}

#[tokio::test]
async fn a_cut_above_the_snapshot_is_waited_for() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    world.publish(&at(12, 9), &at(12, 9)).await;
    assert_eq!(code(&engine, "SELECT * FROM totals").await, "not_held");
    let next = world.snapshot(&at(12, 9), &at(12, 9), &at(14, 9)).await;
    world.snapshots.send_replace(Some(Arc::new(next)));
    rows(&engine, "SELECT * FROM totals").await;
}

#[tokio::test]
async fn no_answer_goes_below_a_frontier_given_before() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    rows(&engine, "SELECT * FROM totals").await;
    let older = world.snapshot(&at(6, 6), &at(4, 4), &at(9, 8)).await;
    world.snapshots.send_replace(Some(Arc::new(older)));
    for sql in ["SELECT * FROM totals", "SELECT * FROM sensor_data"] {
        assert_eq!(code(&engine, sql).await, "not_held", "{sql}");
    }
}

#[tokio::test]
async fn a_dropped_stream_of_the_same_name_starts_anew() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    rows(&engine, "SELECT * FROM sensor_data").await;
    let whole = world.catalog.borrow().clone();
    world.catalog.send_replace(Arc::new(Catalog::default()));
    assert_eq!(code(&engine, "SELECT * FROM sensor_data").await, "invalid_query");
    world.catalog.send_replace(whole);
    let lower = world.snapshot(&at(2, 2), &at(2, 2), &at(3, 3)).await;
    world.snapshots.send_replace(Some(Arc::new(lower)));
    world.published.send_replace(Arc::new(Published::default()));
    rows(&engine, "SELECT * FROM sensor_data").await;
}

#[tokio::test]
async fn a_frontier_that_is_asked_for_is_waited_for() {
    let (archived, cut) = (at(6, 6), at(4, 4));
    let world = World::standing(&archived, &cut, &at(9, 9)).await;
    let engine = engine(&world);
    let below = r#"SET thalweg.min_frontier = '{"sensor_data": {"0": 9}}'; SELECT * FROM totals"#;
    rows(&engine, below).await;
    let above = r#"SET thalweg.min_frontier = '{"sensor_data": {"0": 11}}'; SELECT * FROM totals"#;
    assert_eq!(code(&engine, above).await, "not_held");
    let error = engine.run(above, Options::default()).await.err().unwrap();
    assert!(error.to_string().contains("which the request asks for"), "{error}");

    let next = world.snapshot(&archived, &cut, &at(11, 9)).await;
    let arrives = async {
        tokio::task::yield_now().await;
        world.snapshots.send_replace(Some(Arc::new(next)));
    };
    let (found, ()) = tokio::join!(rows(&engine, above), arrives);
    assert_eq!(found.len(), 1);
    let unknown = r#"SET thalweg.min_frontier = '{"elsewhere": {"0": 1}}'; SELECT * FROM totals"#;
    assert_eq!(code(&engine, unknown).await, "bad_option");
}

#[tokio::test]
async fn a_stale_answer_may_lie_below_earlier_ones_but_not_below_what_is_asked_for() {
    let (archived, cut) = (at(4, 4), at(4, 4));
    let world = World::standing(&archived, &cut, &at(9, 9)).await;
    let engine = engine(&world);
    let totals = "SELECT * FROM totals";
    rows(&engine, totals).await;
    let lower = world.snapshot(&archived, &cut, &at(6, 6)).await;
    world.snapshots.send_replace(Some(Arc::new(lower)));
    assert_eq!(code(&engine, totals).await, "not_held");
    let stale = |more: &str| format!("SET thalweg.stale = 'allow'; {more}{totals}");
    let answer = engine.run(&stale(""), Options::default()).await.unwrap();
    assert!(answer.stale);
    assert_eq!(answer.frontier.values().next(), Some(&at(6, 6)));
    let asks = stale(r#"SET thalweg.min_frontier = '{"sensor_data": {"0": 9}}'; "#);
    assert_eq!(code(&engine, &asks).await, "not_held");
}

#[tokio::test]
async fn the_batch_layer_alone_stands_at_its_cut_and_covers_what_is_asked_for() {
    let world = World::standing(&at(6, 6), &at(4, 4), &at(9, 9)).await;
    let engine = engine(&world);
    for (sql, expect) in [
        ("SELECT * FROM batch.totals", at(4, 4)),
        ("SET thalweg.source = 'batch'; SELECT * FROM totals", at(4, 4)),
        ("SELECT * FROM batch.totals, batch.busy", at(4, 4)),
        ("SELECT readings, thalweg_frontier('totals') FROM batch.totals", at(4, 4)),
        ("SELECT * FROM speed.totals", at(9, 9)),
        ("SELECT * FROM totals", at(9, 9)),
        ("SELECT b.readings FROM batch.totals b, totals t", at(9, 9)),
    ] {
        let answer = engine.run(sql, Options::default()).await.unwrap();
        assert_eq!(answer.frontier.values().collect::<Vec<_>>(), [&expect], "{sql}");
    }
    let asks = |offset: i64| {
        format!(r#"SET thalweg.min_frontier = '{{"sensor_data": {{"0": {offset}}}}}'; SELECT * FROM batch.totals"#)
    };
    rows(&engine, &asks(4)).await;
    let error = engine.run(&asks(6), Options::default()).await.err().unwrap();
    assert_eq!(error.code(), ErrorCode::NotHeld);
    assert!(error.to_string().contains("the batch side of its views stands at"), "{error}");
    let next = world.snapshot(&at(6, 6), &at(6, 6), &at(9, 9)).await;
    world.snapshots.send_replace(Some(Arc::new(next)));
    world.publish(&at(6, 6), &at(9, 9)).await;
    rows(&engine, &asks(6)).await;
}
