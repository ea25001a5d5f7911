//! What goes wrong on the way: messages that are late, sent twice, or no rows at all.
//!
//! Invariant: a fate is decided by one throw, so the shares are those that were asked for.

use super::chance::Dice;

/// Every event is up to this much older than the stream's clock: neighbours are out of order. Milliseconds.
const DISORDER: u64 = 2_000;
/// A late event is older by one minute to one hour.
const LATE: (u64, u64) = (60_000, 3_600_000);
/// A duplicate comes at most this many messages later.
const DUPLICATE_WITHIN: u64 = 1_000;

/// Shares of messages, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    pub late: f64,
    pub duplicates: f64,
    pub malformed: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { late: 0.02, duplicates: 0.01, malformed: 0.001 }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Usual,
    /// Its event is much older than its neighbours.
    Late,
    /// It repeats an earlier message.
    Duplicate {
        of: u64,
    },
    /// It cannot be decoded.
    Malformed,
}

impl Faults {
    pub(super) fn fate(&self, dice: &mut Dice, position: u64) -> Fate {
        let throw = dice.unit();
        let malformed = self.malformed;
        let duplicates = malformed + self.duplicates;
        let late = duplicates + self.late;
        if throw < malformed {
            Fate::Malformed
        } else if throw < duplicates && position > 0 {
            let back = 1 + dice.below(DUPLICATE_WITHIN.min(position));
            Fate::Duplicate { of: position - back }
        } else if throw < late {
            Fate::Late
        } else {
            Fate::Usual
        }
    }
}

/// How much older than the clock an event is, in milliseconds.
pub(super) fn delay(dice: &mut Dice, fate: Fate) -> i64 {
    let disorder = dice.below(DISORDER) as i64;
    match fate {
        Fate::Late => disorder + (LATE.0 + dice.below(LATE.1 - LATE.0)) as i64,
        _ => disorder,
    }
}

/// Something that is no row of the stream: cut off, not JSON at all, or with a time that is none.
pub(super) fn mangle(dice: &mut Dice, mut payload: Vec<u8>) -> Vec<u8> {
    match dice.below(3) {
        0 => {
            let end = 1 + dice.below(payload.len() as u64 - 2);
            payload.truncate(end as usize);
            payload
        }
        1 => b"504 gateway timeout".to_vec(),
        _ => br#"{"ts":"yesterday"}"#.to_vec(),
    }
}
