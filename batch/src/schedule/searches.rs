//! Searches for the messages behind failed runs, beside the schedule.
//!
//! Invariant: at most one search runs at a time, so that runs and searches together keep to the memory limit of a run.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use thalweg_schemas::ViewId;
use thalweg_schemas::api::runs::{RunOutcome, RunReport};
use thalweg_schemas::failure::ViewFailure;
use tokio::task::{AbortHandle, JoinSet};

use crate::run::Suspect;

/// The longest search. It ends with the smallest range that was found.
const LONGEST: Duration = Duration::from_secs(3600);

/// A failed run, and what its search has found.
pub(super) struct Located {
    pub(super) vague: ViewFailure,
    pub(super) precise: ViewFailure,
    /// The report of the run, with the failure that was found.
    pub(super) report: RunReport,
}

struct Waiting {
    report: RunReport,
    vague: ViewFailure,
    suspect: Suspect,
}

/// The search that runs and those that wait for it. Dropping this value ends all of them.
pub(super) struct Searches {
    /// The memory limit of a search.
    memory: usize,
    running: JoinSet<Located>,
    /// The view of the search that runs, and what ends it.
    pub(super) current: Option<(ViewId, AbortHandle)>,
    waiting: VecDeque<Waiting>,
}

impl Searches {
    /// `memory` is the limit of a run.
    pub(super) fn new(memory: usize) -> Self {
        Self { memory: memory / 4, running: JoinSet::new(), current: None, waiting: VecDeque::new() }
    }

    /// The memory that is left for a run.
    pub(super) fn left_of(&self, memory: usize) -> usize {
        if self.running.is_empty() { memory } else { memory - self.memory }
    }

    /// Adds a search. A view has one search at most: the one of its newest run.
    pub(super) fn add(&mut self, report: &RunReport, vague: &ViewFailure, mut suspect: Suspect) {
        suspect.limit_memory(self.memory);
        self.end_current(|view| *view == report.id);
        self.waiting.retain(|waiting| waiting.report.id != report.id);
        self.waiting.push_back(Waiting { report: report.clone(), vague: vague.clone(), suspect });
        self.start();
    }

    fn start(&mut self) {
        if !self.running.is_empty() {
            return;
        }
        self.current = self.waiting.pop_front().map(|Waiting { mut report, vague, suspect }| {
            let view = report.id.clone();
            let search = self.running.spawn(async move {
                let precise = suspect.search(LONGEST).await;
                report.outcome = RunOutcome::Failed(precise.clone());
                Located { vague, precise, report }
            });
            (view, search)
        });
    }

    fn end_current(&self, is_over: impl Fn(&ViewId) -> bool) {
        if let Some((view, search)) = &self.current
            && is_over(view)
        {
            search.abort();
        }
    }

    /// Waits for the end of the running search, and starts the next one; waits for ever if none runs. Cancelling the
    /// call loses nothing.
    pub(super) async fn next(&mut self) -> Located {
        loop {
            self.start();
            match self.running.join_next().await {
                Some(Ok(located)) => {
                    self.start();
                    return located;
                }
                // The view is gone, or the search has panicked: what the run has reported stays.
                Some(Err(error)) => tracing::debug!(%error, "a search for a message ended"),
                None => pending().await,
            }
        }
    }

    /// Ends the searches for views that do not exist any more.
    pub(super) fn retain(&mut self, exists: impl Fn(&ViewId) -> bool) {
        self.waiting.retain(|waiting| exists(&waiting.report.id));
        self.end_current(|view| !exists(view));
    }
}
