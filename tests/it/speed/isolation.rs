//! Views that fail in the ingest loop: a message, a storage error, a panic, memory. Everything else goes on.
//!
//! Invariant: the healthy view and the rows are checked against the produced messages after every failure.

use std::sync::Arc;
use std::time::Duration;

use thalweg_kit::store::{FaultyStore, Trouble};
use thalweg_kit::world::faulty_warehouse;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::definition;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::{Fault, Partition};

use super::script::Script;
use super::site::{Run, Site, eventually};

const ZERO: &str =
    "CREATE MATERIALIZED VIEW zero AS SELECT device, sum(value / (value - 3001)) AS n FROM s GROUP BY device";
const TOTAL: &str = "CREATE MATERIALIZED VIEW other AS SELECT sum(value) AS total FROM s";

impl Run {
    /// Waits until the view has failed in a way that `shows` accepts.
    async fn fails(&mut self, view: &CompiledView, shows: impl Fn(&ViewFailure) -> bool) -> Arc<ViewFailure> {
        let id = view.plan.id().clone();
        self.until("the view to fail", |s| s.failed.get(&id).is_some_and(|failure| shows(failure))).await;
        let snapshot = self.snapshot();
        assert!(!snapshot.views.contains_key(&id), "a failed view holds nothing");
        Arc::clone(&snapshot.failed[&id])
    }

