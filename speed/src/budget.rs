//! What to do about memory: pure decisions over how much is held and what could go.
//!
//! ```text
//!  budget ─┬─ librdkafka's queue       what is fetched ahead
//!          ├─ two micro-batches        one being worked off, one being drained meanwhile: messages, rows and states
//!          └─ limit                    rows and states that stay; reading pauses here, so that what is under way fits
//! ```
//!
//! Counted are messages from the moment they leave librdkafka, rows, states, and the whole pool of a rebuild that runs.
//! Not counted is what one operator needs while it works: a decoder's tape, the hash table of one micro-batch, the
//! Parquet file that an epoch becomes.
//!
//! Invariant: nothing that is not archived is ever given up; when nothing can go, reading pauses.

use std::time::Duration;

/// Above this share of the limit, memory is made free; above the whole, reading pauses; below it, reading resumes.
const RELIEF: usize = 80;
/// The batch layer is asked again no sooner than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Micro-batches are no smaller and no larger than this: small ones cost more than they save.
const BATCH: std::ops::RangeInclusive<usize> = 16 << 10..=32 << 20;
/// librdkafka's queue is no smaller and no larger than this; a larger one makes nothing faster.
const QUEUE: std::ops::RangeInclusive<usize> = 128 << 10..=32 << 20;

/// How a stream's budget is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    /// What one micro-batch may come to: its messages, rows and states.
    pub(crate) batch: usize,
    /// What may be held before reading pauses.
    pub(crate) limit: usize,
    /// What a rebuild may use.
    pub(crate) rebuild: usize,
}

impl MemoryShares {
    /// `queue` is what librdkafka may fetch ahead; a user may have set it to more than the budget.
    pub(crate) fn of(budget: usize, queue: usize) -> Self {
        let batches = budget / 4;
        Self {
            batch: batches / 2,
            limit: (budget - batches).saturating_sub(queue).max(budget / 4),
            rebuild: budget / 4,
        }
    }

    /// Bytes of messages with which micro-batches start.
    pub(crate) fn first_batch(&self) -> usize {
        clamp(self.batch / 8, &BATCH)
    }

    /// Bytes of messages that the next micro-batches may have, after one with `raw` bytes added `grown` bytes of rows
    /// and states: less if that was more than its share, more if it was full and far from its share.
    pub(crate) fn next_batch(&self, now: usize, raw: usize, grown: usize) -> usize {
        let cost = raw + grown;
        if cost > self.batch {
            let fits = raw as u128 * self.batch as u128 / cost as u128;
            clamp((fits as usize / 3 * 2).min(now), &BATCH)
        } else if raw >= now / 2 && cost < self.batch / 3 {
            clamp(now * 2, &BATCH)
        } else {
            now
        }
    }
}

/// What librdkafka may fetch ahead unless its user says otherwise.
pub(crate) fn queue_bytes(budget: usize) -> usize {
    clamp(budget / 16, &QUEUE)
}

fn clamp(bytes: usize, range: &std::ops::RangeInclusive<usize>) -> usize {
    bytes.clamp(*range.start(), *range.end())
}

/// How the stream stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) used: usize,
    /// [`MemoryShares::limit`].
    pub(crate) limit: usize,
    pub(crate) paused: bool,
    /// Rows are in memory that no epoch has taken to the archive yet.
    pub(crate) unarchived: bool,
    /// An epoch is on its way already.
    pub(crate) on_its_way: bool,
    /// How long ago the batch layer was asked for an early run.
    pub(crate) asked_ago: Option<Duration>,
}

/// What to do, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Relief {
    /// Let go of what only the grace time holds.
    pub(crate) end_grace: bool,
    /// Cut the epoch now, as a mark, so that its rows and states can go.
    pub(crate) cut_epoch: bool,
    /// Ask for an early batch run, after which states can go.
    pub(crate) ask_batch: bool,
    /// `Some(true)`: pause; `Some(false)`: resume.
    pub(crate) pause: Option<bool>,
}

pub(crate) fn relieve(load: Load) -> Relief {
    let threshold = load.limit / 100 * RELIEF;
    if load.used <= threshold {
        return Relief { pause: load.paused.then_some(false), ..Relief::default() };
    }
    let over = load.used > load.limit;
    Relief {
        end_grace: true,
        cut_epoch: (over || load.paused) && load.unarchived && !load.on_its_way,
        ask_batch: load.asked_ago.is_none_or(|ago| ago >= PATIENCE),
        pause: (over && !load.paused).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Load =
        Load { used: 0, limit: 1000, paused: false, unarchived: true, on_its_way: false, asked_ago: None };

    #[test]
    fn relief_grows_with_the_load() {
        let check = |load: Load, grace, cut, ask, pause| {
            let expect = Relief { end_grace: grace, cut_epoch: cut, ask_batch: ask, pause };
            assert_eq!(relieve(load), expect, "{load:?}");
        };
        let used = |used| Load { used, ..CALM };
        let paused = |load| Load { paused: true, ..load };
        let asked = |load, seconds| Load { asked_ago: Some(Duration::from_secs(seconds)), ..load };
        check(used(800), false, false, false, None);
        check(used(801), true, false, true, None);
        check(used(1000), true, false, true, None);
        check(used(1001), true, true, true, Some(true));
        check(asked(used(1001), 4), true, true, false, Some(true));
        check(asked(used(1001), 5), true, true, true, Some(true));
        check(paused(used(1001)), true, true, true, None);
        check(paused(used(900)), true, true, true, None);
        check(paused(used(800)), false, false, false, Some(false));
        let on_its_way = Load { on_its_way: true, ..used(1001) };
        check(on_its_way, true, false, true, Some(true));
        let archived = Load { unarchived: false, ..used(1001) };
        check(archived, true, false, true, Some(true));
    }

    #[test]
    fn the_shares_fit_into_the_budget() {
        let check = |budget: usize, limit: usize, first: usize| {
            let queue = queue_bytes(budget);
            let shares = MemoryShares::of(budget, queue);
            assert_eq!((shares.limit, shares.first_batch()), (limit, first));
            assert!(shares.limit + 2 * shares.batch + queue <= budget, "{budget}");
        };
        const MIB: usize = 1 << 20;
        check(1024 * MIB, 736 * MIB, 16 * MIB);
        check(16 * MIB, 11 * MIB, 256 << 10);
        check(2 * MIB, (1536 - 128) << 10, 32 << 10);
        // A user's own queue may be larger than the budget; reading goes on all the same.
        assert_eq!(MemoryShares::of(16 * MIB, 64 * MIB).limit, 4 * MIB);
    }

    #[test]
    fn batches_follow_from_what_they_become() {
        let shares = MemoryShares::of(16 << 20, 1 << 20);
        let check = |now: usize, raw: usize, grown: usize, expect: usize| {
            let kib = |n| n << 10;
            let got = shares.next_batch(kib(now), kib(raw), kib(grown));
            assert_eq!(got >> 10, expect, "{now} {raw} {grown}");
        };
        // The share of one batch is 2 MiB.
        check(256, 256, 300, 512);
        check(256, 100, 300, 256);
        check(256, 256, 600, 256);
        check(512, 512, 1024, 512);
        check(512, 512, 3584, 170);
        check(64, 1, 8000, 16);
        check(32 << 10, 32 << 10, 0, 1365);
    }
}
