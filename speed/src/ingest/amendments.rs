//! The ingest loop's part in amendments: their segments are computed beside the loop, from the archive's files, and
//! added in one step.
//!
//! Invariant: amendments are taken while no rebuild runs, and no rebuild begins while they are. So every view that is
//! held when they are added has their segments.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::algebra::Culprit;
use thalweg_schemas::{Fault, Partition};

use super::Ingest;
use super::amended::{AmendedView, AmendedViews, Amending};
use super::event::JobDone;
use crate::state::rebuild::rebuild;
use crate::{Error, Result};

/// The pause after the files of the archive could not be read.
const AGAIN: Duration = Duration::from_secs(1);

impl Ingest<'_> {
    /// Starts to take the amendments that are due. None are taken while memory is short.
    pub(super) fn take_amendments(&mut self, now: Duration) -> Result<()> {
        let busy = match self.work.amending {
            Amending::Idle => false,
            Amending::Running => true,
            Amending::Paused(until) => now < until,
        };
        if busy || self.state.paused_since().is_some() {
            return Ok(());
        }
        if let Some(assigned) = self.state.new_amendments() {
            self.state.assign(&assigned);
            self.reconcile();
        }
        let Some(due) = self.state.due_amendments() else {
            return Ok(());
        };
        let jobs: Vec<_> = self.state.views().map(|view| self.state.amend_view(Arc::clone(view), &due)).collect();
        if jobs.is_empty() {
            return self.add_amendments(AmendedViews { due, views: Vec::new() });
        }
        self.work.amending = Amending::Running;
        let session = self.work.rebuild_session();
        self.work.spawn(async move {
            let mut views = Vec::with_capacity(jobs.len());
            for job in jobs {
                let view = Arc::clone(&job.view);
                let rebuilt = rebuild(Arc::clone(&session), job).await;
                views.push(AmendedView { view, segments: rebuilt.map(|rebuilt| rebuilt.segments) });
            }
            Ok(JobDone::Amended(AmendedViews { due, views }))
        });
        Ok(())
    }

    /// Adds the segments of amendments, unless a view lacks them for a reason that may pass.
    ///
    /// Errors: a broken invariant.
    pub(super) fn add_amendments(&mut self, amended: AmendedViews) -> Result<()> {
        let now = self.now();
        let AmendedViews { due, views } = amended;
        self.work.amending = Amending::Idle;
        // The partition may have gone to another process meanwhile.
        let stand = self.state.frontier().of_amendments();
        if due.from.iter().any(|(partition, at)| stand.named(partition) != Some(at)) {
            return Ok(());
        }
        if self.state.holds_others(|id| views.iter().any(|amended| amended.view.plan.id() == id)) {
            return Ok(());
        }
        let mut added = Vec::with_capacity(views.len());
        let mut failed = Vec::new();
        for AmendedView { view, segments } in views {
            match segments {
                Ok(segments) => added.push((view.plan.id().clone(), segments)),
                Err(culprit) => match culprit.error.fault() {
                    Fault::Bug => return Err(Error::Shared(culprit.error)),
                    Fault::Transient => {
                        tracing::warn!(stream = %self.state.name(), error = %culprit.error, "amendments wait");
                        self.work.amending = Amending::Paused(now + AGAIN);
                        return Ok(());
                    }
                    Fault::User | Fault::Engine => failed.push((view, culprit)),
                },
            }
        }
        tracing::info!(stream = %self.state.name(), from = %due.from, to = %due.to, "amendments taken");
        self.state.amend(&due.to, added)?;
        for (view, Culprit { from, to, error, .. }) in failed {
            self.fail_update(now, view, (from, to), Error::Shared(error));
        }
        // A published cut may have waited for these amendments.
        self.reconcile();
        Ok(())
    }

    /// `partitions`, and the amendments that go with partition 0.
    pub(super) fn with_amendments(&self, mut partitions: BTreeSet<Partition>) -> BTreeSet<Partition> {
        if partitions.contains(&Partition(0)) {
            partitions.extend(self.state.frontier().of_amendments().partitions());
        }
        partitions
    }
}
