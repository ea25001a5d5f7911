//! Reproducible randomness: the same names give the same numbers.
//!
//! Invariant: there is no state. The events at one time can be computed without the events before.

use std::f64::consts::PI;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The random numbers of one thing.
pub(super) struct Dice(SmallRng);

impl Dice {
    /// `names` and `number` identify the thing.
    pub(super) fn new(seed: u64, names: &[&str], number: u64) -> Self {
        Self(SmallRng::seed_from_u64(mix(seed, names, number)))
    }

    /// A number from 0 to 1, without 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// True with this probability.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    /// A number from -1 to 1, mostly near 0.
    pub(super) fn jitter(&mut self) -> f64 {
        (self.unit() + self.unit() + self.unit()) / 1.5 - 1.0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// FNV-1a over the names, then a finaliser in which every bit affects the result.
fn mix(seed: u64, names: &[&str], number: u64) -> u64 {
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut x = (hash ^ seed.rotate_left(32)).wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A continuous curve between -1 and 1, with a new random value every `period` ms.
pub(super) fn wander(seed: u64, names: &[&str], ms: i64, period: i64) -> f64 {
    let (cell, within) = (ms.div_euclid(period), ms.rem_euclid(period));
    let at = |cell: i64| Dice::new(seed, names, cell as u64).unit() * 2.0 - 1.0;
    let ease = (1.0 - (PI * within as f64 / period as f64).cos()) / 2.0;
    at(cell) * (1.0 - ease) + at(cell + 1) * ease
}

/// Progress of an episode at `ms`, from 0 to 1. Every `period` ms an episode of `length` ms starts with
/// `probability`. Returns `None` outside an episode.
pub(super) fn episode(
    seed: u64,
    names: &[&str],
    ms: i64,
    (period, length, probability): (i64, i64, f64),
) -> Option<f64> {
    let (number, within) = (ms.div_euclid(period), ms.rem_euclid(period));
    let begins = Dice::new(seed, names, number as u64).happens(probability);
    (begins && within < length).then(|| within as f64 / length as f64)
}
