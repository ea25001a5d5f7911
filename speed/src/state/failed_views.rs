//! The views that cannot go on, and when each is tried again.
//!
//! ```text
//!  fails ─▶ waits ─▶ tried again: its cut has moved, or its pause is over ─▶ rebuilt ─┬─▶ healed
//!             ▲                                                                      │
//!             └───────────── longer pause ◀── fails again ◀──────────────────────────┘
//! ```
//!
//! Invariant: nothing of a failed view is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_schemas::error::restart::pause_of_view;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::{Frontier, ViewId};

#[derive(Debug)]
struct FailedView {
    failure: Arc<ViewFailure>,
    /// The number of failures in a row.
    failures: u32,
    /// The published cut at the last attempt.
    cut: Frontier,
    /// When the view is tried again although its cut stands. `None` while it is tried, and for a view whose segments
    /// did not fit into memory, because only a new cut makes them fewer.
    again: Option<Duration>,
}

/// The failed views of one stream.
#[derive(Debug, Default)]
pub(crate) struct FailedViews(BTreeMap<ViewId, FailedView>);

impl FailedViews {
    /// Records that a view published at `cut` has failed.
    pub(crate) fn record(&mut self, now: Duration, view: &ViewId, cut: Frontier, mut failure: ViewFailure) {
        let before = self.0.remove(view);
        let failures = before.as_ref().map_or(0, |before| before.failures) + 1;
        if let Some(before) = before {
            failure.since_ms = before.failure.since_ms;
        }
        let pause = pause_of_view(failure.fault, failures);
        let again = (failure.step != FailedStep::Memory).then_some(now + pause);
        self.0.insert(view.clone(), FailedView { failure: Arc::new(failure), failures, cut, again });
    }

    /// Replaces the failure of a view by a more precise one, unless the view has been tried meanwhile.
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
        let due = |failed: &FailedView| !failed.cut.stands_at(cut) || failed.again.is_some_and(|again| again <= now);
        self.0.get(view).is_none_or(due)
    }

    /// Records that a view is tried from `cut`.
    pub(crate) fn begin(&mut self, view: &ViewId, cut: &Frontier) {
        if let Some(failed) = self.0.get_mut(view) {
            failed.cut = cut.clone();
            failed.again = None;
        }
    }

    /// Ends the pauses, because the messages behind the failures may be in partitions that are no longer read here.
    pub(crate) fn end_pauses(&mut self) {
        for again in self.0.values_mut().filter_map(|failed| failed.again.as_mut()) {
            *again = Duration::ZERO;
        }
    }

    /// True if the pause of a view is over.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.0.values().any(|failed| failed.again.is_some_and(|again| again <= now))
    }

    pub(crate) fn heal(&mut self, view: &ViewId) {
        self.0.remove(view);
    }

    /// Forgets views. Returns true if one was forgotten.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&ViewId) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|id, _| is_wanted(id));
        before != self.0.len()
    }

    /// The failures, for readers.
    pub(crate) fn failures(&self) -> BTreeMap<ViewId, Arc<ViewFailure>> {
        self.0.iter().map(|(id, failed)| (id.clone(), Arc::clone(&failed.failure))).collect()
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
        failed.heal(&id);
        assert!(failed.failures().is_empty());
    }

    #[test]
    fn a_pause_ends_when_partitions_are_revoked() {
        let (id, cut, error) = (ViewId::of(&["v"]), at(&[(0, 3)]), Error::refuse("no", "no"));
        let mut failed = FailedViews::default();
        failed.record(seconds(5), &id, cut.clone(), failure(FailedStep::Update, &error, 0));
        failed.end_pauses();
        assert!(failed.is_due(seconds(5)) && failed.may_try(seconds(5), &id, &cut));
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
