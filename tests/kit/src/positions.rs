//! Frontiers and sets of partitions, written as numbers.

use std::collections::BTreeSet;

use thalweg_schemas::{Frontier, Offset, Partition};

/// Returns the frontier at these offsets.
pub fn at(pairs: &[(i32, i64)]) -> Frontier {
    pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect()
}

/// Returns the frontier at the same offset in the first `count` partitions.
pub fn level(count: i32, offset: i64) -> Frontier {
    (0..count).map(|p| (Partition(p), Offset(offset))).collect()
}

/// Returns the set of these partitions.
pub fn set(numbers: &[i32]) -> BTreeSet<Partition> {
    numbers.iter().copied().map(Partition).collect()
}
