//! Frontiers and sets of partitions, written as numbers.

use std::collections::BTreeSet;

use thalweg_schemas::{Frontier, Offset, Partition};

/// The frontier at these offsets.
pub fn at(pairs: &[(i32, i64)]) -> Frontier {
    pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect()
}

/// The same offset in the first `count` partitions.
pub fn level(count: i32, offset: i64) -> Frontier {
    (0..count).map(|p| (Partition(p), Offset(offset))).collect()
}

/// These partitions.
pub fn set(numbers: &[i32]) -> BTreeSet<Partition> {
    numbers.iter().copied().map(Partition).collect()
}
