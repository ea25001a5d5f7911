//! A query that runs on a lane.
//!
//! Invariant: dropping [`Running`] cancels the query. Its lane and its place are free when its last operator is gone.

use std::sync::{Arc, Weak};

use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::planning::Planned;
use crate::limits::allowance::Allowance;
use crate::limits::lanes::{LOST_AFTER, Lane, Watch};
use crate::{Error, Result};

/// Batches that a query may compute ahead of its client.
const BATCHES_AHEAD: usize = 2;

/// Bytes of a batch that is handed to a client at once, if it has more than one row. Encoding it must not keep the
/// thread that serves others.
const PIECE_BYTES: usize = 1 << 20;

/// A running query.
pub(super) struct Running {
    first: oneshot::Receiver<Result<()>>,
    batches: mpsc::Receiver<EngineResult<RecordBatch>>,
    /// True if the query finished, false if its time ran out.
    task: AbortOnDropHandle<bool>,
    allowance: Weak<Allowance>,
    memory: Arc<dyn MemoryPool>,
    _watch: Watch,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(allowance) = self.allowance.upgrade() {
            allowance.cancel();
        }
    }
}

impl Running {
    /// Starts the query on `lane`. The time limit also covers the rest of the answer: a client that stops reading must
    /// not keep a place.
    pub(super) fn start(planned: Planned, lane: Lane, place: OwnedSemaphorePermit, deadline: Instant) -> Self {
        let (threads, watch) = (lane.handle().clone(), lane.watch(deadline + LOST_AFTER));
        let allowance = Arc::downgrade(&planned.allowance);
        let memory = Arc::clone(planned.allowance.pool());
        planned.allowance.occupy(lane, place);
        let (first_sender, first) = oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let work = run(planned, first_sender, sender);
        let task = threads.spawn(async move { timeout_at(deadline, work).await.is_ok() });
        Self { first, batches, task: AbortOnDropHandle::new(task), allowance, memory, _watch: watch }
    }

    /// The query's memory.
    pub(super) fn memory(&self) -> &Arc<dyn MemoryPool> {
        &self.memory
    }

    /// Waits for the first batch, or the error in its place; `None` if the task ended before.
    pub(super) async fn first(&mut self) -> Option<Result<()>> {
        (&mut self.first).await.ok()
    }

    /// The next batch; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<EngineResult<RecordBatch>> {
        self.batches.recv().await
    }

    /// Waits for the end of the task: true if the query finished, false if its time ran out.
    ///
    /// Errors: a panic.
    pub(super) async fn end(&mut self) -> std::result::Result<bool, JoinError> {
        (&mut self.task).await
    }
}

/// Computes the query; ends when the receiver of the batches is gone.
async fn run(planned: Planned, first: oneshot::Sender<Result<()>>, batches: mpsc::Sender<EngineResult<RecordBatch>>) {
    let Planned { physical, task, allowance, system: _held, .. } = planned;
    let started = match execute_stream(physical, task) {
        Ok(mut rows) => match rows.next().await {
            Some(Err(source)) => Err(source),
            next => Ok((next, rows)),
        },
        Err(source) => Err(source),
    };
    let (mut next, mut rows) = match started {
        Ok(started) => started,
        Err(source) => {
            // A dropped receiver means that the client has gone, so the error has no reader.
            let _ = first.send(Err(Error::of_engine(source, false)));
            return;
        }
    };
    allowance.sent();
    if first.send(Ok(())).is_err() {
        return;
    }
    while let Some(batch) = next {
        if send(batch, &batches).await.is_err() {
            return;
        }
        next = rows.next().await;
    }
}

/// Sends a batch in pieces.
async fn send(
    batch: EngineResult<RecordBatch>,
    to: &mpsc::Sender<EngineResult<RecordBatch>>,
) -> std::result::Result<(), mpsc::error::SendError<EngineResult<RecordBatch>>> {
    let batch = match batch {
        Ok(batch) if batch.num_rows() > 1 => batch,
        other => return to.send(other).await,
    };
    let rows = piece_rows(&batch);
    for from in (0..batch.num_rows()).step_by(rows) {
        to.send(Ok::<_, DataFusionError>(batch.slice(from, rows.min(batch.num_rows() - from)))).await?;
    }
    Ok(())
}

/// Rows of one piece of `batch`.
fn piece_rows(batch: &RecordBatch) -> usize {
    let bytes = crate::limits::slices::bytes(batch);
    let width = bytes.div_ceil(batch.num_rows().max(1)).max(1);
    (PIECE_BYTES / width).clamp(1, batch.num_rows().max(1))
}
