//! The ingest loop's side towards the archive: when an epoch ends, what its outcome means, the last one at the end.
//!
//! Invariant: one epoch is in flight at most, and its rows stay in memory until its version is shown with them.

use std::time::Duration;

use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome, EpochRequest};

use super::Ingest;
use crate::session::Ended;
use crate::{Error, Result};

/// How long the archive may take for what is left at shutdown.
const LAST_EPOCH: Duration = Duration::from_secs(60);

impl Ingest<'_> {
    /// Ends the epoch if it is large or old enough, or if a mark is missing for too long.
    pub(super) async fn cut_if_due(&mut self, now: Duration) -> Result<()> {
        if self.work.is_archiving() {
            return Ok(());
        }
        let mark = self.work.last_mark.is_none_or(|last| last + self.config.mark_interval <= now);
        let due = match self.state.open_epoch() {
            // Half of what may be held: else reading would pause before the archive is given anything.
            Some((bytes, since)) => {
                bytes >= self.config.epoch_bytes.min(self.shares.limit / 2) || since + self.config.epoch_interval <= now
            }
            // Nothing to archive, but a mark lets the batch layer go as far as the archive does.
            None => mark && self.work.last_mark.is_some() && self.state.lacks_mark(),
        };
        if due {
            self.cut_epoch(now, mark).await?;
        }
        Ok(())
    }

    /// Hands the open epoch to the archive, if there is anything to hand over.
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

    /// What the outcome of the epoch in flight means.
    pub(super) fn settle(&mut self, outcome: EpochOutcome) -> Option<Ended> {
        let in_flight = self.work.end_epoch()?;
        let version = match outcome {
            EpochOutcome::Landed(version) => version,
            EpochOutcome::Fenced(version) => return Some(Ended::Fenced(version)),
        };
        let to = &in_flight.to;
        let there = version.frontier.or(self.state.origin());
        if !there.within(to.partitions()).stands_at(to) {
            // It landed, and someone else went on from there.
            return Some(Ended::Fenced(version));
        }
        let now = self.now();
        self.state.land(now, to, version);
        let ended = self.follow_master();
        // A cut may have waited for this version.
        self.reconcile();
        ended
    }

    /// Archives what is held, its end a mark, so that the next process starts from little.
    pub(super) async fn shut_down(&mut self) -> Result<Ended> {
        self.work.abort_jobs();
        match tokio::time::timeout(LAST_EPOCH, self.archive_rest()).await {
            Ok(archived) => archived?,
            Err(_) => return Err(Error::LastEpoch { stream: self.state.name().clone() }),
        }
        self.show();
        Ok(Ended::ShutDown)
    }

    /// Cuts epochs until everything is archived, or someone else has archived in our place.
    async fn archive_rest(&mut self) -> Result<()> {
        loop {
            if !self.work.is_archiving() {
                self.cut_epoch(self.now(), true).await?;
            }
            if !self.work.is_archiving() {
                return Ok(());
            }
            match self.work.outcome().await? {
                // What was held is someone else's: there is nothing left to do for it.
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
