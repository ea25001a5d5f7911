//! One run of one view: pins a version of the master dataset, computes states up to its mark and publishes them.
//!
//! Invariant: the states published at a cut B depend only on the rows below B. A run selects rows by `_partition` and
//! `_offset` in one pinned version, never by the age of files.

mod compute;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_schemas::algebra::find_culprit;
use thalweg_schemas::api::runs::{RunList, RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CatalogStream, CompiledView};
use thalweg_schemas::clock::WallClock;
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::engine::session;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion};
use thalweg_schemas::{Fault, Frontier, Shared, ViewName};
use uuid::Uuid;

pub(crate) use self::compute::rows;
use self::compute::{compute, states};
use crate::archive::Archive;
use crate::decide::{PublishedView, RunKind, decide};
use crate::failed_runs::FailedRuns;
use crate::lease::{self, Holder, Lease, Renewal, Taken};
use crate::view_table::{Publication, PublishOutcome, ViewTable};
use crate::{Error, Result};

/// The work, for errors.
const COMPUTING: &str = "computing states";

/// Settings of runs and of the schedule.
#[derive(Debug, Clone)]
pub struct BatchConfig {
    /// Time between two runs of a view.
    pub interval: Duration,
    /// Memory of a run in bytes; above this limit the run spills to disk.
    pub memory: usize,
    /// Folder for spilled data; created if absent.
    pub spill: PathBuf,
    /// A view with this many files is compacted by its next incremental run.
    pub compact_files: usize,
    /// Number of partitions that a run computes in parallel.
    pub target_partitions: usize,
    /// How long files are kept after the last version that needs them.
    pub grace: Duration,
    /// The clock by which leases end.
    pub clock: WallClock,
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
            clock: WallClock::System,
        }
    }
}

/// The progress of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Rows and rejects read from the master dataset.
    pub rows_read: u64,
    /// Rows in the files to be read, if the log has the numbers. Files that cross the start or end of the range hold
    /// more rows than the run reads.
    pub rows_expected: Option<u64>,
    /// States written.
    pub states_written: u64,
}

/// Computes one view, or all views one after the other; a view that fails does not keep the others from their runs.
/// `record` receives the report of each run.
///
/// Errors: those of [`run_view`]; those of [`Catalog::compiled_of`].
pub async fn run_views(
    shared: &Shared,
    name: Option<&ViewName>,
    mode: RunMode,
    config: &BatchConfig,
    record: impl Fn(&RunReport),
) -> Result<RunList> {
    let catalog = Arc::clone(&shared.catalog.borrow());
    let mut failed = FailedRuns::open(&shared.warehouse).await;
    let mut runs = Vec::new();
    for view in catalog.compiled_of(name)? {
        let report = run_view(&shared.warehouse, &catalog, &view, mode, config, |_| ()).await?;
        failed.record(&report).await;
        record(&report);
        runs.push(report);
    }
    Ok(RunList { runs })
}

/// Computes `view` up to the newest mark and publishes the result, unless another run of the view is active.
/// `progress` is called about twice a second. A failure of storage, planning or computing is the outcome of the
/// report. Nothing is published then, unless the commit itself failed: its outcome is unknown.
///
/// Errors: a broken invariant.
pub async fn run_view(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    mode: RunMode,
    config: &BatchConfig,
    progress: impl FnMut(Progress),
) -> Result<RunReport> {
    let started = Instant::now();
    match contain(COMPUTING, attempt(warehouse, catalog, view, mode, config, progress)).await {
        Err(error) if error.fault() != Fault::Bug => {
            let nowhere = Frontier::new();
            let cause = (error.fault(), error.reason());
            let failure = ViewFailure::told(FailedStep::Run, cause, (&nowhere, &nowhere), config.clock.now_ms());
            Ok(RunReport {
                view: view.definition.name.clone(),
                id: view.plan.id().clone(),
                mode,
                from: nowhere.clone(),
                to: nowhere,
                rows_read: 0,
                groups: 0,
                files: 0,
                bytes: 0,
                elapsed: started.elapsed(),
                outcome: RunOutcome::Failed(failure),
            })
        }
        outcome => outcome,
    }
}

