//! What the ingest loop is doing: the epoch in flight, the jobs beside the loop, and what waits for them.
//!
//! Invariant: one epoch is in flight at most. Jobs work on immutable segments and pinned versions only.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::context::SessionState;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::EpochOutcome;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::{Frontier, StreamName};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use crate::budget::MemoryShares;
use crate::group::change::Revoked;
use crate::ingest::event::{IngestEvent, JobDone};
use crate::state::rebuild::{Rebuild, Rebuilt, Stretch, continue_rebuild, rebuild};
use crate::state::update::merge;
use crate::state::views::MergeJob;
use crate::{Error, Result};

/// An epoch that the archive has been given.
pub(super) struct InFlight {
    pub(super) to: Frontier,
    reply: oneshot::Receiver<EpochOutcome>,
}

/// What is under way, and when it was last begun.
pub(super) struct Work {
    stream: StreamName,
    /// For micro-batches and merges, which are small.
    session: Arc<SessionState>,
    /// For rebuilds: bounded, spills.
    rebuild_session: Arc<SessionState>,
    jobs: JoinSet<Result<JobDone>>,
    in_flight: Option<InFlight>,
    /// When an epoch was last cut with a mark.
    pub(super) last_mark: Option<Duration>,
    /// When an early run was last asked for.
    pub(super) last_request: Option<Duration>,
    /// Partitions that go as soon as they are archived.
    pub(super) revoking: Vec<Revoked>,
    /// Bytes of messages at which a micro-batch ends.
    pub(super) batch_limit: usize,
}

impl Work {
    pub(super) fn new(stream: StreamName, warehouse: &Warehouse, shares: &MemoryShares) -> Result<Self> {
        let unbounded = session::runtime(Some(warehouse), None, None)?;
        let bounded = session::runtime(Some(warehouse), Some(shares.rebuild), None)?;
        Ok(Self {
            stream,
            session: Arc::new(session::state(unbounded, 1)),
            rebuild_session: Arc::new(session::state(bounded, 1)),
            jobs: JoinSet::new(),
            in_flight: None,
            last_mark: None,
            last_request: None,
            revoking: Vec::new(),
            batch_limit: shares.first_batch(),
        })
    }

    /// The next thing that is done. Cancelling it loses nothing.
    ///
    /// Errors: a job failed, the archive has gone.
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

    /// A task of this stream panicked or was cancelled.
    pub(super) fn failed(&self, source: JoinError) -> Error {
        Error::Task { stream: self.stream.clone(), source }
    }

    fn archive_gone(&self) -> Error {
        Error::Disconnected { stream: self.stream.clone(), what: "archive" }
    }

    pub(super) fn is_archiving(&self) -> bool {
        self.in_flight.is_some()
    }

    /// An epoch up to `to` is on its way. Gives the end at which the archive answers.
    pub(super) fn begin_epoch(&mut self, to: Frontier) -> oneshot::Sender<EpochOutcome> {
        let (sender, reply) = oneshot::channel();
        self.in_flight = Some(InFlight { to, reply });
        sender
    }

    /// The outcome of the epoch in flight; waits for ever if there is none.
    ///
    /// Errors: the archive has gone.
    pub(super) async fn outcome(&mut self) -> Result<EpochOutcome> {
        outcome(&mut self.in_flight).await.ok_or_else(|| self.archive_gone())
    }

    /// The epoch in flight is over.
    pub(super) fn end_epoch(&mut self) -> Option<InFlight> {
        self.in_flight.take()
    }

    /// For what the loop computes itself.
    pub(super) fn session(&self) -> &Arc<SessionState> {
        &self.session
    }

    /// Bytes that rebuilds use now.
    pub(super) fn rebuild_bytes(&self) -> usize {
        self.rebuild_session.runtime_env().memory_pool.reserved()
    }

    pub(super) fn merge(&mut self, job: MergeJob) {
        let session = Arc::clone(&self.session);
        self.jobs.spawn(async move {
            let merged = merge(session, &job.view.plan, &job.runs).await?;
            Ok(JobDone::Merged(job.view.plan.id().clone(), merged))
        });
    }

    pub(super) fn rebuild(&mut self, job: Rebuild) {
        let session = Arc::clone(&self.rebuild_session);
        self.jobs.spawn(async move { Ok(JobDone::Rebuilt(rebuild(session, job).await?)) });
    }

    /// Goes on with a rebuild over rows of `schema` that were read while it ran.
    pub(super) fn continue_rebuild(&mut self, schema: SchemaRef, rebuilt: Rebuilt, rest: Vec<Stretch>) {
        let session = Arc::clone(&self.rebuild_session);
        self.jobs.spawn(async move {
            let rebuilt = continue_rebuild(session, schema, rebuilt, rest).await?;
            Ok(JobDone::Rebuilt(rebuilt))
        });
    }

    pub(super) fn abort_jobs(&mut self) {
        self.jobs.abort_all();
    }
}

/// The outcome of the epoch in flight, `None` if the archive has dropped it; waits for ever if there is none.
async fn outcome(in_flight: &mut Option<InFlight>) -> Option<EpochOutcome> {
    match in_flight {
        Some(epoch) => (&mut epoch.reply).await.ok(),
        None => pending().await,
    }
}
