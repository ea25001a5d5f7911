//! The reaction to the failure of a long-lived part of a process: a restart after a pause, or the end of the part.
//!
//! Invariant: only the fault and the number of failures in a row decide.

use std::time::Duration;

use super::Fault;

/// A part that ran longer than this before a failure has its count of failures reset.
pub const STEADY: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pause after a user's mistake. The next attempt follows by itself, so the user only has to correct the mistake.
const USER_PAUSE: Duration = Duration::from_secs(15);
/// Pauses of a view that failed by itself. A failure that may pass is tried again soon. Any other failure stays in the
/// log for ever, and each attempt costs a computation, so attempts become rare.
const VIEW_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
const VIEW_RARE_PAUSES: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(7200));

/// The number of failures of one part in a row.
#[derive(Debug, Default)]
pub struct Failures(u32);

impl Failures {
    /// Counts a failure of a part that `ran` for this long. Returns the pause before the next attempt, or `None` if
    /// there is no next attempt.
    pub fn count(&mut self, fault: Fault, ran: Duration) -> Option<Duration> {
        self.0 = if ran > STEADY { 1 } else { self.0 + 1 };
        pause(fault, self.0)
    }
}

/// The pause after `failures` failures in a row.
fn pause(fault: Fault, failures: u32) -> Option<Duration> {
    match fault {
        Fault::Bug => None,
        Fault::User | Fault::Engine => Some(USER_PAUSE),
        Fault::Transient => Some(doubled(FIRST_PAUSE, LONGEST_PAUSE, failures)),
    }
}

/// The pause before a view is computed again after `failures` failures in a row.
pub fn pause_of_view(fault: Fault, failures: u32) -> Duration {
    let (first, longest) = match fault {
        Fault::Transient => VIEW_PAUSES,
        Fault::User | Fault::Engine | Fault::Bug => VIEW_RARE_PAUSES,
    };
    doubled(first, longest, failures)
}

fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_decide_the_pause() {
        let ms = |fault, failures| pause(fault, failures).map(|p| p.as_millis());
        assert_eq!(ms(Fault::Bug, 1), None);
        assert_eq!(ms(Fault::User, 1), Some(15_000));
        assert_eq!(ms(Fault::Engine, 1), Some(15_000));
        assert_eq!(ms(Fault::Transient, 1), Some(250));
        assert_eq!(ms(Fault::Transient, 3), Some(1_000));
        assert_eq!(ms(Fault::Transient, 1_000), Some(10_000));
    }

    #[test]
    fn a_view_is_tried_again_soon_if_the_failure_may_pass_and_rarely_otherwise() {
        let seconds = |fault, failures| pause_of_view(fault, failures).as_secs();
        assert_eq!([1, 2, 3, 7, 8, 99].map(|n| seconds(Fault::Transient, n)), [1, 2, 4, 64, 120, 120]);
        assert_eq!([1, 2, 4, 5, 99].map(|n| seconds(Fault::User, n)), [600, 1200, 4800, 7200, 7200]);
        assert_eq!(seconds(Fault::Engine, 1), 600);
    }

    #[test]
    fn a_part_that_ran_long_starts_anew() {
        let mut failures = Failures::default();
        let mut ms = |ran| failures.count(Fault::Transient, ran).map(|p| p.as_millis());
        assert_eq!(ms(Duration::ZERO), Some(250));
        assert_eq!(ms(STEADY), Some(500));
        assert_eq!(ms(STEADY + Duration::from_millis(1)), Some(250));
    }
}
