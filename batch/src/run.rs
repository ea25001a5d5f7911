//! One run of one view: pins a version of the master dataset, computes states up to its mark and publishes them.
//!
//! Invariant: the states published at a cut B depend only on the rows below B. A run selects rows by `_partition` and
//! `_offset` in one pinned version, never by the age of files.

mod pinned_rows;

mod counted;

mod compute;
mod search;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_schemas::api::runs::{RunList, RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CatalogStream, CompiledView};
use thalweg_schemas::clock::WallClock;
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::{BatchVersion, MasterVersion};
use thalweg_schemas::{Fault, Frontier, Shared, ViewName};
use uuid::Uuid;

pub(crate) use self::compute::bounded;
use self::compute::{RangeReading, compute, states};
use self::counted::RangeCount;
pub(crate) use self::pinned_rows::rows;
use self::search::of_view;
pub(crate) use self::search::{KnownFailure, Suspect};
use crate::Result;
use crate::archive::Archive;
use crate::decide::{PublishedView, RunKind, decide};
use crate::failed_runs::FailedRuns;
use crate::lease::{self, Holder, Lease, Renewal, Taken};
use crate::view_table::{Publication, PublishOutcome, ViewTable};

/// The work, for errors.
const COMPUTING: &str = "computing states";
/// How long a client waits for the messages behind the failures of the runs that it has asked for.
const SEARCH: Duration = Duration::from_secs(30);

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
    /// Rows and rejects of the range that were read from the master dataset.
    pub rows_read: u64,
    /// Rows in the files to be read, if the log has the numbers. Files that cross the start or end of the range hold
    /// more rows than the run reads.
    pub rows_expected: Option<u64>,
    /// States written.
    pub states_written: u64,
}

/// Computes one view, or all views one after the other; a view that fails does not keep the others from their runs.
/// `record` receives the report of each run. All searches for messages together take at most half a minute.
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
    let mut left = SEARCH;
    let mut runs = Vec::new();
    for view in catalog.compiled_of(name)? {
        let report = run_and_search(&shared.warehouse, &catalog, &view, mode, config, &mut left, |_| ()).await?;
        failed.record(&report).await;
        record(&report);
        runs.push(report);
    }
    Ok(RunList { runs })
}

/// Computes `view` up to the newest mark and publishes the result, unless another run of the view is active.
/// `progress` is called about twice a second. A failure of storage, planning or computing is the outcome of the
/// report, with the messages that cannot be computed, unless the search for them takes more than half a minute.
/// Nothing is published then, unless the commit itself failed: its outcome is unknown.
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
    let mut left = SEARCH;
    let report = run_and_search(warehouse, catalog, view, mode, config, &mut left, progress).await?;
    FailedRuns::open(warehouse).await.record(&report).await;
    Ok(report)
}

/// [`run_view`], with a search that takes at most `left`, from which its time is taken.
async fn run_and_search(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    mode: RunMode,
    config: &BatchConfig,
    left: &mut Duration,
    progress: impl FnMut(Progress),
) -> Result<RunReport> {
    let Ran { mut report, suspect } = run_knowing(warehouse, catalog, view, mode, config, None, progress).await?;
    if let Some(suspect) = suspect {
        let started = Instant::now();
        report.outcome = RunOutcome::Failed(suspect.search(*left).await);
        *left = left.saturating_sub(started.elapsed());
    }
    Ok(report)
}

/// The report of a run, and what is to be searched for the messages behind its failure, if messages may be the cause.
pub(crate) struct Ran {
    pub(crate) report: RunReport,
    pub(crate) suspect: Option<Suspect>,
}

