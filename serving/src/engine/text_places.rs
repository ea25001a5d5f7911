//! The places that a text has before it is planned.
//!
//! Invariant: a text that is not short has a place of its own while it is read and planned.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one text.
pub(super) struct TextPlaces {
    pub(super) is_short: bool,
    /// The place to run: of a text that is heavy before it is planned, or of a query that starts again.
    pub(super) run: Option<OwnedSemaphorePermit>,
    /// Held while the text and its tree are in memory.
    pub(super) long: Option<OwnedSemaphorePermit>,
    /// Held in the stead of `run` while the request waits for the answer to an equal one.
    pub(super) wait: Option<OwnedSemaphorePermit>,
}

impl TextPlaces {
    /// Gives back the place to run, for a request that waits for the answer to an equal one. False if the text takes so
    /// much memory that the request must not wait: few long texts are in memory at a time, and only so many others as
    /// `waiting` has places.
    pub(super) fn release(&mut self, waiting: &Arc<Semaphore>) -> bool {
        if self.long.is_some() {
            return false;
        }
        if !self.is_short {
            match Arc::clone(waiting).try_acquire_owned() {
                Ok(place) => self.wait = Some(place),
                Err(_) => return false,
            }
        }
        self.run = None;
        true
    }

    /// The places, for work on the text to hold.
    pub(super) fn hand_over(&mut self) -> Self {
        Self { is_short: self.is_short, run: self.run.take(), long: self.long.take(), wait: self.wait.take() }
    }
}
