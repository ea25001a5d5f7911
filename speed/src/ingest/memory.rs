//! The ingest loop's part in its memory budget: the memory in use, when reading pauses, and how large micro-batches
//! are.
//!
//! Invariant: every decision here follows from [`crate::budget`]; no other code pauses or resumes reading.

use std::time::Duration;

use super::Ingest;
use crate::Result;
use crate::budget::{Load, relieve, view_to_drop};

impl Ingest<'_> {
    /// Bytes in use now: rows, segments, waiting messages, and the memory of rebuilds and searches.
    pub(super) fn used(&self) -> usize {
        self.state.bytes() + self.connections.waiting_bytes() + self.work.reserved() + self.work.searches.bytes()
    }

    /// Adjusts the size limit of the next micro-batches to the memory that the last one needed.
    pub(super) fn size_batches(&mut self, raw: usize, grown: usize) {
        self.work.batch_limit = self.shares.next_batch(self.work.batch_limit, raw, grown);
        self.connections.limit_batches(self.work.batch_limit);
    }

    pub(super) async fn watch_memory(&mut self, now: Duration) -> Result<()> {
        let mut relief = relieve(self.load(now));
        if relief.end_grace {
            self.state.trim(now, Duration::ZERO);
            relief = relieve(self.load(now));
        }
        while relief.drop_view && self.drop_view(now) {
            relief = relieve(self.load(now));
        }
        if relief.cut_epoch {
            self.cut_epoch(now, true).await?;
        }
        if relief.ask_batch {
            self.work.last_request = Some(now);
            self.connections.request_run();
        }
        if let Some(pause) = relief.pause {
            if pause {
                self.connections.pause()?;
                self.state.pause(now);
            } else {
                self.connections.resume()?;
                self.state.resume();
            }
            tracing::info!(
                stream = %self.state.name(),
                used = self.used(),
                budget = self.config.memory_budget,
                "{}",
                if pause { "memory is short: reading pauses before the budget is passed" } else { "reading resumes" }
            );
        }
        Ok(())
    }

    /// Drops the segments of a view whose cut does not move. Returns false if there is none.
    fn drop_view(&mut self, now: Duration) -> bool {
        let Some(held) = view_to_drop(now, self.state.holdings()) else {
            return false;
        };
        let budget = self.config.memory_budget;
        self.fail_for_memory(now, &held.view, held.bytes, budget);
        true
    }

    fn load(&self, now: Duration) -> Load {
        let jobs = self.shares.charge(self.work.is_rebuilding(), self.work.reserved(), self.work.searches.bytes());
        Load {
            used: self.state.bytes() + self.connections.waiting_bytes() + jobs,
            limit: self.shares.limit,
            paused_for: self.state.paused_since().map(|since| now.saturating_sub(since)),
            unarchived: self.state.open_epoch().is_some(),
            on_its_way: self.work.is_archiving(),
            asked_ago: self.work.last_request.map(|asked| now.saturating_sub(asked)),
        }
    }
}
