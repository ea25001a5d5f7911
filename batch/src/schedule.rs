//! The schedule of runs: runs new views at once, and all views on an interval or when memory is short.
//!
//! Invariant: a view is promoted only after one of its versions is announced, so a name never points to states that
//! readers cannot find.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::api::runs::{RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CompiledView};
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Fault, Frontier, Shared, ViewId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::follow::{announce, follow_published};
use crate::promote::promote;
use crate::run::{BatchConfig, run_view};
use crate::{Error, Result};

/// Shortest time between two rounds of runs, and the pause before failed work is retried.
const SHORTEST_REST: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(5);

/// Connects the schedule to the rest of the process.
#[derive(Debug, Clone)]
pub struct Downstream {
    pub shared: Shared,
    /// The sender of `shared.published`; announces new versions.
    pub published: watch::Sender<Arc<Published>>,
    /// Starts a round of runs at once.
    pub wake: Arc<Notify>,
    /// Receives the report of every run, including failed runs, unless another process computes the view.
    pub runs: mpsc::UnboundedSender<RunReport>,
}

/// Runs views and announces published versions, until cancelled. A cancelled run publishes nothing.
///
/// Errors: a bug, or a fault that another run cannot fix. A view that cannot be computed is no error: its failed run
/// is reported, the view stays at its cut, and the schedule retries.
pub async fn schedule(config: BatchConfig, downstream: Downstream, cancel: CancellationToken) -> Result<()> {
    let Shared { warehouse, catalog, .. } = downstream.shared.clone();
    let following = follow_published(warehouse, catalog, downstream.published.clone(), cancel.clone());
    let rounds = Rounds { config, downstream, promoted: HashSet::new() };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = following => ended,
        ended = rounds.run() => ended,
    }
}

/// Runs one view after the other, because each run may use the whole memory limit.
struct Rounds {
    config: BatchConfig,
    downstream: Downstream,
    /// Views that this schedule promoted, although the catalog at hand may still list them as building.
    promoted: HashSet<ViewId>,
}

impl Rounds {
    async fn run(mut self) -> Result<()> {
        let mut due = Instant::now();
        loop {
            let known = Arc::clone(&self.downstream.shared.catalog.borrow_and_update());
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
            again |= may_succeed_later(&outcome) || matches!(outcome, RunOutcome::Busy { .. });
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
            again |= may_succeed_later(&self.run_one(catalog, view).await?);
        }
        Ok(again)
    }

    /// Runs one view and reports the run. A view that another process computes is skipped without a report.
    async fn run_one(&mut self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<RunOutcome> {
        let started = Instant::now();
        let mode = RunMode::Incremental;
        let run = run_view(&self.downstream.shared.warehouse, catalog, view, mode, &self.config, |_| ()).await;
        let report = match run {
            Ok(report) => report,
            Err(error) if error.fault() == Fault::Bug => return Err(error),
            Err(error) => failed(view, mode, started.elapsed(), &error),
        };
        let outcome = report.outcome.clone();
        match &outcome {
            RunOutcome::Failed { reason, fault } => {
                tracing::warn!(view = %report.view, reason, ?fault, "the view was not computed");
            }
            RunOutcome::Published => {
                tracing::info!(view = %report.view, cut = %report.to, rows = report.rows_read,
                    groups = report.groups, elapsed = ?report.elapsed, "published");
            }
            RunOutcome::Busy { holder, .. } => {
                tracing::debug!(view = %report.view, holder, "the view is computed elsewhere");
                return Ok(outcome);
            }
            RunOutcome::NothingNew | RunOutcome::Fenced => {}
        }
        // The receiver may be gone; runs continue without it.
        let _ = self.downstream.runs.send(report);
        Ok(outcome)
    }
}

/// True if another run may succeed.
fn may_succeed_later(outcome: &RunOutcome) -> bool {
    matches!(outcome, RunOutcome::Failed { fault, .. } if *fault == Fault::Transient)
}

fn failed(view: &CompiledView, mode: RunMode, elapsed: Duration, error: &Error) -> RunReport {
    RunReport {
        view: view.definition.name.clone(),
        id: view.plan.id().clone(),
        mode,
        from: Frontier::new(),
        to: Frontier::new(),
        rows_read: 0,
        groups: 0,
        files: 0,
        bytes: 0,
        elapsed,
        outcome: RunOutcome::Failed { reason: error.to_string(), fault: error.fault() },
    }
}

#[cfg(test)]
mod tests;
