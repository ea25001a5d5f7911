//! The schedule of runs: runs new views at once, and all views on an interval or when memory is short.
//!
//! Invariant: a view is promoted only after one of its versions is announced, so a name never points to states that
//! readers cannot find. Runs and searches together keep to the memory limit of a run.

mod failing;
mod searches;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use thalweg_schemas::api::runs::{RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Fault, Shared, ViewId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::failing::FailingView;
use self::searches::{Located, Searches};
use crate::Result;
use crate::failed_runs::FailedRuns;
use crate::follow::{announce, follow_published};
use crate::promote::promote;
use crate::run::{BatchConfig, Ran, Suspect, run_knowing};

/// Shortest time between two rounds of runs, and the pause before failed work is retried.
const SHORTEST_REST: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(5);
/// How long the report of a failed run waits for the search for its messages. A longer search is reported later.
const SOON: Duration = Duration::from_secs(2);

/// Connects the schedule to the rest of the process.
#[derive(Debug, Clone)]
pub struct Downstream {
    pub shared: Shared,
    /// The sender of `shared.published`; announces new versions.
    pub published: watch::Sender<Arc<Published>>,
    /// Starts a round of runs at once.
    pub wake: Arc<Notify>,
    pub runs: mpsc::UnboundedSender<RunEvent>,
}

/// News of a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// A run has ended or failed, unless another process computes the view.
    Ended(RunReport),
    /// A search has found the messages behind the failure of a run that has been reported.
    Located(RunReport),
}

/// Runs views and announces published versions, until cancelled. A cancelled run publishes nothing.
///
/// Errors: a broken invariant. A view that cannot be computed is no error: its failed run is reported, the view stays
/// at its cut, all other views are computed, and the schedule tries the view again after a pause that grows.
pub async fn schedule(config: BatchConfig, downstream: Downstream, cancel: CancellationToken) -> Result<()> {
    let Shared { warehouse, catalog, .. } = downstream.shared.clone();
    let following = follow_published(warehouse, catalog, downstream.published.clone(), cancel.clone());
    let rounds = async { Rounds::new(config, downstream).await.run().await };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = following => ended,
        ended = rounds => ended,
    }
}

/// Runs one view after the other, because each run may use the whole memory limit.
struct Rounds {
    config: BatchConfig,
    downstream: Downstream,
    /// Views that this schedule promoted, although the catalog at hand may still list them as building.
    promoted: HashSet<ViewId>,
    failed: HashMap<ViewId, FailingView>,
    /// What replicas are told of failures.
    told: FailedRuns,
    searches: Searches,
}

impl Rounds {
    async fn new(config: BatchConfig, downstream: Downstream) -> Self {
        let searches = Searches::new(config.memory);
        let told = FailedRuns::open(&downstream.shared.warehouse).await;
        Self { config, downstream, promoted: HashSet::new(), failed: HashMap::new(), told, searches }
    }

