//! Frontiers: the next offset of every partition of a stream: those of its topic, and those of its amendments. A
//! frontier is the only border between batch and speed.
//!
//! Invariant: a partition that a frontier does not name is at offset 0, so frontiers can be compared although a topic
//! has gained partitions between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A partition number: of the topic, or, below 0, of the stream's amendments, which no topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// A Kafka offset. An offset used as a border is the *next* offset: all offsets below the border are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Partition {
    /// The amendments that are rejects which were read again.
    pub const RETRIED: Self = Self(-1);
    /// The amendments that are rows of files.
    pub const LOADED: Self = Self(-2);

    /// True for a partition of amendments: the archive alone has its rows.
    pub fn is_amended(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The next offset per partition, serialised as `{"0": 12, "1": 7}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frontier(BTreeMap<Partition, Offset>);

impl Frontier {
    /// The frontier below every event.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next offset of `partition`; 0 if the frontier does not name the partition.
    pub fn get(&self, partition: Partition) -> Offset {
        self.0.get(&partition).copied().unwrap_or_default()
    }

    /// The next offset of `partition`, if the frontier names the partition.
    pub fn named(&self, partition: Partition) -> Option<Offset> {
        self.0.get(&partition).copied()
    }

    /// Sets the next offset of `partition` to `offset`, even if that moves it back.
    pub fn set(&mut self, partition: Partition, offset: Offset) {
        self.0.insert(partition, offset);
    }

    /// Moves `partition` forward to `offset`; never back.
    pub fn advance(&mut self, partition: Partition, offset: Offset) {
        let at = self.0.entry(partition).or_insert(offset);
        *at = (*at).max(offset);
    }

    /// The partitions of the topic.
    pub fn of_topic(&self) -> Frontier {
        self.iter().filter(|(p, _)| !p.is_amended()).collect()
    }

    /// The partitions of amendments.
    pub fn of_amendments(&self) -> Frontier {
        self.iter().filter(|(p, _)| p.is_amended()).collect()
    }

    /// The named partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        self.0.keys().copied()
    }

    /// The named partitions with their next offsets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, Offset)> + '_ {
        self.0.iter().map(|(p, o)| (*p, *o))
    }

    /// True if every partition is at or above its offset in `other`.
    pub fn covers(&self, other: &Frontier) -> bool {
        other.iter().all(|(p, o)| self.get(p) >= o)
    }

    /// True if every partition has the same offset in both frontiers. A partition at 0 may be named in one only.
    pub fn stands_at(&self, other: &Frontier) -> bool {
        self.covers(other) && other.covers(self)
    }

    /// The higher of both offsets, per partition.
    pub fn max(&self, other: &Frontier) -> Frontier {
        let mut out = self.clone();
        for (p, o) in other.iter() {
            out.advance(p, o);
        }
        out
    }

    /// This frontier, completed by the partitions that only `origin` names.
    pub fn or(&self, origin: &Frontier) -> Frontier {
        let mut out = origin.clone();
        out.0.extend(self.iter());
        out
    }

    /// This frontier, naming exactly `partitions`.
    pub fn within(&self, partitions: impl IntoIterator<Item = Partition>) -> Frontier {
        let named = partitions.into_iter().map(|p| (p, self.get(p)));
        named.collect()
    }

    /// Removes `partitions` from the named ones.
    pub fn remove(&mut self, partitions: &BTreeSet<Partition>) {
        self.0.retain(|p, _| !partitions.contains(p));
    }

    /// The partitions whose offset is above their offset in `from`, with the offsets of this frontier.
    pub fn advanced_since(&self, from: &Frontier) -> Frontier {
        self.iter().filter(|(p, o)| *o > from.get(*p)).collect()
    }

    /// The number of offsets between `from` and this frontier, gaps included.
    pub fn distance(&self, from: &Frontier) -> i64 {
        self.iter().map(|(p, o)| (o.0 - from.get(p).0).max(0)).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Frontiers as literals: `Frontier::from([(0, 5), (1, 9)])`.
impl<const N: usize> From<[(i32, i64); N]> for Frontier {
    fn from(pairs: [(i32, i64); N]) -> Self {
        pairs.into_iter().map(|(partition, offset)| (Partition(partition), Offset(offset))).collect()
    }
}

impl FromIterator<(Partition, Offset)> for Frontier {
    fn from_iter<I: IntoIterator<Item = (Partition, Offset)>>(iter: I) -> Self {
        Frontier(iter.into_iter().collect())
    }
}

impl fmt::Display for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (p, o)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{p}:{o}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_covers<const U: usize, const L: usize>(upper: [(i32, i64); U], lower: [(i32, i64); L], expect: bool) {
        assert_eq!(Frontier::from(upper).covers(&Frontier::from(lower)), expect);
    }

    #[test]
    fn covers_compares_every_partition() {
        check_covers([], [], true);
        check_covers([(0, 5)], [(0, 5)], true);
        check_covers([(0, 4)], [(0, 5)], false);
        check_covers([(0, 9)], [(0, 5), (1, 1)], false);
        check_covers([(0, 9)], [(0, 5), (1, 0)], true);
        check_covers([(0, 9), (1, 3)], [(0, 5)], true);
    }

    #[test]
    fn json_is_an_object_of_offsets() {
        let text = serde_json::to_string(&Frontier::from([(0, 12), (10, 7)])).unwrap();
        assert_eq!(text, r#"{"0":12,"10":7}"#);
        let back: Frontier = serde_json::from_str(&text).unwrap();
        assert_eq!(back, Frontier::from([(0, 12), (10, 7)]));
    }

    #[test]
    fn unnamed_partitions_come_from_the_origin() {
        let f = Frontier::from([(0, 12)]).or(&Frontier::from([(0, 3), (1, 4)]));
        assert_eq!(f, Frontier::from([(0, 12), (1, 4)]));
    }

    #[test]
    fn a_frontier_is_cut_to_some_partitions() {
        let whole = Frontier::from([(0, 12), (1, 3), (2, 9)]);
        let some = [Partition(1), Partition(7)];
        assert_eq!(whole.within(some), Frontier::from([(1, 3), (7, 0)]));
        assert_eq!(whole.within([]), Frontier::new());
        let mut rest = whole;
        rest.remove(&some.into());
        assert_eq!(rest, Frontier::from([(0, 12), (2, 9)]));
    }

    #[test]
    fn advance_never_goes_back() {
        let mut f = Frontier::from([(0, 12)]);
        f.advance(Partition(0), Offset(3));
        f.advance(Partition(1), Offset(3));
        assert_eq!(f, Frontier::from([(0, 12), (1, 3)]));
        assert_eq!(f.distance(&Frontier::from([(0, 10)])), 5);
    }
}
