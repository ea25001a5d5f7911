//! The ingest loop's part in archiving: when an epoch ends, how the loop reacts to its outcome, and the last epoch at
//! shutdown.
//!
//! Invariant: at most one epoch is in flight, and its rows stay in memory until a snapshot shows them together with
//! its version.

use std::time::Duration;

use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome, EpochRequest};

use super::Ingest;
use crate::session::Ended;
use crate::{Error, Result};

/// How long the archive may take for the remaining rows at shutdown.
const LAST_EPOCH: Duration = Duration::from_secs(60);

impl Ingest<'_> {
    /// Ends the epoch if it is large enough or old enough, or if a mark has been missing for too long.
    pub(super) async fn cut_if_due(&mut self, now: Duration) -> Result<()> {
        if self.work.is_archiving() {
            return Ok(());
        }
        let mark = self.work.last_mark.is_none_or(|last| last + self.config.mark_interval <= now);
        let due = match self.state.open_epoch() {
            // Half of the memory limit: otherwise reading would pause before the archive receives anything.
            Some((bytes, since)) => {
                bytes >= self.config.epoch_bytes.min(self.shares.limit / 2) || since + self.config.epoch_interval <= now
            }
            // There is nothing to archive, but a mark lets the batch layer advance as far as the archive.
            None => mark && self.work.last_mark.is_some() && self.state.lacks_mark(),
        };
        if due {
            self.cut_epoch(now, mark).await?;
        }
        Ok(())
    }

    /// Sends the open epoch to the archive, if the epoch holds rows or a mark is missing.
    pub(super) async fn cut_epoch(&mut self, now: Duration, mark: bool) -> Result<()> {
        let Some(cut) = self.state.cut(mark) else {
            return Ok(());
        };
        if mark {
            self.work.last_mark = Some(now);
        }
        let reply = self.work.begin_epoch(cut.to.clone());
        let request = EpochRequest {
            epoch: Epoch {
                stream: self.state.name().clone(),
                from: cut.from,
                to: cut.to,
                rows: cut.rows,
                mark,
                last: cut.last,
            },
            reply,
        };
        self.connections.archive(request).await
    }

    /// Handles the outcome of the epoch in flight.
    pub(super) fn settle(&mut self, outcome: EpochOutcome) -> Option<Ended> {
        let in_flight = self.work.end_epoch()?;
        let version = match outcome {
            EpochOutcome::Landed(version) => version,
            EpochOutcome::Fenced(version) => return Some(Ended::Fenced(version)),
        };
        let to = &in_flight.to;
        let there = version.frontier.or(self.state.origin());
        if !there.within(to.partitions()).stands_at(to) {
            // The epoch landed, and another process has archived rows after it.
            return Some(Ended::Fenced(version));
        }
        let now = self.now();
        self.state.land(now, to, version);
        let ended = self.follow_master();
        // A published cut may have waited for this version.
        self.reconcile();
        ended
    }

    /// Archives all rows in memory and ends them with a mark, so that the next process has little to rebuild.
    pub(super) async fn shut_down(&mut self) -> Result<Ended> {
        self.work.abort_jobs();
        match tokio::time::timeout(LAST_EPOCH, self.archive_rest()).await {
            Ok(archived) => archived?,
            Err(_) => return Err(Error::LastEpoch { stream: self.state.name().clone() }),
        }
        self.show();
        Ok(Ended::ShutDown)
    }

    /// Cuts epochs until everything is archived, or until another process has archived the same partitions.
    async fn archive_rest(&mut self) -> Result<()> {
        loop {
            if !self.work.is_archiving() {
                self.cut_epoch(self.now(), true).await?;
            }
            if !self.work.is_archiving() {
                return Ok(());
            }
            match self.work.outcome().await? {
                // Another process has archived these partitions, so this process has nothing left to archive.
                EpochOutcome::Fenced(_) => return Ok(()),
                landed => {
                    if self.settle(landed).is_some() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
