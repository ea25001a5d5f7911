//! A view whose newest run failed, and when the schedule runs it again: pure decisions.
//!
//! ```text
//!  fails ─▶ waits ─▶ run again: its pause is over, or somebody else has published it
//! ```
//!
//! Invariant: only a failure that names messages makes attempts rare, because these messages stay in the log. The cause
//! of any other failure can be removed at any time.

use std::time::Duration;

use thalweg_schemas::Frontier;
use thalweg_schemas::api::runs::RunReport;
use thalweg_schemas::error::restart::pause_of_view;
use thalweg_schemas::failure::ViewFailure;
use tokio::time::Instant;

use crate::run::KnownFailure;

/// A view whose newest run failed.
#[derive(Debug)]
pub(super) struct FailingView {
    /// Failures in a row.
    failures: u32,
    failure: ViewFailure,
    /// The start of the failed run.
    run_from: Frontier,
    /// True if a search has found the messages of the failure among those of the run.
    located: bool,
    /// The version that was published when the run failed.
    version: Option<u64>,
    /// The earliest time of the next run.
    again: Instant,
}

impl FailingView {
    /// The view after the run of `report` has ended with `failure`, while `version` was published.
    pub(super) fn after(
        before: Option<FailingView>,
        report: &RunReport,
        failure: &ViewFailure,
        version: Option<u64>,
        interval: Duration,
        now: Instant,
    ) -> Self {
        // A run that has computed the known messages alone reports the known failure.
        let located = before.as_ref().is_some_and(|before| before.located && before.failure == *failure);
        // A version that was published meanwhile ends the row of failures.
        let before = before.filter(|before| before.version == version);
        let failures = before.map_or(0, |before| before.failures) + 1;
        Self {
            failures,
            located,
            failure: failure.clone(),
            run_from: report.from.clone(),
            version,
            again: now + pause(failure, failures, interval),
        }
    }

    /// True if the view is to be run while `version` is published.
    pub(super) fn is_due(&self, now: Instant, version: Option<u64>) -> bool {
        self.again <= now || version > self.version
    }

    /// The time until the next run.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.again.saturating_duration_since(now)
    }

    /// True if the failure may pass.
    pub(super) fn may_succeed_soon(&self) -> bool {
        self.failure.may_pass()
    }

    /// Replaces the failure by what a search has found. Returns false if the view was run again meanwhile.
    pub(super) fn refine(&mut self, vague: &ViewFailure, precise: &ViewFailure) -> bool {
        if self.failure != *vague {
            return false;
        }
        self.located = (&precise.from, &precise.to) != (&vague.from, &vague.to);
        self.failure = precise.clone();
        true
    }

    /// Ends the pause.
    #[cfg(test)]
    pub(super) fn make_due(&mut self) {
        self.again = Instant::now();
    }

    /// The failure that the next run computes first.
    pub(super) fn known(&self) -> Option<KnownFailure> {
        self.located.then(|| KnownFailure { run_from: self.run_from.clone(), failure: self.failure.clone() })
    }
}

