//! One random history: epochs and marks committed to a real Delta table, recomputations at random times, restarts,
//! and micro-batches above the cut, rebuilt or live, merged in random order. The merged answer is then compared with
//! one query. The stream may have got columns in between: what was archived before has no values in them.
//!
//! Invariant: the history uses the product's own archive, recomputation and plans. Only Kafka and HTTP are left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::{concat_batches, filter_record_batch, is_null};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use rand::Rng;
use rand::rngs::StdRng;
use thalweg_batch::{Archive, BatchConfig, ViewTable, run_view};
use thalweg_kit::definitions;
use thalweg_kit::world::warehouse_in_memory;
use thalweg_schemas::algebra::{TableAggregate, batches, between, collect, scan};
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::definition::message::UNLISTED;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Frontier, Offset};

use super::answers::assert_same;
use super::queries::Query;
use super::rows::{Place, before_columns, places, rows, stream, without_later_values};

/// Shared by all steps of one history.
struct Setting {
    warehouse: Warehouse,
    stream: StreamDefinition,
    catalog: Catalog,
    view: Arc<CompiledView>,
    state: SessionState,
    config: BatchConfig,
    /// Keeps the folder of a warehouse until the history ends.
    _folder: tempfile::TempDir,
}

/// Runs one history of `query`, and asserts that every answer equals that of one query.
#[expect(clippy::print_stdout, reason = "a failure names its seed")]
pub(crate) async fn check(seed: u64, rng: &mut StdRng, query: &Query) {
    // The output is shown only if the test fails, also after a panic in a worker thread.
    println!("LAW_SEED={seed}: {}", query.view);
    let stream = stream(rng.random_bool(0.4));
    let (places, end) = places(rng, stream.messages.has_several_rows());
    let before = before_columns(rng, &stream);
    let line = if rng.random_bool(0.5) { whole_messages(&places, rng.random_range(0..=places.len())) } else { 0 };
    let all = without_later_values(&rows(rng, &stream, &places), &before, line);
    let setting = setting(rng, &stream, query).await;
    let context = format!("LAW_SEED={seed}: {}", query.view);

    let mut read = 0;
    let mut at: Frontier = end.partitions().map(|p| (p, Offset(0))).collect();
    let mut ends = vec![(0, at.clone())];
    if line > 0 {
        let to = position(&at, &places[..line]);
        let early = before.row_schema();
        let columns = early.fields().iter().map(|field| all.schema().index_of(field.name()).unwrap());
        let columns: Vec<usize> = columns.collect();
        let rows = slices(rng, &all, 0, line).iter().map(|rows| rows.project(&columns).unwrap()).collect();
        let mut archive = Archive::open(&setting.warehouse, &before, Frontier::new()).await.unwrap();
        let epoch = epoch(&stream, (&at, &to), rows, rng.random_bool(0.6));
        let outcome = archive.commit(&epoch).await.unwrap_or_else(|e| panic!("{context}: {e}"));
        assert!(matches!(outcome, EpochOutcome::Landed(_)), "{context}");
        (read, at) = (line, to);
        ends.push((read, at.clone()));
    }
    let mut archive =
        Archive::open(&setting.warehouse, &stream, Frontier::new()).await.unwrap_or_else(|e| panic!("{context}: {e}"));
    for _ in 0..rng.random_range(0..5) {
        let upto = whole_messages(&places, rng.random_range(read..=places.len()));
        let to = position(&at, &places[read..upto]);
        let rows = slices(rng, &all, read, upto);
        let epoch = epoch(&stream, (&at, &to), rows, rng.random_bool(0.6));
        let outcome = archive.commit(&epoch).await;
        let outcome = outcome.unwrap_or_else(|e| panic!("{context}: {e}"));
        assert!(matches!(outcome, EpochOutcome::Landed(_)), "{context}");
        (read, at) = (upto, to);
        ends.push((read, at.clone()));
        if rng.random_bool(0.3) {
            archive = Archive::open(&setting.warehouse, &stream, Frontier::new()).await.unwrap();
        }
        if rng.random_bool(0.6) {
            recompute(rng, &setting, &context).await;
        }
        if rng.random_bool(0.3) {
            // An answer in the middle of the history: everything below the archive frontier.
            let states = states(rng, &setting, &mut archive, &all, &ends, (read, &at)).await;
            let got = answer(&setting, states).await;
            let expect = whole(query, &stream, &all, read).await;
            compare(&got, &expect, query, &context);
        }
    }
    let states = states(rng, &setting, &mut archive, &all, &ends, (places.len(), &end)).await;
    let got = answer(&setting, states.clone()).await;
    let expect = whole(query, &stream, &all, places.len()).await;
    compare(&got, &expect, query, &context);
    if let Some(coarser) = &query.coarser {
        let context = format!("{context}; rolled up: {}", coarser.view);
        let got = rolled_up(&setting, states, coarser, &context).await;
        let expect = whole(coarser, &stream, &all, places.len()).await;
        compare(&got, &expect, coarser, &context);
    }
}

