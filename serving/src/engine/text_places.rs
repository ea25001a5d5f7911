//! The places that a text has before it is planned.
//!
//! Invariant: a text that is not short has a place of its own while it is read and planned.

use tokio::sync::OwnedSemaphorePermit;

/// The places of one text.
pub(super) struct TextPlaces {
    pub(super) is_short: bool,
    /// Taken by the first plan that runs.
    pub(super) heavy: Option<OwnedSemaphorePermit>,
    /// Held while the text and its tree are in memory.
    pub(super) long: Option<OwnedSemaphorePermit>,
}
