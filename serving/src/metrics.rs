//! Metrics in Prometheus' text format: counters of this process, and the state of the sources at the time of a
//! scrape.
//!
//! Invariant: a value that a source holds is read from the source at each scrape, never copied into a counter before.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use thalweg_schemas::api::audits::{AuditList, AuditReport, FailedAudit};
use thalweg_schemas::api::runs::{RunOutcome, RunReport, RunSummary};
use thalweg_schemas::clock::WallClock;
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::{ViewId, ViewName};

use crate::Error;
use crate::activity::ListedQuery;
use crate::limits::lanes::LostWork;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    view: String,
    mode: &'static str,
    outcome: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Views of which the newest run is remembered, at most.
const REMEMBERED: usize = 10_000;

/// Runs and audits that are remembered, each.
const HISTORY: usize = 1_000;

/// A run, and its end in milliseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct EndedRun {
    pub(crate) report: RunReport,
    pub(crate) finished_ms: i64,
}

/// An audit of one view, and its end in milliseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct EndedAudit {
    pub(crate) outcome: std::result::Result<AuditReport, FailedAudit>,
    pub(crate) finished_ms: i64,
}

/// Counters of this process. Created first, so that the loop of recomputations can record them.
pub struct Metrics {
    pub(crate) registry: Registry,
    queries: Histograms<OutcomeLabel>,
    running: Gauge,
    pub(crate) lost: LostWork,
    runs: Histograms<RunLabels>,
    run_rows: Family<RunLabels, Counter>,
    epoch_seconds: Counter<f64, AtomicU64>,
    epochs: Counter,
    last_runs: Mutex<HashMap<ViewName, RunSummary>>,
    /// The newest runs and audits of this process, the newest last.
    ended_runs: Mutex<VecDeque<EndedRun>>,
    ended_audits: Mutex<VecDeque<EndedAudit>>,
    /// The views whose newest run failed.
    failed_runs: Mutex<HashMap<ViewId, ViewFailure>>,
    started: Instant,
    answered: AtomicU64,
    failed: AtomicU64,
    /// Answers that are kept for equal requests.
    pub(crate) kept_answers: KeptAnswerCounts,
}

/// What the kept answers take.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptAnswerCounts {
    pub(crate) bytes: Gauge,
    pub(crate) count: Gauge,
}

