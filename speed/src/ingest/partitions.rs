//! The ingest loop's side towards partitions: taking them over, letting go of them, and those that the topic adds.
//!
//! Invariant: a partition is dropped only after everything that was read of it is archived under a mark, or with the
//! loop itself; until then it is served like any other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use thalweg_schemas::{Frontier, Offset, Partition};

use super::Ingest;
use crate::Result;
use crate::change::{Change, Gained, Lost};
use crate::select::rows_of;
use crate::source::{Command, Drained};

impl Ingest<'_> {
    pub(super) fn change(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Gain(gained) => self.gain(&gained),
            Change::Lose(lost) => self.leave(lost),
        }
    }

    /// The gained partitions are read and shown from here on; held views are rebuilt for them alone.
    fn gain(&mut self, gained: &Gained) -> Result<()> {
        if gained.at.is_empty() {
            return Ok(());
        }
        tracing::info!(
            stream = %self.current.stream.definition.name,
            partitions = %gained.at,
            "partitions gained"
        );
        self.current.gain(gained);
        self.assign(gained.at.clone())?;
        self.reconcile();
        Ok(())
    }

    fn assign(&mut self, at: Frontier) -> Result<()> {
        self.assignment += 1;
        for partition in at.partitions() {
            self.since.insert(partition, self.assignment);
        }
        self.command(Command::Assign(at))?;
        if self.current.paused {
            self.command(Command::Pause)?;
        }
        Ok(())
    }

    /// Reading stops at once; the rest is [`Ingest::let_go`]'s.
    fn leave(&mut self, lost: Lost) -> Result<()> {
        let held = self.current.frontier();
        let mut leaving = lost.partitions;
        leaving.retain(|p| held.named(*p).is_some());
        if leaving.is_empty() {
            return Ok(());
        }
        self.assignment += 1;
        self.command(Command::Unassign(leaving.clone()))?;
        self.leaving.push(Lost { partitions: leaving, done: lost.done });
        Ok(())
    }

    /// Drops the partitions that leave, once what was read of them is archived.
    pub(super) async fn let_go(&mut self, now: Duration) -> Result<()> {
        if self.leaving.is_empty() || self.in_flight.is_some() {
            return Ok(());
        }
        let all = self.leaving.iter().flat_map(|lost| &lost.partitions);
        let lost: BTreeSet<Partition> = all.copied().collect();
        if !self.current.is_safe(&lost) {
            self.cut_epoch(now, true).await?;
            if self.in_flight.is_some() {
                return Ok(());
            }
        }
        tracing::info!(
            stream = %self.current.stream.definition.name,
            partitions = ?lost.iter().map(|p| p.0).collect::<Vec<_>>(),
            "partitions archived and dropped"
        );
        self.current.lose(&lost)?;
        self.since.retain(|p, _| !lost.contains(p));
        // Readers must not find them here after the group has been told.
        self.show();
        self.leaving.clear();
        Ok(())
    }

    /// The partitions whose part of `drained` counts: read here, and not drained before they came (back).
    pub(super) fn counted(&self, drained: &Drained) -> BTreeSet<Partition> {
        let since = |p: &Partition| self.since.get(p).copied().unwrap_or_default();
        let here = self.current.frontier().partitions();
        here.filter(|p| since(p) <= drained.assignment).collect()
    }

    /// Partitions that the topic did not have before start at 0, in the catalog before anything is read.
    pub(super) async fn grow(&mut self, count: i32) -> Result<()> {
        let known = self.current.frontier();
        let found: Frontier = (0..count)
            .map(Partition)
            .filter(|p| known.named(*p).is_none() && self.config.assignment.takes_found(*p))
            .map(|p| (p, Offset(0)))
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        let name = self.current.stream.definition.name.clone();
        self.links.catalogs.record_origin(&name, &found).await?;
        tracing::info!(stream = %name, partitions = %found, "the topic has grown");
        self.gain(&Gained {
            at: found.clone(),
            origin: found,
            master: Arc::clone(&self.current.master),
            high: Frontier::new(),
        })
    }
}

/// Of `rows`, those of `counted`, if `all` names others too.
pub(super) fn rows_that_count(rows: RecordBatch, counted: &BTreeSet<Partition>, all: &Frontier) -> Result<RecordBatch> {
    if all.partitions().all(|p| counted.contains(&p)) {
        return Ok(rows);
    }
    rows_of(&rows, |p| counted.contains(&p))
}
