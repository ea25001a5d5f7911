//! Memory of queries: a pool for each query, and one sum over all queries of the process.
//!
//! Invariant: whatever a query reserves in its pool is also part of the sum, until the reservation is freed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// The sum of the reservations of all queries.
#[derive(Debug)]
pub(crate) struct AllQueries {
    limit: usize,
    reserved: AtomicUsize,
}

impl AllQueries {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, reserved: AtomicUsize::new(0) }
    }

    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Adds `bytes` unless the sum would exceed the limit.
    fn try_add(&self, bytes: usize) -> bool {
        let within = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    fn add(&self, bytes: usize) {
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The pool of one query.
#[derive(Debug)]
pub(crate) struct QueryPool {
    own: FairSpillPool,
    all: Arc<AllQueries>,
}

impl QueryPool {
    /// A pool of `bytes`, within the sum of `all`.
    pub(crate) fn new(bytes: usize, all: Arc<AllQueries>) -> Self {
        Self { own: FairSpillPool::new(bytes), all }
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.own, f)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.add(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.subtract(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        if self.all.try_add(additional) {
            return Ok(());
        }
        self.own.shrink(reservation, additional);
        let (asking, limit) = (reservation.consumer().name(), self.all.limit);
        resources_err!("{asking} needs {additional} bytes more, and all queries together may hold {limit}")
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}
