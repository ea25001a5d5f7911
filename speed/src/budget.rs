//! Decisions about memory: pure functions of the memory in use and the memory that can be freed.
//!
//! ```text
//!  budget ─┬─ librdkafka's queue       messages fetched ahead
//!          ├─ two micro-batches        one in processing, one being drained: messages, rows and states
//!          └─ limit                    rows and states that stay; reading pauses here, so that both batches fit
//! ```
//!
//! The budget counts messages from the moment they leave librdkafka, rows, states, the whole memory pool of a running
//! rebuild, and what a search for a message holds. It does not count the working memory of one operator: a decoder's
//! tape, the hash table of one micro-batch, the Parquet file that an epoch becomes.
//!
//! Invariant: rows that are not archived are never dropped. When nothing can be freed, reading pauses. A view whose cut
//! does not move cannot keep reading paused: its segments are dropped, because they can be rebuilt.

use std::time::Duration;

use thalweg_schemas::ViewId;

/// The threshold, in percent of the limit. Above the threshold, memory is freed; above the limit, reading pauses; at
/// or below the threshold, reading resumes.
const RELIEF: usize = 80;
/// The shortest interval between two requests for an early batch run.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long reading pauses for views whose cuts do not move, and how long a cut must stand to count as one of those.
const STUCK: Duration = Duration::from_secs(60);
/// The size of micro-batches in bytes. Smaller batches cost more than they save.
const BATCH: std::ops::RangeInclusive<usize> = 16 << 10..=32 << 20;
/// The size of librdkafka's queue in bytes. A larger queue makes nothing faster.
const QUEUE: std::ops::RangeInclusive<usize> = 128 << 10..=32 << 20;

/// The division of a stream's budget, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    /// The share of one micro-batch: its messages, rows and states.
    pub(crate) batch: usize,
    /// The memory in use above which reading pauses.
    pub(crate) limit: usize,
    /// The share of rebuilds and searches.
    pub(crate) rebuild: usize,
}

impl MemoryShares {
    /// Divides `budget`. `queue` is the number of bytes that librdkafka may fetch ahead; a user may have set it
    /// higher than the budget.
    pub(crate) fn of(budget: usize, queue: usize) -> Self {
        let batches = budget / 4;
        Self {
            batch: batches / 2,
            limit: (budget - batches).saturating_sub(queue).max(budget / 4),
            rebuild: budget / 4,
        }
    }

    /// The bytes that count as used by rebuilds and searches, which have reserved `reserved` of their memory pool and
    /// hold `rows` bytes of rows beside the pool. A rebuild allocates its memory within a moment, so its whole share
    /// counts while one runs.
    pub(crate) fn charge(&self, is_rebuilding: bool, reserved: usize, rows: usize) -> usize {
        let reserved = if is_rebuilding { reserved.max(self.rebuild) } else { reserved };
        reserved + rows
    }

    /// The size limit of the first micro-batches: bytes of messages.
    pub(crate) fn first_batch(&self) -> usize {
        clamp(self.batch / 8, &BATCH)
    }

    /// The size limit of the next micro-batches, in bytes of messages. The last batch had `raw` bytes of messages and
    /// added `grown` bytes of rows and states. The limit falls if the batch exceeded its share. The limit rises if
    /// the batch was at least half full and used less than a third of its share.
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

/// The number of bytes that librdkafka may fetch ahead, unless the user sets it.
pub(crate) fn queue_bytes(budget: usize) -> usize {
    clamp(budget / 16, &QUEUE)
}

fn clamp(bytes: usize, range: &std::ops::RangeInclusive<usize>) -> usize {
    bytes.clamp(*range.start(), *range.end())
}

/// The memory load of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) used: usize,
    /// [`MemoryShares::limit`].
    pub(crate) limit: usize,
    /// How long reading has been paused; `None` while it is not.
    pub(crate) paused_for: Option<Duration>,
    /// Memory holds rows that no epoch has sent to the archive yet.
    pub(crate) unarchived: bool,
    /// An epoch is in flight to the archive already.
    pub(crate) on_its_way: bool,
    /// How long ago the last early batch run was requested.
    pub(crate) asked_ago: Option<Duration>,
}

/// The measures to take, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Relief {
    /// Drop everything that only the grace time keeps.
    pub(crate) end_grace: bool,
    /// Cut the epoch now, with a mark, so that its rows and states can be dropped.
    pub(crate) cut_epoch: bool,
    /// Request an early batch run, after which states can be dropped.
    pub(crate) ask_batch: bool,
    /// Drop the segments of one view, see [`view_to_drop`]: all rows are archived, and no run has freed enough.
    pub(crate) drop_view: bool,
    /// `Some(true)`: pause; `Some(false)`: resume.
    pub(crate) pause: Option<bool>,
}