async fn attempt(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    mode: RunMode,
    config: &BatchConfig,
    progress: impl FnMut(Progress),
) -> Result<RunReport> {
    let started = Instant::now();
    let mut run = Run::open(warehouse, catalog, view, mode, config).await?;
    let mut report = run.assess().await?.report;
    // Most runs find nothing to do, and such a run needs no lease.
    if report.outcome != RunOutcome::NothingNew {
        report.outcome = match lease::take(warehouse, view.plan.id(), &config.clock).await? {
            Taken::Held { holder, until_ms } => busy(&holder, until_ms),
            Taken::Mine(mut lease) => {
                let outcome = run.under(&mut lease, &mut report, progress).await;
                lease.release().await;
                outcome?
            }
        };
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

fn busy(holder: &Holder, until_ms: i64) -> RunOutcome {
    RunOutcome::Busy { holder: holder.to_string(), until_ms }
}

/// The inputs of one run.
struct Run<'a> {
    warehouse: &'a Warehouse,
    stream: &'a CatalogStream,
    view: &'a CompiledView,
    mode: RunMode,
    config: &'a BatchConfig,
    archive: Archive,
    table: ViewTable,
}

/// The work on a pinned version, and a report to be filled in.
struct Assessed {
    master: Arc<MasterVersion>,
    base: Option<Arc<BatchVersion>>,
    work: RunKind,
    report: RunReport,
}

impl<'a> Run<'a> {
    async fn open(
        warehouse: &'a Warehouse,
        catalog: &'a Catalog,
        view: &'a CompiledView,
        mode: RunMode,
        config: &'a BatchConfig,
    ) -> Result<Self> {
        let plan = &view.plan;
        let stream = catalog.streams.get(plan.stream()).ok_or_else(|| thalweg_schemas::Error::FindDefinition {
            kind: "stream",
            name: plan.stream().to_string(),
        })?;
        let (definition, origin) = (&stream.definition, stream.origin.clone());
        Ok(Self {
            warehouse,
            stream,
            view,
            mode,
            config,
            archive: Archive::open(warehouse, definition, origin).await?,
            table: ViewTable::open(warehouse, plan.id(), plan.stored_schema()).await?,
        })
    }

    /// Pins the newest versions and decides the work. Without work the report's outcome is `NothingNew`.
    async fn assess(&mut self) -> Result<Assessed> {
        let master = self.archive.latest().await?;
        let base = self.table.latest().await?;
        let standing = base.as_deref().map(|base| PublishedView { cut: &base.cut, files: base.files.len() });
        let compact = self.config.compact_files;
        let work = decide(standing, &master.mark, self.mode, compact);
        let origin = &self.stream.origin;
        let (from, to) = match (work, &base) {
            (RunKind::Append | RunKind::AppendAndCompact, Some(base)) => (base.cut.or(origin), master.mark.clone()),
            (RunKind::Nothing, Some(base)) => (base.cut.clone(), base.cut.clone()),
            (RunKind::Nothing, None) => (origin.clone(), origin.clone()),
            _ => (origin.clone(), master.mark.clone()),
        };
        let report = RunReport {
            view: self.view.definition.name.clone(),
            id: self.view.plan.id().clone(),
            mode: self.mode,
            from,
            to,
            rows_read: 0,
            groups: 0,
            files: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            outcome: match work {
                RunKind::Nothing => RunOutcome::NothingNew,
                _ => RunOutcome::Fenced,
            },
        };
        Ok(Assessed { master, base, work, report })
    }

    /// Computes and publishes while `lease` is held. Assesses the work again first, because another run may have
    /// published before the lease was taken.
    async fn under(
        &mut self,
        lease: &mut Lease,
        report: &mut RunReport,
        progress: impl FnMut(Progress),
    ) -> Result<RunOutcome> {
        let assessed = self.assess().await?;
        *report = assessed.report;
        let (work, base) = (assessed.work, assessed.base.as_deref());
        if work == RunKind::Nothing {
            return Ok(RunOutcome::NothingNew);
        }
        let run = Uuid::new_v4();
        let rows = rows(&self.stream.definition, &assessed.master, &report.from, &report.to)?;
        let states = states(&self.view.plan, work, rows.plan, base)?;
        let files = self.table.writer(run);
        let computing = compute(self.warehouse, self.config, states, files, rows.expected, progress);
        let (files, rows_read) = match lease.hold(computing).await {
            Ok(Ok(computed)) => computed,
            Ok(Err(error)) => {
                return match lease.hold(self.locate(error, &assessed.master, report)).await {
                    Ok(failure) => Ok(RunOutcome::Failed(failure?)),
                    Err(taken) => Ok(lost(&report.view, taken)),
                };
            }
            Err(taken) => return Ok(lost(&report.view, taken)),
        };
        report.rows_read = rows_read;
        report.files = files.len();
        report.groups = files.iter().map(|f| f.rows).sum();
        report.bytes = files.iter().map(|f| f.size).sum();
        // A process that was suspended meanwhile learns here that another run took the lease.
        match lease.renew().await {
            Ok(Renewal::Yes) => {}
            Ok(Renewal::Lost(taken)) => {
                self.table.drop_files(&files).await;
                return Ok(lost(&report.view, taken));
            }
            Err(error) => {
                self.table.drop_files(&files).await;
                return Err(error);
            }
        }
        let publication = Publication {
            run,
            files,
            replace: work != RunKind::Append,
            cut: report.to.clone(),
            master_version: assessed.master.version,
        };
        let view = &report.view;
        let outcome = match self.table.publish(base, publication).await? {
            PublishOutcome::Published(version) => {
                tracing::info!(%view, version = version.version, cut = %report.to, "published");
                RunOutcome::Published
            }
            PublishOutcome::Fenced(winner) => {
                let winner = winner.map(|v| v.version);
                tracing::info!(%view, ?winner, "another run published first");
                RunOutcome::Fenced
            }
        };
        self.table.maintain(self.config.grace).await;
        Ok(outcome)
    }

    /// Finds the messages over which the view cannot be computed, as the speed layer does.
    ///
    /// Errors: an error that is not the engine's.
    async fn locate(&self, error: Error, master: &MasterVersion, report: &RunReport) -> Result<ViewFailure> {
        let error = error.into_shared()?;
        let env = session::runtime(Some(self.warehouse), Some(self.config.memory), Some(self.config.spill.clone()))?;
        let session = Arc::new(session::state(env, self.config.target_partitions));
        let found = |from: &Frontier, to: &Frontier| match rows(&self.stream.definition, master, from, to) {
            Ok(rows) => Ok(rows.plan),
            Err(Error::Schemas(error)) => Err(error),
            Err(other) => Err(thalweg_schemas::Error::Broken(other.to_string())),
        };
        let range = (report.from.clone(), report.to.clone());
        let culprit = find_culprit(&self.view.plan, &session, range, error, found).await;
        Ok(ViewFailure::located(FailedStep::Run, culprit, self.config.clock.now_ms()))
    }
}

/// The outcome of a run that lost its lease: nothing is published.
fn lost(view: &ViewName, taken: Option<(Holder, i64)>) -> RunOutcome {
    tracing::warn!(%view, by = ?taken.as_ref().map(|(holder, _)| holder.to_string()),
        "another run has taken the view over; this one is dropped");
    match taken {
        Some((holder, until_ms)) => busy(&holder, until_ms),
        None => RunOutcome::Fenced,
    }
}

#[cfg(test)]
mod tests;
