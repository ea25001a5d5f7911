//! Runs over real archives: for any cuts, the published states give the answer of one query.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use thalweg_kit::definitions::view;
use thalweg_kit::positions::at;
use thalweg_kit::store::{FaultyStore, Trouble};
use thalweg_kit::world::faulty_warehouse;
use thalweg_schemas::algebra::{collect, scan};
use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::{Offset, Partition};
use tokio::sync::watch;

use super::*;
use crate::testing::{catalog, measured, stream};

const BY_DEVICE: &str = "SELECT device, count(*) AS n, sum(count) AS total, avg(temperature) AS mean, \
     min(count) AS low, approx_distinct(count) AS about, count(DISTINCT count % 3) AS residues \
     FROM sensor_data WHERE count % 5 <> 0 GROUP BY device HAVING count(*) > 1";
const OVERALL: &str = "SELECT count(*) AS n, max(device) AS top FROM sensor_data";

/// Building views over a new archive, in a warehouse whose store can fail on demand.
struct Built {
    warehouse: Warehouse,
    store: Arc<FaultyStore>,
    catalog: Catalog,
    archive: Archive,
    config: BatchConfig,
    _spill: tempfile::TempDir,
}

impl Built {
    async fn new(origin: &[(i32, i64)], views: &[(&str, &str)]) -> Self {
        let (warehouse, store) = faulty_warehouse();
        let catalog = catalog(origin, views).await;
        let archive = Archive::open(&warehouse, &stream(), at(origin)).await.unwrap();
        let spill = tempfile::tempdir().unwrap();
        let config = BatchConfig { spill: spill.path().join("spill"), compact_files: 3, ..BatchConfig::default() };
        Self { warehouse, store, catalog, archive, config, _spill: spill }
    }

    fn view(&self, name: &str) -> Arc<CompiledView> {
        view(&self.catalog, name)
    }

    async fn commit(&mut self, from: &[(i32, i64)], to: &[(i32, i64)], mark: bool) {
        let outcome = self.archive.commit(&measured(from, to, mark)).await.unwrap();
        assert!(matches!(outcome, EpochOutcome::Landed(_)), "{outcome:?}");
    }

    async fn run(&self, view: &Arc<CompiledView>, mode: RunMode) -> Result<RunReport> {
        run_view(&self.warehouse, &self.catalog, view, mode, &self.config, |_| ()).await
    }

    /// The values of the published states.
    async fn published(&self, view: &CompiledView) -> (Arc<BatchVersion>, String) {
        let plan = &view.plan;
        let mut table = ViewTable::open(&self.warehouse, plan.id(), plan.stored_schema()).await.unwrap();
        let version = table.latest().await.unwrap().unwrap();
        let state = session::state(session::runtime(Some(&self.warehouse), None, None).unwrap(), 2);
        let files = ParquetFiles::new(Arc::clone(plan.stored_schema()), version.files.to_vec());
        let stored = scan("states", Arc::new(files)).unwrap();
        let merged = plan.merge(plan.from_stored(stored).unwrap()).unwrap();
        let rows = collect(&state, "test", plan.finish(merged).unwrap()).await.unwrap();
        (version, text(&rows))
    }
}