/// The rows up to `count` and those of the same message: an epoch ends behind a message.
fn whole_messages(places: &[Place], count: usize) -> usize {
    let Some(last) = places[..count].last() else { return count };
    count + places[count..].iter().take_while(|place| place.shares_message(last)).count()
}

fn epoch(stream: &StreamDefinition, (from, to): (&Frontier, &Frontier), rows: Vec<RecordBatch>, mark: bool) -> Epoch {
    Epoch { stream: stream.name.clone(), from: from.clone(), to: to.clone(), rows, mark, last: HashMap::new() }
}

/// An answer, or the error of a total that does not fit its type.
type Answered<T> = Result<T, String>;

/// Asserts that the answer is that of the queries, or that both have no answer.
fn compare(got: &Answered<Vec<RecordBatch>>, expect: &Answered<Vec<Vec<RecordBatch>>>, query: &Query, context: &str) {
    match (got, expect) {
        (Ok(got), Ok(expect)) => assert_same(got, expect, query.groups, &query.judges, context),
        (Err(_), Err(_)) => {}
        (got, expect) => {
            let (got, expect) = (got.as_ref().err(), expect.as_ref().err());
            panic!("the error is {got:?}, and that of one query {expect:?}: {context}");
        }
    }
}

async fn setting(rng: &mut StdRng, stream: &StreamDefinition, query: &Query) -> Setting {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = if rng.random_bool(0.5) {
        Warehouse::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap()
    } else {
        warehouse_in_memory()
    };
    let catalog = definitions::catalog(stream.clone(), Frontier::new(), &[("v", &query.view)]).await;
    let view = definitions::view(&catalog, "v");
    let bounded = rng.random_bool(0.5);
    let memory = bounded.then_some(32 << 20);
    let env = session::runtime(Some(&warehouse), memory, Some(folder.path().join("spill"))).unwrap();
    let target_partitions = rng.random_range(1..=3);
    Setting {
        state: session::state(env, target_partitions),
        config: BatchConfig {
            memory: memory.unwrap_or(1 << 30),
            spill: folder.path().join("spill"),
            compact_files: rng.random_range(2..4),
            target_partitions,
            ..BatchConfig::default()
        },
        warehouse,
        stream: stream.clone(),
        catalog,
        view,
        _folder: folder,
    }
}

/// Returns the frontier after reading `places` from `at`.
fn position(at: &Frontier, places: &[Place]) -> Frontier {
    let mut to = at.clone();
    for place in places {
        to.advance(place.partition, Offset(place.offset.0 + 1));
    }
    to
}

/// Returns `[from, to)` of `all` as one or more batches of random length, like micro-batches.
fn slices(rng: &mut StdRng, all: &RecordBatch, from: usize, to: usize) -> Vec<RecordBatch> {
    let mut slices = Vec::new();
    let mut at = from;
    while at < to {
        let end = rng.random_range(at + 1..=to);
        slices.push(all.slice(at, end - at));
        at = end;
    }
    slices
}

async fn recompute(rng: &mut StdRng, setting: &Setting, context: &str) {
    let mode = match rng.random_bool(0.3) {
        true => RunMode::Full,
        false => RunMode::Incremental,
    };
    let (warehouse, catalog) = (&setting.warehouse, &setting.catalog);
    run_view(warehouse, catalog, &setting.view, mode, &setting.config, |_| {})
        .await
        .unwrap_or_else(|e| panic!("{context}: {e}"));
}

/// Returns the states at `to`: batch states below B, realtime states from B up.
async fn states(
    rng: &mut StdRng,
    setting: &Setting,
    archive: &mut Archive,
    all: &RecordBatch,
    ends: &[(usize, Frontier)],
    to: (usize, &Frontier),
) -> LogicalPlan {
    let plan = &setting.view.plan;
    let mut table = ViewTable::open(&setting.warehouse, plan.id(), plan.stored_schema()).await.unwrap();
    let version = table.latest().await.unwrap();
    let (cut, files) = match &version {
        Some(version) => (version.cut.clone(), version.files.to_vec()),
        None => (Frontier::new(), Vec::new()),
    };
    let mut states = Vec::new();
    let mut read =
        ends.iter().rev().find(|(_, end)| end.covers(&cut) && cut.covers(end)).expect("a cut is the end of an epoch").0;
    if rng.random_bool(0.4) {
        let master = archive.latest().await.unwrap();
        let archived = &ends.last().unwrap().1;
        assert!(master.frontier.covers(archived) && archived.covers(&master.frontier));
        states.push(rebuild(setting, &master, &cut).await);
        read = ends.last().unwrap().0;
    }
    for batch in slices(rng, all, read, to.0) {
        let task = setting.state.task_ctx();
        states.push(plan.update_batches(task, vec![batch]).await.unwrap());
    }
    while states.len() > 1 && rng.random_bool(0.8) {
        let first = rng.random_range(0..states.len() - 1);
        let last = rng.random_range(first + 1..states.len());
        let neighbours: Vec<RecordBatch> = states.drain(first..=last).flatten().collect();
        let task = setting.state.task_ctx();
        states.insert(first, plan.merge_batches(task, neighbours).await.unwrap());
    }
    let states = states.into_iter().flatten().collect();
    let segments = batches("segments", Arc::clone(plan.state_schema()), states).unwrap();
    let stored = ParquetFiles::new(Arc::clone(plan.stored_schema()), files);
    let batch = plan.from_stored(scan("batch", Arc::new(stored)).unwrap()).unwrap();
    LogicalPlanBuilder::from(batch).union(segments).unwrap().build().unwrap()
}

