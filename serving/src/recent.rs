//! Values that are kept for a while: within a number, within bytes, and for a time after their last use.
//!
//! Invariant: where room is missing, the value that was used least recently goes first. Finding that one takes no
//! longer the more there are.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Bytes that a value takes beside its own: in the map, in the order of uses, and around its allocations.
const AROUND_BYTES: usize = 256;

/// What may be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecentLimits {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    /// How long a value is kept after its last use.
    pub(crate) within: Duration,
}

/// The values.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    limits: RecentLimits,
    values: HashMap<K, RecentValue<V>>,
    /// The keys by the number of their last use.
    order: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct RecentValue<V> {
    value: V,
    bytes: usize,
    use_of: u64,
    used: Instant,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(crate) fn new(limits: RecentLimits) -> Self {
        Self { limits, values: HashMap::new(), order: BTreeMap::new(), uses: 0, bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The bytes of all values, with those around them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value of a key, which is used now.
    pub(crate) fn use_now<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, now: Instant) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.forget(now);
        let found = self.values.get_mut(key)?;
        self.uses += 1;
        if let Some(key) = self.order.remove(&found.use_of) {
            self.order.insert(self.uses, key);
        }
        (found.use_of, found.used) = (self.uses, now);
        Some(&mut found.value)
    }

    /// Keeps a value of so many bytes in the place of the one before, and drops others as far as room is missing.
    /// Returns the value if it is larger than all may be together.
    pub(crate) fn keep(&mut self, key: K, value: V, bytes: usize, now: Instant) -> Result<(), V> {
        let bytes = bytes.saturating_add(AROUND_BYTES);
        if bytes > self.limits.bytes || self.limits.count == 0 {
            return Err(value);
        }
        self.forget(now);
        self.remove(&key);
        while self.values.len() >= self.limits.count || self.bytes + bytes > self.limits.bytes {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.forget_value(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, key.clone());
        self.values.insert(key, RecentValue { value, bytes, use_of: self.uses, used: now });
        Ok(())
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = self.values.remove(key)?;
        self.order.remove(&removed.use_of);
        self.bytes -= removed.bytes;
        Some(removed.value)
    }

    /// Drops the values that were not used for too long.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.order.first_entry() {
            let used = self.values.get(oldest.get()).map(|value| value.used);
            if used.is_some_and(|used| now.saturating_duration_since(used) < self.limits.within) {
                return;
            }
            let key = oldest.remove();
            self.forget_value(&key);
        }
    }

    fn forget_value(&mut self, key: &K) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= value.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn recent(count: usize, bytes: usize) -> Recent<&'static str, u8> {
        let bytes = bytes + count * AROUND_BYTES;
        Recent::new(RecentLimits { count, bytes, within: 10 * SECOND })
    }

    fn kept(recent: &Recent<&'static str, u8>) -> String {
        recent.order.values().copied().collect()
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let now = Instant::now();
        let mut recent = recent(3, 30);
        for (key, bytes, expect) in [
            ("a", 1, "a"),
            ("b", 2, "ab"),
            ("c", 3, "abc"),
            ("d", 4, "bcd"),
            ("e", 28, "de"),
            ("e", 3, "de"),
            ("f", 1, "def"),
        ] {
            recent.keep(key, 0, bytes, now).unwrap();
            assert_eq!(kept(&recent), expect);
            assert_eq!(recent.len(), expect.len());
        }
        assert_eq!(recent.bytes(), 8 + 3 * AROUND_BYTES);
        assert_eq!(recent.use_now("e", now), Some(&mut 0));
        assert_eq!((kept(&recent), recent.use_now("a", now)), ("dfe".to_owned(), None));
        assert_eq!(recent.keep("g", 7, 1000, now), Err(7));
        assert_eq!((recent.remove("f"), recent.remove("f"), kept(&recent)), (Some(0), None, "de".to_owned()));
        assert_eq!(recent.bytes(), 7 + 2 * AROUND_BYTES);
    }

    #[test]
    fn what_is_not_used_for_too_long_is_gone() {
        let begin = Instant::now();
        let mut recent = recent(9, 90);
        for key in ["a", "b", "c"] {
            recent.keep(key, 1, 1, begin).unwrap();
        }
        assert!(recent.use_now("a", begin + 9 * SECOND).is_some());
        assert!(recent.use_now("b", begin + 10 * SECOND).is_none());
        assert_eq!(kept(&recent), "a");
        recent.keep("d", 1, 1, begin + 30 * SECOND).unwrap();
        assert_eq!((kept(&recent), recent.bytes()), ("d".to_owned(), 1 + AROUND_BYTES));
    }

    #[test]
    fn nothing_is_kept_without_room() {
        let mut none: Recent<&str, u8> = Recent::new(RecentLimits { count: 5, bytes: 0, within: SECOND });
        assert!(none.keep("a", 1, 0, Instant::now()).is_err());
        assert_eq!((none.len(), none.bytes()), (0, 0));
    }
}
