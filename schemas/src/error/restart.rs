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
        Fault::User => Some(USER_PAUSE),
        Fault::Transient => {
            let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
            Some(doubled.min(LONGEST_PAUSE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_decide_the_pause() {
        let ms = |fault, failures| pause(fault, failures).map(|p| p.as_millis());
        assert_eq!(ms(Fault::Bug, 1), None);
        assert_eq!(ms(Fault::User, 1), Some(15_000));
        assert_eq!(ms(Fault::Transient, 1), Some(250));
        assert_eq!(ms(Fault::Transient, 3), Some(1_000));
        assert_eq!(ms(Fault::Transient, 1_000), Some(10_000));
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