/// The pause before the next run of a view that has failed so many times in a row.
fn pause(failure: &ViewFailure, failures: u32, interval: Duration) -> Duration {
    let names_messages = !failure.to.advanced_since(&failure.from).is_empty();
    if failure.may_pass() || names_messages { pause_of_view(failure.fault, failures) } else { interval }
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::at;
    use thalweg_schemas::api::runs::{RunMode, RunOutcome};
    use thalweg_schemas::failure::FailedStep;
    use thalweg_schemas::{Fault, ViewId, ViewName};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn failure(fault: Fault, from: &[(i32, i64)], to: &[(i32, i64)]) -> ViewFailure {
        ViewFailure::told(FailedStep::Run, (fault, "no".to_owned()), (&at(from), &at(to)), 0)
    }

    fn report(from: &[(i32, i64)], failure: &ViewFailure) -> RunReport {
        RunReport {
            view: ViewName::new("v").unwrap(),
            id: ViewId::of(&["v"]),
            mode: RunMode::Incremental,
            from: at(from),
            to: failure.to.clone(),
            rows_read: 0,
            groups: 0,
            files: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            outcome: RunOutcome::Failed(failure.clone()),
        }
    }

    fn after(before: Option<FailingView>, failure: &ViewFailure, version: Option<u64>, now: Instant) -> FailingView {
        FailingView::after(before, &report(&[(0, 3)], failure), failure, version, INTERVAL, now)
    }

    #[test]
    fn only_a_failure_in_messages_makes_attempts_rare() {
        let check = |fault, to: &[(i32, i64)], failures, seconds| {
            let pause = pause(&failure(fault, &[(0, 4)], to), failures, INTERVAL);
            assert_eq!(pause.as_secs(), seconds, "{fault:?} {to:?} {failures}");
        };
        check(Fault::User, &[(0, 5)], 1, 600);
        check(Fault::User, &[(0, 5)], 2, 1200);
        check(Fault::Engine, &[(0, 5)], 9, 7200);
        check(Fault::User, &[], 1, 60);
        check(Fault::User, &[], 9, 60);
        check(Fault::Engine, &[(0, 4)], 9, 60);
        check(Fault::Transient, &[], 1, 1);
        check(Fault::Transient, &[(0, 5)], 3, 4);
    }

    #[test]
    fn a_version_that_somebody_else_publishes_ends_the_pause() {
        let now = Instant::now();
        let bad = failure(Fault::User, &[(0, 4)], &[(0, 5)]);
        let check = |at_failure: Option<u64>, seconds, published: Option<u64>, expect| {
            let failing = after(None, &bad, at_failure, now);
            let later = now + Duration::from_secs(seconds);
            assert_eq!(failing.is_due(later, published), expect, "{at_failure:?} {seconds} {published:?}");
        };
        check(Some(7), 1, Some(7), false);
        check(Some(7), 599, Some(7), false);
        check(Some(7), 600, Some(7), true);
        check(Some(7), 1, Some(8), true);
        check(None, 1, None, false);
        check(None, 1, Some(0), true);
        // A table that is not seen at the moment is not a newer version.
        check(Some(7), 1, None, false);
    }

    #[test]
    fn a_version_that_somebody_else_publishes_ends_the_row_of_failures() {
        let now = Instant::now();
        let bad = failure(Fault::User, &[(0, 4)], &[(0, 5)]);
        let second = after(Some(after(None, &bad, Some(7), now)), &bad, Some(7), now);
        assert_eq!(second.pause(now).as_secs(), 1200);
        let anew = after(Some(second), &bad, Some(8), now);
        assert_eq!(anew.pause(now).as_secs(), 600);
    }

    #[test]
    fn messages_that_a_search_has_found_are_computed_first() {
        let now = Instant::now();
        let vague = failure(Fault::User, &[(0, 3)], &[(0, 9)]);
        let precise = failure(Fault::User, &[(0, 4)], &[(0, 5)]);
        let mut failing = after(None, &vague, None, now);
        assert!(failing.known().is_none());
        assert!(failing.refine(&vague, &precise));
        let known = failing.known().unwrap();
        assert_eq!((known.run_from, &known.failure), (at(&[(0, 3)]), &precise));
        assert!(!failing.refine(&vague, &precise), "it was refined already");
        // The next run has computed these messages alone.
        let again = after(Some(failing), &precise, None, now);
        assert!(again.known().is_some());
        assert_eq!(again.pause(now).as_secs(), 1200);
        // The one after that has failed in another way.
        assert!(after(Some(again), &vague, None, now).known().is_none());
        // A search that finds no smaller range saves nothing.
        let mut failing = after(None, &vague, None, now);
        assert!(failing.refine(&vague, &vague) && failing.known().is_none());
    }
}