    /// Waits until the view is held.
    async fn holds(&mut self, view: &CompiledView) {
        let id = view.plan.id().clone();
        self.until("the view to be held", |s| s.views.contains_key(&id) && !s.failed.contains_key(&id)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_one_view_cannot_take_stops_nothing_else() {
    let site = Site::new(&[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let zero = site.add(ZERO).await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    run.holds(&zero).await;
    let mut script = Script::new(&site);
    for step in 0..3 {
        run.feed(script.step(step)).await;
    }
    run.reaches(script.frontier()).await;
    run.holds(&zero).await;
    // The fourth step has the value 3001.
    for step in 3..40 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    let bad = (Partition(0), script.offset_of(0, 3001));
    let failure = run.fails(&zero, |failure| failure.message() == Some(bad)).await;
    assert_eq!((failure.step, failure.fault), (FailedStep::Update, Fault::User), "{failure:?}");
    assert!(failure.reason.contains("Division by zero"), "{failure:?}");
    assert!(failure.expression.as_ref().is_some_and(|text| text.contains("3001")), "{failure:?}");
    site.clock.advance(Duration::from_secs(60));
    run.archived(script.frontier(), &site).await;
    site.recompute().await;
    run.takes_up(&site).await;
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;

    // After a restart, the same view fails alone, over archived rows.
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let again = run.fails(&zero, |failure| failure.message() == Some(bad)).await;
    assert_eq!(again.step, FailedStep::Rebuild, "{again:?}");
    assert_eq!(again.expression, failure.expression);
    for step in 40..50 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    // A definition that takes the message has another id, and is built anew.
    let mended = ZERO.replace("CREATE", "CREATE OR REPLACE").replace("(value - 3001)", "nullif(value - 3001, 0)");
    let mended = site.add(&mended).await;
    run.holds(&mended).await;
    assert!(run.snapshot().failed.is_empty(), "{:?}", run.snapshot().failed);
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_views_that_fail_at_once_are_searched_one_after_the_other() {
    let site = Site::new(&[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let mut views = Vec::new();
    for value in [3001, 3002, 4003] {
        let sql = ZERO.replace("VIEW zero", &format!("VIEW zero_{value}")).replace("3001", &value.to_string());
        views.push((value, site.add(&sql).await));
    }
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    for step in 0..3 {
        run.feed(script.step(step)).await;
    }
    run.reaches(script.frontier()).await;
    for (_, view) in &views {
        run.holds(view).await;
    }
    // The first two fail in one micro-batch.
    for step in 3..8 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    for (value, view) in &views {
        let bad = (Partition(0), script.offset_of(0, *value));
        run.fails(view, |failure| failure.message() == Some(bad)).await;
    }
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

/// Archives some steps, then rebuilds a new view while reading the archive gives `trouble`.
async fn rebuilt_in(trouble: Trouble) -> (Site, Run, Script, Arc<CompiledView>) {
    let (site, _, run, script, other) = rebuilt_over_store(trouble).await;
    (site, run, script, other)
}

async fn rebuilt_over_store(trouble: Trouble) -> (Site, Arc<FaultyStore>, Run, Script, Arc<CompiledView>) {
    let (warehouse, store) = faulty_warehouse();
    let site = Site::over(warehouse, "nowhere:1", &[(0, 0), (1, 7)]).await;
    site.recompute().await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    let mut script = Script::new(&site);
    for step in 0..20 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
    }
    run.archived(script.frontier(), &site).await;
    store.set(trouble);
    let other = site.add(TOTAL).await;
    (site, store, run, script, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_a_dropped_view_ends_at_once() {
    let (site, store, run, script, other) =
        rebuilt_over_store(Trouble::Stall { part: ".parquet", times: usize::MAX }).await;
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, store.stalls(true)).await.expect("the rebuild reads");
    let drop_view = format!("DROP VIEW {}", other.definition.name);
    site.world.catalogs.apply(definition::parse(&drop_view).unwrap()).await.unwrap();
    site.world.catalog.send_replace(site.world.catalogs.load().await.unwrap());
    // Nobody lets the read go on.
    tokio::time::timeout(patience, store.stalls(false)).await.expect("the rebuild ends");
    store.set(Trouble::None);
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_error_during_a_rebuild_passes_by_itself() {
    let trouble = Trouble::Read { part: ".parquet", times: 1, panics: false };
    let (site, mut run, mut script, other) = rebuilt_in(trouble).await;
    let failure = run.fails(&other, |_| true).await;
    assert!(failure.may_pass() && failure.step == FailedStep::Rebuild, "{failure:?}");
    for step in 20..30 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    assert!(run.snapshot().failed.contains_key(other.plan.id()), "it is not tried before its pause is over");
    site.clock.advance(Duration::from_secs(1));
    run.holds(&other).await;
    run.check(&site, &script).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_engine_fails_one_view() {
    let trouble = Trouble::Read { part: ".parquet", times: 1, panics: true };
    let (site, mut run, mut script, other) = rebuilt_in(trouble).await;
    let failure = run.fails(&other, |_| true).await;
    assert_eq!(failure.fault, Fault::Engine, "{failure:?}");
    assert!(failure.reason.contains("panics as told"), "{failure:?}");
    for step in 20..30 {
        run.feed(script.step(step)).await;
        run.reaches(script.frontier()).await;
        run.check(&site, &script).await;
    }
    site.clock.advance(Duration::from_secs(599));
    run.archived(script.frontier(), &site).await;
    run.check(&site, &script).await;
    site.clock.advance(Duration::from_secs(60));
    run.holds(&other).await;
    run.end(&site, script.frontier()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_cut_stands_still_does_not_keep_reading_paused() {
    let mut site = Site::new(&[(0, 0), (1, 7)]).await;
    site.config.memory_budget = 2 << 20;
    site.recompute().await;
    // Every value is a group, and no run moves the cut.
    let wide = site.add("CREATE MATERIALIZED VIEW wide AS SELECT value, count(*) AS n FROM s GROUP BY value").await;
    let mut run = site.start().await;
    run.takes_up(&site).await;
    run.holds(&wide).await;
    let mut script = Script::new(&site);
    let mut step = 0;
    // Its segments alone pass the limit, which is about two thirds of the budget.
    while run.snapshot().views[wide.plan.id()].bytes() < 3 << 19 {
        run.feed(script.large_step(step)).await;
        run.reaches(script.frontier()).await;
        step += 1;
        assert!(step < 1000, "the states stay small");
        if step % 20 == 0 {
            site.clock.advance(Duration::from_secs(1));
        }
    }
    run.until("reading to pause", |s| s.paused).await;
    run.archived(script.frontier(), &site).await;
    site.recompute().await;
    run.takes_up(&site).await;
    assert!(run.snapshot().failed.is_empty(), "a pause has to last before a view is dropped");
    site.clock.advance(Duration::from_secs(70));
    let failure = run.fails(&wide, |_| true).await;
    assert_eq!(failure.step, FailedStep::Memory, "{failure:?}");
    run.until("reading to resume", |s| !s.paused).await;
    run.check(&site, &script).await;
    let before = step;
    while step < before + 20 {
        run.feed(script.large_step(step)).await;
        run.reaches(script.frontier()).await;
        step += 1;
    }
    run.check(&site, &script).await;
    // The view comes back when a run has moved its cut, and not before.
    assert!(!run.snapshot().views.contains_key(wide.plan.id()));
    run.archived(script.frontier(), &site).await;
    site.recompute_view(&wide).await;
    run.holds(&wide).await;
    site.recompute().await;
    run.takes_up(&site).await;
    eventually("reading to go on", || !run.snapshot().paused).await;
    run.end(&site, script.frontier()).await;
}
