//! Memory of queries: a pool for each query, and one sum over all queries of the process.
//!
//! Operators that spill share three quarters of a query's memory. A sort that has filled its share is not told when
//! other memory is needed, so the last quarter is for what cannot spill: batches under way, joins, values of functions.
//!
//! Invariant: whatever a query reserves in its pool is also part of the sum, until the reservation is freed. The sum is
//! above its limit by no more than a little for each query.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::resources_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use crate::error::TOGETHER;

/// What the engine calls the memory in which spilled runs of one sort are merged. It takes all that it can get, and
/// cannot spill, so sorts that run beside it would find none.
const MERGE: &str = "ExternalSorterMerge";

/// The most bytes of a merge that a sort reserves before its first row.
const FIRST_MERGE: usize = 10 << 20;

/// The bytes of a merge that a sort reserves before its first row, on each of `threads` threads, in a query that may
/// hold `bytes` (`datafusion.execution.sort_spill_reservation_bytes`). All of them together leave room for rows.
pub(crate) fn first_merge(bytes: usize, threads: usize) -> usize {
    (bytes / 8 * 5 / threads.max(1)).min(FIRST_MERGE)
}

/// How many bytes less than at most are reserved when the allocator is asked to give memory back to the system. An
/// allocator keeps what was freed for a while, and the next query would fill new memory beside it.
const RECLAIM_FROM: usize = 16 << 20;

/// The most bytes that a query may hold although others have filled the sum, and the part of the sum that they may be.
const LITTLE: usize = 1 << 20;
const LITTLE_PART: usize = 64;

/// The sum of the reservations of all queries.
#[derive(Debug)]
pub(crate) struct AllQueries {
    limit: usize,
    reserved: AtomicUsize,
    /// The greatest sum since memory was given back.
    highest: AtomicUsize,
    /// Gives freed memory back to the system.
    reclaim: fn(),
}

impl AllQueries {
    pub(crate) fn new(limit: usize, reclaim: fn()) -> Self {
        Self { limit, reserved: AtomicUsize::new(0), highest: AtomicUsize::new(0), reclaim }
    }

    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// The bytes that every query may hold, whatever the sum. Places bound how many queries there are.
    fn little(&self) -> usize {
        (self.limit / LITTLE_PART).min(LITTLE)
    }

    /// Adds `bytes` unless the sum would exceed the limit.
    fn try_add(&self, bytes: usize) -> bool {
        let within = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let before = self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if let Ok(before) = before {
            self.highest.fetch_max(before + bytes, Ordering::Relaxed);
        }
        before.is_ok()
    }

    fn add(&self, bytes: usize) {
        let before = self.reserved.fetch_add(bytes, Ordering::Relaxed);
        self.highest.fetch_max(before.saturating_add(bytes), Ordering::Relaxed);
    }

    /// Takes `bytes` from the sum. What is freed counts until the allocator has given it back.
    fn subtract(&self, bytes: usize) {
        let left = self.reserved.load(Ordering::Relaxed).saturating_sub(bytes);
        let highest = self.highest.load(Ordering::Relaxed);
        let falls = highest.saturating_sub(left) >= RECLAIM_FROM;
        // One of several threads that find the same highest sum is enough.
        if falls && self.highest.compare_exchange(highest, left, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            (self.reclaim)();
        }
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
        let merge = (bytes / (2 * threads.max(1))).max(first_merge(bytes, threads));
        Self { own: FairSpillPool::new(bytes - bytes / 4), bytes, merge, reserved: AtomicUsize::new(0), all }
    }

