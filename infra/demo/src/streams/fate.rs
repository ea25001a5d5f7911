//! Faults of messages: late events, duplicates and malformed payloads.
//!
//! Invariant: one random number decides a fate, so the expected shares of faults are the configured ones.

use super::chance::Dice;

/// Every event is up to this much older than the stream's clock, so neighbours are out of order. Milliseconds.
const DISORDER: u64 = 2_000;
/// A late event is older by one minute to one hour.
const LATE: (u64, u64) = (60_000, 3_600_000);
/// A duplicate is at most this many messages after its original.
pub(super) const DUPLICATE_WITHIN: u64 = 1_000;

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

/// The fate of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Usual,
    /// The event is much older than its neighbours.
    Late,
    /// The message repeats an earlier one.
    Duplicate {
        of: u64,
    },
    /// The message cannot be decoded.
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

/// Difference between the clock and the event's time, in milliseconds.
pub(super) fn delay(dice: &mut Dice, fate: Fate) -> i64 {
    let disorder = dice.below(DISORDER) as i64;
    match fate {
        Fate::Late => disorder + (LATE.0 + dice.below(LATE.1 - LATE.0)) as i64,
        _ => disorder,
    }
}

/// Makes a payload that is no row of the stream: truncated, not JSON, or with an invalid time.
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