pub(crate) fn relieve(load: Load) -> Relief {
    let threshold = load.limit / 100 * RELIEF;
    if load.used <= threshold {
        return Relief { pause: load.paused_for.map(|_| false), ..Relief::default() };
    }
    let over = load.used > load.limit;
    let paused = load.paused_for.is_some();
    Relief {
        end_grace: true,
        cut_epoch: (over || paused) && load.unarchived && !load.on_its_way,
        ask_batch: load.asked_ago.is_none_or(|ago| ago >= PATIENCE),
        drop_view: load.paused_for.is_some_and(|paused| paused >= STUCK) && !load.unarchived && !load.on_its_way,
        pause: (over && !paused).then_some(true),
    }
}

/// The memory of one held view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) view: ViewId,
    pub(crate) bytes: usize,
    /// When its newest cut was first seen.
    pub(crate) cut_since: Duration,
}

/// The view whose segments are dropped: of the views whose cut has not moved for long, the one that holds most, and of
/// equals the one with the oldest cut. `None` if all cuts move, or if dropping frees nothing.
pub(crate) fn view_to_drop(now: Duration, holdings: Vec<Holding>) -> Option<Holding> {
    let stuck = |held: &Holding| held.bytes > 0 && held.cut_since + STUCK <= now;
    holdings.into_iter().filter(stuck).max_by_key(|held| (held.bytes, std::cmp::Reverse(held.cut_since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Load =
        Load { used: 0, limit: 1000, paused_for: None, unarchived: true, on_its_way: false, asked_ago: None };

    #[test]
    fn relief_grows_with_the_load() {
        let check = |load: Load, grace, cut, ask, pause| {
            let expect = Relief { end_grace: grace, cut_epoch: cut, ask_batch: ask, drop_view: false, pause };
            assert_eq!(relieve(load), expect, "{load:?}");
        };
        let used = |used| Load { used, ..CALM };
        let paused = |load| Load { paused_for: Some(Duration::from_secs(59)), ..load };
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
    fn a_view_is_dropped_only_if_nothing_else_can_free_memory() {
        let check = |used, paused_for: Option<u64>, unarchived, on_its_way, expect| {
            let paused_for = paused_for.map(Duration::from_secs);
            let load = Load { used, paused_for, unarchived, on_its_way, ..CALM };
            assert_eq!(relieve(load).drop_view, expect, "{load:?}");
        };
        check(1001, Some(60), false, false, true);
        check(801, Some(60), false, false, true);
        check(800, Some(60), false, false, false);
        check(1001, Some(59), false, false, false);
        check(1001, None, false, false, false);
        // Rows that are not archived yet may be what fills the memory.
        check(1001, Some(60), true, false, false);
        check(1001, Some(60), false, true, false);
    }

    #[test]
    fn the_largest_view_whose_cut_stands_is_dropped() {
        let check = |views: &[(&str, usize, u64)], expect: Option<&str>| {
            let holdings = views.iter().map(|(name, bytes, cut)| Holding {
                view: ViewId::of(&[name]),
                bytes: *bytes,
                cut_since: Duration::from_secs(*cut),
            });
            let dropped = view_to_drop(Duration::from_secs(100), holdings.collect()).map(|held| held.view);
            assert_eq!(dropped, expect.map(|name| ViewId::of(&[name])), "{views:?}");
        };
        check(&[], None);
        check(&[("a", 10, 0)], Some("a"));
        check(&[("a", 0, 0)], None);
        check(&[("a", 10, 41)], None);
        check(&[("a", 10, 40)], Some("a"));
        check(&[("a", 10, 0), ("b", 90, 41)], Some("a"));
        check(&[("a", 10, 0), ("b", 90, 40)], Some("b"));
        check(&[("a", 10, 20), ("b", 10, 5)], Some("b"));
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
        // A user may set a queue that is larger than the budget; reading continues in spite of that.
        assert_eq!(MemoryShares::of(16 * MIB, 64 * MIB).limit, 4 * MIB);
    }

    #[test]
    fn rebuilds_count_with_their_share_and_searches_with_what_they_hold() {
        let shares = MemoryShares::of(16 << 20, 1 << 20);
        let check = |is_rebuilding, reserved: usize, rows: usize, expect: usize| {
            assert_eq!(shares.charge(is_rebuilding, reserved << 20, rows << 20), expect << 20);
        };
        check(false, 0, 0, 0);
        check(false, 5, 0, 5);
        check(false, 1, 4, 5);
        check(true, 0, 0, 4);
        check(true, 3, 0, 4);
        check(true, 5, 0, 5);
        // Rows that a search holds are no part of what a rebuild may still reserve.
        check(true, 0, 3, 7);
        check(true, 5, 3, 8);
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
