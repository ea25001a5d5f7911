//! One run of one view: pin a version of the master dataset, compute states up to its mark, publish them.
//!
//! Invariant: what is published at a cut B is a function of the rows below B alone: rows are chosen by `_partition` and
//! `_offset` in one pinned version, never by which files are new.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::ident;
use futures::StreamExt;
use thalweg_schemas::algebra::{ViewPlan, between, scan};
use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::dataset::{BatchVersion, MasterVersion};
use thalweg_schemas::files::ParquetFiles;
use thalweg_schemas::stream::{OFFSET, PARTITION, StreamDefinition};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Fault, Frontier, ViewId, ViewName, session};
use uuid::Uuid;

use crate::archive::Archive;
use crate::choose::{Mode, Standing, Work, choose};
use crate::files::StateFiles;
use crate::log::NewFile;
use crate::view_table::{Publication, PublishOutcome, ViewTable};
use crate::{Error, Result};

/// How runs compute and when.
#[derive(Debug, Clone)]
pub struct BatchConfig {
    /// Time between two runs of a view.
    pub interval: Duration,
    /// Bytes that a run may use; beyond them it spills.
    pub memory: usize,
    /// Folder for what is spilled; created if absent.
    pub spill: PathBuf,
    /// A view with this many files is compacted by its next incremental run.
    pub compact_files: usize,
    /// Threads' worth of parallelism of a run.
    pub target_partitions: usize,
    /// How long files are kept after the last version that needs them.
    pub grace: Duration,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            memory: 512 * 1024 * 1024,
            spill: std::env::temp_dir().join("thalweg-spill"),
            compact_files: 8,
            target_partitions: 2,
            grace: Duration::from_secs(600),
        }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Rows and rejects read from the master dataset.
    pub rows_read: u64,
    /// Rows that the files to be read hold, if the log says so: more than will be read if a file lies across an end.
    pub rows_expected: Option<u64>,
    /// States written.
    pub states_written: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Published,
    /// The published cut is the newest mark, or the stream has no partition yet.
    NothingNew,
    /// Another run published first; this one's work is dropped.
    Fenced,
    /// It could not be computed; the view stays at its cut.
    Failed {
        reason: String,
        fault: Fault,
    },
}

/// What a run did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunReport {
    pub view: ViewName,
    pub id: ViewId,
    pub mode: Mode,
    /// Where the rows that were read begin.
    pub from: Frontier,
    /// The cut.
    pub to: Frontier,
    /// Rows and rejects read from the master dataset.
    pub rows_read: u64,
    /// Rows of state written, one per group and partition.
    pub groups: u64,
    pub files: usize,
    pub bytes: u64,
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
    pub outcome: Outcome,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u128(duration.as_millis())
}

