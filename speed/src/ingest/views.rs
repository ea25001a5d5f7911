//! The ingest loop's part in views: which views are held, and their updates, merges and rebuilds.
//!
//! Invariant: a view is shown only while its segments reach from its cut to the frontier. Until then the view is
//! rebuilt beside the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::future::join_all;
use thalweg_schemas::algebra::Culprit;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::realtime::segment::{Provenance, Segment};
use thalweg_schemas::{Fault, Frontier, Partition, ViewId};

use super::Ingest;
use super::amended::Amending;
use super::event::JobDone;
use crate::state::rebuild::{REBUILDING, Rebuilt, Stretch, update_memory};
use crate::state::update::{empty, update_batch};
use crate::state::views::Step;
use crate::{Error, Result};

/// The most rows between the end of a rebuild and the frontier that the loop processes itself. More rows are
/// processed beside the loop.
const INLINE_ROWS: usize = 200_000;

/// The result of updating every held view.
#[derive(Default)]
pub(super) struct Updated {
    pub(super) segments: Vec<(ViewId, Vec<Segment>)>,
    /// The views that could not be updated.
    pub(super) failed: Vec<(Arc<CompiledView>, Error)>,
}

impl Ingest<'_> {
    /// The segments of every held view from the frontier to `to`; `rows` are the rows that were read in that range.
    ///
    /// Errors: a broken invariant. Any other error is the view's own.
    pub(super) async fn update_views(&self, rows: &RecordBatch, to: &Frontier) -> Result<Updated> {
        let from = self.state.frontier();
        let views = self.state.views();
        let mut updated = Updated::default();
        if rows.num_rows() == 0 {
            for view in views {
                let segments = empty(&view.plan, (from, to), Provenance::Live)?;
                updated.segments.push((view.plan.id().clone(), segments));
            }
            return Ok(updated);
        }
        let updates = views.map(|view| {
            let (view, rows) = (Arc::clone(view), rows.clone());
            let (from, to) = (from.clone(), to.clone());
            let session = Arc::clone(self.work.session());
            let updating = tokio::spawn(async move {
                let updating = update_batch(&session, &view.plan, rows, (&from, &to));
                let segments = contain("updating a view", updating).await;
                (view, segments)
            });
            async { updating.await.map_err(|source| self.work.failed(source)) }
        });
        for outcome in join_all(updates).await {
            match outcome? {
                (view, Ok(segments)) => updated.segments.push((view.plan.id().clone(), segments)),
                (_, Err(error)) if error.fault() == Fault::Bug => return Err(error),
                (view, Err(error)) => updated.failed.push((view, error)),
            }
        }
        Ok(updated)
    }

    /// Starts a merge for each view that has neighbouring segments to merge and no running merge.
    pub(super) fn start_merges(&mut self) {
        for job in self.state.begin_merges() {
            self.work.merge(job);
        }
    }

    pub(super) async fn finish(&mut self, done: JobDone) -> Result<()> {
        match done {
            JobDone::Rebuilt(rebuilt) => return self.catch_up(rebuilt).await,
            JobDone::Merged(view, incarnation, merged) => self.state.end_merge(&view, incarnation, merged),
            JobDone::MergeFailed(view, incarnation, failure) => {
                self.fail_merge(self.now(), &view, incarnation, failure);
            }
            JobDone::RebuildFailed(view, id, culprit) => self.fail_rebuild(self.now(), view, id, culprit),
            JobDone::Located(view, recorded, precise) => self.take_located(&view, &recorded, precise),
            JobDone::Schema(id, answer) => return self.take_schema(id, answer),
            JobDone::Amended(amended) => return self.add_amendments(amended),
            JobDone::Aborted => {}
        }
        Ok(())
    }

    /// Makes the held views equal to the views that the catalog names and the batch layer has published.
    pub(super) fn reconcile(&mut self) {
        let catalog = self.connections.newest_catalog();
        let published = self.connections.newest_published();
        let stream = self.state.name().clone();
        let views = catalog.views_of(&stream);
        let wanted: BTreeMap<ViewId, &Arc<CompiledView>> = views.map(|view| (view.plan.id().clone(), view)).collect();
        self.state.retain_views(|id| wanted.contains_key(id));
        for (id, view) in wanted {
            let Some(version) = published.versions.get(&id) else {
                continue;
            };
            let cut = version.cut.or(self.state.origin());
            match self.state.step(self.now(), &id, &cut) {
                Step::Nothing | Step::Wait => {}
                Step::Record => self.state.record_cut(self.now(), &id, cut),
                // The loop comes here again when the amendments are added.
                Step::Rebuild(_) if self.work.amending == Amending::Running => {}
                Step::Rebuild(partitions) => self.start_rebuild(Arc::clone(view), cut, partitions),
            }
        }
    }

    /// Rebuilds `view` in these partitions, from the published `cut`.
    fn start_rebuild(&mut self, view: Arc<CompiledView>, cut: Frontier, partitions: BTreeSet<Partition>) {
        let here = |frontier: &Frontier| frontier.within(partitions.iter().copied());
        tracing::info!(
            view = %view.definition.name,
            from = %here(&cut),
            to = %here(self.state.frontier()),
            "rebuilding"
        );
        let job = self.state.begin_rebuild(view, cut, partitions);
        self.work.rebuild(job);
    }

    /// Processes the rows that were read while a rebuild ran, then adds the rebuilt view to the held views.
    async fn catch_up(&mut self, mut rebuilt: Rebuilt) -> Result<()> {
        let Some(rest) = self.state.resume_rebuild(&rebuilt) else {
            return Ok(());
        };
        let schema = self.state.definition().row_schema();
        let rows: usize = rest.iter().flat_map(|stretch| &stretch.batches).map(RecordBatch::num_rows).sum();
        if rows > INLINE_ROWS {
            self.work.continue_rebuild(schema, rebuilt, rest);
            return Ok(());
        }
        let now = self.now();
        for stretch in rest {
            let updating = update_memory(self.work.session(), &rebuilt.view, &schema, &stretch);
            match contain(REBUILDING, updating).await {
                Ok(added) => rebuilt.segments.extend(added),
                Err(error) if error.fault() == Fault::Bug => return Err(error),
                Err(error) => {
                    let Stretch { from, to, .. } = stretch;
                    let culprit = Culprit { from, to, expression: None, error: error.into_shared() };
                    self.fail_rebuild(now, rebuilt.view, rebuilt.id, culprit);
                    return Ok(());
                }
            }
        }
        tracing::info!(view = %rebuilt.view.definition.name, segments = rebuilt.segments.len(), "rebuilt");
        self.state.join(now, rebuilt)?;
        // The batch layer may have published a newer cut while the rebuild ran.
        self.reconcile();
        Ok(())
    }
}
