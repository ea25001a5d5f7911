//! The work in progress of the ingest loop: the epoch in flight, the jobs beside the loop, and the revocations that
//! wait for them.
//!
//! Invariant: at most one epoch is in flight. Jobs work only on immutable segments and pinned versions. A rebuild that
//! nobody needs ends.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::context::SessionState;
use thalweg_schemas::algebra::{Culprit, find_culprit};
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::clock::WallClock;
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::engine::session;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Fault, Frontier, StreamName};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::MemoryShares;
use crate::group::change::Revoked;
use crate::ingest::amended::Amending;
use crate::ingest::event::{IngestEvent, JobDone};
use crate::ingest::searches::{FailedRange, SearchQueue};
use crate::state::rebuild::{Rebuild, Rebuilt, Stretch, continue_rebuild, rebuild};
use crate::state::row_source::RowSource;
use crate::state::update::merge;
use crate::state::views::MergeJob;
use crate::{Error, Result};

/// The longest search for a message. It ends with the smallest range that was found.
const LONGEST_SEARCH: Duration = Duration::from_secs(600);

/// An epoch that was sent to the archive.
pub(super) struct InFlight {
    pub(super) to: Frontier,
    reply: oneshot::Receiver<EpochOutcome>,
}

/// The work in progress, and the times of the last mark and the last request.
pub(super) struct Work {
    stream: StreamName,
    /// For micro-batches and merges, which are small.
    session: Arc<SessionState>,
    /// For rebuilds and searches: memory is bounded, and operators spill.
    rebuild_session: Arc<SessionState>,
    jobs: JoinSet<Result<JobDone>>,
    /// The rebuilds that run, by their number.
    rebuilds: BTreeMap<u64, CancellationToken>,
    pub(super) searches: SearchQueue,
    pub(super) amending: Amending,
    in_flight: Option<InFlight>,
    /// When the last epoch with a mark was cut.
    pub(super) last_mark: Option<Duration>,
    /// When an early batch run was last requested.
    pub(super) last_request: Option<Duration>,
    /// Revoked partitions, which are dropped as soon as they are archived.
    pub(super) revoking: Vec<Revoked>,
    /// Bytes of messages at which a micro-batch is full.
    pub(super) batch_limit: usize,
}

impl Work {
    pub(super) fn new(
        stream: StreamName,
        warehouse: &Warehouse,
        shares: &MemoryShares,
        spill: Option<PathBuf>,
    ) -> Result<Self> {
        let unbounded = session::runtime(Some(warehouse), None, spill.clone())?;
        let bounded = session::runtime(Some(warehouse), Some(shares.rebuild), spill)?;
        Ok(Self {
            stream,
            session: Arc::new(session::state(unbounded, 1)),
            rebuild_session: Arc::new(session::state(bounded, 1)),
            jobs: JoinSet::new(),
            rebuilds: BTreeMap::new(),
            searches: SearchQueue::default(),
            amending: Amending::default(),
            in_flight: None,
            last_mark: None,
            last_request: None,
            revoking: Vec::new(),
            batch_limit: shares.first_batch(),
        })
    }

    /// The next result of the work in progress. Cancelling the call loses nothing.
    ///
    /// Errors: a job found a broken invariant, the archive has stopped.
    pub(super) async fn next(&mut self) -> Result<IngestEvent> {
        tokio::select! {
            outcome = outcome(&mut self.in_flight) => match outcome {
                Some(outcome) => Ok(IngestEvent::Outcome(outcome)),
                None => Err(self.archive_gone()),
            },
            Some(done) = self.jobs.join_next() => match done {
                Ok(done) => Ok(IngestEvent::Done(done?)),
                Err(source) => Err(self.failed(source)),
            },
        }
    }

    /// The error for a task of this stream that panicked or was cancelled.
    pub(super) fn failed(&self, source: JoinError) -> Error {
        Error::Task { stream: self.stream.clone(), source }
    }

    fn archive_gone(&self) -> Error {
        Error::Disconnected { stream: self.stream.clone(), what: "archive" }
    }

