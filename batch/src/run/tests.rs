//! Runs over real archives: however the cuts fall, what is published gives the one query's answer.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use thalweg_schemas::algebra::{collect, scan};
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::warehouse::parquet::ParquetFiles;

use super::*;
use crate::testing::{Trouble, at, catalog, faulty_warehouse, measured, stream, view};

const BY_DEVICE: &str = "SELECT device, count(*) AS n, sum(count) AS total, avg(temperature) AS mean, \
     min(count) AS low, approx_distinct(count) AS about, count(DISTINCT count % 3) AS residues \
     FROM sensor_data WHERE count % 5 <> 0 GROUP BY device HAVING count(*) > 1";
const OVERALL: &str = "SELECT count(*) AS n, max(device) AS top FROM sensor_data";

fn config(folder: &tempfile::TempDir) -> BatchConfig {
    BatchConfig { spill: folder.path().join("spill"), compact_files: 3, ..BatchConfig::default() }
}

async fn archive(warehouse: &Warehouse, catalog: &Catalog) -> Archive {
    let known = &catalog.streams[&stream().name];
    Archive::open(warehouse, &known.definition, known.origin.clone()).await.unwrap()
}

async fn commit(archive: &mut Archive, from: &[(i32, i64)], to: &[(i32, i64)], mark: bool) {
    let outcome = archive.commit(&measured(from, to, mark)).await.unwrap();
    assert!(matches!(outcome, EpochOutcome::Landed(_)), "{outcome:?}");
}

