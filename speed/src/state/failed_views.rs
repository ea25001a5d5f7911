//! The views that cannot go on, and when each is tried again.
//!
//! ```text
//!  fails ─▶ waits ─▶ tried again: its cut has moved, or its pause is over ─▶ rebuilt ─┬─▶ healed: what failed succeeds
//!             ▲                                                                      │
//!             └───────────── longer pause ◀── fails again ◀──────────────────────────┘
//! ```
//!
//! A view that is served while it is rebuilt goes on when its rebuild fails for a reason that may pass: only the
//! rebuild is tried again.
//!
//! Invariant: nothing is held of a view whose failure is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::error::restart::pause_of_view;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::{Frontier, ViewId};

/// What is known of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextAttempt {
    /// The view is tried when its cut moves, or at this time. There is no time for a view whose segments did not fit
    /// into memory: only a new cut or fewer partitions make them fewer.
    Waits(Option<Duration>),
    /// The view is being rebuilt.
    Runs,
    /// The view is held again, and the step that failed has not succeeded yet.
    Held,
}

#[derive(Debug)]
struct FailedView {
    failure: Arc<ViewFailure>,
    /// The number of failures in a row.
    failures: u32,
    /// The published cut at the last attempt.
    cut: Frontier,
    attempt: NextAttempt,
    /// True if the view is served, and only a rebuild of it has failed.
    served: bool,
}

impl FailedView {
    fn is_shown(&self) -> bool {
        !self.served && self.attempt != NextAttempt::Held
    }
}

/// The failed views of one stream.
#[derive(Debug, Default)]
pub(crate) struct FailedViews(BTreeMap<ViewId, FailedView>);

impl FailedViews {
    /// Records that a view published at `cut` has failed.
    pub(crate) fn record(&mut self, now: Duration, view: &ViewId, cut: Frontier, failure: ViewFailure) {
        self.add(now, view, cut, failure, false);
    }

    /// Records that the rebuild of a view that is served meanwhile has failed. Returns the pause before the next one.
    pub(crate) fn record_served(
        &mut self,
        now: Duration,
        view: &ViewId,
        cut: Frontier,
        failure: ViewFailure,
    ) -> Duration {
        self.add(now, view, cut, failure, true)
    }

    fn add(&mut self, now: Duration, view: &ViewId, cut: Frontier, mut failure: ViewFailure, served: bool) -> Duration {
        // A view that was held again has healed, unless merges of its segments fail.
        let goes_on = |before: &FailedView| match before.attempt {
            NextAttempt::Held => failure.step == FailedStep::Merge,
            NextAttempt::Waits(_) | NextAttempt::Runs => before.served == served,
        };
        let before = match self.0.remove(view) {
            // A rebuild of a view that is served says nothing of its merges.
            Some(before) if served && before.attempt == NextAttempt::Held => {
                let pause = pause_of_view(failure.fault, 1);
                self.0.insert(view.clone(), before);
                return pause;
            }
            before => before.filter(goes_on),
        };
        let failures = before.as_ref().map_or(0, |before| before.failures) + 1;
        if let Some(before) = before {
            failure.since_ms = before.failure.since_ms;
        }
        let pause = pause_of_view(failure.fault, failures);
        let attempt = NextAttempt::Waits((failure.step != FailedStep::Memory).then_some(now + pause));
        let failed = FailedView { failure: Arc::new(failure), failures, cut, attempt, served };
        self.0.insert(view.clone(), failed);
        pause
    }

    /// Replaces the failure of a view by a more precise one. Returns false if the failure is no longer `vague`.
    pub(crate) fn refine(&mut self, view: &ViewId, vague: &Arc<ViewFailure>, precise: ViewFailure) -> bool {
        let Some(failed) = self.0.get_mut(view).filter(|failed| Arc::ptr_eq(&failed.failure, vague)) else {
            return false;
        };
        failed.failure = Arc::new(ViewFailure { since_ms: failed.failure.since_ms, ..precise });
        true
    }

