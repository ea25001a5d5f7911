//! The ingest loop's side towards its memory budget: what is held, when reading pauses, how large micro-batches are.
//!
//! Invariant: what is decided here follows from [`crate::budget`]; nothing else pauses or resumes reading.

use std::time::Duration;

use super::Ingest;
use crate::Result;
use crate::budget::{Load, relieve};
use crate::kafka::channel::ConsumerCommand;

impl Ingest<'_> {
    /// Bytes that are held now: rows, segments, messages that wait, and what a rebuild uses.
    pub(super) fn used(&self) -> usize {
        let rebuilding = &self.rebuild_session.runtime_env().memory_pool;
        self.state.bytes() + self.source.waiting_bytes() + rebuilding.reserved()
    }

    /// Lets the next micro-batches be as large as the last one's outcome allows.
    pub(super) fn size_batches(&mut self, raw: usize, grown: usize) {
        self.batch_limit = self.shares.next_batch(self.batch_limit, raw, grown);
        self.source.limit_batches(self.batch_limit);
    }

    pub(super) async fn watch_memory(&mut self, now: Duration) -> Result<()> {
        let mut relief = relieve(self.load(now));
        if relief.end_grace {
            self.state.trim(now, Duration::ZERO);
            relief = relieve(self.load(now));
        }
        if relief.cut_epoch {
            self.cut_epoch(now, true).await?;
        }
        if relief.ask_batch {
            self.last_asked = Some(now);
            self.links.pressure.notify_one();
        }
        if let Some(pause) = relief.pause {
            self.command(if pause { ConsumerCommand::Pause } else { ConsumerCommand::Resume })?;
            tracing::info!(
                stream = %self.state.stream.definition.name,
                used = self.used(),
                budget = self.config.memory_budget,
                "{}",
                if pause { "memory is short: reading pauses before the budget is passed" } else { "reading resumes" }
            );
            self.state.paused = pause;
            self.state.dirty = true;
        }
        Ok(())
    }

    fn load(&self, now: Duration) -> Load {
        // A rebuild takes what it needs in a moment: all that it may take is set aside for it.
        let rebuild = match self.state.rebuilds.is_empty() {
            true => 0,
            false => self.shares.rebuild,
        };
        Load {
            used: self.state.bytes() + self.source.waiting_bytes() + rebuild,
            limit: self.shares.limit,
            paused: self.state.paused,
            unarchived: self.state.epochs.open().is_some(),
            on_its_way: self.in_flight.is_some(),
            asked_ago: self.last_asked.map(|asked| now.saturating_sub(asked)),
        }
    }
}
