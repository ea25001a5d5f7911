//! Time as the layers see it, so that tests decide when an epoch is due, a grace time is over or a lease has expired.
//!
//! Invariant: no answer and no commit depends on a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time since some moment in the past; it never goes back.
#[derive(Debug, Clone)]
pub enum MonotonicClock {
    /// The machine's, counted from when the clock was made.
    System(Instant),
    /// Milliseconds that only [`MonotonicClock::advance`] moves.
    Manual(Arc<AtomicU64>),
}

impl MonotonicClock {
    pub fn system() -> Self {
        MonotonicClock::System(Instant::now())
    }

    pub fn manual() -> Self {
        MonotonicClock::Manual(Arc::default())
    }

    pub fn now(&self) -> Duration {
        match self {
            MonotonicClock::System(start) => start.elapsed(),
            MonotonicClock::Manual(millis) => Duration::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock and all its clones; the system's clock moves itself.
    pub fn advance(&self, by: Duration) {
        if let MonotonicClock::Manual(millis) = self {
            millis.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Default)]
pub enum WallClock {
    /// The machine's.
    #[default]
    System,
    /// One that only [`WallClock::advance`] moves.
    Manual(Arc<AtomicI64>),
}

impl WallClock {
    pub fn manual() -> Self {
        WallClock::Manual(Arc::new(AtomicI64::new(1_800_000_000_000)))
    }

    pub fn now_ms(&self) -> i64 {
        match self {
            WallClock::System => chrono::Utc::now().timestamp_millis(),
            WallClock::Manual(millis) => millis.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock and all its clones; the system's clock moves itself.
    pub fn advance(&self, by: Duration) {
        if let WallClock::Manual(millis) = self {
            millis.fetch_add(millis_of(by), Ordering::SeqCst);
        }
    }
}

/// The whole milliseconds of `duration`; the highest number, if there are more.
pub fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
