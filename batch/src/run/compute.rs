//! The computation of a run: computes states of rows within the memory limit, and writes files.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::ident;
use futures::StreamExt;
use thalweg_schemas::algebra::{ViewPlan, scan};
use thalweg_schemas::definition::stream::PARTITION;
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::engine::session;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::BatchVersion;

use super::counted::RangeCount;
use super::{BatchConfig, COMPUTING, Progress};
use crate::decide::RunKind;
use crate::files::PartFiles;
use crate::log::NewFile;
use crate::{Error, Result};

/// The plan of the stored states. States are sorted by group, so that a filter on groups reads few row groups.
pub(super) fn states(
    plan: &ViewPlan,
    work: RunKind,
    rows: LogicalPlan,
    base: Option<&BatchVersion>,
) -> Result<LogicalPlan> {
    let new = plan.update(rows)?;
    let states = match (work, base) {
        (RunKind::AppendAndCompact, Some(base)) => {
            let files = ParquetFiles::new(Arc::clone(plan.stored_schema()), base.files.to_vec());
            let old = plan.from_stored(scan("states", Arc::new(files))?)?;
            let both = LogicalPlanBuilder::from(old)
                .union(new)
                .and_then(LogicalPlanBuilder::build)
                .map_err(|source| planning(plan, source))?;
            plan.merge(both)?
        }
        _ => new,
    };
    let groups = plan.stored_schema().fields()[1..=plan.group_count()].iter();
    let keys = groups.map(|f| f.name().as_str()).chain([PARTITION]);
    LogicalPlanBuilder::from(plan.to_stored(states)?)
        .sort(keys.map(|key| ident(key).sort(true, false)))
        .and_then(LogicalPlanBuilder::build)
        .map_err(|source| planning(plan, source))
}

fn planning(plan: &ViewPlan, source: datafusion::error::DataFusionError) -> Error {
    Error::RunPlan { what: format!("planning states of view {}", plan.id()), source }
}

/// What a run reads of the master dataset.
pub(super) struct RangeReading {
    pub(super) count: RangeCount,
    /// Rows in the files.
    pub(super) rows_expected: Option<u64>,
}

/// Runs the plan within the memory limit and writes its output to files. Returns the files, and the number of rows
/// read from the master dataset.
pub(super) async fn compute(
    warehouse: &Warehouse,
    config: &BatchConfig,
    plan: LogicalPlan,
    mut files: PartFiles,
    reading: RangeReading,
    mut progress: impl FnMut(Progress),
) -> Result<(Vec<NewFile>, u64)> {
    let env = bounded(warehouse, config).await?;
    let mut state = session::state(env, config.target_partitions);
    // Memory that every sort reserves to merge its spilled data. DataFusion's default is too large for several sorts
    // in a small limit.
    let share = config.memory / config.target_partitions.max(1) / 16;
    let options = state.config_mut().options_mut();
    options.execution.sort_spill_reservation_bytes = share.clamp(1 << 20, 10 << 20);
    let writing = write_states(&state, plan, &mut files, &reading, &mut progress);
    let written = contain(COMPUTING, writing).await;
    match written {
        Ok(rows_read) => Ok((files.finish().await?, rows_read)),
        Err(error) => {
            files.abandon().await;
            Err(error)
        }
    }
}

/// A runtime with the memory of a run, which spills to the folder of runs.
///
/// Errors: [`Error::RunPlan`], if the folder cannot be created.
pub(crate) async fn bounded(warehouse: &Warehouse, config: &BatchConfig) -> Result<Arc<RuntimeEnv>> {
    let spill = config.spill.clone();
    tokio::fs::create_dir_all(&spill).await.map_err(|e| Error::RunPlan {
        what: format!("creating the spill folder {}", spill.display()),
        source: e.into(),
    })?;
    Ok(session::runtime(Some(warehouse), Some(config.memory), Some(spill))?)
}

async fn write_states(
    state: &SessionState,
    plan: LogicalPlan,
    files: &mut PartFiles,
    reading: &RangeReading,
    progress: &mut impl FnMut(Progress),
) -> Result<u64> {
    let running = |source| Error::RunPlan { what: COMPUTING.to_owned(), source };
    let RangeReading { count, rows_expected } = reading;
    let rows_expected = *rows_expected;
    let physical = state.create_physical_plan(&plan).await.and_then(|plan| count.over(plan)).map_err(running)?;
    let mut states = execute_stream(physical, state.task_ctx()).map_err(running)?;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut states_written = 0;
    loop {
        tokio::select! {
            batch = states.next() => {
                let Some(batch) = batch else { break };
                let batch = batch.map_err(running)?;
                files.write(&batch, None).await?;
                states_written += batch.num_rows() as u64;
            }
            _ = ticks.tick() => progress(Progress {
                rows_read: count.rows(),
                rows_expected,
                states_written,
            }),
        }
    }
    let rows_read = count.rows();
    progress(Progress { rows_read, rows_expected, states_written });
    Ok(rows_read)
}
