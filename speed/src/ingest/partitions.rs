//! The ingest loop's part in partitions: partitions that are assigned, that are revoked, and that the topic gains.
//!
//! Invariant: the loop drops a revoked partition only after all rows read from it are archived under a mark, or when
//! the loop itself ends. Until then the partition is served like any other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::{Frontier, Offset, Partition};

use super::Ingest;
use crate::Result;
use crate::group::change::{Assigned, AssignmentChange, Revoked};
use crate::kafka::channel::Drained;
use crate::state::select::rows_of;

impl Ingest<'_> {
    pub(super) fn change(&mut self, change: AssignmentChange) -> Result<()> {
        match change {
            AssignmentChange::Assign(assigned) => self.assign(&assigned),
            AssignmentChange::Revoke(revoked) => self.stop_reading(revoked),
        }
    }

    /// Starts to read and to show the assigned partitions; held views are rebuilt for these partitions only.
    fn assign(&mut self, assigned: &Assigned) -> Result<()> {
        if assigned.at.is_empty() {
            return Ok(());
        }
        tracing::info!(
            stream = %self.state.name(),
            partitions = %assigned.at,
            "partitions gained"
        );
        self.schemas.forget(&assigned.at.partitions().collect());
        self.state.assign(assigned);
        self.connections.assign(&assigned.at.of_topic())?;
        if self.state.paused_since().is_some() {
            self.connections.pause()?;
        }
        self.reconcile();
        Ok(())
    }

    /// Stops reading at once. [`Ingest::drop_revoked`] does the rest.
    fn stop_reading(&mut self, revoked: Revoked) -> Result<()> {
        let held = self.state.frontier();
        let mut revoking = self.with_amendments(revoked.partitions);
        revoking.retain(|p| held.named(*p).is_some());
        if revoking.is_empty() {
            return Ok(());
        }
        // Waiting partitions are not read already.
        let waiting = self.schemas.forget(&revoking);
        let read = revoking.iter().filter(|p| !p.is_amended() && !waiting.contains(p));
        self.connections.unassign(read.copied().collect())?;
        self.work.revoking.push(Revoked { partitions: revoking, done: revoked.done });
        Ok(())
    }

    /// Drops the revoked partitions, once all rows read from them are archived.
    pub(super) async fn drop_revoked(&mut self, now: Duration) -> Result<()> {
        if self.work.revoking.is_empty() || self.work.is_archiving() {
            return Ok(());
        }
        let all = self.work.revoking.iter().flat_map(|revoked| &revoked.partitions);
        let revoked: BTreeSet<Partition> = all.copied().collect();
        if !self.state.is_safe(&revoked) {
            self.cut_epoch(now, true).await?;
            if self.work.is_archiving() {
                return Ok(());
            }
        }
        tracing::info!(
            stream = %self.state.name(),
            partitions = ?revoked.iter().map(|p| p.0).collect::<Vec<_>>(),
            "partitions archived and dropped"
        );
        self.state.revoke(&revoked)?;
        self.connections.forget(&revoked);
        // Readers must not find the partitions here after the group has been told.
        self.show();
        self.work.revoking.clear();
        Ok(())
    }

    /// The partitions whose messages in `drained` count: this process reads the partition, which waits for no schema,
    /// and the messages were drained after its latest assignment.
    pub(super) fn counted(&self, drained: &Drained) -> BTreeSet<Partition> {
        let here = self.state.frontier().partitions().filter(|p| !p.is_amended());
        here.filter(|p| self.connections.is_current(*p, drained) && !self.schemas.holds(*p)).collect()
    }

    /// Starts reading partitions that the topic has gained. They start at 0, and the catalog records that before
    /// anything is read.
    pub(super) async fn grow(&mut self, count: i32) -> Result<()> {
        let known = self.state.frontier();
        let found: Frontier = (0..count)
            .map(Partition)
            .filter(|p| known.named(*p).is_none() && self.config.assignment.takes_found(*p))
            .map(|p| (p, Offset(0)))
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        self.connections.record_origin(&found).await?;
        tracing::info!(stream = %self.state.name(), partitions = %found, "the topic has grown");
        self.assign(&Assigned {
            at: found.clone(),
            origin: found,
            master: Arc::clone(self.state.master()),
            high: Frontier::new(),
        })
    }
}

/// The rows of the partitions in `counted`. Returns `rows` itself if `all` names no other partition.
pub(super) fn rows_that_count(rows: RecordBatch, counted: &BTreeSet<Partition>, all: &Frontier) -> Result<RecordBatch> {
    if all.partitions().all(|p| counted.contains(&p)) {
        return Ok(rows);
    }
    rows_of(&rows, |p| counted.contains(&p))
}
