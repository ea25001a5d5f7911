//! What one query may still take: time, memory, and whether anybody waits for its answer.
//!
//! Invariant: everything that can compute for a query holds its allowance (streams, functions) or a reservation of its
//! pool (what an operator does in a task of its own). Both hold the query's [`Occupied`], so the drop of the last of
//! them is the end of the query, and gives back its lane and its permit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::common::resources_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::lanes::Lane;
use super::memory::HoldingPool;
use crate::Error;

/// The parts of a query's memory of which one batch may take one, at least.
const BATCH_PARTS: usize = 8;

/// Batches of one thread that exist at the same time, about.
const BATCHES_OF_THREAD: usize = 4;

/// Rows of a batch below which batches only shrink as far as the rows demand: each batch has a cost of its own.
const FEW_ROWS: usize = 64;

/// A query's allowance.
pub(crate) struct Allowance {
    deadline: Instant,
    time: Duration,
    pool: Arc<dyn MemoryPool>,
    memory: usize,
    batch_bytes: usize,
    batch_rows: usize,
    join_rows: BTreeMap<usize, usize>,
    cancelled: AtomicBool,
    /// True while nothing was sent, so that the query can start again with smaller batches.
    can_restart: AtomicBool,
    /// Calls in the plan whose values can be far larger than their arguments.
    growing_calls: AtomicUsize,
    occupied: Arc<Occupied>,
}

/// The lane and the permit of a query, once it has them. The lane is given back first: whoever takes the permit finds
/// an idle lane.
#[derive(Debug, Default)]
pub(crate) struct Occupied(Mutex<Option<(Lane, OwnedSemaphorePermit)>>);

/// The limits of an allowance.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) deadline: Instant,
    /// The whole time that the query was given, for the message.
    pub(crate) time: Duration,
    pub(crate) memory: usize,
    /// Threads that compute at the same time.
    pub(crate) threads: usize,
    /// Rows of a batch.
    pub(crate) batch_rows: usize,
    /// Rows of a batch of single joins, by their number in the plan: one wide row makes all batches of a join small,
    /// and need not make those of the whole query small.
    pub(crate) join_rows: BTreeMap<usize, usize>,
    pub(crate) can_restart: bool,
}

impl Allowance {
    pub(crate) fn new(terms: &Terms, pool: Arc<dyn MemoryPool>) -> Self {
        Self {
            deadline: terms.deadline,
            time: terms.time,
            pool,
            memory: terms.memory,
            batch_bytes: terms.memory / BATCH_PARTS.max(BATCHES_OF_THREAD * terms.threads),
            batch_rows: terms.batch_rows,
            join_rows: terms.join_rows.clone(),
            cancelled: AtomicBool::new(false),
            can_restart: AtomicBool::new(terms.can_restart),
            growing_calls: AtomicUsize::new(0),
            occupied: Arc::default(),
        }
    }

    /// Keeps the lane and the permit until the query's end.
    pub(crate) fn occupy(&self, lane: Lane, permit: OwnedSemaphorePermit) {
        *self.occupied.0.lock() = Some((lane, permit));
    }

    /// The pool for operators. Each of their reservations keeps the lane and the permit, because an operator computes
    /// in tasks that hold nothing else of the query. What only waits for a client counts in [`Self::pool`].
    pub(crate) fn operators_pool(&self) -> Arc<dyn MemoryPool> {
        Arc::new(HoldingPool::new(Arc::clone(&self.pool), Arc::clone(&self.occupied)))
    }

