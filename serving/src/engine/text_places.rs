//! The places that a text has before it is planned.
//!
//! Invariant: a text that is not short has a place of its own while it is read and planned.

use tokio::sync::OwnedSemaphorePermit;

/// The places of one text.
pub(super) struct TextPlaces {
    pub(super) is_short: bool,
    /// The place to run: of a text that is heavy before it is planned, or of a query that starts again.
    pub(super) run: Option<OwnedSemaphorePermit>,
    /// Held while the text and its tree are in memory.
    pub(super) long: Option<OwnedSemaphorePermit>,
}

impl TextPlaces {
    /// The places, for work on the text to hold.
    pub(super) fn hand_over(&mut self) -> Self {
        Self { is_short: self.is_short, run: self.run.take(), long: self.long.take() }
    }
}