    pub(crate) fn get(&self, view: &ViewId) -> Option<&Arc<ViewFailure>> {
        self.0.get(view).map(|failed| &failed.failure)
    }

    /// True if a view that is published at `cut` may be computed.
    pub(crate) fn may_try(&self, now: Duration, view: &ViewId, cut: &Frontier) -> bool {
        let due = |failed: &FailedView| match failed.attempt {
            NextAttempt::Held => true,
            NextAttempt::Waits(Some(again)) if again <= now => true,
            NextAttempt::Waits(_) | NextAttempt::Runs => !failed.cut.stands_at(cut),
        };
        self.0.get(view).is_none_or(due)
    }

    /// Records that a view is tried from `cut`.
    pub(crate) fn begin(&mut self, view: &ViewId, cut: &Frontier) {
        if let Some(failed) = self.0.get_mut(view)
            && failed.attempt != NextAttempt::Held
        {
            failed.cut = cut.clone();
            failed.attempt = NextAttempt::Runs;
        }
    }

    /// Ends the pauses, because the messages behind the failures may be in partitions that are no longer read here,
    /// and because fewer partitions have fewer segments.
    pub(crate) fn end_pauses(&mut self) {
        for failed in self.0.values_mut() {
            if let NextAttempt::Waits(again) = &mut failed.attempt {
                *again = Some(Duration::ZERO);
            }
        }
    }