/// Computes `view` up to the newest mark and publishes it. `progress` is called about twice a second.
///
/// Errors: storage, planning and computing, each as its own variant. Nothing is published then.
pub async fn run_view(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    mode: Mode,
    config: &BatchConfig,
    progress: impl FnMut(Progress),
) -> Result<RunReport> {
    let started = Instant::now();
    let plan = &view.plan;
    let stream = catalog.streams.get(plan.stream()).ok_or_else(|| {
        thalweg_schemas::Error::FindDefinition {
            kind: "stream",
            name: plan.stream().to_string(),
        }
    })?;
    let mut archive = Archive::open(warehouse, &stream.definition, stream.origin.clone()).await?;
    let master = archive.latest().await?;
    let mut table = ViewTable::open(warehouse, plan.id(), plan.stored_schema()).await?;
    let base = table.latest().await?;
    let base = base.as_deref();
    let standing = base.map(|base| Standing {
        cut: &base.cut,
        files: base.files.len(),
    });
    let work = choose(standing, &master.mark, mode, config.compact_files);
    let from = match (work, base) {
        (Work::Append | Work::AppendAndCompact, Some(base)) => base.cut.or(&stream.origin),
        (Work::Nothing, Some(base)) => base.cut.clone(),
        _ => stream.origin.clone(),
    };
    let mut report = RunReport {
        view: view.definition.name.clone(),
        id: plan.id().clone(),
        mode,
        to: master.mark.clone(),
        from,
        rows_read: 0,
        groups: 0,
        files: 0,
        bytes: 0,
        elapsed: Duration::ZERO,
        outcome: Outcome::NothingNew,
    };
    if work == Work::Nothing {
        report.to = report.from.clone();
        report.elapsed = started.elapsed();
        return Ok(report);
    }
    let rows = rows(&stream.definition, &master, &report.from, &report.to)?;
    let states = states(plan, work, rows.plan, base)?;
    let run = Uuid::new_v4();
    let (files, rows_read) = compute(
        warehouse,
        config,
        states,
        table.writer(run),
        rows.expected,
        progress,
    )
    .await?;
    report.rows_read = rows_read;
    report.files = files.len();
    report.groups = files.iter().map(|f| f.rows).sum();
    report.bytes = files.iter().map(|f| f.size).sum();
    let publication = Publication {
        run,
        files,
        replace: work != Work::Append,
        cut: report.to.clone(),
        master_version: master.version,
    };
    report.outcome = match table.publish(base, publication).await? {
        PublishOutcome::Published(version) => {
            let (view, version) = (&report.view, version.version);
            tracing::info!(%view, version, cut = %report.to, "published");
            Outcome::Published
        }
        PublishOutcome::Fenced(winner) => {
            let (view, winner) = (&report.view, winner.map(|v| v.version));
            tracing::info!(%view, ?winner, "another run published first");
            Outcome::Fenced
        }
    };
    table.tend(config.grace).await;
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Rows of a pinned version.
pub(crate) struct Rows {
    pub(crate) plan: LogicalPlan,
    pub(crate) expected: Option<u64>,
}

/// The rows and rejects of `[from, to)` in `master`.
pub(crate) fn rows(
    stream: &StreamDefinition,
    master: &MasterVersion,
    from: &Frontier,
    to: &Frontier,
) -> Result<Rows> {
    let files: Vec<_> = master
        .files
        .iter()
        .filter(|file| file.touches(from, to))
        .cloned()
        .collect();
    let expected = files.iter().map(|file| file.rows).sum();
    let table = Arc::new(ParquetFiles::new(stream.row_schema(), files));
    let plan = between(scan(stream.name.as_str(), table)?, from, to)?;
    Ok(Rows { plan, expected })
}

/// The plan of the states to be stored, sorted by group so that a filter on groups finds them in few row groups.
fn states(
    plan: &ViewPlan,
    work: Work,
    rows: LogicalPlan,
    base: Option<&BatchVersion>,
) -> Result<LogicalPlan> {
    let new = plan.update(rows)?;
    let states = match (work, base) {
        (Work::AppendAndCompact, Some(base)) => {
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
    Error::RunPlan {
        what: format!("planning states of view {}", plan.id()),
        source,
    }
}

/// Runs the plan within the memory that is allowed, its output going to files as it comes; the files, and how many rows
/// of the master dataset were read.
async fn compute(
    warehouse: &Warehouse,
    config: &BatchConfig,
    plan: LogicalPlan,
    mut files: StateFiles,
    rows_expected: Option<u64>,
    mut progress: impl FnMut(Progress),
) -> Result<(Vec<NewFile>, u64)> {
    let spill = config.spill.clone();
    tokio::fs::create_dir_all(&spill)
        .await
        .map_err(|e| Error::RunPlan {
            what: format!("creating the spill folder {}", spill.display()),
            source: e.into(),
        })?;
    let env = session::runtime(Some(warehouse), Some(config.memory), Some(spill))?;
    let mut state = session::state(env, config.target_partitions);
    // What every sort sets aside for merging what it spilled: by default more than a small budget has for all of them.
    let share = config.memory / config.target_partitions.max(1) / 16;
    let options = state.config_mut().options_mut();
    options.execution.sort_spill_reservation_bytes = share.clamp(1 << 20, 10 << 20);
    let written = write_states(&state, plan, &mut files, rows_expected, &mut progress).await;
    match written {
        Ok(rows_read) => Ok((files.finish().await?, rows_read)),
        Err(error) => {
            files.abandon().await;
            Err(error)
        }
    }
}

async fn write_states(
    state: &SessionState,
    plan: LogicalPlan,
    files: &mut StateFiles,
    rows_expected: Option<u64>,
    progress: &mut impl FnMut(Progress),
) -> Result<u64> {
    let running = |source| Error::RunPlan {
        what: "computing states".to_owned(),
        source,
    };
    let physical = state.create_physical_plan(&plan).await.map_err(running)?;
    let mut states = execute_stream(Arc::clone(&physical), state.task_ctx()).map_err(running)?;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut states_written = 0;
    loop {
        tokio::select! {
            batch = states.next() => {
                let Some(batch) = batch else { break };
                let batch = batch.map_err(running)?;
                files.write(&batch).await?;
                states_written += batch.num_rows() as u64;
            }
            _ = ticks.tick() => progress(Progress {
                rows_read: rows_read(&physical),
                rows_expected,
                states_written,
            }),
        }
    }
    let rows_read = rows_read(&physical);
    progress(Progress {
        rows_read,
        rows_expected,
        states_written,
    });
    Ok(rows_read)
}

/// What the scans of the master dataset have given out so far; they are the ones with an offset.
fn rows_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    if plan.children().is_empty() {
        let of_master = plan.schema().column_with_name(OFFSET).is_some();
        let rows = plan.metrics().and_then(|m| m.output_rows());
        return rows.filter(|_| of_master).unwrap_or_default() as u64;
    }
    plan.children().into_iter().map(rows_read).sum()
}

#[cfg(test)]
mod tests;
