//! Memory of queries: a pool for each query, and one sum over all queries of the process.
//!
//! Operators that spill share three quarters of a query's memory. A sort that has filled its share is not told when
//! other memory is needed, so the last quarter is for what cannot spill: batches under way, joins, values of functions.
//!
//! Invariant: whatever a query reserves in its pool is also part of the sum, until the reservation is freed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// What the engine calls the memory in which spilled runs of one sort are merged. It takes all that it can get, and
/// cannot spill, so sorts that run beside it would find none.
const MERGE: &str = "ExternalSorterMerge";

/// Bytes of a merge that a sort reserves before its first row (`datafusion.execution.sort_spill_reservation_bytes`).
const FIRST_MERGE: usize = 10 << 20;

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
    /// Limits what spills, and counts the rest.
    own: FairSpillPool,
    bytes: usize,
    /// The most bytes of one merge.
    merge: usize,
    reserved: AtomicUsize,
    all: Arc<AllQueries>,
}

impl QueryPool {
    /// A pool of `bytes` for a query on `threads` threads, within the sum of `all`.
    pub(crate) fn new(bytes: usize, threads: usize, all: Arc<AllQueries>) -> Self {
        let merge = (bytes / (2 * threads.max(1))).max(FIRST_MERGE);
        Self { own: FairSpillPool::new(bytes - bytes / 4), bytes, merge, reserved: AtomicUsize::new(0), all }
    }

    fn take(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let name = reservation.consumer().name();
        if name.starts_with(MERGE) && reservation.size().saturating_add(additional) > self.merge {
            return resources_err!("{additional} bytes for {name} are not left: it may hold {}", self.merge);
        }
        let within = |now: usize| now.checked_add(additional).filter(|sum| *sum <= self.bytes);
        if reservation.consumer().can_spill() {
            self.own.try_grow(reservation, additional)?;
            self.reserved.fetch_add(additional, Ordering::Relaxed);
        } else if self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok() {
            // The shares of what spills become smaller by that.
            self.own.grow(reservation, additional);
        } else {
            let held = self.reserved.load(Ordering::Relaxed);
            return resources_err!(
                "{additional} bytes for {name} are not left: the query holds {held} of {} that it may hold",
                self.bytes
            );
        }
        Ok(())
    }

    fn give_back(&self, reservation: &MemoryReservation, bytes: usize) {
        self.own.shrink(reservation, bytes);
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
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
        self.reserved.fetch_add(additional, Ordering::Relaxed);
        self.all.add(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.give_back(reservation, shrink);
        self.all.subtract(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.take(reservation, additional)?;
        if self.all.try_add(additional) {
            return Ok(());
        }
        self.give_back(reservation, additional);
        let (asking, limit) = (reservation.consumer().name(), self.all.limit);
        resources_err!("{asking} needs {additional} bytes more, and all queries together may hold {limit}")
    }

    fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

/// A pool whose reservations keep a value of `T` until the last of them is dropped.
pub(crate) struct HoldingPool<T> {
    pool: Arc<dyn MemoryPool>,
    _held: Arc<T>,
}

impl<T> HoldingPool<T> {
    pub(crate) fn new(pool: Arc<dyn MemoryPool>, held: Arc<T>) -> Self {
        Self { pool, _held: held }
    }
}

impl<T> fmt::Debug for HoldingPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HoldingPool").field(&self.pool).finish()
    }
}

impl<T> fmt::Display for HoldingPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.pool, f)
    }
}

impl<T: Send + Sync + 'static> MemoryPool for HoldingPool<T> {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_keeps_what_its_pool_holds() {
        let all = Arc::new(AllQueries::new(900));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(800, 2, Arc::clone(&all)));
        let held = Arc::new(());
        let holding: Arc<dyn MemoryPool> = Arc::new(HoldingPool::new(Arc::clone(&pool), Arc::clone(&held)));
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&holding);
        drop(holding);
        let part = sort.new_empty();
        part.try_grow(100).unwrap();
        assert_eq!((pool.reserved(), Arc::strong_count(&held)), (100, 2));
        drop(sort);
        assert_eq!((pool.reserved(), Arc::strong_count(&held)), (100, 2));
        drop(part);
        assert_eq!((pool.reserved(), all.reserved(), Arc::strong_count(&held)), (0, 0, 1));
    }

    #[test]
    fn what_spills_leaves_a_quarter_and_nothing_exceeds_the_whole() {
        let all = Arc::new(AllQueries::new(900));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(800, 2, Arc::clone(&all)));
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        let batch = MemoryConsumer::new("batch").register(&pool);
        sort.try_grow(600).unwrap();
        assert!(sort.try_grow(1).is_err());
        batch.try_grow(200).unwrap();
        assert!(batch.try_grow(1).is_err());
        sort.shrink(400);
        // The sort's share is smaller while others hold more.
        assert!(sort.try_grow(201).is_err());
        sort.try_grow(200).unwrap();
        batch.try_grow(200).unwrap();
        assert_eq!((pool.reserved(), all.reserved()), (800, 800));
        drop((sort, batch));
        assert_eq!((pool.reserved(), all.reserved()), (0, 0));
    }

    #[test]
    fn a_merge_leaves_memory_to_sorts_beside_it() {
        let all = Arc::new(AllQueries::new(1 << 30));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(64 << 20, 2, all));
        let merge = MemoryConsumer::new("ExternalSorterMerge[0]").register(&pool);
        merge.try_grow(16 << 20).unwrap();
        assert!(merge.try_grow(1).is_err());
        let sort = MemoryConsumer::new("ExternalSorter[1]").with_can_spill(true).register(&pool);
        sort.try_grow(32 << 20).unwrap();
        assert!(sort.try_grow(1).is_err());
        drop((merge, sort));
        assert_eq!(pool.reserved(), 0);
    }
}
