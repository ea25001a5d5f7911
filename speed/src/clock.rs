//! Time as the ingest loop sees it, so that tests decide when an epoch is due or a grace time is over.
//!
//! Invariant: it never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time since some moment in the past.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's, counted from when the clock was made.
    System(Instant),
    /// Milliseconds that only [`Clock::advance`] moves.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn system() -> Self {
        Clock::System(Instant::now())
    }

    pub fn manual() -> Self {
        Clock::Manual(Arc::default())
    }

    pub fn now(&self) -> Duration {
        match self {
            Clock::System(start) => start.elapsed(),
            Clock::Manual(millis) => Duration::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock and all its clones; the system's clock moves itself.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(millis) = self {
            millis.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }
}
