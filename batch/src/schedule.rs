//! When views run: new ones at once, all of them on an interval or when memory is short.
//!
//! Invariant: a view is promoted only after a version of it is announced, so a name never points to states that readers
//! cannot find.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::api::runs::{RunMode, RunOutcome, RunReport};
use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_schemas::{Fault, Frontier, ViewId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::follow::{announce, follow_published};
use crate::promote::promote;
use crate::run::{BatchConfig, run_view};
use crate::{Error, Result};

/// The shortest time between two rounds of runs, and the time before what failed is tried again.
const SHORTEST_REST: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(5);

/// Runs views and announces what is published, until cancelled. A run that is cut off publishes nothing.
///
/// `wake` asks for a round of runs now. Every run, failed ones too, is reported to `runs`.
///
/// Errors: what is a bug or cannot be mended by running again. A view that cannot be computed is not one: it is reported,
/// stays at its cut and is tried again.
#[allow(clippy::too_many_arguments)]
pub async fn schedule(
    warehouse: Warehouse,
    catalogs: CatalogStore,
    catalog: watch::Receiver<Arc<Catalog>>,
    published: watch::Sender<Arc<Published>>,
    config: BatchConfig,
    wake: Arc<Notify>,
    runs: mpsc::UnboundedSender<RunReport>,
    cancel: CancellationToken,
) -> Result<()> {
    let rounds =
        Rounds { warehouse: &warehouse, catalogs, published: &published, config, runs, promoted: HashSet::new() };
    let following = follow_published(warehouse.clone(), catalog.clone(), published.clone(), cancel.clone());
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = following => ended,
        ended = rounds.run(catalog, &wake) => ended,
    }
}

/// The runs, one after the other: each may use all the memory that is allowed.
struct Rounds<'a> {
    warehouse: &'a Warehouse,
    catalogs: CatalogStore,
    published: &'a watch::Sender<Arc<Published>>,
    config: BatchConfig,
    runs: mpsc::UnboundedSender<RunReport>,
    /// Views that were promoted here and may still be called building by the catalog at hand.
    promoted: HashSet<ViewId>,
}

impl Rounds<'_> {
    async fn run(mut self, mut catalog: watch::Receiver<Arc<Catalog>>, wake: &Notify) -> Result<()> {
        let mut due = Instant::now();
        loop {
            let known = Arc::clone(&catalog.borrow_and_update());
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
                () = wake.notified() => due = Instant::now(),
                changed = catalog.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(SHORTEST_REST).await;
        }
    }

    /// Runs views that have no version yet, and promotes them; true if one is to be tried again.
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
            // If the process that computes it fails, a view that nobody can ask yet must not wait for the interval.
            again |= may_pass(&outcome) || matches!(outcome, RunOutcome::Busy { .. });
            let tell = |version| announce(self.published, version);
            match promote(self.warehouse, &self.catalogs, catalog, building, tell).await {
                Ok(true) => {
                    self.promoted.insert(id.clone());
                }
                Ok(false) => {}
                Err(error) if error.fault() == Fault::Bug => return Err(error),
                // Dropped or replaced meanwhile, or the warehouse did not answer: the next round sees.
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
            again |= may_pass(&self.run_one(catalog, view).await?);
        }
        Ok(again)
    }

    /// Runs one view and reports it. One that another process computes is left to it, without a word.
    async fn run_one(&mut self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<RunOutcome> {
        let started = Instant::now();
        let mode = RunMode::Incremental;
        let run = run_view(self.warehouse, catalog, view, mode, &self.config, |_| ()).await;
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
        // Whoever counts runs may have gone; the runs go on.
        let _ = self.runs.send(report);
        Ok(outcome)
    }
}

/// True if running again may end better.
fn may_pass(outcome: &RunOutcome) -> bool {
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