/// Queries of this process.
pub(crate) struct Queries {
    pub(crate) running: i64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("thalweg");
        let queries = Histograms::new_with_constructor(query_buckets);
        let runs = Histograms::new_with_constructor(run_buckets);
        let metrics = Self {
            queries,
            running: Gauge::default(),
            lost: LostWork::default(),
            runs,
            run_rows: Family::default(),
            epoch_seconds: Counter::default(),
            epochs: Counter::default(),
            last_runs: Mutex::default(),
            failed_runs: Mutex::default(),
            ended_runs: Mutex::default(),
            ended_audits: Mutex::default(),
            registry: Registry::default(),
            started: Instant::now(),
            answered: AtomicU64::default(),
            failed: AtomicU64::default(),
            kept_answers: KeptAnswerCounts::default(),
        };
        registry.register(
            "query_seconds",
            "Time from a request to the last byte of its answer, by outcome: ok, unchanged, shared, cancelled or the error's code",
            metrics.queries.clone(),
        );
        registry.register("queries_running", "Queries that are running", metrics.running.clone());
        registry.register(
            "queries_lost",
            "Queries whose time is over and whose work does not return",
            metrics.lost.now.clone(),
        );
        registry.register("lost_queries", "Queries that were ever lost", metrics.lost.ever.clone());
        registry.register("kept_answers", "Answers kept for equal requests", metrics.kept_answers.count.clone());
        registry.register(
            "kept_answer_bytes",
            "Bytes of answers kept for equal requests",
            metrics.kept_answers.bytes.clone(),
        );
        registry.register(
            "batch_run_seconds",
            "Time of recomputations, by view, mode and outcome",
            metrics.runs.clone(),
        );
        registry.register(
            "batch_run_rows",
            "Rows of the master dataset read by recomputations",
            metrics.run_rows.clone(),
        );
        registry.register(
            "archive_commits",
            "Epochs committed to master datasets by this process",
            metrics.epochs.clone(),
        );
        registry.register(
            "archive_commit_seconds",
            "Time spent in commits to master datasets",
            metrics.epoch_seconds.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Records a recomputation that has just ended.
    pub fn record_run(&self, report: &RunReport) {
        let finished_ms = WallClock::System.now_ms();
        let run = RunSummary::of(report, finished_ms);
        remember(&self.ended_runs, EndedRun { report: report.clone(), finished_ms });
        let (view, mode, outcome) = (report.view.to_string(), run.mode.as_str(), run.outcome.as_str());
        let labels = RunLabels { view, mode, outcome };
        self.runs.get_or_create(&labels).observe(run.seconds);
        self.run_rows.get_or_create(&labels).inc_by(run.rows);
        let mut last = self.last_runs.lock();
        last.insert(report.view.clone(), run);
        forget_oldest(&mut last, |run| run.finished_ms);
        drop(last);
        let mut failed = self.failed_runs.lock();
        match &report.outcome {
            RunOutcome::Failed(failure) => {
                let since_ms = failed.get(&report.id).map_or(failure.since_ms, |before| before.since_ms);
                failed.insert(report.id.clone(), ViewFailure { since_ms, ..failure.clone() });
                forget_oldest(&mut failed, |failure| failure.since_ms);
            }
            RunOutcome::Published | RunOutcome::NothingNew | RunOutcome::Fenced => {
                failed.remove(&report.id);
            }
            RunOutcome::Busy { .. } => {}
        }
    }

    /// Replaces the failure of a run that is recorded already by what a search has found out.
    pub fn refine_run(&self, report: &RunReport) {
        let RunOutcome::Failed(failure) = &report.outcome else { return };
        let same = |ended: &&mut EndedRun| ended.report.id == report.id && ended.report.to == report.to;
        if let Some(ended) = self.ended_runs.lock().iter_mut().rev().find(same) {
            ended.report = report.clone();
        }
        if let Some(last) = self.last_runs.lock().get_mut(&report.view) {
            *last = RunSummary::of(report, last.finished_ms);
        }
        if let Some(known) = self.failed_runs.lock().get_mut(&report.id) {
            *known = ViewFailure { since_ms: known.since_ms, ..failure.clone() };
        }
    }

    /// Records audits that have just ended.
    pub(crate) fn record_audits(&self, list: &AuditList) {
        let finished_ms = WallClock::System.now_ms();
        let compared = list.audits.iter().cloned().map(Ok);
        for outcome in compared.chain(list.failed.iter().cloned().map(Err)) {
            remember(&self.ended_audits, EndedAudit { outcome, finished_ms });
        }
    }

    /// The newest runs of this process, the newest last.
    pub(crate) fn runs(&self) -> Vec<EndedRun> {
        self.ended_runs.lock().iter().cloned().collect()
    }

    /// The newest audits of this process, the newest last.
    pub(crate) fn audits(&self) -> Vec<EndedAudit> {
        self.ended_audits.lock().iter().cloned().collect()
    }

    /// Records which views' newest runs have failed in other processes.
    pub fn record_failed_runs(&self, failures: impl IntoIterator<Item = (ViewId, ViewFailure)>) {
        *self.failed_runs.lock() = failures.into_iter().collect();
    }

    /// Returns why the newest run of a view failed; `None` if it did not fail.
    pub(crate) fn run_failure(&self, view: &ViewId) -> Option<ViewFailure> {
        self.failed_runs.lock().get(view).cloned()
    }

    /// Records a committed epoch.
    pub fn record_commit(&self, seconds: f64) {
        self.epochs.inc();
        self.epoch_seconds.inc_by(seconds);
    }

    /// Returns the newest recomputation of `view` by this process.
    pub(crate) fn last_run(&self, view: &ViewName) -> Option<RunSummary> {
        self.last_runs.lock().get(view).cloned()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn queries(&self) -> Queries {
        Queries {
            running: self.running.get(),
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Starts to track one query, until [`Track`] is dropped.
    pub(crate) fn track_query(self: &Arc<Self>, listed: ListedQuery) -> Track {
        self.running.inc();
        Track { metrics: Arc::clone(self), started: Instant::now(), listed }
    }
}

fn remember<T>(history: &Mutex<VecDeque<T>>, newest: T) {
    let mut history = history.lock();
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(newest);
}

/// Removes the oldest of more than [`REMEMBERED`] entries. Views that were dropped, and their runs, have no other end.
fn forget_oldest<K: Clone + Eq + Hash, V>(entries: &mut HashMap<K, V>, time: impl Fn(&V) -> i64) {
    if entries.len() > REMEMBERED {
        let oldest = entries.iter().min_by_key(|(_, value)| time(value)).map(|(key, _)| key.clone());
        oldest.and_then(|key| entries.remove(&key));
    }
}

fn query_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

fn run_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 2.0, 16))
}

/// The outcome of a request whose client has the answer already.
pub(crate) const UNCHANGED: &str = "unchanged";
/// The outcome of a request that is answered as an equal one was.
pub(crate) const SHARED: &str = "shared";

/// A running query; counted as `cancelled` if dropped before its end.
pub(crate) struct Track {
    metrics: Arc<Metrics>,
    started: Instant,
    listed: ListedQuery,
}

impl Track {
    pub(crate) fn finish(&mut self) {
        self.listed.set_outcome("ok");
    }

    /// The request is answered without a query: [`UNCHANGED`] or [`SHARED`].
    pub(crate) fn finish_as(&mut self, outcome: &'static str) {
        self.listed.set_outcome(outcome);
    }

    /// The query as others see it.
    pub(crate) fn listed(&self) -> &ListedQuery {
        &self.listed
    }

    /// Records the outcome of the failed query and returns the error.
    pub(crate) fn failed(&mut self, error: Error) -> Error {
        self.listed.set_outcome(error.code().as_str());
        error
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.metrics.running.dec();
        let count = match self.listed.outcome() {
            "ok" | UNCHANGED | SHARED => &self.metrics.answered,
            _ => &self.metrics.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let outcome = OutcomeLabel { outcome: self.listed.outcome().to_owned() };
        self.metrics.queries.get_or_create(&outcome).observe(self.started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut entries: HashMap<i64, i64> = (0..=REMEMBERED as i64).map(|i| (i, i % 7_000 + 1)).collect();
        entries.insert(3, -1);
        forget_oldest(&mut entries, |time| *time);
        assert_eq!((entries.len(), entries.contains_key(&3)), (REMEMBERED, false));
        forget_oldest(&mut entries, |time| *time);
        assert_eq!(entries.len(), REMEMBERED);
    }
}