fn text(rows: &[RecordBatch]) -> String {
    let table = pretty_format_batches(rows).unwrap().to_string();
    let mut lines: Vec<&str> = table.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What the published states say.
async fn published(warehouse: &Warehouse, view: &CompiledView) -> (Arc<BatchVersion>, String) {
    let plan = &view.plan;
    let mut table = ViewTable::open(warehouse, plan.id(), plan.stored_schema()).await.unwrap();
    let version = table.latest().await.unwrap().unwrap();
    let state = session::state(session::runtime(Some(warehouse), None, None).unwrap(), 2);
    let files = ParquetFiles::new(Arc::clone(plan.stored_schema()), version.files.to_vec());
    let stored = scan("states", Arc::new(files)).unwrap();
    let merged = plan.merge(plan.from_stored(stored).unwrap()).unwrap();
    let rows = collect(&state, "test", plan.finish(merged).unwrap()).await.unwrap();
    (version, text(&rows))
}

/// What the query says of the rows below `to`, not through any archive.
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
async fn appended_compacted_and_full_states_say_the_same() {
    let (warehouse, _) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let origin = &[(0, 0), (1, 5)];
    let catalog = catalog(origin, &[("by_device", BY_DEVICE), ("overall", OVERALL)]).await;
    let mut archive = archive(&warehouse, &catalog).await;
    let steps: [&[(i32, i64)]; 6] = [
        &[(0, 0), (1, 5)],
        &[(0, 40), (1, 21)],
        &[(0, 47), (1, 21)],
        &[(0, 47), (1, 60)],
        &[(0, 80), (1, 61)],
        &[(0, 81), (1, 99)],
    ];
    // Full, thrice append, compaction, append.
    let files = [0, 1, 2, 3, 1, 2];
    for (step, to) in steps.iter().enumerate() {
        if step > 0 {
            commit(&mut archive, steps[step - 1], to, true).await;
        }
        for name in ["by_device", "overall"] {
            let view = view(&catalog, name);
            let report = run_view(&warehouse, &catalog, &view, RunMode::Incremental, &config, |_| ()).await.unwrap();
            assert_eq!(report.outcome, RunOutcome::Published, "{name} {step}");
            assert_eq!(report.to, at(to));
            let (version, answer) = published(&warehouse, &view).await;
            assert_eq!(version.cut, at(to));
            assert_eq!(answer, expected(&view, origin, to).await, "{name} {step}");
            if name == "by_device" {
                assert_eq!(version.files.len(), files[step], "step {step}");
            }
            // Nothing new: nothing is published.
            let again = run_view(&warehouse, &catalog, &view, RunMode::Incremental, &config, |_| ());
            assert_eq!(again.await.unwrap().outcome, RunOutcome::NothingNew);
        }
    }
    for name in ["by_device", "overall"] {
        let view = view(&catalog, name);
        let (_, before) = published(&warehouse, &view).await;
        let report = run_view(&warehouse, &catalog, &view, RunMode::Full, &config, |_| ()).await;
        let report = report.unwrap();
        assert_eq!((report.outcome, report.rows_read), (RunOutcome::Published, 81 + 94));
        let (version, after) = published(&warehouse, &view).await;
        assert_eq!((version.files.len(), after), (1, before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_run_reads_only_what_lies_above_the_cut() {
    let (warehouse, _) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let catalog = catalog(&[(0, 0), (1, 0)], &[("by_device", BY_DEVICE)]).await;
    let view = view(&catalog, "by_device");
    let mut archive = archive(&warehouse, &catalog).await;
    commit(&mut archive, &[(0, 0), (1, 0)], &[(0, 1000), (1, 1000)], true).await;
    run_view(&warehouse, &catalog, &view, RunMode::Incremental, &config, |_| ()).await.unwrap();
    // Above a mark there are rows that no run may read yet.
    commit(&mut archive, &[(0, 1000), (1, 1000)], &[(0, 1010), (1, 1000)], true).await;
    commit(&mut archive, &[(0, 1010)], &[(0, 1500)], false).await;
    let mut last = Progress::default();
    let report = run_view(&warehouse, &catalog, &view, RunMode::Incremental, &config, |p| last = p);
    let report = report.await.unwrap();
    assert_eq!((report.rows_read, last.rows_read), (10, 10));
    assert_eq!(report.from, at(&[(0, 1000), (1, 1000)]));
    assert_eq!(report.to, at(&[(0, 1010), (1, 1000)]));
    let (_, answer) = published(&warehouse, &view).await;
    assert_eq!(answer, expected(&view, &[], &[(0, 1010), (1, 1000)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_partitions_has_nothing_to_publish() {
    let (warehouse, _) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let catalog = catalog(&[], &[("overall", OVERALL)]).await;
    let view = view(&catalog, "overall");
    let run = run_view(&warehouse, &catalog, &view, RunMode::Full, &config, |_| ());
    assert_eq!(run.await.unwrap().outcome, RunOutcome::NothingNew);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_short_spills_and_changes_nothing() {
    let (warehouse, _) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let many = "SELECT count AS c, _offset AS o, count(*) AS n, sum(temperature) AS t \
                FROM sensor_data GROUP BY 1, 2";
    let catalog = catalog(&[(0, 0)], &[("wide", many)]).await;
    let view = view(&catalog, "wide");
    let mut archive = archive(&warehouse, &catalog).await;
    commit(&mut archive, &[(0, 0)], &[(0, 200_000)], true).await;
    let config = BatchConfig { memory: 24 << 20, ..config(&folder) };
    let run = run_view(&warehouse, &catalog, &view, RunMode::Full, &config, |_| ());
    assert_eq!(run.await.unwrap().groups, 200_000);
    let (version, answer) = published(&warehouse, &view).await;
    assert_eq!(version.files.len(), 1);
    assert_eq!(answer, expected(&view, &[], &[(0, 200_000)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_a_run_is_published_once_or_not() {
    for after in [false, true] {
        let mut completed = false;
        for step in 1..200 {
            let (warehouse, store) = faulty_warehouse();
            let folder = tempfile::tempdir().unwrap();
            let config = BatchConfig { clock: WallClock::manual(), ..config(&folder) };
            let catalog = catalog(&[(0, 0)], &[("by_device", BY_DEVICE)]).await;
            let view = view(&catalog, "by_device");
            let mut archive = archive(&warehouse, &catalog).await;
            commit(&mut archive, &[(0, 0)], &[(0, 30)], true).await;
            let mode = RunMode::Incremental;
            run_view(&warehouse, &catalog, &view, mode, &config, |_| ()).await.unwrap();
            commit(&mut archive, &[(0, 30)], &[(0, 50)], true).await;
            store.set(Trouble::Kill { at: step, after });
            let run = run_view(&warehouse, &catalog, &view, mode, &config, |_| ());
            completed = store.until_killed(run).await.is_some();
            store.set(Trouble::None);
            // What the dead one held is over by then.
            config.clock.advance(Duration::from_secs(60));
            run_view(&warehouse, &catalog, &view, mode, &config, |_| ()).await.unwrap();
            let (version, answer) = published(&warehouse, &view).await;
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
async fn one_run_at_a_time_and_one_that_was_stopped_drops_its_work() {
    let (warehouse, store) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let config = BatchConfig { clock: WallClock::manual(), ..config(&folder) };
    let catalog = catalog(&[(0, 0)], &[("overall", OVERALL)]).await;
    let view = view(&catalog, "overall");
    let mut archive = archive(&warehouse, &catalog).await;
    commit(&mut archive, &[(0, 0)], &[(0, 30)], true).await;
    let id = view.plan.id();
    let other = || async { lease::take(&warehouse, id, &config.clock).await.unwrap() };
    let waiting = |work: &dyn Fn()| tokio::task::block_in_place(work);

    // While this one computes, no other gets the lease; then it is stopped for so long that another does.
    let taken = std::sync::Mutex::new(None);
    let report = run_view(&warehouse, &catalog, &view, RunMode::Full, &config, |_| {
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
    let mut table = ViewTable::open(&warehouse, id, view.plan.stored_schema()).await.unwrap();
    assert!(table.latest().await.unwrap().is_none());

    // Whoever comes now is told who has it, and reads nothing.
    let run = run_view(&warehouse, &catalog, &view, RunMode::Full, &config, |_| ());
    let report = run.await.unwrap();
    let RunOutcome::Busy { holder, until_ms } = report.outcome else { panic!("{:?}", report.outcome) };
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())));
    assert!(until_ms > config.clock.now_ms());
    assert_eq!(report.rows_read, 0);
    theirs.release().await;

    // A run that fails lets go as well.
    store.set(Trouble::Fail { part: "states-", after: false, times: 1 });
    let mode = RunMode::Incremental;
    run_view(&warehouse, &catalog, &view, mode, &config, |_| ()).await.unwrap_err();
    let run = run_view(&warehouse, &catalog, &view, mode, &config, |_| ());
    assert_eq!(run.await.unwrap().outcome, RunOutcome::Published);
}
