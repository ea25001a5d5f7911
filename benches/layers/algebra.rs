//! The algebra: update (rows to states), merge (states to states), finish (states to values).
//!
//! Invariant: a step is measured as the process runs it. Update and merge are planned once, and a query is planned
//! every time.

use arrow::record_batch::RecordBatch;
use criterion::{BatchSize, Criterion, Throughput};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::ident;
use thalweg_schemas::algebra::{self, ViewPlan};
use thalweg_schemas::engine::session;
use tokio::runtime::Runtime;

use crate::events;

/// Devices in the events. The merged states have four groups for each device, one per room.
const DEVICES: u64 = 25_000;

/// One thread, one partition, unbounded memory.
struct Core {
    runtime: Runtime,
    state: SessionState,
    plan: ViewPlan,
}

impl Core {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let env = session::runtime(None, None, None).expect("an unbounded runtime");
        let plan = runtime.block_on(events::plan());
        Self { runtime, state: session::state(env, 1), plan }
    }

    fn collect(&self, plan: LogicalPlan) -> Vec<RecordBatch> {
        let rows = algebra::collect(&self.state, "measuring", plan);
        self.runtime.block_on(rows).expect("a plan that runs")
    }

    /// Updates states with a plan that is made once, like the speed layer.
    fn update(&self, rows: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let states = self.plan.update_batches(self.state.task_ctx(), rows);
        self.runtime.block_on(states).expect("a plan that runs")
    }

    fn merge(&self, states: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let merged = self.plan.merge_batches(self.state.task_ctx(), states);
        self.runtime.block_on(merged).expect("a plan that runs")
    }

    fn states(&self, batches: Vec<RecordBatch>) -> LogicalPlan {
        let schema = self.plan.state_schema().clone();
        algebra::batches("states", schema, batches).expect("the state schema")
    }

    /// The states of `n` micro-batches. Each micro-batch has its own row for every group in it.
    fn micro_batches(&self, n: u64) -> Vec<RecordBatch> {
        let update = |i| {
            let rows = events::rows(i * events::MICRO_BATCH as u64, events::MICRO_BATCH, DEVICES);
            self.update(vec![rows])
        };
        (0..n).flat_map(update).collect()
    }
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// Micro-batches of 65,536 rows into states: two keys, five aggregates.
pub(crate) fn update(criterion: &mut Criterion) {
    let core = Core::new();
    let mut group = criterion.benchmark_group("update");
    group.throughput(Throughput::Elements(events::MICRO_BATCH as u64));
    for devices in [250, DEVICES] {
        let rows = events::rows(0, events::MICRO_BATCH, devices);
        group.bench_function(format!("2 keys, 5 aggregates, {} groups", devices * 4), |bencher| {
            bencher.iter_batched(|| vec![rows.clone()], |rows| core.update(rows), BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// States of 20 micro-batches into one row per group.
pub(crate) fn merge(criterion: &mut Criterion) {
    let core = Core::new();
    let states = core.micro_batches(20);
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(20);
    group.throughput(Throughput::Elements(count(&states)));
    group.bench_function(format!("{} states into {} groups", count(&states), DEVICES * 4), |bencher| {
        bencher.iter(|| core.merge(states.clone()));
    });
    group.finish();
}

/// Merged states into values.
pub(crate) fn finish(criterion: &mut Criterion) {
    let core = Core::new();
    let states = core.merge(core.micro_batches(20));
    let mut group = criterion.benchmark_group("finish");
    group.sample_size(20);
    group.throughput(Throughput::Elements(count(&states)));
    group.bench_function(format!("{} groups", count(&states)), |bencher| {
        bencher.iter(|| core.collect(core.plan.finish(core.states(states.clone())).expect("a plan")));
    });
    group.finish();
}

/// One device out of merged batch states and eight segments: the answer of a query with a filter on a group column.
pub(crate) fn filtered_query(criterion: &mut Criterion) {
    let core = Core::new();
    let batch = core.merge(core.micro_batches(20));
    let speed = core.micro_batches(8);
    let device = events::device(1, DEVICES);
    let query = || {
        let all = LogicalPlanBuilder::from(core.states(batch.clone()))
            .union(core.states(speed.clone()))
            .and_then(LogicalPlanBuilder::build)
            .expect("states have one schema");
        let finished = core.plan.finish(all).expect("a plan");
        let filtered = LogicalPlanBuilder::from(finished)
            .filter(ident("device").eq(lit(device.clone())))
            .and_then(LogicalPlanBuilder::build)
            .expect("the view has this column");
        core.state.optimize(&filtered).expect("a plan that can be optimised")
    };
    let rows = count(&core.collect(query()));
    assert!((1..=4).contains(&rows), "{rows} rows");
    let mut group = criterion.benchmark_group("filtered merged query");
    group.bench_function(format!("{} states in memory", count(&batch) + count(&speed)), |bencher| {
        bencher.iter(|| core.collect(query()));
    });
    group.finish();
}