    /// Ends the query at the next check.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// From now on the query cannot start again, because a part of its answer was sent.
    pub(crate) fn sent(&self) {
        self.can_restart.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_growing_calls(&self, calls: usize) {
        self.growing_calls.store(calls, Ordering::Relaxed);
    }

    pub(crate) fn batch_rows(&self) -> usize {
        self.batch_rows
    }

    /// Rows of a batch of one join.
    pub(crate) fn join_rows(&self, join: usize) -> usize {
        self.join_rows.get(&join).copied().unwrap_or(self.batch_rows).min(self.batch_rows)
    }

    pub(crate) fn pool(&self) -> &Arc<dyn MemoryPool> {
        &self.pool
    }

    /// Bytes that one batch may take.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Bytes that one of the calls with growing values may produce at once.
    pub(crate) fn call_bytes(&self) -> usize {
        self.batch_bytes() / self.growing_calls.load(Ordering::Relaxed).max(1)
    }

    /// Errors: the time is over, or nobody waits for the query.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline {
            return Err(external(Error::Timeout { seconds: self.time.as_secs_f64() }));
        }
        Ok(())
    }

    /// A reservation of nothing, for `what`.
    pub(crate) fn reserve(&self, what: &str) -> MemoryReservation {
        MemoryConsumer::new(what).register(&self.pool)
    }

    /// The error that starts the query again with smaller batches, if `rows` rows take more than `limit` bytes at once
    /// and the query can still start again. An operator that makes a long batch by itself makes the same one again, so
    /// of such a batch only the width of its rows counts.
    pub(crate) fn too_wide(&self, rows: usize, bytes: usize, limit: usize) -> Option<DataFusionError> {
        let (rows, bytes) = (rows.min(self.batch_rows), as_batch(self.batch_rows, rows, bytes));
        if bytes <= limit || !self.can_restart.load(Ordering::Relaxed) {
            return None;
        }
        fitting(self.batch_rows, rows, bytes, limit).map(|rows| external(Error::WideRows { rows, join: None }))
    }

    /// The error that starts the query again with smaller batches of one join, if a batch of its widest rows takes more
    /// than a batch may, and the query can still start again.
    pub(crate) fn too_wide_a_join(&self, join: usize, width: usize) -> Option<DataFusionError> {
        let rows = self.join_rows(join);
        let bytes = width.saturating_mul(rows);
        if bytes <= self.batch_bytes || !self.can_restart.load(Ordering::Relaxed) {
            return None;
        }
        let fit = fitting(rows, rows, bytes, self.batch_bytes);
        fit.map(|rows| external(Error::WideRows { rows, join: Some(join) }))
    }

    /// The error of rows that are too wide, when the query cannot start again.
    pub(crate) fn exhausted<T>(&self, what: &str, bytes: usize) -> Result<T> {
        resources_err!("{what} needs {bytes} bytes at once, of {} that the query may hold", self.memory)
    }
}

/// Bytes of a batch of at most `batch_rows` rows, if `rows` rows take `bytes`.
fn as_batch(batch_rows: usize, rows: usize, bytes: usize) -> usize {
    match rows > batch_rows {
        true => bytes.div_ceil(rows).saturating_mul(batch_rows),
        false => bytes,
    }
}

/// The rows of a batch that fit into `limit` if `rows` take `bytes`; `None` if batches of `batch_rows` cannot shrink.
fn fitting(batch_rows: usize, rows: usize, bytes: usize, limit: usize) -> Option<usize> {
    let width = bytes.div_ceil(rows.max(1)).max(1);
    let fit = (limit / width).max(1);
    // A quarter leaves room for rows that are wider than these.
    let next = fit.min((batch_rows / 4).max(FEW_ROWS)).max(1);
    (next < batch_rows).then_some(next)
}

/// This crate's error as one of the engine.
pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance").field("memory", &self.memory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_until_their_rows_fit() {
        let check = |batch_rows, rows, bytes, expect| assert_eq!(fitting(batch_rows, rows, bytes, 1000), expect);
        check(8192, 8192, 8192 * 10, Some(100));
        check(8192, 8192, 8192, Some(1000));
        check(8192, 1, 5000, Some(1));
        check(1000, 1000, 1100, Some(250));
        check(100, 100, 1100, Some(64));
        check(64, 64, 1100, Some(55));
        check(64, 64, 640, None);
        check(3, 3, 1100, Some(2));
        check(1, 1, 5000, None);
    }

    #[test]
    fn a_long_batch_counts_as_one_of_the_usual_length() {
        let check = |rows, bytes, expect| assert_eq!(as_batch(100, rows, bytes), expect);
        check(50, 5_000, 5_000);
        check(100, 5_000, 5_000);
        check(1_000_000, 16_000_000, 1_600);
        check(200, 200_000, 100_000);
    }
}
