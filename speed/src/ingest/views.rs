//! The ingest loop's side towards views: which are held, updating them, merging their segments, rebuilding them.
//!
//! Invariant: a view is shown only while its segments reach from its cut to the frontier; until then it is rebuilt
//! beside the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::future::try_join_all;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::segment::{Provenance, Segment};
use thalweg_schemas::{Frontier, Partition, ViewId};

use super::Ingest;
use crate::state::rebuild::{Rebuild, Rebuilt, continue_rebuild, rebuild, update_memory};
use crate::state::stream_state::{Pending, Step};
use crate::state::update::{empty, merge, update_batch};
use crate::{Error, Result};

/// More rows than this between where a rebuild reached and the frontier are worked off beside the loop.
const INLINE_ROWS: usize = 200_000;

/// What a job beside the loop gives.
pub(super) enum Done {
    Merged(ViewId, Vec<Segment>),
    Rebuilt(Rebuilt),
}

impl Ingest<'_> {
    /// The segments of every held view from the frontier to `to`; `rows` are what was read there.
    pub(super) async fn update_views(&self, rows: &RecordBatch, to: &Frontier) -> Result<Vec<(ViewId, Vec<Segment>)>> {
        let from = self.state.frontier();
        let views = self.state.views.values().map(|held| &held.view);
        if rows.num_rows() == 0 {
            return views
                .map(|view| {
                    let segments = empty(&view.plan, (from, to), Provenance::Live)?;
                    Ok((view.plan.id().clone(), segments))
                })
                .collect();
        }
        let updates = views.map(|view| {
            let (view, rows) = (Arc::clone(view), rows.clone());
            let (from, to) = (from.clone(), to.clone());
            let session = Arc::clone(&self.session);
            let updating = tokio::spawn(async move {
                let segments = update_batch(&session, &view.plan, rows, (&from, &to)).await?;
                Ok::<_, Error>((view.plan.id().clone(), segments))
            });
            async { updating.await.map_err(|source| self.task_failed(source))? }
        });
        try_join_all(updates).await
    }

    /// Starts a merge for each view that has neighbours to merge and no merge running.
    pub(super) fn start_merges(&mut self) {
        let borders = self.state.borders();
        for (id, held) in &mut self.state.views {
            if held.merging {
                continue;
            }
            let runs = held.runs(&borders);
            if runs.is_empty() {
                continue;
            }
            held.merging = true;
            let (id, view) = (id.clone(), Arc::clone(&held.view));
            let session = Arc::clone(&self.session);
            self.jobs.spawn(async move {
                let merged = merge(session, &view.plan, &runs).await?;
                Ok(Done::Merged(id, merged))
            });
        }
    }

    pub(super) async fn finish(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Merged(id, merged) => {
                if let Some(held) = self.state.views.get_mut(&id) {
                    held.merging = false;
                    held.replace(merged);
                    self.state.dirty = true;
                }
                Ok(())
            }
            Done::Rebuilt(rebuilt) => self.catch_up(rebuilt).await,
        }
    }

    /// Holds exactly the views that the catalog names and the batch layer has published.
    pub(super) fn reconcile(&mut self) {
        let catalog = Arc::clone(&self.links.shared.catalog.borrow_and_update());
        let published = Arc::clone(&self.links.shared.published.borrow_and_update());
        let stream = self.state.stream.definition.name.clone();
        let wanted: BTreeMap<ViewId, Arc<CompiledView>> =
            catalog.views_of(&stream).map(|view| (view.plan.id().clone(), Arc::clone(view))).collect();
        let held = self.state.views.len();
        self.state.views.retain(|id, _| wanted.contains_key(id));
        self.state.rebuilds.retain(|id, _| wanted.contains_key(id));
        self.state.dirty |= held != self.state.views.len();
        for (id, view) in wanted {
            let Some(version) = published.versions.get(&id) else {
                continue;
            };
            let cut = version.cut.or(&self.state.origin);
            match self.state.step(&id, &cut) {
                Step::Nothing | Step::Wait => {}
                Step::Note => {
                    let now = self.now();
                    if let Some(held) = self.state.views.get_mut(&id) {
                        held.cuts.record(now, cut);
                    }
                }
                Step::Rebuild(partitions) => self.start_rebuild(view, cut, partitions),
            }
        }
    }

    /// Rebuilds `view` from `cut`, where it is published, in these partitions; what is held of others stays.
    fn start_rebuild(&mut self, view: Arc<CompiledView>, cut: Frontier, partitions: BTreeSet<Partition>) {
        let here = |frontier: &Frontier| frontier.within(partitions.iter().copied());
        let (from, archived) = (here(&cut), here(&self.state.archived));
        tracing::info!(
            view = %view.definition.name,
            %from,
            to = %here(self.state.frontier()),
            "rebuilding"
        );
        self.rebuilds += 1;
        let job = Rebuild {
            id: self.rebuilds,
            schema: self.state.stream.definition.row_schema(),
            master: Arc::clone(&self.state.master),
            marks: self.state.marks_above(&from),
            memory: self.state.stretches(&archived),
            archived,
            cut: from,
            view: Arc::clone(&view),
        };
        let pending = Pending { id: self.rebuilds, cut, partitions, hold: self.state.frontier().clone() };
        let id = view.plan.id().clone();
        self.state.rebuilds.insert(id, pending);
        let session = Arc::clone(&self.rebuild_session);
        self.jobs.spawn(async move { Ok(Done::Rebuilt(rebuild(session, job).await?)) });
    }

    /// Works off what was read while a rebuild ran, then lets its view join the live ones.
    async fn catch_up(&mut self, mut rebuilt: Rebuilt) -> Result<()> {
        let id = rebuilt.view.plan.id().clone();
        let frontier = self.state.frontier().clone();
        let pending = self.state.rebuilds.get_mut(&id);
        let Some(pending) = pending.filter(|pending| pending.id == rebuilt.id) else {
            // The view was dropped meanwhile, perhaps even created again.
            return Ok(());
        };
        pending.hold = frontier;
        // Without the partitions that have gone meanwhile, perhaps even come back.
        let reached = rebuilt.reached.within(pending.partitions.iter().copied());
        let stretches = self.state.stretches(&reached);
        let schema = self.state.stream.definition.row_schema();
        let rows: usize = stretches.iter().flat_map(|stretch| &stretch.batches).map(RecordBatch::num_rows).sum();
        if rows > INLINE_ROWS {
            let session = Arc::clone(&self.rebuild_session);
            self.jobs.spawn(async move {
                let rebuilt = continue_rebuild(session, schema, rebuilt, stretches).await?;
                Ok(Done::Rebuilt(rebuilt))
            });
            return Ok(());
        }
        for stretch in &stretches {
            let added = update_memory(&self.session, &rebuilt.view, &schema, stretch).await?;
            rebuilt.segments.extend(added);
        }
        let now = self.now();
        tracing::info!(view = %rebuilt.view.definition.name, segments = rebuilt.segments.len(), "rebuilt");
        self.state.join(now, rebuilt)?;
        // The batch layer may have published a newer cut while this one was rebuilt.
        self.reconcile();
        Ok(())
    }
}