    fn take(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let name = reservation.consumer().name();
        if name.starts_with(MERGE) && reservation.size().saturating_add(additional) > self.merge {
            return resources_err!("{additional} bytes for {name} are not left: it may hold {}", self.merge);
        }
        let within = |now: usize| now.checked_add(additional).filter(|sum| *sum <= self.bytes);
        if self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            let held = self.reserved.load(Ordering::Relaxed);
            return resources_err!(
                "{additional} bytes for {name} are not left: the query holds {held} of {} that it may hold",
                self.bytes
            );
        }
        if !reservation.consumer().can_spill() {
            // The shares of what spills become smaller by that.
            self.own.grow(reservation, additional);
            return Ok(());
        }
        let grown = self.own.try_grow(reservation, additional);
        if grown.is_err() {
            self.reserved.fetch_sub(additional, Ordering::Relaxed);
        }
        grown
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
        // A query that needs little is answered although others have filled the sum.
        if self.reserved() <= self.all.little() {
            self.all.add(additional);
            return Ok(());
        }
        self.give_back(reservation, additional);
        let (asking, limit) = (reservation.consumer().name(), self.all.limit);
        resources_err!("{asking} needs {additional} bytes more, and {TOGETHER} may hold {limit}")
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
        let all = Arc::new(AllQueries::new(900, || {}));
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
    fn memory_is_given_back_when_much_less_is_reserved() {
        static RECLAIMED: AtomicUsize = AtomicUsize::new(0);
        let all = AllQueries::new(1 << 30, || {
            RECLAIMED.fetch_add(1, Ordering::Relaxed);
        });
        let check = |expect: usize| assert_eq!(RECLAIMED.load(Ordering::Relaxed), expect);
        assert!(all.try_add(RECLAIM_FROM));
        for _ in 0..10 {
            assert!(all.try_add(1 << 20));
            all.subtract(1 << 20);
        }
        all.subtract((1 << 20) - 1);
        check(0);
        all.subtract(RECLAIM_FROM - (1 << 20) + 1);
        check(1);
        all.add(RECLAIM_FROM - 1);
        all.subtract(RECLAIM_FROM - 1);
        check(1);
        all.add(2 * RECLAIM_FROM);
        all.subtract(RECLAIM_FROM);
        all.subtract(RECLAIM_FROM);
        check(3);
    }

    #[test]
    fn little_is_there_although_others_fill_the_sum() {
        let all = Arc::new(AllQueries::new(64 << 20, || {}));
        let pool = || -> Arc<dyn MemoryPool> { Arc::new(QueryPool::new(64 << 20, 2, Arc::clone(&all))) };
        let (greedy, modest) = (pool(), pool());
        let batch = MemoryConsumer::new("batch").register(&greedy);
        batch.try_grow(64 << 20).unwrap();
        assert!(batch.try_grow(1).is_err());
        let lookup = MemoryConsumer::new("lookup").register(&modest);
        lookup.try_grow(LITTLE - 1).unwrap();
        lookup.try_grow(1).unwrap();
        assert!(lookup.try_grow(1).is_err());
        assert_eq!(all.reserved(), (64 << 20) + LITTLE);
        drop((batch, lookup));
        assert_eq!(all.reserved(), 0);
    }

    #[test]
    fn what_spills_leaves_a_quarter_and_nothing_exceeds_the_whole() {
        let all = Arc::new(AllQueries::new(900, || {}));
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
    fn what_spills_and_comes_late_finds_no_more_than_the_whole() {
        let all = Arc::new(AllQueries::new(10_000, || {}));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(800, 2, Arc::clone(&all)));
        let early = MemoryConsumer::new("early").with_can_spill(true).register(&pool);
        let batch = MemoryConsumer::new("batch").register(&pool);
        early.try_grow(600).unwrap();
        batch.try_grow(200).unwrap();
        let late = MemoryConsumer::new("late").with_can_spill(true).register(&pool);
        assert!(late.try_grow(200).is_err());
        assert_eq!((pool.reserved(), all.reserved()), (800, 800));
        early.shrink(400);
        late.try_grow(200).unwrap();
        assert!(late.try_grow(1).is_err());
        drop((early, batch, late));
        assert_eq!((pool.reserved(), all.reserved()), (0, 0));
    }

    #[test]
    fn the_first_merges_of_many_threads_leave_room_for_rows() {
        let check = |bytes, threads, expect| assert_eq!(first_merge(bytes, threads), expect, "{bytes} {threads}");
        check(512 << 20, 2, FIRST_MERGE);
        check(512 << 20, 32, FIRST_MERGE);
        check(512 << 20, 64, 5 << 20);
        check(32 << 20, 2, FIRST_MERGE);
        check(16 << 20, 2, 5 << 20);
        let all = Arc::new(AllQueries::new(1 << 30, || {}));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(512 << 20, 128, all));
        let merges = (0..128).map(|i| MemoryConsumer::new(format!("ExternalSorterMerge[{i}]")).register(&pool));
        let merges: Vec<_> = merges.collect();
        for merge in &merges {
            merge.try_grow(first_merge(512 << 20, 128)).unwrap();
        }
        let sort = MemoryConsumer::new("ExternalSorter[0]").with_can_spill(true).register(&pool);
        sort.try_grow(32 << 20).unwrap();
    }

    #[test]
    fn a_merge_leaves_memory_to_sorts_beside_it() {
        let all = Arc::new(AllQueries::new(1 << 30, || {}));
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