fn text(rows: &[RecordBatch]) -> String {
    let table = pretty_format_batches(rows).unwrap().to_string();
    let mut lines: Vec<&str> = table.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The query's result over the rows below `to`, computed without an archive.
async fn expected(view: &CompiledView, from: &[(i32, i64)], to: &[(i32, i64)]) -> String {
    let rows = measured(from, to, true).rows;
    let context = session::context(session::runtime(None, None, None).unwrap(), 1);
    let schema = stream().row_schema();
    let rows = concat_batches(&schema, &rows).unwrap();
    context.register_batch("sensor_data", rows).unwrap();
    let answer = context.sql(&view.definition.query).await.unwrap();
    text(&answer.collect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_compacted_and_full_states_are_equal() {
    let origin = &[(0, 0), (1, 5)];
    let mut built = Built::new(origin, &[("by_device", BY_DEVICE), ("overall", OVERALL)]).await;
    let steps: [&[(i32, i64)]; 6] = [
        &[(0, 0), (1, 5)],
        &[(0, 40), (1, 21)],
        &[(0, 47), (1, 21)],
        &[(0, 47), (1, 60)],
        &[(0, 80), (1, 61)],
        &[(0, 81), (1, 99)],
    ];
    // The runs are: full, three appends, compaction, append.
    let files = [0, 1, 2, 3, 1, 2];
    for (step, to) in steps.iter().enumerate() {
        if step > 0 {
            built.commit(steps[step - 1], to, true).await;
        }
        for name in ["by_device", "overall"] {
            let view = built.view(name);
            let report = built.run(&view, RunMode::Incremental).await.unwrap();
            assert_eq!(report.outcome, RunOutcome::Published, "{name} {step}");
            assert_eq!(report.to, at(to));
            let (version, answer) = built.published(&view).await;
            assert_eq!(version.cut, at(to));
            assert_eq!(answer, expected(&view, origin, to).await, "{name} {step}");
            if name == "by_device" {
                assert_eq!(version.files.len(), files[step], "step {step}");
            }
            // Without new rows nothing is published.
            assert_eq!(built.run(&view, RunMode::Incremental).await.unwrap().outcome, RunOutcome::NothingNew);
        }
    }
    for name in ["by_device", "overall"] {
        let view = built.view(name);
        let (_, before) = built.published(&view).await;
        let report = built.run(&view, RunMode::Full).await.unwrap();
        assert_eq!((report.outcome, report.rows_read), (RunOutcome::Published, 81 + 94));
        let (version, after) = built.published(&view).await;
        assert_eq!((version.files.len(), after), (1, before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_run_reads_only_what_lies_above_the_cut() {
    let mut built = Built::new(&[(0, 0), (1, 0)], &[("by_device", BY_DEVICE)]).await;
    let view = built.view("by_device");
    built.commit(&[(0, 0), (1, 0)], &[(0, 1000), (1, 1000)], true).await;
    built.run(&view, RunMode::Incremental).await.unwrap();
    // No run may read the rows above the mark.
    built.commit(&[(0, 1000), (1, 1000)], &[(0, 1010), (1, 1000)], true).await;
    built.commit(&[(0, 1010)], &[(0, 1500)], false).await;
    let mut last = Progress::default();
    let (warehouse, catalog) = (&built.warehouse, &built.catalog);
    let report = run_view(warehouse, catalog, &view, RunMode::Incremental, &built.config, |p| last = p).await.unwrap();
    assert_eq!((report.rows_read, last.rows_read), (10, 10));
    assert_eq!(report.from, at(&[(0, 1000), (1, 1000)]));
    assert_eq!(report.to, at(&[(0, 1010), (1, 1000)]));
    let (_, answer) = built.published(&view).await;
    assert_eq!(answer, expected(&view, &[], &[(0, 1010), (1, 1000)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_partitions_has_nothing_to_publish() {
    let built = Built::new(&[], &[("overall", OVERALL)]).await;
    let report = built.run(&built.view("overall"), RunMode::Full).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::NothingNew);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_memory_limit_spills_and_changes_nothing() {
    let many = "SELECT count AS c, _offset AS o, count(*) AS n, sum(temperature) AS t \
                FROM sensor_data GROUP BY 1, 2";
    let mut built = Built::new(&[(0, 0)], &[("wide", many)]).await;
    let view = built.view("wide");
    built.commit(&[(0, 0)], &[(0, 200_000)], true).await;
    built.config.memory = 24 << 20;
    assert_eq!(built.run(&view, RunMode::Full).await.unwrap().groups, 200_000);
    let (version, answer) = built.published(&view).await;
    assert_eq!(version.files.len(), 1);
    assert_eq!(answer, expected(&view, &[], &[(0, 200_000)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_a_run_is_published_once_or_not() {
    for after in [false, true] {
        let mut completed = false;
        for step in 1..200 {
            let mut built = Built::new(&[(0, 0)], &[("by_device", BY_DEVICE)]).await;
            built.config.clock = WallClock::manual();
            let view = built.view("by_device");
            built.commit(&[(0, 0)], &[(0, 30)], true).await;
            built.run(&view, RunMode::Incremental).await.unwrap();
            built.commit(&[(0, 30)], &[(0, 50)], true).await;
            built.store.set(Trouble::Kill { at: step, after });
            completed = built.store.until_killed(built.run(&view, RunMode::Incremental)).await.is_some();
            built.store.set(Trouble::None);
            // The dead holder's lease has ended by then.
            built.config.clock.advance(Duration::from_secs(60));
            built.run(&view, RunMode::Incremental).await.unwrap();
            let (version, answer) = built.published(&view).await;
            assert_eq!(version.cut, at(&[(0, 50)]));
            assert_eq!(answer, expected(&view, &[], &[(0, 50)]).await, "{step} {after}");
            if completed {
                assert!(step > 5, "the steps of a run were counted");
                break;
            }
        }
        assert!(completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time_and_a_suspended_run_drops_its_work() {
    let mut built = Built::new(&[(0, 0)], &[("overall", OVERALL)]).await;
    built.config.clock = WallClock::manual();
    let view = built.view("overall");
    built.commit(&[(0, 0)], &[(0, 30)], true).await;
    let Built { warehouse, catalog, config, .. } = &built;
    let id = view.plan.id();
    let other = || async { lease::take(warehouse, id, &config.clock).await.unwrap() };
    let waiting = |work: &dyn Fn()| tokio::task::block_in_place(work);

    // No other run gets the lease while this run computes. Then this run is suspended for so long that another run
    // takes it.
    let taken = std::sync::Mutex::new(None);
    let report = run_view(warehouse, catalog, &view, RunMode::Full, config, |_| {
        waiting(&|| {
            let mut taken = taken.lock().unwrap();
            if taken.is_some() {
                return;
            }
            let here = tokio::runtime::Handle::current();
            assert!(matches!(here.block_on(other()), Taken::Held { .. }));
            config.clock.advance(Duration::from_secs(60));
            *taken = Some(here.block_on(other()));
        });
    });
    let outcome = report.await.unwrap().outcome;
    let Some(Taken::Mine(theirs)) = taken.into_inner().unwrap() else { panic!("the other one did not get it") };
    assert!(matches!(outcome, RunOutcome::Busy { .. }), "{outcome:?}");
    let mut table = ViewTable::open(warehouse, id, view.plan.stored_schema()).await.unwrap();
    assert!(table.latest().await.unwrap().is_none());

    // A later run learns who holds the lease, and reads nothing.
    let report = built.run(&view, RunMode::Full).await.unwrap();
    let RunOutcome::Busy { holder, until_ms } = report.outcome else { panic!("{:?}", report.outcome) };
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())));
    assert!(until_ms > config.clock.now_ms());
    assert_eq!(report.rows_read, 0);
    theirs.release().await;

    // A failed run releases its lease too.
    built.store.set(Trouble::Fail { part: "states-", after: false, times: 1 });
    let failed = built.run(&view, RunMode::Incremental).await.unwrap().outcome;
    assert!(matches!(&failed, RunOutcome::Failed(failure) if failure.may_pass()), "{failed:?}");
    assert_eq!(built.run(&view, RunMode::Incremental).await.unwrap().outcome, RunOutcome::Published);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_view_of_three_that_fails_leaves_the_others_their_runs() {
    let bad = "SELECT sum(count / (count - 13)) AS n FROM sensor_data WHERE count > 5";
    let without = format!("{bad} AND count <> 13");
    let views = [("a", OVERALL), ("bad", bad), ("c", &without)];
    let mut built = Built::new(&[(0, 0), (1, 0)], &views).await;
    built.commit(&[(0, 0), (1, 0)], &[(0, 40), (1, 9)], true).await;
    let (catalog, published) = (watch::channel(Arc::new(built.catalog.clone())).1, watch::channel(Arc::default()).1);
    let (warehouse, catalogs) = (built.warehouse.clone(), CatalogStore::new(built.warehouse.clone()));
    let shared = Shared { warehouse, catalogs, catalog, published };
    let recorded = std::sync::Mutex::new(0);
    let record = |_: &RunReport| *recorded.lock().unwrap() += 1;
    let runs = run_views(&shared, None, RunMode::Full, &built.config, record).await.unwrap().runs;
    assert_eq!(*recorded.lock().unwrap(), 3);
    let published: Vec<bool> = runs.iter().map(|run| run.outcome == RunOutcome::Published).collect();
    assert_eq!(published, [true, false, true], "{runs:?}");
    let RunOutcome::Failed(failure) = &runs[1].outcome else { panic!("{:?}", runs[1].outcome) };
    assert_eq!((failure.step, failure.fault), (FailedStep::Run, Fault::User));
    assert_eq!(failure.message(), Some((Partition(0), Offset(13))), "{failure:?}");
    assert!(failure.expression.as_ref().is_some_and(|text| text.starts_with("sum(")), "{failure:?}");
    // The view whose WHERE leaves the message out takes all the others.
    let (_, answer) = built.published(&built.view("c")).await;
    assert_eq!(answer, expected(&built.view("c"), &[], &[(0, 40), (1, 9)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reports_its_failure_without_a_search() {
    let bad = "SELECT sum(count / (count - 13)) AS n FROM sensor_data";
    let mut built = Built::new(&[(0, 0)], &[("bad", bad), ("good", OVERALL)]).await;
    built.commit(&[(0, 0)], &[(0, 40)], true).await;
    let view = built.view("bad");
    let Built { warehouse, catalog, config, store, .. } = &built;
    let run = async |known: Option<&KnownFailure>| {
        let mode = RunMode::Incremental;
        run_knowing(warehouse, catalog, &view, mode, config, known, |_| ()).await.unwrap()
    };
    let Ran { report, suspect } = run(None).await;
    let RunOutcome::Failed(vague) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!((&vague.from, &vague.to, &vague.expression), (&at(&[(0, 0)]), &at(&[(0, 40)]), &None));
    // The view's lease is free while the search runs.
    let lease = lease::take(warehouse, view.plan.id(), &config.clock).await.unwrap();
    let Taken::Mine(lease) = lease else { panic!("{lease:?}") };
    lease.release().await;
    // What may pass is not in the messages.
    store.set(Trouble::Fail { part: "states-", after: false, times: 1 });
    let (good, mode) = (built.view("good"), RunMode::Incremental);
    let passing = run_knowing(warehouse, catalog, &good, mode, config, None, |_| ()).await.unwrap();
    assert!(matches!(&passing.report.outcome, RunOutcome::Failed(f) if f.may_pass()) && passing.suspect.is_none());
    // A search whose storage does not answer ends with what is known.
    store.set(Trouble::Stall { part: ".parquet", times: 1 });
    let nothing = suspect.unwrap().search(Duration::from_millis(50)).await;
    assert_eq!(nothing, *vague);
    store.set(Trouble::None);
    let suspect = run(None).await.suspect.unwrap();
    let precise = suspect.search(SEARCH).await;
    assert_eq!(precise.message(), Some((Partition(0), Offset(13))), "{precise:?}");

    // A retry with the same start computes the message alone.
    let failure = ViewFailure { reason: "as known".into(), ..precise };
    let known = KnownFailure { run_from: report.from.clone(), failure };
    let again = run(Some(&known)).await;
    assert_eq!(again.report.outcome, RunOutcome::Failed(known.failure.clone()));
    assert!(again.suspect.is_none(), "nothing else is searched");
    // Messages that can be computed are no reason to stop.
    let (from, to) = (at(&[(0, 12)]), at(&[(0, 13)]));
    let good = KnownFailure { failure: ViewFailure { from, to, ..known.failure.clone() }, ..known.clone() };
    let all = run(Some(&good)).await;
    assert!(matches!(&all.report.outcome, RunOutcome::Failed(f) if f.to == at(&[(0, 40)])), "{:?}", all.report.outcome);
    // A run from another start does not know them.
    let elsewhere = KnownFailure { run_from: at(&[(0, 7)]), ..known };
    assert!(run(Some(&elsewhere)).await.suspect.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_engine_is_a_failed_run() {
    let mut built = Built::new(&[(0, 0)], &[("v", OVERALL)]).await;
    built.commit(&[(0, 0)], &[(0, 40)], true).await;
    let view = built.view("v");
    built.store.set(Trouble::Read { part: ".parquet", times: 1, panics: true });
    let report = built.run(&view, RunMode::Incremental).await.unwrap();
    let RunOutcome::Failed(failure) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(failure.fault, Fault::Engine, "{failure:?}");
    assert!(failure.reason.contains("panics as told"), "{failure:?}");
    assert_eq!(built.run(&view, RunMode::Incremental).await.unwrap().outcome, RunOutcome::Published);
}
