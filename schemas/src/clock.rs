//! The clocks of all layers. Tests replace a clock, and so decide when an epoch is due, a grace time ends or a lease
//! expires.
//!
//! Invariant: no answer and no commit depends on a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time since an arbitrary moment; it never goes back.
#[derive(Debug, Clone)]
pub enum MonotonicClock {
    /// The machine's clock, counted from the creation of this value.
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

    /// Moves a manual clock and all its clones. Has no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let MonotonicClock::Manual(millis) = self {
            millis.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }
}

/// Milliseconds since 1970.
#[derive(Debug, Clone, Default)]
pub enum WallClock {
    /// The machine's clock.
    #[default]
    System,
    /// Milliseconds that only [`WallClock::advance`] moves.
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

    /// Moves a manual clock and all its clones. Has no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let WallClock::Manual(millis) = self {
            millis.fetch_add(millis_of(by), Ordering::SeqCst);
        }
    }
}

/// The whole milliseconds of `duration`; `i64::MAX` if there are more.
pub fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