    /// True if the pause of a view is over.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        let due = |failed: &FailedView| matches!(failed.attempt, NextAttempt::Waits(Some(again)) if again <= now);
        self.0.values().any(due)
    }

    /// Records that a view is held again, with states of all messages. That heals a view unless merges of its segments
    /// have failed, which follow later.
    pub(crate) fn rebuilt(&mut self, view: &ViewId) {
        match self.0.get_mut(view) {
            Some(failed) if failed.failure.step == FailedStep::Merge => failed.attempt = NextAttempt::Held,
            _ => drop(self.0.remove(view)),
        }
    }

    /// Records that segments of a view were merged.
    pub(crate) fn merged(&mut self, view: &ViewId) {
        if self.0.get(view).is_some_and(|failed| failed.attempt == NextAttempt::Held) {
            self.0.remove(view);
        }
    }

    /// True if a rebuild of this view, which is served meanwhile, has failed.
    pub(crate) fn is_served(&self, view: &ViewId) -> bool {
        self.0.get(view).is_some_and(|failed| failed.served)
    }

    /// Forgets the failed rebuild of a view that is served and needs no rebuild any more.
    pub(crate) fn end_served(&mut self, view: &ViewId) {
        if self.is_served(view) {
            self.0.remove(view);
        }
    }

    /// Forgets views. Returns true if one was forgotten.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&ViewId) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|id, _| is_wanted(id));
        before != self.0.len()
    }

    /// The failures of views of which nothing is held, for readers.
    pub(crate) fn failures(&self) -> BTreeMap<ViewId, Arc<ViewFailure>> {
        self.those(FailedView::is_shown)
    }

    /// The failures of rebuilds of views that are served meanwhile, for readers.
    pub(crate) fn delays(&self) -> BTreeMap<ViewId, Arc<ViewFailure>> {
        self.those(|failed| failed.served)
    }

    fn those(&self, is_wanted: impl Fn(&FailedView) -> bool) -> BTreeMap<ViewId, Arc<ViewFailure>> {
        let wanted = self.0.iter().filter(|(_, failed)| is_wanted(failed));
        wanted.map(|(id, failed)| (id.clone(), Arc::clone(&failed.failure))).collect()
    }
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::at;
    use thalweg_schemas::Error;

    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn failure(step: FailedStep, error: &Error, since_ms: i64) -> ViewFailure {
        ViewFailure::new(step, error, (&at(&[(0, 4)]), &at(&[(0, 5)])), since_ms)
    }

    #[test]
    fn a_view_is_tried_when_its_cut_moves_or_its_pause_is_over() {
        let passing = Error::WriteCatalog { version: 1 };
        let lasting = Error::refuse("no", "no");
        // Step, error, seconds since the failure, whether the cut has moved; whether the view is tried.
        let cases = [
            (FailedStep::Rebuild, &passing, 0, false, false),
            (FailedStep::Rebuild, &passing, 0, true, true),
            (FailedStep::Rebuild, &passing, 1, false, true),
            (FailedStep::Update, &lasting, 1, false, false),
            (FailedStep::Update, &lasting, 1, true, true),
            (FailedStep::Update, &lasting, 599, false, false),
            (FailedStep::Update, &lasting, 600, false, true),
            (FailedStep::Memory, &lasting, 1_000_000, false, false),
            (FailedStep::Memory, &lasting, 1, true, true),
        ];
        for (step, error, after, moved, expect) in cases {
            let id = ViewId::of(&["v"]);
            let mut failed = FailedViews::default();
            let cut = at(&[(0, 3)]);
            assert!(failed.may_try(seconds(9), &id, &cut));
            failed.record(seconds(10), &id, cut.clone(), failure(step, error, 0));
            let now = seconds(10 + after);
            let published = if moved { at(&[(0, 4)]) } else { cut };
            assert_eq!(failed.may_try(now, &id, &published), expect, "{step:?} {error} {after} {moved}");
            assert_eq!(failed.is_due(now), expect && !moved);
            // While it is tried, it is not tried again.
            failed.begin(&id, &published);
            assert!(!failed.may_try(now + seconds(1_000_000), &id, &published));
        }
    }

    #[test]
    fn pauses_grow_until_the_view_heals_and_the_first_time_stays() {
        let (id, cut) = (ViewId::of(&["v"]), at(&[(0, 3)]));
        let mut failed = FailedViews::default();
        let mut now = seconds(0);
        for (i, pause) in [1, 2, 4].into_iter().enumerate() {
            let error = Error::WriteCatalog { version: 1 };
            failed.record(now, &id, cut.clone(), failure(FailedStep::Rebuild, &error, i as i64));
            assert!(!failed.is_due(now + seconds(pause) - Duration::from_millis(1)), "{pause}");
            now += seconds(pause);
            assert!(failed.is_due(now), "{pause}");
            failed.begin(&id, &cut);
            assert!(!failed.is_due(now));
        }
        assert_eq!(failed.failures()[&id].since_ms, 0);
        failed.rebuilt(&id);
        assert!(failed.failures().is_empty() && failed.get(&id).is_none());
    }

    #[test]
    fn a_view_heals_when_the_step_that_failed_succeeds() {
        let (id, cut, error) = (ViewId::of(&["v"]), at(&[(0, 3)]), Error::refuse("no", "no"));
        // The step, the pauses of three failures with a rebuild after each.
        let cases = [
            (FailedStep::Merge, [600, 1200, 2400]),
            (FailedStep::Update, [600, 600, 600]),
            (FailedStep::Rebuild, [600, 600, 600]),
        ];
        for (step, pauses) in cases {
            let mut failed = FailedViews::default();
            for pause in pauses {
                failed.record(seconds(1), &id, cut.clone(), failure(step, &error, 0));
                assert!(!failed.may_try(seconds(pause), &id, &cut), "{step:?} {pause}");
                assert!(failed.is_due(seconds(1 + pause)), "{step:?} {pause}");
                failed.begin(&id, &cut);
                failed.rebuilt(&id);
                // The view is served, and follows its cut as any other.
                assert!(failed.failures().is_empty() && failed.may_try(seconds(9), &id, &cut));
                assert!(!failed.is_due(seconds(1_000_000)));
            }
            failed.merged(&id);
            assert!(failed.get(&id).is_none());
        }
    }

    #[test]
    fn a_failed_rebuild_of_a_served_view_is_tried_again_and_not_shown() {
        let (id, cut, error) = (ViewId::of(&["v"]), at(&[(0, 3)]), Error::WriteCatalog { version: 1 });
        let mut failed = FailedViews::default();
        for pause in [1, 2, 4] {
            let said = failed.record_served(seconds(0), &id, cut.clone(), failure(FailedStep::Rebuild, &error, 0));
            assert_eq!(said, seconds(pause));
            assert!(failed.failures().is_empty());
            assert!(!failed.may_try(seconds(0), &id, &cut) && failed.may_try(seconds(0), &id, &at(&[(0, 4)])));
            assert!(failed.is_due(seconds(pause)));
            // A merge of the segments that are served says nothing of the rebuild.
            failed.merged(&id);
            failed.begin(&id, &cut);
        }
        assert!(failed.is_served(&id));
        failed.end_served(&id);
        assert!(failed.get(&id).is_none() && !failed.is_due(seconds(1_000_000)));
        // A failure of the view itself is shown, and is its first.
        failed.record_served(seconds(0), &id, cut.clone(), failure(FailedStep::Rebuild, &error, 0));
        failed.record(seconds(0), &id, cut.clone(), failure(FailedStep::Update, &error, 7));
        assert_eq!(failed.failures()[&id].since_ms, 7);
        assert!(failed.is_due(seconds(1)));
    }

    #[test]
    fn a_view_that_was_served_between_two_failures_fails_anew() {
        let (id, cut, error) = (ViewId::of(&["v"]), at(&[(0, 3)]), Error::refuse("no", "no"));
        let mut failed = FailedViews::default();
        failed.record(seconds(0), &id, cut.clone(), failure(FailedStep::Merge, &error, 0));
        failed.begin(&id, &cut);
        failed.rebuilt(&id);
        // A rebuild of other partitions that fails, and may pass, leaves what is known of the merges.
        let passing = Error::WriteCatalog { version: 1 };
        failed.record_served(seconds(1), &id, cut.clone(), failure(FailedStep::Rebuild, &passing, 5));
        assert!(failed.failures().is_empty());
        failed.record(seconds(1), &id, cut.clone(), failure(FailedStep::Update, &error, 7));
        assert_eq!(failed.failures()[&id].since_ms, 7);
        assert!(!failed.is_due(seconds(600)) && failed.is_due(seconds(601)));
        // Merges that fail again after a rebuild are tried more and more rarely.
        let mut failed = FailedViews::default();
        for pause in [600, 1200, 2400] {
            failed.record(seconds(0), &id, cut.clone(), failure(FailedStep::Merge, &error, 0));
            assert!(!failed.is_due(seconds(pause - 1)) && failed.is_due(seconds(pause)));
            failed.begin(&id, &cut);
            failed.rebuilt(&id);
        }
    }

    #[test]
    fn a_pause_ends_when_partitions_are_revoked() {
        let (id, cut, error) = (ViewId::of(&["v"]), at(&[(0, 3)]), Error::refuse("no", "no"));
        for step in [FailedStep::Update, FailedStep::Memory] {
            let mut failed = FailedViews::default();
            failed.record(seconds(5), &id, cut.clone(), failure(step, &error, 0));
            failed.end_pauses();
            assert!(failed.is_due(seconds(5)) && failed.may_try(seconds(5), &id, &cut), "{step:?}");
            // A view that is being rebuilt is not rebuilt twice.
            failed.begin(&id, &cut);
            failed.end_pauses();
            assert!(!failed.is_due(seconds(5)) && !failed.may_try(seconds(5), &id, &cut), "{step:?}");
        }
    }

    #[test]
    fn a_failure_is_refined_only_while_it_is_the_newest() {
        let (id, error) = (ViewId::of(&["v"]), Error::refuse("no", "no"));
        let mut failed = FailedViews::default();
        failed.record(seconds(0), &id, at(&[]), failure(FailedStep::Update, &error, 7));
        let vague = Arc::clone(failed.get(&id).unwrap());
        let precise = || ViewFailure { expression: Some("a / b".into()), ..failure(FailedStep::Update, &error, 9) };
        assert!(failed.refine(&id, &vague, precise()));
        assert_eq!(failed.get(&id).unwrap().expression.as_deref(), Some("a / b"));
        assert_eq!(failed.get(&id).unwrap().since_ms, 7);
        assert!(!failed.refine(&id, &vague, precise()), "it was refined already");
    }
}