async fn answer(setting: &Setting, states: LogicalPlan) -> Answered<Vec<RecordBatch>> {
    let finished = setting.view.plan.finish(states).unwrap();
    collect(&setting.state, "the law", finished).await.map_err(out_of_range)
}

/// Answers `coarser`, a query of the stream, from the states of the view.
async fn rolled_up(
    setting: &Setting,
    states: LogicalPlan,
    coarser: &Query,
    context: &str,
) -> Answered<Vec<RecordBatch>> {
    let session = SessionContext::new_with_state(setting.state.clone());
    let events = EmptyTable::new(setting.stream.table_schema_with(&UNLISTED.into()));
    session.register_table("events", Arc::new(events)).unwrap();
    let state = session.state();
    let plan = state.create_logical_plan(&coarser.view).await.unwrap_or_else(|e| panic!("{context}: {e}"));
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    let mut found = false;
    let rolled = plan.transform_down_with_subqueries(|node| {
        let Some((asked, _)) = TableAggregate::of(&node) else { return Ok(Transformed::no(node)) };
        let roll_up = setting.view.plan.roll_up(&asked).unwrap_or_else(|| panic!("not rolled up: {context}"));
        found = true;
        Ok(Transformed::yes(roll_up.over(states.clone()).unwrap()))
    });
    let rolled = rolled.unwrap().data;
    assert!(found, "{context}");
    let rolled = rolled.transform_up_with_subqueries(|node| Ok(Transformed::yes(node.recompute_schema()?)));
    collect(&state, "the law", rolled.unwrap().data).await.map_err(out_of_range)
}

/// The text of an error that a total may have.
fn out_of_range(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    assert!(text.contains("does not fit") || text.contains("digits") || text.contains("verflow"), "{text}");
    text
}

/// Computes the states of the archived rows above `cut`, as a restart does.
async fn rebuild(setting: &Setting, master: &MasterVersion, cut: &Frontier) -> Vec<RecordBatch> {
    let plan = &setting.view.plan;
    let files = ParquetFiles::new(setting.stream.row_schema(), master.files.to_vec());
    let rows = scan("archive", Arc::new(files)).unwrap();
    let rows = between(rows, cut, &master.frontier).unwrap();
    run(setting, plan.update(rows).unwrap()).await
}

async fn run(setting: &Setting, plan: LogicalPlan) -> Vec<RecordBatch> {
    let text = plan.display_indent().to_string();
    collect(&setting.state, "the law", plan)
        .await
        .unwrap_or_else(|e| panic!("{}: {e}\n{text}", setting.view.definition.query))
}

/// Runs one query for each aggregate over the first `count` rows, by DataFusion alone.
async fn whole(
    query: &Query,
    stream: &StreamDefinition,
    all: &RecordBatch,
    count: usize,
) -> Answered<Vec<Vec<RecordBatch>>> {
    let read = all.slice(0, count);
    let read = concat_batches(&read.schema(), [&read]).unwrap();
    let kept = is_null(read.column_by_name("_reject").unwrap()).unwrap();
    let kept = filter_record_batch(&read, &kept).unwrap();
    let schema = stream.table_schema_with(&UNLISTED.into());
    let keys = kept.column_by_name("_key").unwrap();
    let texts = keys.as_binary::<i32>().iter().map(|key| key.and_then(|key| std::str::from_utf8(key).ok()));
    let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
    let column = |name: &str| match name {
        "_key" => &texts,
        "_key_bytes" => keys,
        name => kept.column_by_name(name).unwrap(),
    };
    let columns = schema.fields().iter().map(|f| Arc::clone(column(f.name()))).collect();
    let table = RecordBatch::try_new(schema, columns).unwrap();
    let session = session::context(session::runtime(None, None, None).unwrap(), 1);
    session.register_batch("events", table).unwrap();
    let answer = async |sql: &str| {
        let frame = session.sql(sql).await;
        let frame = frame.unwrap_or_else(|e| panic!("{sql}: {e}"));
        frame.collect().await.map_err(out_of_range)
    };
    let mut answers = Vec::new();
    for sql in &query.whole {
        answers.push(answer(sql).await?);
    }
    Ok(answers)
}
