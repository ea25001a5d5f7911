//! The schedule against a real catalog: new views are built and promoted, and every publication is seen.

use thalweg_kit::positions::at;
use thalweg_kit::store::{FaultyStore, Trouble};
use thalweg_kit::world::faulty_warehouse;
use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::definition::parse;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::realtime::epoch::Epoch;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::BatchVersion;
use thalweg_schemas::{Offset, Partition, StreamName, ViewName};

use super::*;
use crate::archive::Archive;
use crate::lease::{self, Taken};
use crate::run::run_view;
use crate::testing::rows_at;

const STREAM: &str = "CREATE EXTERNAL TABLE events (k STRING, x BIGINT) STORED AS KAFKA LOCATION 'events' \
     OPTIONS ('format' 'json');";
const VIEW: &str = "CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n FROM events GROUP BY k;";
const LONG: Duration = Duration::from_secs(60);

fn name() -> ViewName {
    ViewName::new("counts").unwrap()
}

async fn archived(warehouse: &Warehouse, stream: &StreamDefinition, from: i64, to: i64) {
    let places: Vec<(i32, i64)> = (from..to).map(|offset| (0, offset)).collect();
    let epoch = Epoch {
        stream: stream.name.clone(),
        from: at(&[(0, from)]),
        to: at(&[(0, to)]),
        rows: vec![rows_at(&stream.row_schema(), &places, &[])],
        mark: true,
        last: HashMap::new(),
    };
    let mut archive = Archive::open(warehouse, stream, at(&[(0, 0)])).await.unwrap();
    archive.commit(&epoch).await.unwrap();
}

/// Waits until a version of `id` is announced at `cut`.
async fn announced(published: &mut watch::Receiver<Arc<Published>>, id: &ViewId, cut: i64) {
    let there = published.wait_for(|published| {
        let version = published.versions.get(id);
        version.is_some_and(|version| version.cut == at(&[(0, cut)]))
    });
    tokio::time::timeout(LONG, there).await.unwrap().unwrap();
}

/// The connections of the schedule, and the receiver of its reports.
fn downstream(
    warehouse: &Warehouse,
    catalogs: &CatalogStore,
    catalog: watch::Receiver<Arc<Catalog>>,
) -> (Downstream, mpsc::UnboundedReceiver<RunEvent>) {
    let (published, versions) = watch::channel(Arc::default());
    let (runs, reports) = mpsc::unbounded_channel();
    let (warehouse, catalogs) = (warehouse.clone(), catalogs.clone());
    let shared = Shared { warehouse, catalogs, catalog, published: versions };
    (Downstream { shared, published, wake: Arc::default(), runs }, reports)
}

#[track_caller]
fn ended(event: RunEvent) -> RunReport {
    match event {
        RunEvent::Ended(report) => report,
        RunEvent::Located(report) => panic!("only a search has ended: {report:?}"),
    }
}

/// A stream with seven messages and two new views. One of them fails on the message at offset 4, and its name comes
/// first, so its run is the first one.
struct Failing {
    store: Arc<FaultyStore>,
    known: Arc<Catalog>,
    view: Arc<CompiledView>,
    config: BatchConfig,
    rounds: Rounds,
    reports: mpsc::UnboundedReceiver<RunEvent>,
    _spill: tempfile::TempDir,
}