    pub(super) fn is_archiving(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Registers an epoch up to `to` as in flight. Returns the sender on which the archive answers.
    pub(super) fn begin_epoch(&mut self, to: Frontier) -> oneshot::Sender<EpochOutcome> {
        let (sender, reply) = oneshot::channel();
        self.in_flight = Some(InFlight { to, reply });
        sender
    }

    /// The outcome of the epoch in flight; waits for ever if no epoch is in flight.
    ///
    /// Errors: the archive has stopped.
    pub(super) async fn outcome(&mut self) -> Result<EpochOutcome> {
        outcome(&mut self.in_flight).await.ok_or_else(|| self.archive_gone())
    }

    /// Removes the epoch in flight, which has ended.
    pub(super) fn end_epoch(&mut self) -> Option<InFlight> {
        self.in_flight.take()
    }

    /// The session for work that the loop does itself.
    pub(super) fn session(&self) -> &Arc<SessionState> {
        &self.session
    }

    /// The session for rebuilds, searches and amendments.
    pub(super) fn rebuild_session(&self) -> Arc<SessionState> {
        Arc::clone(&self.rebuild_session)
    }

    /// Bytes that rebuilds and searches have reserved of their memory pool.
    pub(super) fn reserved(&self) -> usize {
        self.rebuild_session.runtime_env().memory_pool.reserved()
    }

    pub(super) fn is_rebuilding(&self) -> bool {
        !self.rebuilds.is_empty()
    }

    /// Ends the rebuilds that are not `needed` any more.
    pub(super) fn end_rebuilds(&mut self, needed: &BTreeSet<u64>) {
        self.rebuilds.retain(|id, token| {
            let needed = needed.contains(id);
            if !needed {
                token.cancel();
            }
            needed
        });
    }

    /// Starts a job beside the loop.
    pub(super) fn spawn(&mut self, job: impl Future<Output = Result<JobDone>> + Send + 'static) {
        self.jobs.spawn(job);
    }

    pub(super) fn merge(&mut self, job: MergeJob) {
        let session = Arc::clone(&self.session);
        self.jobs.spawn(async move {
            let (id, incarnation) = (job.view.plan.id().clone(), job.incarnation);
            match contain("merging segments", merge(session, &job.view.plan, &job.runs)).await {
                Ok(merged) => Ok(JobDone::Merged(id, incarnation, merged)),
                Err(error) if error.fault() == Fault::Bug => Err(error),
                Err(error) => {
                    let from = job.runs.iter().filter_map(|run| run.first()).map(|first| (first.partition, first.from));
                    let to = job.runs.iter().filter_map(|run| run.last()).map(|last| (last.partition, last.to));
                    let (from, to) = (from.collect::<Frontier>(), to.collect::<Frontier>());
                    let failure = ViewFailure::new(FailedStep::Merge, &error.into_shared(), (&from, &to), now_ms());
                    Ok(JobDone::MergeFailed(id, incarnation, failure))
                }
            }
        });
    }

    pub(super) fn rebuild(&mut self, job: Rebuild) {
        let session = Arc::clone(&self.rebuild_session);
        let (view, id) = (Arc::clone(&job.view), job.id);
        self.spawn_rebuild(view, id, rebuild(session, job));
    }

    /// Continues a rebuild over rows of `schema` that were read while it ran.
    pub(super) fn continue_rebuild(&mut self, schema: SchemaRef, rebuilt: Rebuilt, rest: Vec<Stretch>) {
        let session = Arc::clone(&self.rebuild_session);
        let (view, id) = (Arc::clone(&rebuilt.view), rebuilt.id);
        self.spawn_rebuild(view, id, continue_rebuild(session, schema, rebuilt, rest));
    }

    fn spawn_rebuild(
        &mut self,
        view: Arc<CompiledView>,
        id: u64,
        work: impl Future<Output = Result<Rebuilt, Culprit>> + Send + 'static,
    ) {
        let token = CancellationToken::new();
        self.rebuilds.insert(id, token.clone());
        self.jobs.spawn(async move {
            match token.run_until_cancelled(work).await {
                Some(outcome) => rebuilt(outcome, view, id),
                None => Ok(JobDone::Aborted),
            }
        });
    }

    /// Looks for the messages behind a recorded failure until `end`.
    pub(super) fn locate(&mut self, failed: FailedRange, rows: RowSource, end: CancellationToken) {
        let session = Arc::clone(&self.rebuild_session);
        self.jobs.spawn(async move {
            let FailedRange { view, recorded, from, to, error } = failed;
            let until = Instant::now() + LONGEST_SEARCH;
            let part = |from: &Frontier, to: &Frontier| rows.rows(from, to);
            let searching = contain("looking for a message", async {
                Ok::<_, Error>(find_culprit(&view.plan, &session, (from, to), error, until, part).await)
            });
            let precise = match end.run_until_cancelled(searching).await {
                Some(Ok(culprit)) => ViewFailure::located(recorded.step, culprit, recorded.since_ms),
                Some(Err(_)) | None => ViewFailure::clone(&recorded),
            };
            Ok(JobDone::Located(view, recorded, precise))
        });
    }

    pub(super) fn abort_jobs(&mut self) {
        self.jobs.abort_all();
    }
}

/// The time of a failure.
pub(super) fn now_ms() -> i64 {
    WallClock::System.now_ms()
}

/// The result of rebuild `id` of `view`.
///
/// Errors: a broken invariant. Any other error is the view's own.
fn rebuilt(outcome: Result<Rebuilt, Culprit>, view: Arc<CompiledView>, id: u64) -> Result<JobDone> {
    match outcome {
        Ok(rebuilt) => Ok(JobDone::Rebuilt(rebuilt)),
        Err(culprit) if culprit.error.fault() == Fault::Bug => Err(Error::Shared(culprit.error)),
        Err(culprit) => Ok(JobDone::RebuildFailed(view, id, culprit)),
    }
}

/// The outcome of the epoch in flight; `None` if the archive dropped the reply. Waits for ever if no epoch is in
/// flight.
async fn outcome(in_flight: &mut Option<InFlight>) -> Option<EpochOutcome> {
    match in_flight {
        Some(epoch) => (&mut epoch.reply).await.ok(),
        None => pending().await,
    }
}