/// [`run_view`] without a search. If a run with the same start failed before, the messages behind its failure are
/// computed first, alone; if they fail again, nothing else is computed.
///
/// Errors: a broken invariant.
pub(crate) async fn run_knowing(
    warehouse: &Warehouse,
    catalog: &Catalog,
    view: &Arc<CompiledView>,
    mode: RunMode,
    config: &BatchConfig,
    known: Option<&KnownFailure>,
    progress: impl FnMut(Progress),
) -> Result<Ran> {
    let started = Instant::now();
    match contain(COMPUTING, attempt(warehouse, catalog, view, mode, config, known, progress)).await {
        Err(error) if error.fault() != Fault::Bug => {
            let nowhere = Frontier::new();
            let cause = (error.fault(), error.reason());
            let failure = ViewFailure::told(FailedStep::Run, cause, (&nowhere, &nowhere), config.clock.now_ms());
            let report = RunReport {
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
            };
            Ok(Ran { report, suspect: None })
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
    known: Option<&KnownFailure>,
    progress: impl FnMut(Progress),
) -> Result<Ran> {
    let started = Instant::now();
    let mut run = Run::open(warehouse, catalog, view, mode, config).await?;
    let mut report = run.assess().await?.report;
    // Most runs find nothing to do, and such a run needs no lease.
    if report.outcome != RunOutcome::NothingNew {
        report.outcome = match lease::take(warehouse, view.plan.id(), &config.clock).await? {
            Taken::Held { holder, until_ms } => busy(&holder, until_ms),
            Taken::Mine(mut lease) => {
                let outcome = run.under(&mut lease, &mut report, known, progress).await;
                lease.release().await;
                outcome?
            }
        };
    }
    report.elapsed = started.elapsed();
    Ok(Ran { report, suspect: run.suspect })
}

fn busy(holder: &Holder, until_ms: i64) -> RunOutcome {
    RunOutcome::Busy { holder: holder.to_string(), until_ms }
}

/// The inputs of one run.
struct Run<'a> {
    warehouse: &'a Warehouse,
    stream: &'a Arc<CatalogStream>,
    view: &'a Arc<CompiledView>,
    mode: RunMode,
    config: &'a BatchConfig,
    archive: Archive,
    table: ViewTable,
    /// Set if the computation has failed for a reason that stays.
    suspect: Option<Suspect>,
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
        view: &'a Arc<CompiledView>,
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
            suspect: None,
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
        known: Option<&KnownFailure>,
        progress: impl FnMut(Progress),
    ) -> Result<RunOutcome> {
        let assessed = self.assess().await?;
        *report = assessed.report;
        let (work, base) = (assessed.work, assessed.base.as_deref());
        if work == RunKind::Nothing {
            return Ok(RunOutcome::NothingNew);
        }
        if let Some(known) = known.filter(|known| known.is_within(&report.from, &report.to)) {
            let again = known.happens_again(self.warehouse, self.config, self.stream, self.view, &assessed.master);
            match lease.hold(again).await {
                Ok(true) => return Ok(RunOutcome::Failed(known.failure.clone())),
                Ok(false) => {}
                Err(taken) => return Ok(lost(&report.view, taken)),
            }
        }
        let run = Uuid::new_v4();
        let rows = rows(&self.stream.definition, &assessed.master, &report.from, &report.to)?;
        let states = states(&self.view.plan, work, rows.plan, base)?;
        let files = self.table.writer(run);
        let count = RangeCount::new(&report.from, &report.to);
        let reading = RangeReading { count, rows_expected: rows.expected };
        let computing = compute(self.warehouse, self.config, states, files, reading, progress);
        let (files, rows_read) = match lease.hold(computing).await {
            Ok(Ok(computed)) => computed,
            Ok(Err(error)) => {
                let suspect = self.suspect(of_view(error)?, assessed.master, report);
                let failure = suspect.vague();
                self.suspect = (!failure.may_pass()).then_some(suspect);
                return Ok(RunOutcome::Failed(failure));
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

    fn suspect(&self, error: thalweg_schemas::Error, master: Arc<MasterVersion>, report: &RunReport) -> Suspect {
        Suspect {
            warehouse: self.warehouse.clone(),
            config: self.config.clone(),
            stream: Arc::clone(self.stream),
            view: Arc::clone(self.view),
            master,
            from: report.from.clone(),
            to: report.to.clone(),
            error,
            since_ms: self.config.clock.now_ms(),
        }
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