impl Failing {
    async fn new() -> Self {
        let (warehouse, store) = faulty_warehouse();
        let catalogs = CatalogStore::new(warehouse.clone());
        catalogs.apply(parse(STREAM).unwrap()).await.unwrap();
        let stream = StreamName::new("events").unwrap();
        let known = catalogs.record_origin(&stream, &at(&[(0, 0)])).await.unwrap();
        archived(&warehouse, &known.streams[&stream].definition, 0, 7).await;
        let bad = "CREATE MATERIALIZED VIEW bad AS SELECT sum(_offset / (_offset - 4)) AS n FROM events;";
        catalogs.apply(parse(&format!("{VIEW} {bad}")).unwrap()).await.unwrap();
        let known = catalogs.load().await.unwrap();
        let view = Arc::clone(known.views[&ViewName::new("bad").unwrap()].building.as_ref().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let config = BatchConfig { spill: folder.path().to_owned(), ..BatchConfig::default() };
        let (downstream, reports) = downstream(&warehouse, &catalogs, watch::channel(Arc::clone(&known)).1);
        let rounds = Rounds::new(config.clone(), downstream).await;
        Self { store, known, view, config, rounds, reports, _spill: folder }
    }

    /// Computes the failing view once, outside of the schedule, which takes the failure over.
    async fn fail_once(&mut self) -> (RunReport, ViewFailure, Suspect) {
        let warehouse = &self.rounds.downstream.shared.warehouse;
        let mode = RunMode::Incremental;
        let ran = run_knowing(warehouse, &self.known, &self.view, mode, &self.config, None, |_| ()).await.unwrap();
        let (report, suspect) = (ran.report, ran.suspect.unwrap());
        let RunOutcome::Failed(vague) = report.outcome.clone() else { panic!("{:?}", report.outcome) };
        let failing = FailingView::after(None, &report, &vague, None, self.config.interval, Instant::now());
        self.rounds.failed.insert(self.view.plan.id().clone(), failing);
        (report, vague, suspect)
    }

    /// Somebody else publishes the failing view.
    fn publish(&self) {
        let theirs = BatchVersion {
            view: self.view.plan.id().clone(),
            version: 0,
            cut: at(&[(0, 0)]),
            master_version: 0,
            published_ms: 0,
            files: Arc::from([]),
        };
        announce(&self.rounds.downstream.published, Arc::new(theirs));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_views_are_built_promoted_and_followed() {
    let (warehouse, store) = faulty_warehouse();
    let catalogs = CatalogStore::new(warehouse.clone());
    catalogs.apply(parse(STREAM).unwrap()).await.unwrap();
    let stream = StreamName::new("events").unwrap();
    let known = catalogs.record_origin(&stream, &at(&[(0, 0)])).await.unwrap();
    let definition = known.streams[&stream].definition.clone();
    archived(&warehouse, &definition, 0, 7).await;

    let folder = tempfile::tempdir().unwrap();
    let config = BatchConfig { interval: LONG * 60, spill: folder.path().to_owned(), ..BatchConfig::default() };
    let (catalog, watched) = watch::channel(known);
    let (downstream, mut reports) = downstream(&warehouse, &catalogs, watched);
    let (mut versions, wake) = (downstream.shared.published.clone(), Arc::clone(&downstream.wake));
    let cancel = CancellationToken::new();
    let running = tokio::spawn(schedule(config.clone(), downstream, cancel.clone()));

    // A new view is built and promoted, although storage fails during its first run.
    catalogs.apply(parse(VIEW).unwrap()).await.unwrap();
    store.set(Trouble::Fail { part: "states-", after: false, times: 1 });
    let created = catalogs.load().await.unwrap();
    let view = Arc::clone(created.views[&name()].building.as_ref().unwrap());
    let id = view.plan.id().clone();
    catalog.send_replace(created);
    announced(&mut versions, &id, 7).await;
    let failed = ended(reports.recv().await.unwrap());
    assert!(matches!(&failed.outcome, RunOutcome::Failed(f) if f.may_pass()), "{:?}", failed.outcome);
    assert_eq!(ended(reports.recv().await.unwrap()).outcome, RunOutcome::Published);
    let deadline = Instant::now() + LONG;
    let served = loop {
        let now = catalogs.load().await.unwrap();
        if now.views[&name()].serving.is_some() {
            break now;
        }
        assert!(Instant::now() < deadline, "not promoted");
        tokio::task::yield_now().await;
    };
    assert!(served.views[&name()].building.is_none());
    catalog.send_replace(Arc::clone(&served));

    // A wake-up starts a run before the interval ends.
    archived(&warehouse, &definition, 7, 9).await;
    wake.notify_one();
    announced(&mut versions, &id, 9).await;

    // The publication of another process is announced without a run here.
    archived(&warehouse, &definition, 9, 12).await;
    let view = served.views[&name()].serving.as_ref().unwrap();
    run_view(&warehouse, &served, view, RunMode::Full, &config, |_| ()).await.unwrap();
    announced(&mut versions, &id, 12).await;

    // A dropped view has no versions.
    catalogs.apply(parse("DROP VIEW counts").unwrap()).await.unwrap();
    catalog.send_replace(catalogs.load().await.unwrap());
    let forgotten = versions.wait_for(|published| published.versions.is_empty());
    tokio::time::timeout(LONG, forgotten).await.unwrap().unwrap();

    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_another_process_is_left_to_it() {
    let (warehouse, _) = faulty_warehouse();
    let catalogs = CatalogStore::new(warehouse.clone());
    catalogs.apply(parse(STREAM).unwrap()).await.unwrap();
    let stream = StreamName::new("events").unwrap();
    let known = catalogs.record_origin(&stream, &at(&[(0, 0)])).await.unwrap();
    archived(&warehouse, &known.streams[&stream].definition, 0, 7).await;
    catalogs.apply(parse(VIEW).unwrap()).await.unwrap();
    let known = catalogs.load().await.unwrap();
    let id = known.views[&name()].building.as_ref().unwrap().plan.id();

    let folder = tempfile::tempdir().unwrap();
    let config = BatchConfig { spill: folder.path().to_owned(), ..BatchConfig::default() };
    let Taken::Mine(theirs) = lease::take(&warehouse, id, &config.clock).await.unwrap() else {
        panic!("nobody held it")
    };
    let (downstream, mut reports) = downstream(&warehouse, &catalogs, watch::channel(Arc::clone(&known)).1);
    let mut rounds = Rounds::new(config, downstream).await;
    // The view is retried, and no report is sent.
    assert!(rounds.run_building(&known).await.unwrap());
    assert!(reports.try_recv().is_err());
    theirs.release().await;
    assert!(!rounds.run_building(&known).await.unwrap());
    assert_eq!(ended(reports.try_recv().unwrap()).outcome, RunOutcome::Published);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_fails_leaves_the_others_their_runs_and_is_tried_rarely() {
    let Failing { known, view, mut rounds, mut reports, config, .. } = Failing::new().await;
    let id = view.plan.id();
    assert!(!rounds.run_building(&known).await.unwrap(), "a failure that stays is not tried soon");
    let outcomes: Vec<_> = std::iter::from_fn(|| reports.try_recv().ok()).map(ended).collect();
    assert_eq!(outcomes.len(), 2);
    let RunOutcome::Failed(failure) = &outcomes[0].outcome else { panic!("{:?}", outcomes[0].outcome) };
    assert_eq!(failure.message(), Some((Partition(0), Offset(4))), "{failure:?}");
    assert!(failure.sentence().contains("Division by zero"), "{}", failure.sentence());
    assert_eq!(outcomes[1].outcome, RunOutcome::Published);
    assert!(rounds.failed[id].pause(Instant::now()) > LONG);
    rounds.run_building(&known).await.unwrap();
    assert!(reports.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Empty), "it is not run again yet");

    // A run that another process has under way changes nothing of what is known.
    rounds.failed.get_mut(id).unwrap().make_due();
    let warehouse = rounds.downstream.shared.warehouse.clone();
    let Taken::Mine(theirs) = lease::take(&warehouse, id, &config.clock).await.unwrap() else {
        panic!("nobody held it")
    };
    assert!(rounds.run_building(&known).await.unwrap());
    assert_eq!(rounds.failed[id].known().unwrap().failure, *failure);
    theirs.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_search_holds_up_no_other_view_and_is_reported_when_it_ends() {
    let mut failing = Failing::new().await;
    let (mut report, vague, suspect) = failing.fail_once().await;
    let (id, memory) = (failing.view.plan.id().clone(), failing.config.memory);

    failing.store.set(Trouble::Stall { part: ".parquet", times: 1 });
    assert_eq!(failing.rounds.search(&mut report, vague.clone(), suspect).await, vague);
    assert_eq!(failing.rounds.searches.left_of(memory), memory / 4 * 3);
    // The other view is computed meanwhile.
    failing.rounds.run_building(&failing.known).await.unwrap();
    assert_eq!(ended(failing.reports.try_recv().unwrap()).outcome, RunOutcome::Published);
    assert!(failing.reports.try_recv().is_err());

    failing.store.set(Trouble::None);
    let located = failing.rounds.searches.next().await;
    failing.rounds.take_located(located).await;
    // The run itself is not reported twice.
    let RunEvent::Located(report) = failing.reports.try_recv().unwrap() else { panic!("no run has ended") };
    let RunOutcome::Failed(precise) = report.outcome else { panic!("{report:?}") };
    assert_eq!(precise.message(), Some((Partition(0), Offset(4))), "{precise:?}");
    assert_eq!(failing.rounds.failed[&id].known().unwrap().failure, precise);
    assert_eq!(failing.rounds.searches.left_of(memory), memory);

    // A view that somebody else has published is run again at once.
    failing.rounds.run_building(&failing.known).await.unwrap();
    assert!(failing.reports.try_recv().is_err(), "its pause is long");
    failing.publish();
    failing.rounds.run_building(&failing.known).await.unwrap();
    let again = ended(failing.reports.try_recv().unwrap());
    assert_eq!(again.outcome, RunOutcome::Failed(precise));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_of_an_earlier_run_says_nothing_of_a_later_one() {
    let mut failing = Failing::new().await;
    let (report, vague, suspect) = failing.fail_once().await;
    failing.rounds.searches.add(&report, &vague, suspect);
    let search = failing.rounds.searches.current.as_ref().unwrap().1.clone();
    while !search.is_finished() {
        tokio::task::yield_now().await;
    }
    // The later run has failed at another time.
    let (mut later, mut vague, suspect) = failing.fail_once().await;
    vague.since_ms += 1;
    later.to = at(&[(0, 6)]);
    failing.rounds.search(&mut later, vague, suspect).await;
    assert_eq!(later.to, at(&[(0, 6)]), "the report of the earlier run took its place");
}