    async fn run(mut self) -> Result<()> {
        let mut due = Instant::now();
        loop {
            let known = Arc::clone(&self.downstream.shared.catalog.borrow_and_update());
            let exists = |id: &ViewId| known.compiled().any(|view| view.plan.id() == id);
            self.failed.retain(|id, _| exists(id));
            self.searches.retain(exists);
            // The ids of definitions that this process does not understand, or of another engine, are not known here.
            if known.views.values().all(|view| view.kept.is_none()) {
                self.told.keep(exists).await;
            }
            let mut again = self.run_building(&known).await?;
            if Instant::now() >= due {
                again |= self.run_serving(&known).await?;
                due = Instant::now() + self.config.interval;
            }
            let rest = if again { due.min(Instant::now() + RETRY) } else { due };
            tokio::select! {
                () = tokio::time::sleep_until(rest) => {
                    if again {
                        due = due.min(Instant::now());
                    }
                }
                () = self.downstream.wake.notified() => due = Instant::now(),
                located = self.searches.next() => self.take_located(located).await,
                changed = self.downstream.shared.catalog.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(SHORTEST_REST).await;
        }
    }

    /// Runs views that have no version yet and promotes them. Returns true if one of them must be retried.
    async fn run_building(&mut self, catalog: &Catalog) -> Result<bool> {
        let mut again = false;
        for (name, view) in &catalog.views {
            let Some(building) = &view.building else {
                continue;
            };
            let id = building.plan.id();
            if self.promoted.contains(id) {
                continue;
            }
            let outcome = self.run_one(catalog, building).await?;
            // Nobody can query this view yet. If the other process fails, the view must not wait for the interval.
            again |= self.may_succeed_soon(id) || matches!(outcome, Some(RunOutcome::Busy { .. }));
            let Downstream { shared, published, .. } = &self.downstream;
            let announce_version = |version| announce(published, version);
            match promote(&shared.warehouse, &shared.catalogs, catalog, building, announce_version).await {
                Ok(true) => {
                    self.promoted.insert(id.clone());
                }
                Ok(false) => {}
                Err(error) if error.fault() == Fault::Bug => return Err(error),
                // The view was dropped or replaced, or the warehouse did not answer. The next round finds out.
                Err(error) => {
                    tracing::warn!(view = %name, %error, "not promoted yet");
                    again = true;
                }
            }
        }
        Ok(again)
    }

    async fn run_serving(&mut self, catalog: &Catalog) -> Result<bool> {
        let mut again = false;
        for view in catalog.views.values().filter_map(|v| v.serving.as_ref()) {
            self.run_one(catalog, view).await?;
            again |= self.may_succeed_soon(view.plan.id());
        }
        Ok(again)
    }

    /// Runs one view and reports the run. A view that another process computes is skipped without a report. Returns
    /// `None` for a view that failed and is not due again.
    async fn run_one(&mut self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<Option<RunOutcome>> {
        while let Some(located) = self.searches.next().now_or_never() {
            self.take_located(located).await;
        }
        let id = view.plan.id();
        let version = self.downstream.shared.published.borrow().versions.get(id).map(|version| version.version);
        let failing = self.failed.get(id);
        if failing.is_some_and(|failing| !failing.is_due(Instant::now(), version)) {
            return Ok(None);
        }
        let (known, mode) = (failing.and_then(FailingView::known), RunMode::Incremental);
        let config = BatchConfig { memory: self.searches.left_of(self.config.memory), ..self.config.clone() };
        let warehouse = &self.downstream.shared.warehouse;
        let ran = run_knowing(warehouse, catalog, view, mode, &config, known.as_ref(), |_| ()).await?;
        let Ran { mut report, suspect } = ran;
        if matches!(report.outcome, RunOutcome::Published | RunOutcome::NothingNew | RunOutcome::Fenced) {
            self.failed.remove(id);
        }
        match report.outcome.clone() {
            RunOutcome::Failed(failure) => {
                let (before, now) = (self.failed.remove(id), Instant::now());
                let failing = FailingView::after(before, &report, &failure, version, self.config.interval, now);
                let pause = failing.pause(now);
                self.failed.insert(id.clone(), failing);
                let failure = match suspect {
                    Some(suspect) => self.search(&mut report, failure, suspect).await,
                    None => failure,
                };
                let (name, said, advice) = (&report.view, failure.sentence(), failure.advice());
                tracing::warn!(again_in = ?pause, "view `{name}`: {said}. {advice}");
            }
            RunOutcome::Published => {
                tracing::info!(view = %report.view, cut = %report.to, rows = report.rows_read,
                    groups = report.groups, elapsed = ?report.elapsed, "published");
            }
            RunOutcome::Busy { holder, .. } => {
                tracing::debug!(view = %report.view, holder, "the view is computed elsewhere");
                return Ok(Some(report.outcome));
            }
            RunOutcome::NothingNew | RunOutcome::Fenced => {}
        }
        let outcome = report.outcome.clone();
        self.told.record(&report).await;
        self.tell(RunEvent::Ended(report));
        Ok(Some(outcome))
    }

    fn tell(&self, event: RunEvent) {
        // The receiver may be gone; runs continue without it.
        let _ = self.downstream.runs.send(event);
    }

    /// Starts the search for the messages behind the failure of a run. Returns what is known of the failure by the
    /// time of the report, into which it is written.
    async fn search(&mut self, report: &mut RunReport, vague: ViewFailure, suspect: Suspect) -> ViewFailure {
        self.searches.add(report, &vague, suspect);
        let soon = Instant::now() + SOON;
        while let Ok(located) = tokio::time::timeout_at(soon, self.searches.next()).await {
            // The search of an earlier run may end while this run's waits.
            if located.report.id != report.id || located.vague != vague {
                self.take_located(located).await;
                continue;
            }
            if let Some(failing) = self.failed.get_mut(&report.id) {
                failing.refine(&vague, &located.precise);
            }
            *report = located.report;
            return located.precise;
        }
        vague
    }

    /// Reports the failure of an earlier run again, with the messages that a search has found.
    async fn take_located(&mut self, located: Located) {
        let Located { vague, precise, report } = located;
        let failing = self.failed.get_mut(&report.id);
        if failing.is_some_and(|failing| failing.refine(&vague, &precise)) && precise != vague {
            tracing::warn!("view `{}`: {}. {}", report.view, precise.sentence(), precise.advice());
            self.told.record(&report).await;
            self.tell(RunEvent::Located(report));
        }
    }

    /// True if the view's newest run failed for a reason that may pass.
    fn may_succeed_soon(&self, view: &ViewId) -> bool {
        self.failed.get(view).is_some_and(FailingView::may_succeed_soon)
    }
}

#[cfg(test)]
mod tests;
