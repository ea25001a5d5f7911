//! How long replaced segments stay in memory: readers that pinned an older cut have a grace time to finish.
//!
//! Invariant: the successor of every cut below the floor has been known for at least the grace time.

use std::collections::VecDeque;
use std::time::Duration;

use thalweg_schemas::Frontier;

/// The cuts at which a view was published, oldest first, each with the time at which it was first seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retention {
    seen: VecDeque<(Duration, Frontier)>,
}

impl Retention {
    pub(crate) fn starting_at(now: Duration, cut: Frontier) -> Self {
        Self { seen: VecDeque::from([(now, cut)]) }
    }

    pub(crate) fn newest(&self) -> Option<&Frontier> {
        self.seen.back().map(|(_, cut)| cut)
    }

    /// When the newest cut was first seen.
    pub(crate) fn newest_since(&self) -> Duration {
        self.seen.back().map(|(at, _)| *at).unwrap_or_default()
    }

    /// The oldest cut that readers may still use.
    pub(crate) fn floor(&self) -> Option<&Frontier> {
        self.seen.front().map(|(_, cut)| cut)
    }

    pub(crate) fn record(&mut self, now: Duration, cut: Frontier) {
        self.seen.push_back((now, cut));
    }

    /// Removes cuts whose successor is older than `grace`. Returns true if the floor has risen.
    pub(crate) fn expire(&mut self, now: Duration, grace: Duration) -> bool {
        let before = self.seen.len();
        while self.seen.get(1).is_some_and(|(at, _)| *at + grace <= now) {
            self.seen.pop_front();
        }
        before != self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(offset: i64) -> Frontier {
        Frontier::from([(0, offset)])
    }

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_cut_stays_for_the_grace_time_after_its_successor_came() {
        let mut cuts = Retention::starting_at(seconds(0), cut(10));
        cuts.record(seconds(100), cut(20));
        cuts.record(seconds(110), cut(30));
        let check = |cuts: &mut Retention, now, rose, floor| {
            assert_eq!(cuts.expire(seconds(now), seconds(30)), rose, "at {now}");
            assert_eq!(cuts.floor(), Some(&cut(floor)), "at {now}");
        };
        check(&mut cuts, 129, false, 10);
        check(&mut cuts, 130, true, 20);
        check(&mut cuts, 139, false, 20);
        check(&mut cuts, 9999, true, 30);
        check(&mut cuts, 99999, false, 30);
        assert_eq!(cuts.newest(), Some(&cut(30)));
    }
}
