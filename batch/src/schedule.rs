//! When views run: new ones at once, all of them on an interval or when memory is short; and what is published is
//! followed, whoever published it.
//!
//! Invariant: a view is promoted only after a version of it is announced, so a name never points to states that readers
//! cannot find.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::catalog::{Catalog, CatalogStore, CompiledView};
use thalweg_schemas::dataset::{BatchVersion, Published};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Fault, Frontier, ViewId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::choose::Mode;
use crate::run::{BatchConfig, Outcome, RunReport, run_view};
use crate::view_table::ViewTable;
use crate::{Error, Result};

/// How often the state tables are looked at.
const POLL: Duration = Duration::from_secs(1);
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
    let rounds = Rounds {
        warehouse: &warehouse,
        catalogs,
        published: &published,
        config,
        runs,
        promoted: HashSet::new(),
    };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = follow(&warehouse, catalog.clone(), &published) => ended,
        ended = rounds.run(catalog, &wake) => ended,
    }
}

/// Announces versions as they appear in the state tables.
async fn follow(
    warehouse: &Warehouse,
    catalog: watch::Receiver<Arc<Catalog>>,
    published: &watch::Sender<Arc<Published>>,
) -> Result<()> {
    let mut tables: HashMap<ViewId, ViewTable> = HashMap::new();
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let views: HashMap<ViewId, Arc<CompiledView>> = catalog
            .borrow()
            .compiled()
            .map(|view| (view.plan.id().clone(), Arc::clone(view)))
            .collect();
        tables.retain(|id, _| views.contains_key(id));
        forget_others(published, &views);
        for (id, view) in &views {
            match latest(warehouse, &mut tables, id, view).await {
                Ok(Some(version)) => announce(published, version),
                Ok(None) => {}
                Err(error) if error.fault() == Fault::Transient => {
                    tracing::warn!(view = %view.definition.name, %error, "published versions are not seen");
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn latest(
    warehouse: &Warehouse,
    tables: &mut HashMap<ViewId, ViewTable>,
    id: &ViewId,
    view: &CompiledView,
) -> Result<Option<Arc<BatchVersion>>> {
    if !tables.contains_key(id) {
        let table = ViewTable::open(warehouse, id, view.plan.stored_schema()).await?;
        tables.insert(id.clone(), table);
    }
    match tables.get_mut(id) {
        Some(table) => table.latest().await,
        None => Ok(None),
    }
}

fn announce(published: &watch::Sender<Arc<Published>>, version: Arc<BatchVersion>) {
    published.send_if_modified(|published| {
        let known = published.versions.get(&version.view);
        if known.is_some_and(|known| known.version >= version.version) {
            return false;
        }
        Arc::make_mut(published)
            .versions
            .insert(version.view.clone(), version);
        true
    });
}

fn forget_others(
    published: &watch::Sender<Arc<Published>>,
    views: &HashMap<ViewId, Arc<CompiledView>>,
) {
    published.send_if_modified(|published| {
        if published.versions.keys().all(|id| views.contains_key(id)) {
            return false;
        }
        let versions = &mut Arc::make_mut(published).versions;
        versions.retain(|id, _| views.contains_key(id));
        true
    });
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
    async fn run(
        mut self,
        mut catalog: watch::Receiver<Arc<Catalog>>,
        wake: &Notify,
    ) -> Result<()> {
        let mut due = Instant::now();
        loop {
            let known = Arc::clone(&catalog.borrow_and_update());
            let mut again = self.run_building(&known).await?;
            if Instant::now() >= due {
                again |= self.run_serving(&known).await?;
                due = Instant::now() + self.config.interval;
            }
            let rest = if again {
                due.min(Instant::now() + RETRY)
            } else {
                due
            };
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
            again |= self.run_one(catalog, building).await?;
            let schema = building.plan.stored_schema();
            let mut table = ViewTable::open(self.warehouse, id, schema).await?;
            if let Some(version) = table.latest().await? {
                announce(self.published, version);
                match self.catalogs.promote(name, id).await {
                    Ok(_) => {
                        self.promoted.insert(id.clone());
                    }
                    Err(error) if error.fault() == Fault::Bug => return Err(error.into()),
                    // Dropped or replaced meanwhile, or the catalog could not be written: the next round sees.
                    Err(error) => {
                        tracing::warn!(view = %name, %error, "not promoted yet");
                        again = true;
                    }
                }
            }
        }
        Ok(again)
    }

    async fn run_serving(&mut self, catalog: &Catalog) -> Result<bool> {
        let mut again = false;
        for view in catalog.views.values().filter_map(|v| v.serving.as_ref()) {
            again |= self.run_one(catalog, view).await?;
        }
        Ok(again)
    }

    /// Runs one view and reports it; true if it failed in a way that may pass.
    async fn run_one(&mut self, catalog: &Catalog, view: &Arc<CompiledView>) -> Result<bool> {
        let started = Instant::now();
        let mode = Mode::Incremental;
        let run = run_view(self.warehouse, catalog, view, mode, &self.config, |_| ()).await;
        let report = match run {
            Ok(report) => report,
            Err(error) if error.fault() == Fault::Bug => return Err(error),
            Err(error) => failed(view, mode, started.elapsed(), &error),
        };
        let again = match &report.outcome {
            Outcome::Failed { reason, fault } => {
                tracing::warn!(view = %report.view, reason, ?fault, "the view was not computed");
                *fault == Fault::Transient
            }
            Outcome::Published => {
                tracing::info!(view = %report.view, cut = %report.to, rows = report.rows_read,
                    groups = report.groups, elapsed = ?report.elapsed, "published");
                false
            }
            Outcome::NothingNew | Outcome::Fenced => false,
        };
        // Whoever counts runs may have gone; the runs go on.
        let _ = self.runs.send(report);
        Ok(again)
    }
}

fn failed(view: &CompiledView, mode: Mode, elapsed: Duration, error: &Error) -> RunReport {
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
        outcome: Outcome::Failed {
            reason: error.to_string(),
            fault: error.fault(),
        },
    }
}

#[cfg(test)]
mod tests;
